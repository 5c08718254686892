//! Generates the wire types from `proto/`, and the descriptor that gRPC reflection serves and that
//! the test of breaking changes reads. Maps become ordered maps, so that one message has one
//! encoding: records are compared as bytes.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/tocktower/v1/common.proto",
        "proto/tocktower/v1/task.proto",
        "proto/tocktower/v1/run.proto",
        "proto/tocktower/v1/fleet.proto",
        "proto/tocktower/v1/link.proto",
        "proto/tocktower/v1/why.proto",
        "proto/tocktower/store/v1/records.proto",
    ];
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Without the generated `connect(address)`: a call of AgentLink bears that name, and clients
    // are made from a channel that carries our limits anyway.
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .file_descriptor_set_path(out.join("tocktower_descriptor.bin"))
        .compile_protos(&files, &["proto"])?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
