//! The scene of the tests: cities with real gateways, services, databases and clients.
//!
//! [`network::Network`] starts so many cities on this machine, each a real `banqiao gateway` process with its own
//! certificate authority, configuration and ledger. [`wire`] and [`hostile`] call them frame by frame,
//! [`service`] stands behind them and does what a test tells it to, and [`admin`] grants, registers and reads
//! ledgers through the admin listener, as an administrator and an auditor would.

#![forbid(unsafe_code)]

pub mod admin;
pub mod authority;
pub mod cards;
pub mod directory;
pub mod hostile;
pub mod items;
pub mod labs;
pub mod middle;
pub mod network;
pub mod postgres;
pub mod process;
pub mod service;
pub mod wait;
pub mod wire;

/// Messages of the services that no gateway was built with.
#[expect(missing_docs, reason = "generated code")]
#[allow(
    clippy::all,
    clippy::use_self,
    clippy::or_fun_call,
    unused_qualifications,
    unreachable_pub,
    reason = "generated code"
)]
pub mod echo {
    tonic::include_proto!("example.echo.v1");
}

/// Encoded descriptor set of `example.echo.v1.EchoService`, without any of the network's options.
pub const ECHO_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/echo.binpb"));

/// Encoded descriptor set of `example.echo.v1.RuledService`, with the network's options.
pub const RULED_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ruled.binpb"));
