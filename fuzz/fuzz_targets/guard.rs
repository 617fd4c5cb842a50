//! libFuzzer's way into [`corelane_fuzz::guard::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::guard::target(data));
