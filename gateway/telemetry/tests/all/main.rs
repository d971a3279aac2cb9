//! Telemetry against a collector that speaks OTLP over gRPC, and around a tonic server.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod collector;
mod layer;
mod otlp;
