//! See [`tempozarr_fuzz::array`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tempozarr_fuzz::array(data));
