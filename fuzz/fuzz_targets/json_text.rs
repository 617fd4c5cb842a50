//! libFuzzer's way into [`corelane_fuzz::json_text::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::json_text::target(data));
