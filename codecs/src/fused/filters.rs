//! The filters of a chain, one after the other on blocks that stay in L1.

use std::ops::Range;

use super::plan::{Error, error};
use super::target::Sink;
use crate::cast::{self, Overflow, cast_into};
use crate::delta::kernel as delta;
use crate::dtype::{NumericType, dispatch};
use crate::elements::with_elements_mut;
use crate::endian::swap;
use crate::shuffle::kernel::{shuffle_range, unshuffle_range};
use crate::stream;
use crate::temporal_xor::kernel::Scan;

/// What a chain does between decoded elements and the bytes that its compressor takes, in order.
#[derive(Clone, Debug)]
pub(super) struct Filters {
    /// Bytes of a decoded and of a stored element.
    pub(super) decoded_size: usize,
    pub(super) stored_size: usize,
    pub(super) stages: Vec<Stage>,
    /// Bytes that are stored in the other order than this machine's; 1 for none.
    pub(super) swap: usize,
    /// Bytes of a shuffled element, which divide those of a stored one; 1 for no shuffle.
    pub(super) shuffle: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// Elements of one type to those of another.
    Cast { from: NumericType, to: NumericType },
    /// Rows, a multiple of which makes a chunk, XOR the row before.
    Xor { rows: usize, row_bytes: usize },
    /// Differences of elements of this type.
    Delta(NumericType),
}

/// Vectors that lie within a line of the cache are read and written at once.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Where the filters are in a chunk, and two blocks between which casts go.
#[derive(Default)]
pub(super) struct State {
    blocks: [Vec<Line>; 2],
    scans: Vec<Scan>,
    sums: Vec<Option<[u8; 8]>>,
}

/// Bytes of a block in its widest form: with what it is made of and made to, it fits in L1.
const BLOCK: usize = 16 << 10;

impl Filters {
    pub(super) fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.swap <= 1 && self.shuffle <= 1
    }

    /// What does not encode here, if so: Delta looks at a whole chunk to know that it restores it.
    pub(super) fn unencodable(&self) -> Option<&'static str> {
        let casts_sums = |pair: &[Stage]| matches!(pair, [Stage::Delta(_), Stage::Cast { .. }]);
        let sums_floats = |stage: &Stage| matches!(stage, Stage::Delta(t) if t.is_float());
        let lossy = self.stages.iter().any(sums_floats) || self.stages.windows(2).any(casts_sums);
        lossy.then_some("a delta that may not restore every value")
    }

    /// Elements of a block: whole rows, if they are not longer.
    fn block(&self) -> usize {
        let mut widest = self.decoded_size.max(self.stored_size);
        let mut size = self.decoded_size;
        let mut row = 1;
        for stage in &self.stages {
            match stage {
                Stage::Cast { to, .. } => {
                    size = to.size();
                    widest = widest.max(size);
                }
                Stage::Xor { row_bytes, .. } => row = row_bytes / size,
                Stage::Delta(_) => {}
            }
        }
        let block = (BLOCK / widest).max(1);
        if row < block {
            block / row * row
        } else {
            block
        }
    }

    /// Where decoding must begin to know the elements from `first`, and the state that begins there.
    fn begin(&self, first: usize, state: &mut State) -> usize {
        let mut begin = first;
        let mut size = self.decoded_size;
        for stage in &self.stages {
            match stage {
                Stage::Cast { to, .. } => size = to.size(),
                Stage::Xor { rows, row_bytes } => begin -= begin % (rows * row_bytes / size),
                Stage::Delta(_) => begin = 0,
            }
        }
        // Scans restart at multiples of their blocks: with several, only the origin is one of all.
        let stateful = |stage: &&Stage| !matches!(stage, Stage::Cast { .. });
        if self.stages.iter().filter(stateful).count() > 1 {
            begin = 0;
        }
        let mut size = self.decoded_size;
        state.scans.resize_with(self.stages.len(), Scan::default);
        state.sums.clear();
        state.sums.resize(self.stages.len(), None);
        for (stage, scan) in self.stages.iter().zip(&mut state.scans) {
            match stage {
                Stage::Cast { to, .. } => size = to.size(),
                Stage::Xor { rows, row_bytes } => {
                    scan.reset(*rows, *row_bytes);
                    scan.seek(begin * size);
                }
                Stage::Delta(_) => {}
            }
        }
        let lines = BLOCK
            .max(self.decoded_size)
            .max(self.stored_size)
            .div_ceil(size_of::<Line>());
        for block in &mut state.blocks {
            // Memory: a block, which holds one element at least.
            block.resize(lines.max(block.len()), Line([0; 64]));
        }
        begin
    }

    /// Undo the filters for the elements `wanted` of a chunk that they made `filtered` of (at least
    /// up to the last wanted one; all of it, if it was shuffled).
    pub(super) fn undo(
        &self,
        filtered: &[u8],
        wanted: Range<usize>,
        sink: &mut dyn Sink,
        state: &mut State,
    ) -> Result<(), Error> {
        if self.is_empty() {
            let bytes = wanted.start * self.stored_size..wanted.end * self.stored_size;
            sink.put(wanted.start, &filtered[bytes]);
            return Ok(());
        }
        let mut start = self.begin(wanted.start, state);
        let step = self.block();
        let streams = sink.streams();
        let carries = |stage: &Stage| !matches!(stage, Stage::Cast { .. });
        let carrying = self.stages.iter().position(carries).unwrap_or(0);
        while start < wanted.end {
            // Blocks before the wanted elements only carry the state on.
            let limit = if start < wanted.start {
                wanted.start
            } else {
                wanted.end
            };
            let elements = start..limit.min(start + step);
            let skipped = start < wanted.start;
            let piece = sink.piece(elements.clone()).filter(|_| !skipped);
            let done = piece.is_some() || skipped;
            let until = if skipped { carrying } else { 0 };
            let block =
                self.undo_block(filtered, elements.clone(), until, (piece, streams), state)?;
            if !done {
                sink.put(start, block);
            }
            start = elements.end;
        }
        Ok(())
    }

    /// Undo the filters of a block down to number `until`, into `piece` if it is given (past the
    /// caches, if that `streams`). Returns the block otherwise.
    fn undo_block<'a>(
        &self,
        filtered: &[u8],
        elements: Range<usize>,
        until: usize,
        (mut piece, streams): (Option<&mut [u8]>, bool),
        state: &'a mut State,
    ) -> Result<&'a [u8], Error> {
        let count = elements.len();
        let State {
            blocks: [block, other],
            scans,
            sums,
        } = state;
        let mut block: &mut [u8] = bytemuck::cast_slice_mut(block);
        let mut other: &mut [u8] = bytemuck::cast_slice_mut(other);
        let mut size = self.stored_size;
        // What is made after the last cast is made in place, unless it is to be written once.
        let last_cast = self
            .stages
            .iter()
            .position(|s| matches!(s, Stage::Cast { .. }));
        let mut in_piece = last_cast.is_none() && piece.is_some() && !streams;

        let now = current(&mut piece, in_piece, block, count * size);
        if self.shuffle > 1 {
            let first = elements.start * (size / self.shuffle);
            unshuffle_range(filtered, first, now, self.shuffle);
        } else {
            now.copy_from_slice(&filtered[elements.start * size..elements.end * size]);
        }
        if self.swap > 1 {
            swap(now, self.swap);
        }
        for (i, stage) in self.stages.iter().enumerate().skip(until).rev() {
            match stage {
                Stage::Cast { from: to, to: from } => {
                    let source = &block[..count * size];
                    size = to.size();
                    if i == 0
                        && streams
                        && let Some(piece) = &mut piece
                        && cast::stream(source, *from, *to, piece)
                    {
                        return Ok(&[]);
                    }
                    in_piece = last_cast == Some(i) && piece.is_some() && !streams;
                    let result = current(&mut piece, in_piece, other, count * size);
                    cast_into(source, *from, *to, Overflow::Wrap, result)
                        .map_err(|error| Error(error.to_string()))?;
                    std::mem::swap(&mut block, &mut other);
                }
                Stage::Xor { .. } => {
                    scans[i].decode(current(&mut piece, in_piece, block, count * size));
                }
                Stage::Delta(numeric) => {
                    let now = current(&mut piece, in_piece, block, count * size);
                    carry(*numeric, &mut sums[i], now, true);
                }
            }
        }
        let block = &block[..if in_piece { 0 } else { count * size }];
        if let Some(piece) = piece
            && streams
        {
            stream::copy(block, piece);
        }
        Ok(block)
    }

    /// Filter the elements of a whole chunk.
    pub(super) fn apply(
        &self,
        decoded: &[u8],
        filtered: &mut [u8],
        state: &mut State,
    ) -> Result<(), Error> {
        self.begin(0, state);
        let step = self.block();
        for (i, elements) in decoded.chunks(step * self.decoded_size).enumerate() {
            let block = self.apply_block(elements, state)?;
            if self.shuffle > 1 {
                let first = i * step * (self.stored_size / self.shuffle);
                shuffle_range(block, first, filtered, self.shuffle);
            } else {
                filtered[i * step * self.stored_size..][..block.len()].copy_from_slice(block);
            }
        }
        Ok(())
    }

    fn apply_block<'a>(&self, elements: &[u8], state: &'a mut State) -> Result<&'a [u8], Error> {
        let count = elements.len() / self.decoded_size;
        let State {
            blocks: [block, other],
            scans,
            sums,
        } = state;
        let mut block: &mut [u8] = bytemuck::cast_slice_mut(block);
        let mut other: &mut [u8] = bytemuck::cast_slice_mut(other);
        let mut size = self.decoded_size;
        // A cast at the front reads the elements where they are.
        let mut source = Some(elements);
        if !matches!(self.stages.first(), Some(Stage::Cast { .. })) {
            block[..elements.len()].copy_from_slice(elements);
            source = None;
        }
        for (i, stage) in self.stages.iter().enumerate() {
            match stage {
                Stage::Cast { from, to } => {
                    let source = source.take().unwrap_or(&block[..count * size]);
                    size = to.size();
                    let result = &mut other[..count * size];
                    if let Err(error) = cast_into(source, *from, *to, Overflow::Refuse, result) {
                        return self::error(error);
                    }
                    std::mem::swap(&mut block, &mut other);
                }
                Stage::Xor { .. } => scans[i].encode(&mut block[..count * size]),
                Stage::Delta(numeric) => {
                    carry(*numeric, &mut sums[i], &mut block[..count * size], false);
                }
            }
        }
        let block = &mut block[..count * size];
        if self.swap > 1 {
            swap(block, self.swap);
        }
        Ok(block)
    }

    /// In words, from stored bytes to values.
    pub(super) fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        if self.shuffle > 1 {
            steps.push(format!("unshuffle {}", self.shuffle));
        }
        if self.swap > 1 {
            steps.push(format!("swap {} bytes", self.swap));
        }
        steps.extend(self.stages.iter().rev().map(|stage| match stage {
            Stage::Cast { from, to } => format!("{} to {}", to.name(), from.name()),
            Stage::Xor { rows, row_bytes } => {
                format!("undo XOR ({rows} rows of {row_bytes} bytes)")
            }
            Stage::Delta(numeric) => format!("sum {}", numeric.name()),
        }));
        steps
    }
}

/// The first `length` bytes of the piece or the block.
fn current<'a>(
    piece: &'a mut Option<&mut [u8]>,
    in_piece: bool,
    block: &'a mut [u8],
    length: usize,
) -> &'a mut [u8] {
    match piece {
        Some(piece) if in_piece => piece,
        _ => &mut block[..length],
    }
}

/// Sum up elements, or their differences, from block to block.
fn carry(numeric: NumericType, before: &mut Option<[u8; 8]>, elements: &mut [u8], sum: bool) {
    dispatch!(numeric, T => {
        let size = size_of::<T>();
        let known = before.map(|bytes| bytemuck::pod_read_unaligned::<T>(&bytes[..size]));
        let kernel = if sum { delta::decode_from } else { delta::encode_from };
        let last = with_elements_mut::<T, _>(elements, |elements| kernel(known, elements));
        *before = last.map(|last| {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(bytemuck::bytes_of(&last));
            bytes
        });
    }, bool => ());
}
