//! libFuzzer's way into [`corelane_fuzz::http1_response::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::http1_response::target(data));
