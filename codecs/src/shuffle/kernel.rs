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
            #[cfg(target_arch = "x86_64")]
            // SAFETY: every x86_64 has SSE2.
            let done = unsafe { vectors::to_planes(plain, &mut planes) };
            #[cfg(not(target_arch = "x86_64"))]
            let done = 0;
            for (k, plane) in planes.into_iter().enumerate() {
                for (byte, element) in plane[done..].iter_mut().zip(&elements[done..]) {
                    *byte = (<$word>::from_le_bytes(*element) >> (8 * k)).to_le_bytes()[0];
                }
            }
        }

        fn $from_planes(shuffled: &[u8], start: usize, plain: &mut [u8]) {
            let planes = planes::<$size>(shuffled, start, plain.len() / $size);
            #[cfg(target_arch = "x86_64")]
            // SAFETY: every x86_64 has SSE2.
            let done = unsafe { vectors::from_planes(&planes, plain) };
            #[cfg(not(target_arch = "x86_64"))]
            let done = 0;
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

/// Sixteen elements at a time, as a vector for each plane: a round of interleaving the first half
/// of the vectors with the second rotates the bits of a byte's place by one, so log2(size) rounds
/// exchange the number of the plane and that of the element.
#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;

    /// Returns the number of elements transposed.
    #[target_feature(enable = "sse2")]
    pub fn from_planes<const S: usize>(planes: &[&[u8]; S], plain: &mut [u8]) -> usize {
        let blocks = plain.len() / (16 * S);
        let planes = planes.map(|plane| &plane.as_chunks::<16>().0[..blocks]);
        for (i, block) in plain.chunks_exact_mut(16 * S).enumerate() {
            let mut vectors: [__m128i; S] = planes.map(|plane| bytemuck::cast(plane[i]));
            for _ in 0..S.ilog2() {
                vectors = std::array::from_fn(|to| {
                    let (low, high) = (vectors[to / 2], vectors[to / 2 + S / 2]);
                    if to % 2 == 0 {
                        _mm_unpacklo_epi8(low, high)
                    } else {
                        _mm_unpackhi_epi8(low, high)
                    }
                });
            }
            for (bytes, vector) in block.as_chunks_mut().0.iter_mut().zip(vectors) {
                *bytes = bytemuck::cast::<_, [u8; 16]>(vector);
            }
        }
        blocks * 16
    }

    /// Returns the number of elements transposed.
    #[target_feature(enable = "sse2")]
    pub fn to_planes<const S: usize>(plain: &[u8], planes: &mut [&mut [u8]; S]) -> usize {
        let blocks = plain.len() / (16 * S);
        let low = _mm_set1_epi16(0xff);
        for (i, block) in plain.chunks_exact(16 * S).enumerate() {
            let (bytes, _) = block.as_chunks::<16>();
            let mut vectors: [__m128i; S] = std::array::from_fn(|k| bytemuck::cast(bytes[k]));
            for _ in 0..S.ilog2() {
                vectors = std::array::from_fn(|to| {
                    let from = to % (S / 2) * 2;
                    let pair = [vectors[from], vectors[from + 1]];
                    let [a, b] = if to < S / 2 {
                        pair.map(|vector| _mm_and_si128(vector, low))
                    } else {
                        pair.map(|vector| _mm_srli_epi16::<8>(vector))
                    };
                    _mm_packus_epi16(a, b)
                });
            }
            for (plane, vector) in planes.iter_mut().zip(vectors) {
                plane[16 * i..][..16].copy_from_slice(&bytemuck::cast::<_, [u8; 16]>(vector));
            }
        }
        blocks * 16
    }
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

    #[test]
    #[should_panic = "not in a chunk"]
    fn a_range_beyond_the_chunk_panics() {
        unshuffle_range(&[0; 8], 3, &mut [0; 4], 2);
    }
}
