//! XOR along one axis of a C-order block of bytes.
//!
//! A block of shape `(outer, rows, row_bytes)` holds, for each outer index, `rows` slices of
//! `row_bytes` bytes. With `x` decoded and `e` encoded:
//!
//! ```text
//! e[0] = x[0]            e[i] = x[i] ^ x[i - 1]
//! x[0] = e[0]            x[i] = e[i] ^ x[i - 1]
//! ```

/// Encode `decoded` of shape `(outer, rows, row_bytes)`.
///
/// # Panics
/// Panics if `row_bytes` is zero or `decoded` is not a whole number of `rows * row_bytes`.
#[must_use]
pub fn encode(decoded: &[u8], rows: usize, row_bytes: usize) -> Vec<u8> {
    let mut encoded = decoded.to_vec();
    for (encoded, decoded) in
        blocks_mut(&mut encoded, rows, row_bytes).zip(decoded.chunks_exact(rows.max(1) * row_bytes))
    {
        xor_into(
            &mut encoded[row_bytes..],
            &decoded[..decoded.len() - row_bytes],
        );
    }
    encoded
}

/// Rows of one machine word: the row before stays in a register.
macro_rules! scan_words {
    ($block:expr, $word:ty) => {{
        let mut before: $word = 0;
        for row in $block.as_chunks_mut().0 {
            before ^= <$word>::from_ne_bytes(*row);
            *row = before.to_ne_bytes();
        }
    }};
}

/// Decode `data` of shape `(outer, rows, row_bytes)` in place.
///
/// # Panics
/// Panics if `row_bytes` is zero or `data` is not a whole number of `rows * row_bytes`.
pub fn decode(data: &mut [u8], rows: usize, row_bytes: usize) {
    for block in blocks_mut(data, rows, row_bytes) {
        match row_bytes {
            1 => scan_words!(block, u8),
            2 => scan_words!(block, u16),
            4 => scan_words!(block, u32),
            8 => scan_words!(block, u64),
            16 => scan_words!(block, u128),
            _ => scan_rows(block, row_bytes),
        }
    }
}

fn blocks_mut(
    data: &mut [u8],
    rows: usize,
    row_bytes: usize,
) -> std::slice::ChunksExactMut<'_, u8> {
    assert!(row_bytes > 0, "a row must have at least one byte");
    let block_bytes = rows.max(1) * row_bytes;
    assert!(
        data.len().is_multiple_of(block_bytes),
        "{} bytes are not a whole number of blocks of {rows} rows of {row_bytes} bytes",
        data.len(),
    );
    data.chunks_exact_mut(block_bytes)
}

fn scan_rows(block: &mut [u8], row_bytes: usize) {
    let mut rows = block.chunks_exact_mut(row_bytes);
    let Some(mut before) = rows.next() else {
        return;
    };
    for row in rows {
        xor_into(row, before);
        before = row;
    }
}

fn xor_into(into: &mut [u8], other: &[u8]) {
    for (into, other) in into.iter_mut().zip(other) {
        *into ^= other;
    }
}
