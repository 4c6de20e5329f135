//! Writing shards: only the subchunks that change are encoded, the others keep their bytes.
//!
//! zarrs reads shards well. It would write the subchunks in the order in which threads finish
//! them, and trusts a stored index with how much to allocate when it updates a shard; so updating
//! is done here, with the subchunks in C order: the same values give the same bytes.

use std::num::NonZeroU64;
use std::ops::Range;

use rayon::prelude::*;
use zarrs::array::codec::array_to_bytes::sharding::{
    ShardingCodecConfigurationV1, ShardingIndexLocation,
};
use zarrs::array::{ArrayMetadata, BytesRepresentation, CodecChain, FillValue, data_type};
use zarrs_codec::{ArrayBytes, ArrayToBytesCodecTraits, CodecError, CodecOptions};

use crate::chunk::{Source, Spec, Update, lengths, size, zeros};
use crate::errors::{Error, Result};
use crate::memory::c_strides;
use crate::scatter::{self, Dim, Offsets};

/// The entry of a subchunk that is not stored.
const MISSING: [u64; 2] = [u64::MAX; 2];

/// `sharding_indexed` as the only codec of an array.
#[derive(Debug)]
pub struct Sharding {
    /// Shape of a subchunk.
    pub subchunk: Vec<NonZeroU64>,
    /// Its codecs.
    pub codecs: CodecChain,
    index_codecs: CodecChain,
    index_first: bool,
}

impl Sharding {
    /// The sharding of an array of that metadata, if it is that simple.
    pub fn new(metadata: &ArrayMetadata) -> Option<Self> {
        let ArrayMetadata::V3(metadata) = metadata else {
            return None;
        };
        let [codec] = metadata.codecs.as_slice() else {
            return None;
        };
        if codec.name() != "sharding_indexed" {
            return None;
        }
        let configuration: ShardingCodecConfigurationV1 = codec.to_typed_configuration().ok()?;
        Some(Self {
            codecs: CodecChain::from_metadata(&configuration.codecs).ok()?,
            index_codecs: CodecChain::from_metadata(&configuration.index_codecs).ok()?,
            index_first: configuration.index_location == ShardingIndexLocation::Start,
            subchunk: configuration.chunk_shape,
        })
    }

    /// The bytes of the shard after an update; `None` if nothing of it needs to be stored.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Codec`], with the path.
    pub fn update(
        &self,
        spec: &Spec,
        name: &str,
        shape: &[NonZeroU64],
        old: Option<&Source<'_>>,
        update: &Update<'_>,
        options: &CodecOptions,
    ) -> Result<Option<Vec<u8>>> {
        let subchunk = lengths(&self.subchunk);
        let grid = self
            .grid(shape)
            .ok_or_else(|| Error::Codec(format!("chunk {name}: subchunks do not divide it")))?;
        // The subchunks that the update meets; what lies between them is encoded as well.
        let all: Vec<_> = grid.iter().map(|&n| 0..n).collect();
        let touched = match update.transfer.region() {
            _ if update.write_empty_chunks && old.is_none() => all,
            region => std::iter::zip(&region, &subchunk)
                .map(|(range, len)| range.start / len..range.end.div_ceil(*len))
                .collect(),
        };
        let region: Vec<_> = std::iter::zip(&touched, &subchunk)
            .map(|(range, len)| range.start * len..range.end * len)
            .collect();
        let block = spec.merge(name, old, &region, update, options)?;
        let encoded = self.encode(spec, name, &block, &touched, update, options)?;

        let mut stored = Vec::new();
        let mut index = vec![MISSING; encoded_len(&grid)?];
        if let Some(old) = old {
            stored = old.bytes()?;
            let range = self.index_range(name, &grid, stored.len() as u64)?;
            let encoded = &stored[range.start as usize..range.end as usize];
            index = self.decode_index(name, encoded, &grid, options)?;
        }
        let mut replaced = vec![None; index.len()];
        for (place, bytes) in std::iter::zip(places(&touched, &grid), encoded) {
            replaced[place] = Some(bytes);
        }
        let mut shard = zeros(if self.index_first {
            self.index_len(name, &grid)?
        } else {
            0
        })?;
        let mut kept = 0_usize;
        for (entry, replaced) in std::iter::zip(&mut index, &replaced) {
            let bytes = match replaced {
                Some(bytes) => bytes.as_deref(),
                None => entry_of(name, &stored, *entry)?,
            };
            if replaced.is_none() {
                // Entries that all name the same bytes would make the shard many times as long.
                kept = kept.saturating_add(bytes.map_or(0, <[u8]>::len));
                if kept > stored.len() {
                    return Err(Error::Codec(format!(
                        "chunk {name}: the shard index is corrupt: its subchunks overlap"
                    )));
                }
            }
            *entry = MISSING;
            if let Some(bytes) = bytes {
                *entry = [shard.len() as u64, bytes.len() as u64];
                shard
                    .try_reserve(bytes.len())
                    .map_err(|_| Error::memory(bytes.len()))?;
                shard.extend_from_slice(bytes);
            }
        }
        if !update.write_empty_chunks && index.iter().all(|entry| *entry == MISSING) {
            return Ok(None);
        }
        let index = self.encode_index(name, &index, &grid, options)?;
        if self.index_first {
            shard[..index.len()].copy_from_slice(&index);
        } else {
            shard.extend_from_slice(&index);
        }
        Ok(Some(shard))
    }

    /// Encode the subchunks of a block of whole ones, in C order; `None` for one of fill value.
    fn encode(
        &self,
        spec: &Spec,
        name: &str,
        block: &[u8],
        touched: &[Range<u64>],
        update: &Update<'_>,
        options: &CodecOptions,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        // One thread for each: inside, it makes the order of nested subchunks C order as well.
        let options = options.with_concurrent_target(1);
        let subchunk: Vec<_> = self.subchunk.iter().map(|len| len.get() as usize).collect();
        let counts: Vec<_> = touched
            .iter()
            .map(|range| (range.end - range.start) as usize)
            .collect();
        let shape: Vec<_> = std::iter::zip(&counts, &subchunk)
            .map(|(n, len)| n * len)
            .collect();
        let strides = c_strides(&shape, spec.item);
        let within = c_strides(&subchunk, spec.item);
        let bytes = subchunk.iter().product::<usize>() * spec.item;
        (0..counts.iter().product())
            .into_par_iter()
            .map(|i| {
                let origin = crate::selection::unravel(i, &counts);
                let dims = (0..shape.len())
                    .map(|d| Dim {
                        len: subchunk[d],
                        from: Offsets::Step {
                            start: (origin[d] * subchunk[d]).cast_signed() * strides[d],
                            stride: strides[d],
                        },
                        to: Offsets::Step {
                            start: 0,
                            stride: within[d],
                        },
                    })
                    .collect();
                let mut chunk = zeros(bytes)?;
                // SAFETY: subchunk `i` lies in the block, and fills a chunk of its own.
                unsafe { scatter::copy(block.as_ptr(), chunk.as_mut_ptr(), dims, spec.item) };
                if !update.write_empty_chunks && spec.is_fill(&chunk) {
                    return Ok(None);
                }
                spec.encode_with(&self.codecs, name, chunk, &self.subchunk, &options)
                    .map(Some)
            })
            .collect()
    }

    /// Subchunks per dimension.
    pub fn grid(&self, shape: &[NonZeroU64]) -> Option<Vec<u64>> {
        if shape.len() != self.subchunk.len() {
            return None;
        }
        std::iter::zip(shape, &self.subchunk)
            .map(|(len, sub)| (len.get() % sub.get() == 0).then(|| len.get() / sub.get()))
            .collect()
    }

    fn index_shape(grid: &[u64]) -> Vec<NonZeroU64> {
        let lengths = grid.iter().copied().chain([2]);
        lengths.filter_map(NonZeroU64::new).collect()
    }

    /// Bytes of the encoded index.
    fn index_len(&self, name: &str, grid: &[u64]) -> Result<usize> {
        let size = self.index_codecs.encoded_representation(
            &Self::index_shape(grid),
            &data_type::uint64(),
            &FillValue::from(u64::MAX),
        );
        match size {
            Ok(BytesRepresentation::FixedSize(size)) => usize::try_from(size).ok(),
            _ => None,
        }
        .ok_or_else(|| {
            Error::Codec(format!(
                "chunk {name}: the size of the shard index is not fixed"
            ))
        })
    }

    /// Where the index is in a shard of `size` bytes.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`, if it cannot be there.
    pub fn index_range(&self, name: &str, grid: &[u64], size: u64) -> Result<Range<u64>> {
        let len = self.index_len(name, grid)? as u64;
        let Some(rest) = size.checked_sub(len) else {
            return Err(Error::Codec(format!(
                "chunk {name}: expected a shard index of {len} bytes, got {size} bytes in all"
            )));
        };
        let start = if self.index_first { 0 } else { rest };
        Ok(start..start + len)
    }

    /// Offset and length of each subchunk, in C order.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub fn decode_index(
        &self,
        name: &str,
        encoded: &[u8],
        grid: &[u64],
        options: &CodecOptions,
    ) -> Result<Vec<[u64; 2]>> {
        let failed = |error: &CodecError| Error::codec(name, error);
        let index = self
            .index_codecs
            .decode(
                encoded.into(),
                &Self::index_shape(grid),
                &data_type::uint64(),
                &FillValue::from(u64::MAX),
                options,
            )
            .and_then(|index| Ok(index.into_fixed()?))
            .map_err(|error| failed(&error))?;
        let words = index
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_ne_bytes(*word));
        let words: Vec<_> = words.collect();
        Ok(words.as_chunks().0.to_vec())
    }

    fn encode_index(
        &self,
        name: &str,
        index: &[[u64; 2]],
        grid: &[u64],
        options: &CodecOptions,
    ) -> Result<Vec<u8>> {
        let bytes: Vec<u8> = index
            .iter()
            .flatten()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        self.index_codecs
            .encode(
                ArrayBytes::from(bytes),
                &Self::index_shape(grid),
                &data_type::uint64(),
                &FillValue::from(u64::MAX),
                options,
            )
            .map(std::borrow::Cow::into_owned)
            .map_err(|error| Error::codec(name, &error))
    }
}

/// The encoded subchunk of an index entry.
fn entry_of<'a>(name: &str, shard: &'a [u8], entry: [u64; 2]) -> Result<Option<&'a [u8]>> {
    let range = range_of(name, entry, shard.len() as u64)?;
    Ok(range.map(|range| &shard[range.start as usize..range.end as usize]))
}

/// Where in a shard of `size` bytes the subchunk of an index entry is, if it is stored.
///
/// # Errors
/// [`Error::Codec`], with `name`, if it is not in the shard.
pub fn range_of(name: &str, entry: [u64; 2], size: u64) -> Result<Option<Range<u64>>> {
    let [offset, length] = entry;
    match offset.checked_add(length) {
        _ if entry == MISSING => Ok(None),
        Some(end) if end <= size => Ok(Some(offset..end)),
        _ => Err(Error::Codec(format!(
            "chunk {name}: the shard index is corrupt: offset {offset}, length {length} in {size} \
             bytes"
        ))),
    }
}

/// The place in the index of a subchunk.
pub fn place(subchunk: &[u64], grid: &[u64]) -> usize {
    let indices = std::iter::zip(subchunk, grid);
    indices.fold(0, |place, (i, n)| place * *n as usize + *i as usize)
}

/// Number of subchunks.
fn encoded_len(grid: &[u64]) -> Result<usize> {
    let ranges: Vec<_> = grid.iter().map(|&n| 0..n).collect();
    size(&ranges, size_of::<[u64; 2]>()).map(|bytes| bytes / size_of::<[u64; 2]>())
}

/// Places in the index of a box of subchunks, in C order.
fn places(touched: &[Range<u64>], grid: &[u64]) -> impl Iterator<Item = usize> {
    let counts: Vec<_> = touched
        .iter()
        .map(|range| (range.end - range.start) as usize)
        .collect();
    let (touched, grid) = (touched.to_vec(), grid.to_vec());
    (0..counts.iter().product()).map(move |i| {
        std::iter::zip(
            crate::selection::unravel(i, &counts),
            std::iter::zip(&touched, &grid),
        )
        .fold(0, |place, (i, (range, n))| {
            place * *n as usize + range.start as usize + i
        })
    })
}
