//! libFuzzer's way into [`corelane_fuzz::resp::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::resp::target(data));
