//! libFuzzer's way into [`corelane_fuzz::config::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::config::target(data));
