//! See [`tempozarr_fuzz::fused`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tempozarr_fuzz::fused(data));
