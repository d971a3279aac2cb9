//! Messages and services of the network, generated from the `.proto` files beside this crate.
//!
//! [`FILE_DESCRIPTOR_SET`] is the encoded descriptor set with every import and every option: reflection serves
//! it, gateways read the services' rules from it, and [`descriptors`] parses it.

#![forbid(unsafe_code)]

mod reason;

pub use reason::{ReasonTable, reasons};

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

/// Encoded `google.protobuf.FileDescriptorSet` of every proto of this crate, with imports, options and comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

macro_rules! package {
    ($name:ident, $path:literal, $doc:literal) => {
        #[doc = $doc]
        #[allow(
            missing_docs,
            unused_qualifications,
            unreachable_pub,
            clippy::all,
            clippy::allow_attributes_without_reason,
            clippy::use_self,
            clippy::or_fun_call,
            clippy::large_futures,
            reason = "generated code"
        )]
        pub mod $name {
            /// Version 1.
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/", $path, ".rs"));
            }
        }
    };
}

package!(
    exchange,
    "banqiao.exchange.v1",
    "Options, metadata and reasons of refusal."
);
package!(
    directory,
    "banqiao.directory.v1",
    "Directory, catalogue, grants and administration."
);
package!(
    ledger,
    "banqiao.ledger.v1",
    "Ledger entries and the auditor's service."
);
package!(card, "banqiao.card.v1", "The social-security card.");
package!(item, "banqiao.item.v1", "Items and cases of “一网通办”.");
package!(
    lab,
    "banqiao.lab.v1",
    "Laboratory reports and their recognition."
);

/// The descriptor pool of every proto of this crate.
pub fn descriptors() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        #[expect(
            clippy::expect_used,
            reason = "the set was written by this crate's own build"
        )]
        DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the built-in descriptor set decodes")
    });
    &POOL
}
