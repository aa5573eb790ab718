//! Bytes as they may come from anybody, to the fan-out edge's UDP and TCP port.

#![no_main]

#[path = "../../tests/common/demultiplex.rs"]
mod demultiplex;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| demultiplex::feed(bytes));
