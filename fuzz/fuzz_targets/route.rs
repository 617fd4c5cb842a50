//! libFuzzer's way into [`corelane_fuzz::route::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::route::target(data));
