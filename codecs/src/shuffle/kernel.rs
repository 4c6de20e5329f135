//! Transposing bytes of elements to planes of bytes and back.
//!
//! With `n` elements of `s` bytes: `shuffled[k * n + i] == plain[i * s + k]`.

/// Shuffle `plain` into `shuffled`.
///
/// # Panics
/// Panics if the slices differ in length or are not a whole number of elements.
pub fn shuffle(plain: &[u8], shuffled: &mut [u8], element_size: usize) {
    check(plain.len(), shuffled.len(), element_size);
    match element_size {
        0 | 1 => shuffled.copy_from_slice(plain),
        2 => to_planes_2(plain, shuffled),
        4 => to_planes_4(plain, shuffled),
        8 => to_planes_8(plain, shuffled),
        _ => {
            let count = plain.len() / element_size;
            for (k, plane) in shuffled.chunks_exact_mut(count.max(1)).enumerate() {
                for (byte, element) in plane.iter_mut().zip(plain.chunks_exact(element_size)) {
                    *byte = element[k];
                }
            }
        }
    }
}

/// Undo [`shuffle`].
///
/// # Panics
/// Panics if the slices differ in length or are not a whole number of elements.
pub fn unshuffle(shuffled: &[u8], plain: &mut [u8], element_size: usize) {
    check(plain.len(), shuffled.len(), element_size);
    match element_size {
        0 | 1 => plain.copy_from_slice(shuffled),
        2 => from_planes_2(shuffled, plain),
        4 => from_planes_4(shuffled, plain),
        8 => from_planes_8(shuffled, plain),
        _ => {
            let count = plain.len() / element_size;
            for (k, plane) in shuffled.chunks_exact(count.max(1)).enumerate() {
                for (byte, element) in plane.iter().zip(plain.chunks_exact_mut(element_size)) {
                    element[k] = *byte;
                }
            }
        }
    }
}

fn check(plain: usize, shuffled: usize, element_size: usize) {
    assert_eq!(plain, shuffled, "shuffling keeps the length");
    assert!(
        plain.is_multiple_of(element_size.max(1)),
        "a whole number of elements"
    );
}

/// A transpose for elements of `$size` bytes, as shifts of `$word`s: the compiler vectorises
/// narrowing and widening words, which it does not for strided bytes.
macro_rules! transposes {
    ($to_planes:ident, $from_planes:ident, $word:ty, $size:literal) => {
        fn $to_planes(plain: &[u8], shuffled: &mut [u8]) {
            let (elements, _) = plain.as_chunks::<$size>();
            for (k, plane) in shuffled.chunks_exact_mut(elements.len().max(1)).enumerate() {
                for (byte, element) in plane.iter_mut().zip(elements) {
                    *byte = (<$word>::from_le_bytes(*element) >> (8 * k)).to_le_bytes()[0];
                }
            }
        }

        fn $from_planes(shuffled: &[u8], plain: &mut [u8]) {
            let (elements, _) = plain.as_chunks_mut::<$size>();
            let count = elements.len();
            let planes: [&[u8]; $size] = std::array::from_fn(|k| &shuffled[k * count..][..count]);
            for (i, element) in elements.iter_mut().enumerate() {
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
}
