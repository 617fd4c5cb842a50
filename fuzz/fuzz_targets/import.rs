//! libFuzzer's way into [`corelane_fuzz::import::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::import::target(data));
