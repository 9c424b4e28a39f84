#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rbytea_store_fuzz::judge::record(bytes));
