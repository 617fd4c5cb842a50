//! libFuzzer's way into [`corelane_fuzz::chunked::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::chunked::target(data));
