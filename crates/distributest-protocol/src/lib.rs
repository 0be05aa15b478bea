//! The wire protocol between coordinator and agent: compiled `proto/`, conversions to core types, client and server
//! adapters. It decides nothing.

pub mod client;
mod compression;
pub mod conversions;
pub mod flow;
pub mod gathering;
mod pace;
pub mod server;

/// The messages and services of `proto/distributest/v1`, as generated.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    reason = "generated from documented .proto files"
)]
pub mod wire {
    tonic::include_proto!("distributest.v1");
}
