//! Blocks to and from f16 by the instructions of `x86_64`, which all but the oldest processors have.
//!
//! Like numpy these move the payload of a NaN and cut it off, but they make it quiet. So each also
//! returns whether the block has a signalling NaN, which is to be cast anew: rare, unlike NaN.

#![allow(clippy::wildcard_imports, reason = "intrinsics name themselves")]

use std::arch::x86_64::*;

use half::f16;

use super::{BLOCK, MaybeSignalling, round_to_odd};

/// Whether the processor has what the functions here need.
pub fn detected() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
}

#[target_feature(enable = "avx2,f16c")]
pub fn halves_to_doubles(from: &[f16], to: &mut [f64]) -> bool {
    let mut singles = [0.0; BLOCK];
    let singles = &mut singles[..from.len()];
    let signalling = halves_to_singles(from, singles);
    for (to, single) in to.iter_mut().zip(singles) {
        *to = f64::from(*single);
    }
    signalling
}

#[target_feature(enable = "avx2,f16c")]
pub fn doubles_to_halves(from: &[f64], to: &mut [f16]) -> bool {
    let mut singles = [0.0; BLOCK];
    let singles = &mut singles[..from.len()];
    for (single, value) in singles.iter_mut().zip(from) {
        *single = round_to_odd(*value);
    }
    // Its own NaNs are quiet.
    singles_to_halves(singles, to);
    any_signalling(from)
}

// The search for signalling NaNs is for free beside the conversion: magnitudes are moved such that
// theirs are the least of signed integers.

#[target_feature(enable = "avx2,f16c")]
pub fn halves_to_singles(from: &[f16], to: &mut [f32]) -> bool {
    let mut signalling = _mm256_setzero_si256();
    let (from, from_rest) = from.as_chunks();
    let (to, to_rest) = to.as_chunks_mut::<16>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = bytemuck::cast(widen(*from, &mut signalling));
    }
    if !from_rest.is_empty() {
        let mut rest = [f16::ZERO; 16];
        rest[..from_rest.len()].copy_from_slice(from_rest);
        let rest: [f32; 16] = bytemuck::cast(widen(rest, &mut signalling));
        to_rest.copy_from_slice(&rest[..to_rest.len()]);
    }
    _mm256_testz_si256(signalling, signalling) == 0
}

/// [`halves_to_singles`] past the caches, but for unfinished lines.
#[target_feature(enable = "avx2,f16c")]
pub fn stream_singles(from: &[f16], to: &mut [f32]) -> bool {
    let mut signalling = _mm256_setzero_si256();
    let head = to.as_ptr().align_offset(size_of::<Line>()).min(to.len());
    let (from_head, from) = from.split_at(head);
    let (to_head, to) = to.split_at_mut(head);
    let (from, from_tail) = from.as_chunks::<16>();
    let (to, to_tail) = to.split_at_mut(16 * from.len());
    // Without a line, `to` may begin anywhere.
    let lines: &mut [Line] = if to.is_empty() {
        &mut []
    } else {
        bytemuck::cast_slice_mut(to)
    };
    for (to, from) in lines.iter_mut().zip(from) {
        to.stream(widen(*from, &mut signalling));
    }
    (_mm256_testz_si256(signalling, signalling) == 0)
        | halves_to_singles(from_head, to_head)
        | halves_to_singles(from_tail, to_tail)
}

/// A line of the cache.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([__m256; 2]);

impl Line {
    #[target_feature(enable = "avx")]
    #[inline]
    fn stream(&mut self, vectors: [__m256; 2]) {
        for (to, vector) in self.0.iter_mut().zip(vectors) {
            // SAFETY: a reference to a vector is valid and aligned, and the caller of `cast::stream`
            // calls `stream::fence`.
            unsafe { _mm256_stream_ps((&raw mut *to).cast(), vector) };
        }
    }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn widen(from: [f16; 16], signalling: &mut __m256i) -> [__m256; 2] {
    let bits = bytemuck::cast(from);
    let magnitude = _mm256_and_si256(bits, _mm256_set1_epi16(i16::MAX));
    let moved = _mm256_add_epi16(magnitude, _mm256_set1_epi16(i16::MAX - 0x7c00));
    let found = _mm256_cmpgt_epi16(_mm256_set1_epi16(i16::MIN + 0x1ff), moved);
    *signalling = _mm256_or_si256(*signalling, found);
    let [low, high]: [__m128i; 2] = bytemuck::cast(from);
    [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
}

#[target_feature(enable = "avx2,f16c")]
pub fn singles_to_halves(from: &[f32], to: &mut [f16]) -> bool {
    let mut signalling = _mm256_setzero_si256();
    let mut convert = |from: [f32; 8]| -> [f16; 8] {
        let bits = bytemuck::cast(from);
        let magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(i32::MAX));
        let moved = _mm256_add_epi32(magnitude, _mm256_set1_epi32(i32::MAX - 0x7f80_0000));
        let found = _mm256_cmpgt_epi32(_mm256_set1_epi32(i32::MIN + 0x3f_ffff), moved);
        signalling = _mm256_or_si256(signalling, found);
        bytemuck::cast(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(
            bytemuck::cast(from),
        ))
    };
    let (from, from_rest) = from.as_chunks();
    let (to, to_rest) = to.as_chunks_mut();
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
    if !from_rest.is_empty() {
        let mut rest = [0.0; 8];
        rest[..from_rest.len()].copy_from_slice(from_rest);
        to_rest.copy_from_slice(&convert(rest)[..to_rest.len()]);
    }
    _mm256_testz_si256(signalling, signalling) == 0
}

/// Without a branch, for vector code.
fn any_signalling(values: &[f64]) -> bool {
    values.iter().fold(0, |any, value| any | value.signalling()) != 0
}
