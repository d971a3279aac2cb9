mod parse;
mod property;
mod rate;
mod set;

use std::{str::FromStr, sync::LazyLock};

use banqiao_directory::{Catalog, Directory, ServiceSet, SpiffeId};
use banqiao_proto::directory::v1 as proto;
use protox::{
    Compiler,
    file::{ChainFileResolver, DescriptorSetFileResolver, File, FileResolver, GoogleFileResolver},
};
use uuid::Uuid;

use crate::Grant;

const PROTO: &str = r#"
syntax = "proto3";
package t.v1;
import "banqiao/exchange/v1/options.proto";
message Ask { string id = 1; }
message Answer {
  string name = 1 [(banqiao.exchange.v1.field) = {disclosure_group: "basic"}];
  repeated Answer parts = 2;
}
message Other { string only = 1; }
service A {
  rpc Free(Ask) returns (Answer);
  rpc Bound(Ask) returns (Other) {
    option (banqiao.exchange.v1.method) = {purposes: "p1" purposes: "p2"};
  }
  rpc Secret(Ask) returns (Answer) {
    option (banqiao.exchange.v1.method) = {sharing: SHARING_ATTRIBUTE_NOT_SHARED};
  }
}
service B {
  rpc Free(Ask) returns (Answer);
  rpc Bound(Ask) returns (Other) {
    option (banqiao.exchange.v1.method) = {purposes: "p3"};
  }
}
service Hidden {
  rpc Secret(Ask) returns (Answer) {
    option (banqiao.exchange.v1.method) = {sharing: SHARING_ATTRIBUTE_NOT_SHARED};
  }
}
"#;

struct Source;

impl FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name != "t.proto" {
            return Err(protox::Error::file_not_found(name));
        }
        File::from_source(name, PROTO)
    }
}

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Source);
    resolver.add(GoogleFileResolver::new());
    resolver.add(DescriptorSetFileResolver::decode(banqiao_proto::FILE_DESCRIPTOR_SET).unwrap());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("t.proto").unwrap();
    let set = ServiceSet::decode(&compiler.encode_file_descriptor_set()).unwrap();
    Catalog::new([set]).unwrap()
});

static DIRECTORY: LazyLock<Directory> = LazyLock::new(|| {
    let mut toml = "version = 1\nissued = 2026-01-01T00:00:00Z\nexpires = 2026-06-01T00:00:00Z\n\
        [signers]\nthreshold = 1\n[[signers.keys]]\ncity = \"370600\"\n\
        public_key = \"03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8\"\n\
        [[cities]]\ncode = \"370600\"\nname = { zh = \"烟台\", en = \"Yantai\" }\n\
        trust_domain = \"yantai.jiaodong\"\ngateways = [\"gateway.yantai.example:7443\"]\n\
        ca_bundle = '''\n-----BEGIN CERTIFICATE-----\nMAEB\n-----END CERTIFICATE-----\n'''\n"
        .to_owned();
    for purpose in ["p1", "p2", "p3", "p4"] {
        toml += &format!(
            "[[purposes]]\ncode = \"{purpose}\"\ntitle = {{ zh = \"目的\", en = \"Purpose\" }}\n\
             description = \"A purpose.\"\n"
        );
    }
    Directory::parse(toml.as_bytes()).unwrap()
});

fn id(text: &str) -> SpiffeId {
    SpiffeId::from_str(text).unwrap()
}

/// The nth grant id, in order of time.
fn uuid(at: u8) -> String {
    Uuid::from_bytes([
        0,
        0,
        0,
        0,
        0,
        at,
        0x70,
        0,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        at.reverse_bits(),
    ])
    .to_string()
}

fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

/// A sound grant of `A`, from second 10 to second 20.
fn sample() -> proto::Grant {
    proto::Grant {
        id: uuid(1),
        client: "spiffe://yantai.jiaodong/hrss/pension".to_owned(),
        service: "t.v1.A".to_owned(),
        purposes: vec!["p1".to_owned()],
        not_before: Some(at(10)),
        not_after: Some(at(20)),
        legal_basis: "政务数据共享条例 art. 20".to_owned(),
        request_number: "R-1".to_owned(),
        ..Default::default()
    }
}

fn parse(grant: proto::Grant) -> Grant {
    Grant::parse(grant, None, None).unwrap()
}
