//! Prefix scans: each element folded with all those before it, in place.

#![allow(clippy::wildcard_imports, reason = "intrinsics name themselves")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use bytemuck::Pod;

use crate::dtype::integers;

/// The widest register of every processor of the architecture.
#[cfg(target_arch = "x86_64")]
pub(crate) type Vector = __m128i;
/// No more than its bytes.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) type Vector = u128;

/// An associative operation.
pub(crate) trait Fold<T> {
    /// It, on two elements.
    fn fold(a: T, b: T) -> T;

    /// It, on two vectors of elements.
    #[cfg(target_arch = "x86_64")]
    fn vectors(a: Vector, b: Vector) -> Vector;
}

/// Exclusive or.
pub(crate) struct Xor;

/// The sum, which wraps.
pub(crate) struct Sum;

macro_rules! impl_xor {
    ($($type:ty)*) => { $(
        impl Fold<$type> for Xor {
            fn fold(a: $type, b: $type) -> $type {
                a ^ b
            }

            #[cfg(target_arch = "x86_64")]
            fn vectors(a: Vector, b: Vector) -> Vector {
                xor_vectors(a, b)
            }
        }
    )* };
}

impl_xor!(u8 u16 u32 u64);

impl Fold<Vector> for Xor {
    fn fold(a: Vector, b: Vector) -> Vector {
        xor_vectors(a, b)
    }

    #[cfg(target_arch = "x86_64")]
    fn vectors(a: Vector, b: Vector) -> Vector {
        xor_vectors(a, b)
    }
}

impl<const N: usize> Fold<[u64; N]> for Xor {
    #[inline]
    fn fold(a: [u64; N], b: [u64; N]) -> [u64; N] {
        std::array::from_fn(|i| a[i] ^ b[i])
    }

    #[cfg(target_arch = "x86_64")]
    fn vectors(a: Vector, b: Vector) -> Vector {
        xor_vectors(a, b)
    }
}

#[cfg(target_arch = "x86_64")]
fn xor_vectors(a: Vector, b: Vector) -> Vector {
    // SAFETY: every x86_64 has SSE2.
    unsafe { _mm_xor_si128(a, b) }
}

#[cfg(not(target_arch = "x86_64"))]
fn xor_vectors(a: Vector, b: Vector) -> Vector {
    a ^ b
}

macro_rules! impl_sum {
    ($($type:ty)*) => { $(
        impl Fold<$type> for Sum {
            fn fold(a: $type, b: $type) -> $type {
                a.wrapping_add(b)
            }

            #[cfg(target_arch = "x86_64")]
            fn vectors(a: Vector, b: Vector) -> Vector {
                // SAFETY: every x86_64 has SSE2.
                unsafe {
                    match size_of::<$type>() {
                        1 => _mm_add_epi8(a, b),
                        2 => _mm_add_epi16(a, b),
                        4 => _mm_add_epi32(a, b),
                        _ => _mm_add_epi64(a, b),
                    }
                }
            }
        }
    )* };
}

integers!(impl_sum);

/// Replace each element of `bytes`, which may lie unaligned, by the fold of `before` and all
/// elements up to and with it. Returns the last, or `before`.
pub(crate) fn scan<T: Pod, F: Fold<T>>(before: T, bytes: &mut [u8]) -> T {
    #[cfg(target_arch = "x86_64")]
    let (before, bytes) = {
        let (vectors, rest) = bytes.as_chunks_mut();
        // SAFETY: every x86_64 has SSE2.
        (unsafe { scan_vectors::<T, F>(before, vectors) }, rest)
    };
    scan_elements::<T, F>(before, bytes)
}

fn scan_elements<T: Pod, F: Fold<T>>(mut before: T, bytes: &mut [u8]) -> T {
    for element in bytes.chunks_exact_mut(size_of::<T>()) {
        before = F::fold(before, bytemuck::pod_read_unaligned(element));
        element.copy_from_slice(bytemuck::bytes_of(&before));
    }
    before
}

/// Within a vector, fold with the vector shifted by one element, then two, four, eight. What is
/// carried from vector to vector waits for one operation alone.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn scan_vectors<T: Pod, F: Fold<T>>(before: T, vectors: &mut [[u8; 16]]) -> T {
    let size = size_of::<T>();
    let mut last = [0; 16];
    last[16 - size..].copy_from_slice(bytemuck::bytes_of(&before));
    let mut carry = last_everywhere(bytemuck::cast(last), size);
    for vector in vectors {
        let mut folds: Vector = bytemuck::cast(*vector);
        if size <= 1 {
            folds = F::vectors(folds, _mm_slli_si128::<1>(folds));
        }
        if size <= 2 {
            folds = F::vectors(folds, _mm_slli_si128::<2>(folds));
        }
        if size <= 4 {
            folds = F::vectors(folds, _mm_slli_si128::<4>(folds));
        }
        if size <= 8 {
            folds = F::vectors(folds, _mm_slli_si128::<8>(folds));
        }
        *vector = bytemuck::cast(F::vectors(folds, carry));
        carry = F::vectors(carry, last_everywhere(folds, size));
    }
    let last: [u8; 16] = bytemuck::cast(carry);
    bytemuck::pod_read_unaligned(&last[16 - size..])
}

/// The last element of `size` bytes, in place of each.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn last_everywhere(vector: Vector, size: usize) -> Vector {
    match size {
        1 => last_everywhere(_mm_unpackhi_epi8(vector, vector), 2),
        2 => _mm_shuffle_epi32::<0xff>(_mm_shufflehi_epi16::<0xff>(vector)),
        4 => _mm_shuffle_epi32::<0xff>(vector),
        8 => _mm_unpackhi_epi64(vector, vector),
        _ => vector,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equals_naive<T: Pod + std::fmt::Debug + PartialEq, F: Fold<T>>() {
        let size = size_of::<T>();
        for count in 0..70 {
            for offset in 0..3 {
                let input: Vec<u8> = (0..offset + (count + 1) * size)
                    .map(|i| (i * i * 37 % 251) as u8)
                    .collect();
                let input = &input[offset..];
                let before = bytemuck::pod_read_unaligned::<T>(&input[..size]);
                let (mut naive, mut fast) = (input[size..].to_vec(), input[size..].to_vec());
                let last = scan_elements::<T, F>(before, &mut naive);
                assert_eq!(scan::<T, F>(before, &mut fast), last);
                assert_eq!(fast, naive, "{count} of {size} bytes");
            }
        }
    }

    #[test]
    fn vectors_equal_elements() {
        equals_naive::<u8, Xor>();
        equals_naive::<u16, Xor>();
        equals_naive::<u32, Xor>();
        equals_naive::<u64, Xor>();
        equals_naive::<u8, Sum>();
        equals_naive::<i16, Sum>();
        equals_naive::<u32, Sum>();
        equals_naive::<i64, Sum>();
    }
}
