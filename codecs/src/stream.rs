//! Copying past the caches, for results that nobody reads soon.

/// Copy `from` to `to`, of the same length, with stores that leave `to` out of the caches and do
/// not read it first.
///
/// Before another thread may read `to`, this one must call [`fence`]: such stores are not ordered
/// by the locks and atomics that order others.
///
/// # Panics
/// Panics if the lengths differ.
pub fn copy(from: &[u8], to: &mut [u8]) {
    assert_eq!(from.len(), to.len(), "copy: the lengths differ");
    #[cfg(target_arch = "x86_64")]
    let (from, to) = copy_lines(from, to);
    to.copy_from_slice(from);
}

/// Order all that [`copy`] stored on this thread before what the thread stores next.
pub fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 has SSE.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Copy all but the last, unfinished line, which is returned. The line that `to` may start within
/// is copied as usual.
#[cfg(target_arch = "x86_64")]
fn copy_lines<'a>(from: &'a [u8], to: &'a mut [u8]) -> (&'a [u8], &'a mut [u8]) {
    use std::arch::x86_64::{__m128i, _mm_stream_si128};

    /// A line of the cache: what is written whole needs no reading.
    #[repr(C, align(64))]
    #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
    struct Line([__m128i; 4]);

    let head = to.as_ptr().align_offset(64);
    if to.len() < head.saturating_add(64) {
        return (from, to);
    }
    let (from_head, from) = from.split_at(head);
    let (to_head, to) = to.split_at_mut(head);
    to_head.copy_from_slice(from_head);

    let lines = to.len() / 64 * 64;
    let (from_lines, from) = from.split_at(lines);
    let (to_lines, to) = to.split_at_mut(lines);
    let to_lines: &mut [Line] = bytemuck::cast_slice_mut(to_lines);
    for (to, from) in to_lines.iter_mut().zip(from_lines.as_chunks::<64>().0) {
        let vectors: [__m128i; 4] = bytemuck::cast(*from);
        for (to, vector) in to.0.iter_mut().zip(vectors) {
            // SAFETY: a reference to a vector is valid and aligned; every x86_64 has SSE2; and
            // `fence` is what the documentation of `copy` demands.
            unsafe { _mm_stream_si128(to, vector) };
        }
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::{copy, fence};

    #[test]
    fn copies_whatever_the_alignment_and_length() {
        let from: Vec<u8> = (0..400).map(|i| (i * 37 % 251) as u8).collect();
        for start in 0..70 {
            for length in (0..70).chain([127, 128, 129, 191, 256, 330 - start]) {
                for skew in [0, 1, 16] {
                    let mut to = vec![0; 400];
                    let from = &from[skew..][..length];
                    copy(from, &mut to[start..][..length]);
                    fence();
                    let mut expected = vec![0; 400];
                    expected[start..][..length].copy_from_slice(from);
                    assert_eq!(to, expected);
                }
            }
        }
    }
}
