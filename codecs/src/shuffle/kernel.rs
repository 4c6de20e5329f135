//! Transposing bytes of elements to planes of bytes and back.
//!
//! With `n` elements of `s` bytes: `shuffled[k * n + i] == plain[i * s + k]`.

/// Shuffle `plain` into `shuffled`.
///
/// # Panics
/// Panics if the slices differ in length or are not a whole number of elements.
pub fn shuffle(plain: &[u8], shuffled: &mut [u8], element_size: usize) {
    assert_eq!(plain.len(), shuffled.len(), "shuffling keeps the length");
    shuffle_range(plain, 0, shuffled, element_size);
}

/// Undo [`shuffle`].
///
/// # Panics
/// Panics if the slices differ in length or are not a whole number of elements.
pub fn unshuffle(shuffled: &[u8], plain: &mut [u8], element_size: usize) {
    assert_eq!(plain.len(), shuffled.len(), "shuffling keeps the length");
    unshuffle_range(shuffled, 0, plain, element_size);
}

/// Shuffle `plain`, elements `start..` of a chunk, to its places in `shuffled`, that whole chunk.
///
/// # Panics
/// Panics if a slice is not a whole number of elements or the chunk has fewer.
pub fn shuffle_range(plain: &[u8], start: usize, shuffled: &mut [u8], element_size: usize) {
    let count = check(plain.len(), start, shuffled.len(), element_size);
    match element_size {
        0 | 1 => shuffled[start..][..count].copy_from_slice(plain),
        2 => to_planes_2(plain, start, shuffled),
        4 => to_planes_4(plain, start, shuffled),
        8 => to_planes_8(plain, start, shuffled),
        16 => to_planes_16(plain, start, shuffled),
        _ => {
            let planes = shuffled.chunks_exact_mut((shuffled.len() / element_size).max(1));
            for (k, plane) in planes.enumerate() {
                let plane = plane[start..].iter_mut();
                for (byte, element) in plane.zip(plain.chunks_exact(element_size)) {
                    *byte = element[k];
                }
            }
        }
    }
}

/// Undo [`shuffle_range`]: elements `start..` of the chunk `shuffled`, as many as `plain` holds.
///
/// # Panics
/// Panics if a slice is not a whole number of elements or the chunk has fewer.
pub fn unshuffle_range(shuffled: &[u8], start: usize, plain: &mut [u8], element_size: usize) {
    let count = check(plain.len(), start, shuffled.len(), element_size);
    match element_size {
        0 | 1 => plain.copy_from_slice(&shuffled[start..][..count]),
        2 => from_planes_2(shuffled, start, plain),
        4 => from_planes_4(shuffled, start, plain),
        8 => from_planes_8(shuffled, start, plain),
        16 => from_planes_16(shuffled, start, plain),
        _ => {
            let planes = shuffled.chunks_exact((shuffled.len() / element_size).max(1));
            for (k, plane) in planes.enumerate() {
                let elements = plain.chunks_exact_mut(element_size);
                for (byte, element) in plane[start..].iter().zip(elements) {
                    element[k] = *byte;
                }
            }
        }
    }
}

/// The number of elements in `plain` bytes.
fn check(plain: usize, start: usize, shuffled: usize, element_size: usize) -> usize {
    let element_size = element_size.max(1);
    assert!(
        plain.is_multiple_of(element_size) && shuffled.is_multiple_of(element_size),
        "a whole number of elements"
    );
    let count = plain / element_size;
    assert!(
        start
            .checked_add(count)
            .is_some_and(|end| end <= shuffled / element_size),
        "elements {start} and {count} more are not in a chunk of {shuffled} bytes"
    );
    count
}

/// A transpose for elements of `$size` bytes. What vectors leave over, or all where there are
/// none, goes as shifts of `$word`s: the compiler vectorises narrowing and widening words, which
/// it does not for strided bytes.
macro_rules! transposes {
    ($to_planes:ident, $from_planes:ident, $word:ty, $size:literal) => {
        fn $to_planes(plain: &[u8], start: usize, shuffled: &mut [u8]) {
            let (elements, _) = plain.as_chunks::<$size>();
            let mut planes = planes_mut::<$size>(shuffled, start, elements.len());
            let done = to_planes(plain, &mut planes);
            for (k, plane) in planes.into_iter().enumerate() {
                for (byte, element) in plane[done..].iter_mut().zip(&elements[done..]) {
                    *byte = (<$word>::from_le_bytes(*element) >> (8 * k)).to_le_bytes()[0];
                }
            }
        }

        fn $from_planes(shuffled: &[u8], start: usize, plain: &mut [u8]) {
            let planes = planes::<$size>(shuffled, start, plain.len() / $size);
            let done = from_planes(&planes, plain);
            let planes = planes.map(|plane| &plane[done..]);
            let (elements, _) = plain.as_chunks_mut::<$size>();
            for (i, element) in elements[done..].iter_mut().enumerate() {
                let mut word = 0;
                for (k, plane) in planes.iter().enumerate() {
                    word |= <$word>::from(plane[i]) << (8 * k);
                }
                *element = word.to_le_bytes();
            }
        }
    };
}
transposes!(to_planes_2, from_planes_2, u16, 2);
transposes!(to_planes_4, from_planes_4, u32, 4);
transposes!(to_planes_8, from_planes_8, u64, 8);
transposes!(to_planes_16, from_planes_16, u128, 16);

/// Bytes `start..start + count` of each of `S` planes.
fn planes<const S: usize>(shuffled: &[u8], start: usize, count: usize) -> [&[u8]; S] {
    std::array::from_fn(|k| &shuffled[k * (shuffled.len() / S) + start..][..count])
}

/// As [`planes`].
fn planes_mut<const S: usize>(shuffled: &mut [u8], start: usize, count: usize) -> [&mut [u8]; S] {
    let mut planes = shuffled.chunks_exact_mut((shuffled.len() / S).max(1));
    // A chunk without elements has no planes.
    std::array::from_fn(|_| &mut planes.next().unwrap_or_default()[start..][..count])
}

#[cfg(target_arch = "x86_64")]
use vectors::{from_planes, to_planes};

/// Each byte of a register is of another element, and there is one register for each plane: a round
/// of interleaving the first half of the registers with the second rotates the bits of a byte's
/// place by one, so log2(size) rounds exchange the number of the plane and that of the element.
#[cfg(target_arch = "x86_64")]
mod vectors {
    #![allow(clippy::wildcard_imports, reason = "intrinsics name themselves")]

    use std::arch::x86_64::*;

    /// The elements transposed, from the first.
    pub fn from_planes<const S: usize>(planes: &[&[u8]; S], plain: &mut [u8]) -> usize {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: detected.
            return unsafe { avx2::from_planes(planes, plain) };
        }
        // SAFETY: every x86_64 has SSE2.
        unsafe { sse2::from_planes(planes, plain) }
    }

    /// The elements transposed, from the first.
    pub fn to_planes<const S: usize>(plain: &[u8], planes: &mut [&mut [u8]; S]) -> usize {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: detected.
            return unsafe { avx2::to_planes(plain, planes) };
        }
        // SAFETY: every x86_64 has SSE2.
        unsafe { sse2::to_planes(plain, planes) }
    }

    /// The transposes in `$vector`s of `$bytes`. The instructions work on each 16 bytes alone,
    /// while memory has those of a vector apart: `$apart` and `$together` move them.
    macro_rules! networks {
        ($name:ident, $feature:literal, $vector:ty, $bytes:literal, $low:ident $high:ident
         $set:ident $and:ident $shift:ident $pack:ident, $apart:ident $together:ident) => {
            pub mod $name {
                use super::*;

                #[target_feature(enable = $feature)]
                pub fn from_planes<const S: usize>(planes: &[&[u8]; S], plain: &mut [u8]) -> usize {
                    let blocks = plain.len() / ($bytes * S);
                    let mut vectors_of = [&[][..]; S];
                    for (vectors, plane) in vectors_of.iter_mut().zip(planes) {
                        *vectors = &plane.as_chunks::<$bytes>().0[..blocks];
                    }
                    let (plain, _) = plain.as_chunks_mut::<$bytes>();
                    for (i, block) in (0..blocks).zip(plain.chunks_exact_mut(S)) {
                        let mut vectors = [$set(0); S];
                        for (vector, plane) in vectors.iter_mut().zip(vectors_of) {
                            *vector = bytemuck::cast(plane[i]);
                        }
                        for _ in 0..S.ilog2() {
                            let from = vectors;
                            for to in 0..S / 2 {
                                let (a, b) = (from[to], from[to + S / 2]);
                                vectors[2 * to] = $low(a, b);
                                vectors[2 * to + 1] = $high(a, b);
                            }
                        }
                        for (bytes, vector) in block.iter_mut().zip($apart(vectors)) {
                            *bytes = bytemuck::cast(vector);
                        }
                    }
                    blocks * $bytes
                }

                #[target_feature(enable = $feature)]
                pub fn to_planes<const S: usize>(
                    plain: &[u8],
                    planes: &mut [&mut [u8]; S],
                ) -> usize {
                    let blocks = plain.len() / ($bytes * S);
                    let mut vectors_of: [&mut [_]; S] = std::array::from_fn(|_| Default::default());
                    for (vectors, plane) in vectors_of.iter_mut().zip(planes) {
                        *vectors = &mut plane.as_chunks_mut::<$bytes>().0[..blocks];
                    }
                    let (plain, _) = plain.as_chunks::<$bytes>();
                    let low = $set(0xff);
                    for (i, block) in (0..blocks).zip(plain.chunks_exact(S)) {
                        let mut vectors = [$set(0); S];
                        for (vector, bytes) in vectors.iter_mut().zip(block) {
                            *vector = bytemuck::cast(*bytes);
                        }
                        vectors = $together(vectors);
                        for _ in 0..S.ilog2() {
                            let from = vectors;
                            for to in 0..S / 2 {
                                let (a, b) = (from[2 * to], from[2 * to + 1]);
                                vectors[to] = $pack($and(a, low), $and(b, low));
                                vectors[to + S / 2] = $pack($shift::<8>(a), $shift::<8>(b));
                            }
                        }
                        for (plane, vector) in vectors_of.iter_mut().zip(vectors) {
                            plane[i] = bytemuck::cast(vector);
                        }
                    }
                    blocks * $bytes
                }
            }
        };
    }

    networks!(sse2, "sse2", __m128i, 16, _mm_unpacklo_epi8 _mm_unpackhi_epi8
        _mm_set1_epi16 _mm_and_si128 _mm_srli_epi16 _mm_packus_epi16, same same);
    networks!(avx2, "avx2", __m256i, 32, _mm256_unpacklo_epi8 _mm256_unpackhi_epi8
        _mm256_set1_epi16 _mm256_and_si256 _mm256_srli_epi16 _mm256_packus_epi16, apart together);

    fn same<const S: usize>(vectors: [__m128i; S]) -> [__m128i; S] {
        vectors
    }

    /// The low halves of all, then the high ones.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn apart<const S: usize>(from: [__m256i; S]) -> [__m256i; S] {
        let mut vectors = from;
        for to in 0..S / 2 {
            let (a, b) = (from[2 * to], from[2 * to + 1]);
            vectors[to] = _mm256_permute2x128_si256::<0x20>(a, b);
            vectors[to + S / 2] = _mm256_permute2x128_si256::<0x31>(a, b);
        }
        vectors
    }

    /// Undo [`apart`].
    #[target_feature(enable = "avx2")]
    #[inline]
    fn together<const S: usize>(from: [__m256i; S]) -> [__m256i; S] {
        let mut vectors = from;
        for to in 0..S / 2 {
            let (a, b) = (from[to], from[to + S / 2]);
            vectors[2 * to] = _mm256_permute2x128_si256::<0x20>(a, b);
            vectors[2 * to + 1] = _mm256_permute2x128_si256::<0x31>(a, b);
        }
        vectors
    }
}

/// There are no vectors.
#[cfg(not(target_arch = "x86_64"))]
fn from_planes<const S: usize>(_planes: &[&[u8]; S], _plain: &mut [u8]) -> usize {
    0
}

/// There are no vectors.
#[cfg(not(target_arch = "x86_64"))]
fn to_planes<const S: usize>(_plain: &[u8], _planes: &mut [&mut [u8]; S]) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `shuffled[k * n + i] == plain[i * s + k]`, said once more.
    fn naive(plain: &[u8], element_size: usize) -> Vec<u8> {
        let element_size = element_size.max(1);
        (0..element_size)
            .flat_map(|k| plain.iter().skip(k).step_by(element_size).copied())
            .collect()
    }

    #[test]
    fn equals_naive_for_every_tail() {
        for element_size in [0, 1, 2, 3, 4, 5, 7, 8, 12, 16] {
            for count in 0..100 {
                let plain: Vec<u8> = (0..count * element_size.max(1))
                    .map(|i| (i * 37 % 251) as u8)
                    .collect();
                let mut shuffled = vec![0; plain.len()];
                shuffle(&plain, &mut shuffled, element_size);
                assert_eq!(shuffled, naive(&plain, element_size));
                let mut back = vec![0; plain.len()];
                unshuffle(&shuffled, &mut back, element_size);
                assert_eq!(back, plain);
            }
        }
    }

    #[test]
    fn ranges_are_the_whole_in_parts() {
        for element_size in [1, 2, 3, 4, 8, 12, 16] {
            for (count, step) in [
                (150, 1),
                (150, 17),
                (150, 33),
                (150, 64),
                (150, 149),
                (0, 1),
            ] {
                let plain: Vec<u8> = (0..count * element_size)
                    .map(|i| (i * 37 % 251) as u8)
                    .collect();
                let whole = naive(&plain, element_size);
                let mut shuffled = vec![0; plain.len()];
                let mut back = vec![0; plain.len()];
                for start in (0..count).step_by(step) {
                    let range = start * element_size..count.min(start + step) * element_size;
                    shuffle_range(&plain[range.clone()], start, &mut shuffled, element_size);
                    unshuffle_range(&whole, start, &mut back[range], element_size);
                }
                assert_eq!(shuffled, whole);
                assert_eq!(back, plain);
            }
        }
    }

    /// On a processor with AVX2 too.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn sse2_equals_naive() {
        fn check<const S: usize>() {
            let plain: Vec<u8> = (0..48 * S).map(|i| (i * 37 % 251) as u8).collect();
            let (mut shuffled, mut back) = (vec![0; plain.len()], vec![0; plain.len()]);
            let mut to = planes_mut::<S>(&mut shuffled, 0, 48);
            // SAFETY: every x86_64 has SSE2.
            assert_eq!(unsafe { vectors::sse2::to_planes(&plain, &mut to) }, 48);
            assert_eq!(shuffled, naive(&plain, S));
            let from = planes::<S>(&shuffled, 0, 48);
            // SAFETY: every x86_64 has SSE2.
            assert_eq!(unsafe { vectors::sse2::from_planes(&from, &mut back) }, 48);
            assert_eq!(back, plain);
        }
        check::<2>();
        check::<4>();
        check::<8>();
        check::<16>();
    }

    #[test]
    #[should_panic = "not in a chunk"]
    fn a_range_beyond_the_chunk_panics() {
        unshuffle_range(&[0; 8], 3, &mut [0; 4], 2);
    }
}
