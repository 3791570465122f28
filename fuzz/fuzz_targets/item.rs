#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tagpin_fuzz::targets::item(bytes));
