//! One grant, parsed.

use std::{sync::Arc, time::Duration};

use banqiao_directory::{Method, SpiffeId};
use banqiao_proto::directory::v1 as proto;
use uuid::Uuid;

use crate::ClientPattern;

/// A permission that one provider city has given: a client may call methods of a service for purposes, see
/// certain fields, at a rate, for a time. Made by [`Grant::parse`] only, so that every field is sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub(crate) uuid: Uuid,
    pub(crate) client: ClientPattern,
    pub(crate) service: Arc<str>,
    pub(crate) methods: Vec<String>,
    pub(crate) purposes: Vec<String>,
    pub(crate) disclosed: Vec<Disclosed>,
    pub(crate) rate: Option<Rate>,
    pub(crate) not_before_us: i64,
    pub(crate) not_after_us: i64,
    pub(crate) revoked_at_us: Option<i64>,
    /// As it was given; its encoding is what the set's digest covers.
    pub(crate) proto: proto::Grant,
}

/// What a grant discloses of the responses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disclosed {
    /// The field at a path such as `change.card_number`, with all that is in it.
    Field(Arc<str>),
    /// Every field that the provider has marked with this disclosure group.
    Group(Arc<str>),
}

/// A rate limit: so many calls in each window, at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls in each window; at least 1.
    pub calls: u32,
    /// Length of the window; more than zero.
    pub per: Duration,
    /// Calls that may come at once; at least 1.
    pub burst: u32,
}

impl Grant {
    /// The grant's UUIDv7, as text.
    pub fn id(&self) -> &str {
        &self.proto.id
    }

    /// The grant's UUIDv7.
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The clients that it covers.
    pub const fn client(&self) -> &ClientPattern {
        &self.client
    }

    /// Full name of the service.
    pub const fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// Names of the methods; none means every method of the service.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// The purposes; at least one.
    pub fn purposes(&self) -> &[String] {
        &self.purposes
    }

    /// The fields of the responses that the client may see; none means all of them.
    pub fn disclosed(&self) -> &[Disclosed] {
        &self.disclosed
    }

    /// The rate limit, if there is one.
    pub const fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// First moment of validity, in microseconds since 1970.
    pub const fn not_before_us(&self) -> i64 {
        self.not_before_us
    }

    /// First moment at which it is no longer valid, in microseconds since 1970.
    pub const fn not_after_us(&self) -> i64 {
        self.not_after_us
    }

    /// When it was revoked, in microseconds since 1970.
    pub const fn revoked_at_us(&self) -> Option<i64> {
        self.revoked_at_us
    }

    /// The message that it was parsed from, as it is stored and shown.
    pub const fn proto(&self) -> &proto::Grant {
        &self.proto
    }

    /// Whether it is in force at a moment. A revoked grant never is: replicas' clocks may differ, so the moment of
    /// its revocation is not compared with `now_us`.
    pub const fn valid_at(&self, now_us: i64) -> bool {
        self.revoked_at_us.is_none() && self.not_before_us <= now_us && now_us < self.not_after_us
    }

    /// Whether it names the method.
    pub fn covers_method(&self, method: &Method) -> bool {
        *self.service == *method.service
            && (self.methods.is_empty() || self.methods.iter().any(|name| **name == *method.name))
    }

    /// Whether it covers the client.
    pub fn covers_client(&self, client: &SpiffeId) -> bool {
        self.client.covers(client)
    }

    /// Whether it names the purpose.
    pub fn covers_purpose(&self, purpose: &str) -> bool {
        self.purposes.iter().any(|granted| granted == purpose)
    }
}
