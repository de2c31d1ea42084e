#![no_main]

use stayput_fuzz::rfc9112::agreement;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agreement::body(bytes));
