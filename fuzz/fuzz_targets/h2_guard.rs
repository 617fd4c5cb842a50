//! libFuzzer's way into [`corelane_fuzz::h2_guard::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::h2_guard::target(data));
