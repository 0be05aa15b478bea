//! Compiles `proto/` without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let descriptors = protox::compile(["distributest/v1/agent.proto"], [root])?;
    tonic_prost_build::configure().bytes(".distributest.v1.OutputChunk.data").compile_fds(descriptors)?;
    Ok(())
}
