//! See [`tempozarr_fuzz::codecs`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tempozarr_fuzz::codecs(data));
