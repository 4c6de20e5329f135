//! The byte order of elements.

/// Reverse the bytes of each element of `size` bytes, in place.
///
/// # Panics
/// Panics if `bytes` is not a whole number of elements of 1, 2, 4 or 8 bytes.
pub fn swap(bytes: &mut [u8], size: usize) {
    match size {
        1 => {}
        2 => swap_elements::<2>(bytes, |element| u16::from_be_bytes(element).to_le_bytes()),
        4 => swap_elements::<4>(bytes, |element| u32::from_be_bytes(element).to_le_bytes()),
        8 => swap_elements::<8>(bytes, |element| u64::from_be_bytes(element).to_le_bytes()),
        _ => panic!("swap: elements of {size} bytes, expected 1, 2, 4 or 8"),
    }
}

// `reverse` would do, but the compiler makes vectors of swaps of integers only.
fn swap_elements<const SIZE: usize>(bytes: &mut [u8], swap: impl Fn([u8; SIZE]) -> [u8; SIZE]) {
    let (elements, rest) = bytes.as_chunks_mut();
    assert!(rest.is_empty(), "swap: a whole number of elements");
    for element in elements {
        *element = swap(*element);
    }
}

#[cfg(test)]
mod tests {
    use super::swap;

    #[test]
    fn bytes_of_elements_turn_round() {
        for size in [1, 2, 4, 8] {
            for count in 0..70 {
                let bytes: Vec<u8> = (0..count * size).map(|i| (i * 37 % 251) as u8).collect();
                let mut swapped = bytes.clone();
                swap(&mut swapped, size);
                for (at, byte) in swapped.iter().enumerate() {
                    assert_eq!(*byte, bytes[at / size * size + size - 1 - at % size]);
                }
            }
        }
    }
}
