//! Blocks to and from f16 by the instructions of x86_64, which all but the oldest have.
//!
//! Like numpy these move the payload of a NaN and cut it off, but they make it quiet. So each also
//! returns whether the block has a signalling NaN, which is to be cast anew: rare, unlike NaN.

#![allow(clippy::wildcard_imports, reason = "intrinsics name themselves")]

use std::arch::x86_64::*;

use half::f16;

use super::{BLOCK, IsSignalling, round_to_odd};

/// Whether the processor has what the functions here need.
pub fn detected() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
}

fn any_signalling<T: IsSignalling>(values: &[T]) -> bool {
    values
        .iter()
        .fold(false, |any, value| any | value.is_signalling())
}

#[target_feature(enable = "avx2,f16c")]
pub fn halves_to_singles(from: &[f16], to: &mut [f32]) -> bool {
    widen(from, to);
    any_signalling(from)
}

#[target_feature(enable = "avx2,f16c")]
pub fn halves_to_doubles(from: &[f16], to: &mut [f64]) -> bool {
    let mut singles = [0.0; BLOCK];
    let singles = &mut singles[..from.len()];
    widen(from, singles);
    for (to, single) in to.iter_mut().zip(singles) {
        *to = f64::from(*single);
    }
    any_signalling(from)
}

#[target_feature(enable = "avx2,f16c")]
pub fn singles_to_halves(from: &[f32], to: &mut [f16]) -> bool {
    narrow(from, to);
    any_signalling(from)
}

#[target_feature(enable = "avx2,f16c")]
pub fn doubles_to_halves(from: &[f64], to: &mut [f16]) -> bool {
    let mut singles = [0.0; BLOCK];
    let singles = &mut singles[..from.len()];
    for (single, value) in singles.iter_mut().zip(from) {
        *single = round_to_odd(*value);
    }
    narrow(singles, to);
    any_signalling(from)
}

#[target_feature(enable = "avx2,f16c")]
fn widen(from: &[f16], to: &mut [f32]) {
    let convert =
        |from: [f16; 8]| -> [f32; 8] { bytemuck::cast(_mm256_cvtph_ps(bytemuck::cast(from))) };
    let (from, from_rest) = from.as_chunks();
    let (to, to_rest) = to.as_chunks_mut();
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
    let mut rest = [f16::ZERO; 8];
    rest[..from_rest.len()].copy_from_slice(from_rest);
    to_rest.copy_from_slice(&convert(rest)[..to_rest.len()]);
}

#[target_feature(enable = "avx2,f16c")]
fn narrow(from: &[f32], to: &mut [f16]) {
    let convert = |from: [f32; 8]| -> [f16; 8] {
        bytemuck::cast(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(
            bytemuck::cast(from),
        ))
    };
    let (from, from_rest) = from.as_chunks();
    let (to, to_rest) = to.as_chunks_mut();
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
    let mut rest = [0.0; 8];
    rest[..from_rest.len()].copy_from_slice(from_rest);
    to_rest.copy_from_slice(&convert(rest)[..to_rest.len()]);
}
