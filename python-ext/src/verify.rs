//! Checking stored chunks: all that is wrong with them, not only what is met first.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use zarrs_codec::{ArrayToBytesCodecTraits, CodecOptions};

use crate::array::Array;
use crate::chunk::{DECODED, Unit, lengths, size, slice, whole};
use crate::dtype::Kind;
use crate::errors::{Error, Result, caught};
use crate::pool;
use crate::selection::unravel;
use crate::shard::{self, Sharding};
use crate::source::Source;

/// Chunk, subchunk in it, rows `(start, stop)` of the array; and what is wrong: if nothing, then it
/// is not stored.
type Fault = (
    Vec<u64>,
    Option<Vec<u64>>,
    Option<(u64, u64)>,
    Option<String>,
);

/// What was found.
#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    /// Subchunks that are stored, and those that are not although the array reaches there.
    subchunks: u64,
    missing: u64,
    /// Bytes of shards that belong to no subchunk.
    unused: u64,
}

/// A chunk, and what is found in it.
struct Check<'a> {
    source: &'a Source<'a>,
    chunk: &'a [u64],
    /// The index of its first element.
    origin: &'a [u64],
    /// The shape of the array.
    array: &'a [u64],
    complete: bool,
    found: &'a Mutex<Found>,
}

/// Decode chunks of an array on all threads, each to memory that its thread uses again, and say
/// everything that is wrong with them; with `complete`, also which subchunks are not stored.
///
/// The faults, in the order of the chunks, and how many subchunks are stored, how many are not, and
/// how many bytes of shards belong to none. `ValueError` if there is no such chunk.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "pyfunctions own what they are given"
)]
pub fn verify(
    py: Python<'_>,
    array: &Bound<'_, Array>,
    chunks: Vec<Vec<u64>>,
    complete: bool,
) -> PyResult<(Vec<Fault>, (u64, u64, u64))> {
    let array = array.get();
    let held = array.held(py);
    let found = Mutex::default();
    pool::run(py, chunks.len(), true, |i, options| {
        let chunk = &chunks[i];
        let origin = array.origin(chunk)?;
        let opened = array.read_chunk(&held, chunk, false, |source| {
            let check = Check {
                source,
                chunk,
                origin: &origin,
                array: array.lengths(),
                complete,
                found: &found,
            };
            if let Err(error) = caught(|| check.run(options)) {
                check.fault(None, &lengths(source.shape), error.message());
            }
            Ok(())
        });
        if let Err(error) = opened {
            let mut found = add(&found);
            (found.faults).push((chunk.clone(), None, None, Some(error.message())));
        }
        Ok(())
    })?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.faults.sort();
    Ok((found.faults, (found.subchunks, found.missing, found.unused)))
}

fn add(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Check<'_> {
    fn run(&self, options: &CodecOptions) -> Result<()> {
        let source = self.source;
        let Ok(file) = source.file() else {
            return Err(Error::Store("expected a file, found none".into()));
        };
        if let Some(sharding) = &source.spec.sharding
            && let Some(grid) = sharding.grid(source.shape)
        {
            return self.shard(sharding, &grid, options);
        }
        let fused = source.spec.fused(&source.spec.codecs, source.shape);
        self.decode(
            &Unit {
                codecs: &source.spec.codecs,
                fused: fused.as_ref(),
                shape: source.shape,
                place: 0,
                range: 0..file.size(),
            },
            options,
        )
    }

    /// Check the index of a shard, then every subchunk that it has.
    fn shard(&self, sharding: &Sharding, grid: &[u64], options: &CodecOptions) -> Result<()> {
        let source = self.source;
        let size = source.file()?.size();
        let index = source.index(sharding, grid, options)?;
        let counts: Vec<_> = grid.iter().map(|&n| n as usize).collect();
        let indices = |place| -> Vec<u64> {
            let indices = unravel(place, &counts);
            indices.into_iter().map(|i| i as u64).collect()
        };
        let shape = lengths(&sharding.subchunk);
        let mut units = Vec::with_capacity(index.len());
        let mut missing = 0;
        for (place, entry) in index.iter().enumerate() {
            match shard::range_of(&source.name, *entry, size) {
                Ok(Some(range)) => units.push((place, range)),
                Ok(None) if self.reaches(&indices(place), &shape) => {
                    missing += 1;
                    if self.complete {
                        self.note(Some(indices(place)), &shape, None);
                    }
                }
                Ok(None) => {}
                Err(error) => self.fault(Some(indices(place)), &shape, error.message()),
            }
        }

        // Bytes of subchunks, and of the index, which belongs to none.
        let own = sharding.index_range(&source.name, grid, size)?;
        let mut ranges: Vec<_> = std::iter::once((own, None))
            .chain(
                units
                    .iter()
                    .map(|(place, range)| (range.clone(), Some(*place))),
            )
            .filter(|(range, _)| !range.is_empty())
            .collect();
        ranges.sort_unstable_by_key(|(range, place)| (range.start, range.end, *place));
        let mut used = 0;
        let mut before: (Range<u64>, Option<usize>) = (0..0, None);
        for (range, owner) in ranges {
            if range.start < before.0.end
                && let Some(place) = owner.or(before.1)
            {
                let other = before.1.filter(|_| owner.is_some());
                let other =
                    other.map_or("the index".into(), |i| format!("subchunk {:?}", indices(i)));
                let message =
                    format!("the shard index is corrupt: bytes of it and of {other} overlap");
                self.fault(Some(indices(place)), &shape, message);
            }
            used += range.end.saturating_sub(range.start.max(before.0.end));
            if range.end > before.0.end {
                before = (range, owner);
            }
        }
        let mut found = add(self.found);
        found.subchunks += units.len() as u64;
        found.missing += missing;
        found.unused += size - used;
        drop(found);

        let fused = source.spec.fused(&sharding.codecs, &sharding.subchunk);
        pool::share(units.len(), |i| {
            let (place, range) = units[i].clone();
            let unit = Unit {
                codecs: &sharding.codecs,
                fused: fused.as_ref(),
                shape: &sharding.subchunk,
                place,
                range,
            };
            if let Err(error) = self.decode(&unit, options) {
                self.fault(Some(indices(place)), &shape, error.message());
            }
            Ok(())
        })
    }

    /// Decode, and forget what came of it.
    fn decode(&self, unit: &Unit<'_>, options: &CodecOptions) -> Result<()> {
        let spec = self.source.spec;
        let name = self.source.name.as_str();
        let decode = |encoded: &[u8]| {
            if matches!(spec.kind, Kind::Fixed(..)) {
                let bytes = size(&whole(unit.shape), spec.item)?;
                return DECODED.with(|buffer| {
                    buffer.lend(|buffer| {
                        spec.decode_unit(unit, (name, encoded), slice(buffer, bytes)?, options)
                    })
                });
            }
            let failed = |error| Error::codec(name, &error);
            let block = unit
                .codecs
                .decode(
                    encoded.into(),
                    unit.shape,
                    &spec.data_type,
                    &spec.fill_value,
                    options,
                )
                .map_err(failed)?
                .into_variable()
                .map_err(|error| failed(error.into()))?;
            let (elements, expected) = (block.offsets().len() - 1, size(&whole(unit.shape), 1)?);
            if elements != expected {
                return Err(Error::Codec(format!(
                    "expected {expected} elements, got {elements}"
                )));
            }
            let text = |ends: &[usize]| std::str::from_utf8(&block.bytes()[ends[0]..ends[1]]);
            if spec.kind == Kind::Text
                && let Some(error) = block.offsets().windows(2).find_map(|ends| text(ends).err())
            {
                return Err(Error::Codec(format!("an element is not text: {error}")));
            }
            Ok(())
        };
        caught(|| self.source.unit(unit, decode))
    }

    /// Whether the array has elements of a subchunk.
    fn reaches(&self, subchunk: &[u64], shape: &[u64]) -> bool {
        let starts = std::iter::zip(subchunk, shape).map(|(i, len)| i * len);
        std::iter::zip(self.origin, starts)
            .zip(self.array)
            .all(|((origin, start), len)| origin.saturating_add(start) < *len)
    }

    /// Note what is wrong with the chunk, or a subchunk, which has that shape.
    fn fault(&self, subchunk: Option<Vec<u64>>, shape: &[u64], message: String) {
        let named = format!("chunk {}: ", self.source.name);
        let message = message
            .strip_prefix(&named)
            .map(str::to_owned)
            .unwrap_or(message);
        self.note(subchunk, shape, Some(message));
    }

    fn note(&self, subchunk: Option<Vec<u64>>, shape: &[u64], message: Option<String>) {
        let rows = self.array.first().map(|&len| {
            let start = subchunk.as_ref().map_or(0, |indices| indices[0]) * shape[0];
            let start = self.origin[0].saturating_add(start);
            (start.min(len), start.saturating_add(shape[0]).min(len))
        });
        let fault = (self.chunk.to_vec(), subchunk, rows, message);
        add(self.found).faults.push(fault);
    }
}
