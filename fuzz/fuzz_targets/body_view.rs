//! libFuzzer's way into [`corelane_fuzz::body_view::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::body_view::target(data));
