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
        2 => to_planes::<2>(plain, shuffled),
        4 => to_planes::<4>(plain, shuffled),
        8 => to_planes::<8>(plain, shuffled),
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
        2 => from_planes::<2>(shuffled, plain),
        4 => from_planes::<4>(shuffled, plain),
        8 => from_planes::<8>(shuffled, plain),
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

/// Elements per block: with a constant count the compiler unrolls and vectorises the transpose.
const BLOCK: usize = 32;

fn to_planes<const S: usize>(plain: &[u8], shuffled: &mut [u8]) {
    let (elements, _) = plain.as_chunks::<S>();
    let mut planes = split_mut::<S>(shuffled, elements.len());
    let (blocks, tail) = elements.as_chunks::<BLOCK>();
    for (b, block) in blocks.iter().enumerate() {
        for (k, plane) in planes.iter_mut().enumerate() {
            plane[b * BLOCK..][..BLOCK].copy_from_slice(&block.map(|element| element[k]));
        }
    }
    let start = blocks.len() * BLOCK;
    for (i, element) in tail.iter().enumerate() {
        for (plane, byte) in planes.iter_mut().zip(element) {
            plane[start + i] = *byte;
        }
    }
}

fn from_planes<const S: usize>(shuffled: &[u8], plain: &mut [u8]) {
    let (elements, _) = plain.as_chunks_mut::<S>();
    let count = elements.len();
    let planes: [&[u8]; S] = std::array::from_fn(|k| &shuffled[k * count..][..count]);
    let (blocks, tail) = elements.as_chunks_mut::<BLOCK>();
    let start = blocks.len() * BLOCK;
    for (b, block) in blocks.iter_mut().enumerate() {
        let bytes: [[u8; BLOCK]; S] = std::array::from_fn(|k| {
            let mut bytes = [0; BLOCK];
            bytes.copy_from_slice(&planes[k][b * BLOCK..][..BLOCK]);
            bytes
        });
        *block = std::array::from_fn(|i| std::array::from_fn(|k| bytes[k][i]));
    }
    for (i, element) in tail.iter_mut().enumerate() {
        *element = std::array::from_fn(|k| planes[k][start + i]);
    }
}

fn split_mut<const S: usize>(mut bytes: &mut [u8], count: usize) -> [&mut [u8]; S] {
    std::array::from_fn(|_| {
        let (plane, rest) = std::mem::take(&mut bytes).split_at_mut(count);
        bytes = rest;
        plane
    })
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
            for count in 0..3 * BLOCK + 2 {
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
