//! libFuzzer's way into [`corelane_fuzz::ndjson::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::ndjson::target(data));
