//! libFuzzer's way into [`corelane_fuzz::answer::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::answer::target(data));
