//! Compiles the foreign services of the tests without protoc, each into a descriptor set of its own.

use std::{env, fs, path::PathBuf};

use protox::Compiler;

const INCLUDES: [&str; 2] = ["proto", "../proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=../proto/banqiao/exchange/v1");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for name in ["echo", "ruled"] {
        let mut set = Compiler::new(INCLUDES)?;
        set.include_imports(true)
            .open_file(format!("example/echo/v1/{name}.proto"))?;
        // The encoded set keeps extension options, which the typed `FileDescriptorSet` would drop.
        fs::write(
            out.join(format!("{name}.binpb")),
            set.encode_file_descriptor_set(),
        )?;
    }
    let mut messages = Compiler::new(INCLUDES)?;
    messages.open_files(["example/echo/v1/echo.proto", "example/echo/v1/ruled.proto"])?;
    // Messages alone: the tests call and serve these methods frame by frame.
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .compile_fds(messages.file_descriptor_set())?;
    Ok(())
}
