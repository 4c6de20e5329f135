//! XOR along one axis of a C-order block of bytes.
//!
//! A block of shape `(outer, rows, row_bytes)` holds, for each outer index, `rows` slices of
//! `row_bytes` bytes. With `x` decoded and `e` encoded:
//!
//! ```text
//! e[0] = x[0]            e[i] = x[i] ^ x[i - 1]
//! x[0] = e[0]            x[i] = e[i] ^ x[i - 1]
//! ```

#![allow(
    clippy::inline_always,
    reason = "what is not inlined into `run_avx2` is not compiled for AVX2"
)]

use std::ops::Range;

use bytemuck::Pod;

use crate::scan::{Fold, Vector, Xor, scan};

/// Encode `decoded` of shape `(outer, rows, row_bytes)`.
///
/// # Panics
/// Panics if `row_bytes` is zero or `decoded` is not a whole number of `rows * row_bytes`.
#[must_use]
pub fn encode(decoded: &[u8], rows: usize, row_bytes: usize) -> Vec<u8> {
    let mut encoded = decoded.to_vec();
    whole_blocks(decoded.len(), rows, row_bytes).encode(&mut encoded);
    encoded
}

/// Decode `data` of shape `(outer, rows, row_bytes)` in place.
///
/// # Panics
/// Panics if `row_bytes` is zero or `data` is not a whole number of `rows * row_bytes`.
pub fn decode(data: &mut [u8], rows: usize, row_bytes: usize) {
    whole_blocks(data.len(), rows, row_bytes).decode(data);
}

fn whole_blocks(bytes: usize, rows: usize, row_bytes: usize) -> Scan {
    let scan = Scan::new(rows, row_bytes);
    assert!(
        bytes.is_multiple_of(scan.block_bytes),
        "{bytes} bytes are not a whole number of blocks of {rows} rows of {row_bytes} bytes",
    );
    scan
}

/// Bytes per piece: it stays in the L1 cache while its columns are gone through one after the other.
const PIECE: usize = 16 << 10;

/// Words in the half of a tile, which is what a row is cut into: the tile of the row before stays
/// in registers.
const HALF_TILE: usize = 8;

/// Rows too few to go through them tile by tile.
const FEW_ROWS: usize = 8;

/// Encodes or decodes a block of shape `(outer, rows, row_bytes)` in place, in successive pieces
/// that may begin and end anywhere.
#[derive(Clone, Debug)]
pub struct Scan {
    row_bytes: usize,
    block_bytes: usize,
    /// That of the next byte, within `block_bytes`.
    position: usize,
    /// In each column the decoded byte before, if that is of the same block.
    before: Vec<u8>,
}

impl Default for Scan {
    /// One that changes nothing, until [`reset`](Self::reset).
    fn default() -> Self {
        Self::new(1, 1)
    }
}

impl Scan {
    /// At the start of a block.
    ///
    /// # Panics
    /// Panics if `row_bytes` is zero.
    #[must_use]
    pub fn new(rows: usize, row_bytes: usize) -> Self {
        let mut scan = Self {
            row_bytes: 0,
            block_bytes: 0,
            position: 0,
            before: Vec::new(),
        };
        scan.reset(rows, row_bytes);
        scan
    }

    /// Become what [`new`](Self::new) gives.
    ///
    /// # Panics
    /// Panics if `row_bytes` is zero.
    pub fn reset(&mut self, rows: usize, row_bytes: usize) {
        assert!(row_bytes > 0, "a row must have at least one byte");
        self.row_bytes = row_bytes;
        self.block_bytes = rows.max(1) * row_bytes;
        // Memory: a row of a chunk, which is in memory.
        self.before.resize(row_bytes, 0);
        self.seek(0);
    }

    /// Go on at another place.
    ///
    /// # Panics
    /// Panics if `position` is not a multiple of `rows * row_bytes`.
    pub fn seek(&mut self, position: usize) {
        assert!(
            position.is_multiple_of(self.block_bytes),
            "seek: {position} is not the start of a block of {} bytes",
            self.block_bytes
        );
        self.position = 0;
    }

    /// Decode the next bytes.
    pub fn decode(&mut self, piece: &mut [u8]) {
        self.run::<true>(piece);
    }

    /// Encode the next bytes.
    pub fn encode(&mut self, piece: &mut [u8]) {
        self.run::<false>(piece);
    }

    fn run<const DECODE: bool>(&mut self, bytes: &mut [u8]) {
        // A block of one row is its own code.
        if self.block_bytes == self.row_bytes {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: detected.
            unsafe { self.run_avx2::<DECODE>(bytes) };
            return;
        }
        self.run_anywhere::<DECODE>(bytes);
    }

    /// The same, compiled for wider registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn run_avx2<const DECODE: bool>(&mut self, bytes: &mut [u8]) {
        self.run_anywhere::<DECODE>(bytes);
    }

    #[inline(always)]
    pub(super) fn run_anywhere<const DECODE: bool>(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(PIECE) {
            let column = self.position % self.row_bytes;
            let to_row = (self.row_bytes - column) % self.row_bytes;
            let (head, piece) = piece.split_at_mut(to_row.min(piece.len()));
            self.part_of_row::<DECODE>(column, head);
            let (rows, tail) = piece.split_at_mut(piece.len() / self.row_bytes * self.row_bytes);
            self.whole_rows::<DECODE>(rows);
            self.part_of_row::<DECODE>(0, tail);
        }
    }

    #[inline(always)]
    fn part_of_row<const DECODE: bool>(&mut self, column: usize, part: &mut [u8]) {
        let before = &mut self.before[column..][..part.len()];
        if self.position < self.row_bytes {
            before.copy_from_slice(part);
        } else {
            for (byte, before) in part.iter_mut().zip(before) {
                let value = *byte;
                *byte ^= *before;
                *before = if DECODE { *byte } else { value };
            }
        }
        self.advance(part.len());
    }

    #[inline(always)]
    fn whole_rows<const DECODE: bool>(&mut self, rows: &mut [u8]) {
        if rows.len() < FEW_ROWS * self.row_bytes {
            return self.few_rows::<DECODE>(rows);
        }
        for start in (0..self.row_bytes).step_by(2 * HALF_TILE * size_of::<u64>()) {
            let tile = start..self.row_bytes.min(start + 2 * HALF_TILE * size_of::<u64>());
            match (tile.len(), self.row_bytes) {
                (1, 1) => self.column::<u8, DECODE>(rows),
                (2, 2) => self.column::<u16, DECODE>(rows),
                (4, 4) => self.column::<u32, DECODE>(rows),
                (8, 8) => self.column::<u64, DECODE>(rows),
                (16, 16) => self.column::<Vector, DECODE>(rows),
                (1..=2, _) => self.tile::<u8, DECODE>(rows, tile),
                (3..=4, _) => self.tile::<u16, DECODE>(rows, tile),
                (5..=8, _) => self.tile::<u32, DECODE>(rows, tile),
                (9..=16, _) => self.tile::<u64, DECODE>(rows, tile),
                (17..=32, _) => self.tile::<[u64; 2], DECODE>(rows, tile),
                (33..=64, _) => self.tile::<[u64; 4], DECODE>(rows, tile),
                _ => self.tile::<[u64; HALF_TILE], DECODE>(rows, tile),
            }
        }
        self.advance(rows.len());
    }

    fn advance(&mut self, bytes: usize) {
        self.position = (self.position + bytes) % self.block_bytes;
    }

    #[inline(always)]
    fn few_rows<const DECODE: bool>(&mut self, rows: &mut [u8]) {
        if !DECODE {
            for row in rows.chunks_exact_mut(self.row_bytes) {
                self.part_of_row::<DECODE>(0, row);
            }
            return;
        }
        for (anew, block) in self.blocks(rows) {
            let mut rows = block.chunks_exact_mut(self.row_bytes);
            let Some(mut last) = rows.next() else {
                continue;
            };
            if !anew {
                xor_into(last, &self.before);
            }
            for row in rows {
                xor_into(row, last);
                last = row;
            }
        }
        if let Some(last) = rows.rchunks_exact(self.row_bytes).next() {
            self.before.copy_from_slice(last);
        }
        self.advance(rows.len());
    }

    /// Rows of one `T` each.
    #[inline(always)]
    fn column<T: Pod, const DECODE: bool>(&mut self, rows: &mut [u8])
    where
        Xor: Fold<T>,
    {
        let mut before: T = read(&self.before, 0);
        for (anew, block) in self.blocks(rows) {
            if anew {
                before = T::zeroed();
            }
            if DECODE {
                before = scan::<T, Xor>(before, block);
            } else {
                for row in block.chunks_exact_mut(size_of::<T>()) {
                    let value = read(row, 0);
                    write(row, 0, Xor::fold(value, before));
                    before = value;
                }
            }
        }
        write(&mut self.before, 0, before);
    }

    /// The columns `tile` of rows, as two of `T` that overlap unless the tile is as wide as both.
    #[inline(always)]
    fn tile<T: Pod, const DECODE: bool>(&mut self, rows: &mut [u8], tile: Range<usize>)
    where
        Xor: Fold<T>,
    {
        let row_bytes = self.row_bytes;
        let (low, high) = (tile.start, tile.end - size_of::<T>());
        let mut before: [T; 2] = [read(&self.before, low), read(&self.before, high)];
        for (anew, block) in self.blocks(rows) {
            if anew {
                before = [T::zeroed(); 2];
            }
            for row in block.chunks_exact_mut(row_bytes) {
                let values = [read(row, low), read(row, high)];
                let folds = [
                    Xor::fold(values[0], before[0]),
                    Xor::fold(values[1], before[1]),
                ];
                write(row, low, folds[0]);
                write(row, high, folds[1]);
                before = if DECODE { folds } else { values };
            }
        }
        write(&mut self.before, low, before[0]);
        write(&mut self.before, high, before[1]);
    }

    /// The rows of each block, and whether they begin it, with nothing before.
    #[inline(always)]
    fn blocks<'a>(
        &self,
        rows: &'a mut [u8],
    ) -> impl Iterator<Item = (bool, &'a mut [u8])> + use<'a> {
        let left = rows.len().min(self.block_bytes - self.position);
        let (first, others) = rows.split_at_mut(left);
        let others = others.chunks_mut(self.block_bytes);
        std::iter::once((self.position == 0, first)).chain(others.map(|block| (true, block)))
    }
}

#[inline(always)]
fn read<T: Pod>(bytes: &[u8], at: usize) -> T {
    bytemuck::pod_read_unaligned(&bytes[at..][..size_of::<T>()])
}

#[inline(always)]
fn write<T: Pod>(bytes: &mut [u8], at: usize, value: T) {
    bytes[at..][..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
}

#[inline(always)]
fn xor_into(into: &mut [u8], other: &[u8]) {
    for (into, other) in into.iter_mut().zip(other) {
        *into ^= other;
    }
}
