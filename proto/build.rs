//! Compiles the protos without protoc and keeps the descriptor set, options included.

use std::{env, fs, path::PathBuf};

use protox::Compiler;

const FILES: &[&str] = &[
    "banqiao/exchange/v1/options.proto",
    "banqiao/exchange/v1/metadata.proto",
    "banqiao/exchange/v1/outcome.proto",
    "banqiao/exchange/v1/reason.proto",
    "banqiao/directory/v1/directory.proto",
    "banqiao/directory/v1/grant.proto",
    "banqiao/ledger/v1/archive.proto",
    "banqiao/ledger/v1/entry.proto",
    "banqiao/ledger/v1/erasure.proto",
    "banqiao/ledger/v1/exchange.proto",
    "banqiao/ledger/v1/audit.proto",
    "banqiao/ledger/v1/receipt.proto",
    "banqiao/ledger/v1/subject.proto",
    "banqiao/card/v1/card.proto",
    "banqiao/card/v1/life.proto",
    "banqiao/card/v1/pension.proto",
    "banqiao/card/v1/entitlement.proto",
    "banqiao/card/v1/eligibility.proto",
    "banqiao/item/v1/case.proto",
    "banqiao/item/v1/catalogue.proto",
    "banqiao/item/v1/material.proto",
    "banqiao/item/v1/rating.proto",
    "banqiao/item/v1/statistics.proto",
    "banqiao/lab/v1/catalogue.proto",
    "banqiao/lab/v1/fhir.proto",
    "banqiao/lab/v1/quality.proto",
    "banqiao/lab/v1/recognition.proto",
    "banqiao/lab/v1/record.proto",
    "banqiao/lab/v1/referral.proto",
    "banqiao/lab/v1/report.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=banqiao");
    let mut compiler = Compiler::new(["."])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(FILES)?;
    // The encoded set keeps extension options, which the typed `FileDescriptorSet` would drop.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("descriptor.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure()
        .bytes(".banqiao.ledger.v1.IndexedEntry.entry")
        .compile_well_known_types(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
