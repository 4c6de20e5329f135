//! Writing shards: only the subchunks that change are encoded, the others keep their bytes.
//!
//! zarrs reads shards well. It would write the subchunks in the order in which threads finish
//! them, and trusts a stored index with how much to allocate when it updates a shard; so updating
//! is done here, with the subchunks in an order that is chosen: the same values give the same bytes.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::ops::Range;

use rayon::prelude::*;
use tempozarr::memory;
use zarrs::array::codec::array_to_bytes::sharding::{
    ShardingCodecConfigurationV1, ShardingIndexLocation,
};
use zarrs::array::{ArrayMetadata, BytesRepresentation, CodecChain, FillValue, data_type};
use zarrs_codec::{ArrayBytes, ArrayToBytesCodecTraits, CodecError, CodecOptions};

use crate::chunk::{Merge, Spec, Update, lengths, size};
use crate::errors::{Error, Result};
use crate::selection::{Transfer, unravel};
use crate::source::Source;

/// The entry of a subchunk that is not stored.
pub const MISSING: [u64; 2] = [u64::MAX; 2];

/// How the subchunks of a shard follow each other; readers do not mind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubchunkOrder {
    /// The last dimension varies fastest.
    #[default]
    Lexicographic,
    /// The first dimension varies fastest.
    Colexicographic,
    /// By the bits of the indices in turn, those of the first dimension first; from a dimension
    /// only as many as its length takes.
    Morton,
}

impl SubchunkOrder {
    /// As zarr-python calls them; `unordered` is any.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "lexicographic" | "unordered" => Some(Self::Lexicographic),
            "colexicographic" => Some(Self::Colexicographic),
            "morton" => Some(Self::Morton),
            _ => None,
        }
    }

    /// The places in an index of that many subchunks per dimension, in this order.
    fn places(self, grid: &[u64]) -> Result<Vec<usize>> {
        let mut places: Vec<_> = (0..encoded_len(grid)?).collect();
        // Of one dimension there is but one order.
        if self == Self::Lexicographic || grid.iter().filter(|&&n| n > 1).count() < 2 {
            return Ok(places);
        }
        let counts: Vec<_> = grid.iter().map(|&n| n as usize).collect();
        places.sort_by_cached_key(|&place| {
            let indices = unravel(place, &counts);
            match self {
                Self::Morton => morton(&indices, &counts),
                _ => std::iter::zip(&indices, &counts)
                    .rev()
                    .fold(0, |key, (&i, &n)| key * n as u128 + i as u128),
            }
        });
        Ok(places)
    }
}

/// The Morton code of indices. It fits: a dimension takes less than one bit more than its length
/// has, and those of one subchunk none.
fn morton(indices: &[usize], counts: &[usize]) -> u128 {
    let bits = |count: usize| usize::BITS - (count - 1).leading_zeros();
    let mut code = 0;
    let mut at = 0;
    for bit in 0..usize::BITS {
        for (&i, &count) in std::iter::zip(indices, counts) {
            if bit < bits(count) {
                code |= (i as u128 >> bit & 1) << at;
                at += 1;
            }
        }
    }
    code
}

/// What an update makes of a subchunk.
enum Subchunk {
    /// The bytes that it has, if it is stored.
    Kept,
    /// Nothing but fill value, which is not stored.
    Fill,
    /// Other bytes.
    New(Vec<u8>),
}

/// `sharding_indexed` as the only codec of an array.
#[derive(Debug)]
pub struct Sharding {
    /// Shape of a subchunk.
    pub subchunk: Vec<NonZeroU64>,
    /// Its codecs.
    pub codecs: CodecChain,
    index_codecs: CodecChain,
    /// Whether the index is in front of the subchunks.
    pub index_first: bool,
    /// How an update orders subchunks.
    pub order: SubchunkOrder,
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
            order: SubchunkOrder::default(),
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
        let parts = update.transfer.cut(&subchunk)?;
        let mut index = match old {
            Some(old) => old.index(self, &grid, options)?.to_vec(),
            None => memory::filled(MISSING, encoded_len(&grid)?)?,
        };
        // The part of the update in each subchunk.
        let mut transfers = memory::filled(None, index.len())?;
        for (indices, part) in &parts {
            transfers[place(indices, &grid)] = Some(part);
        }
        let subchunks = self.encode(spec, name, &transfers, (old, update), &grid, options)?;

        let mut shard = self.head(name, &grid)?;
        let mut kept = 0;
        for place in self.order.places(&grid)? {
            let bytes = match (&subchunks[place], old) {
                (Subchunk::New(bytes), _) => Some(Cow::from(bytes)),
                (Subchunk::Kept, Some(old)) => {
                    self.kept(old, index[place], &mut kept)?.map(Cow::from)
                }
                _ => None,
            };
            index[place] = match bytes {
                Some(bytes) => append(&mut shard, &bytes)?,
                None => MISSING,
            };
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

    /// The subchunks after an update of which `transfers` are the parts, in C order.
    fn encode(
        &self,
        spec: &Spec,
        name: &str,
        transfers: &[Option<&Transfer>],
        (old, update): (Option<&Source<'_>>, &Update<'_>),
        grid: &[u64],
        options: &CodecOptions,
    ) -> Result<Vec<Subchunk>> {
        let counts: Vec<_> = grid.iter().map(|&n| n as usize).collect();
        let every = update.write_empty_chunks && old.is_none();
        transfers
            .par_iter()
            .enumerate()
            .map(|(i, &transfer)| {
                if transfer.is_none() && !every {
                    return Ok(Subchunk::Kept);
                }
                let region = std::iter::zip(unravel(i, &counts), &self.subchunk)
                    .map(|(i, len)| i as u64 * len.get()..(i as u64 + 1) * len.get());
                let merge = Merge {
                    region: region.collect(),
                    transfer,
                    old,
                };
                let encoded = spec.merged(name, &merge, update, options, |chunk| {
                    spec.encode(&self.codecs, name, chunk, &self.subchunk, options)
                })?;
                Ok(encoded.map_or(Subchunk::Fill, Subchunk::New))
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
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`, if that depends on the index.
    pub fn index_len(&self, name: &str, grid: &[u64]) -> Result<usize> {
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

    /// What the subchunks of a new shard are put behind: nothing, or room for the index.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub fn head(&self, name: &str, grid: &[u64]) -> Result<Vec<u8>> {
        let index = if self.index_first {
            self.index_len(name, grid)?
        } else {
            0
        };
        Ok(memory::zeros(index)?)
    }

    /// A stored shard, without an index at its end, and where its subchunks are.
    ///
    /// What belongs to no subchunk is kept, as readers may still use a former index; unless it is more
    /// than any shard of that shape has.
    ///
    /// # Errors
    /// [`Error::Codec`], with the path, if a subchunk is not inside; [`Error::Store`].
    pub fn parse(
        &self,
        old: &Source<'_>,
        grid: &[u64],
        options: &CodecOptions,
    ) -> Result<(Vec<u8>, Vec<[u64; 2]>)> {
        let (name, size) = (&old.name, old.file()?.size());
        let mut index = old.index(self, grid, options)?.to_vec();
        let end = if self.index_first {
            size
        } else {
            self.index_range(name, grid, size)?.start
        };
        for entry in &index {
            range_of(name, *entry, end)?;
        }
        if size <= old.spec.encoded_limit(old.shape) {
            return Ok((old.bytes(0..end)?, index));
        }
        let mut shard = self.head(name, grid)?;
        let mut kept = 0;
        for entry in &mut index {
            if let Some(bytes) = self.kept(old, *entry, &mut kept)? {
                *entry = append(&mut shard, &bytes)?;
            }
        }
        Ok((shard, index))
    }

    /// The encoded bytes of an entry, if it is stored; `kept` counts those of all.
    fn kept(&self, old: &Source<'_>, entry: [u64; 2], kept: &mut u64) -> Result<Option<Vec<u8>>> {
        let size = old.file()?.size();
        let Some(range) = range_of(&old.name, entry, size)? else {
            return Ok(None);
        };
        // Entries that all name the same bytes would make the shard many times as long.
        *kept = kept.saturating_add(range.end - range.start);
        if *kept > size {
            return Err(Error::Codec(format!(
                "chunk {}: the shard index is corrupt: its subchunks overlap",
                old.name
            )));
        }
        old.expect_length(&range, &self.subchunk)?;
        old.bytes(range).map(Some)
    }

    /// Where the index is in a shard of `size` bytes.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`, if it cannot be there.
    pub fn index_range(&self, name: &str, grid: &[u64], size: u64) -> Result<Range<u64>> {
        let len = self.index_len(name, grid)? as u64;
        let Some(rest) = size.checked_sub(len) else {
            return Err(Error::Codec(format!(
                "chunk {name}: {size} bytes are too short to hold its index, expected {len} or more"
            )));
        };
        let start = if self.index_first { 0 } else { rest };
        Ok(start..start + len)
    }

    /// What to take for the size of a shard of which that is not known: more than one has in which
    /// subchunks follow each other.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`, if there is no such number.
    pub fn size_limit(&self, name: &str, grid: &[u64], item: usize) -> Result<u64> {
        const SLACK: u64 = 4096;
        let subchunk: Vec<_> = self.subchunk.iter().map(|len| 0..len.get()).collect();
        let subchunk = size(&subchunk, item)? as u64;
        let subchunks = encoded_len(grid)? as u64;
        (subchunk.saturating_mul(2).saturating_add(SLACK))
            .checked_mul(subchunks)
            .and_then(|size| size.checked_add(self.index_len(name, grid).ok()? as u64))
            .filter(|&size| i64::try_from(size).is_ok())
            .ok_or_else(|| Error::memory("more than 2^63"))
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

    /// The encoded index.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub fn encode_index(
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

/// Put a subchunk behind a shard; its entry in the index.
fn append(shard: &mut Vec<u8>, bytes: &[u8]) -> Result<[u64; 2]> {
    let entry = [shard.len() as u64, bytes.len() as u64];
    memory::reserve(shard, bytes.len())?;
    shard.extend_from_slice(bytes);
    Ok(entry)
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

/// Fewer and larger ranges that hold `ranges`, in ascending order: those that overlap become one,
/// and those that lie up to `gap` bytes apart if that has no more than `limit` bytes.
pub fn coalesced(mut ranges: Vec<Range<u64>>, gap: u64, limit: u64) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if let Some(last) = merged.last_mut() {
            let end = last.end.max(range.end);
            let is_near = range.start.saturating_sub(last.end) <= gap && end - last.start <= limit;
            if range.start < last.end || is_near {
                last.end = end;
                continue;
            }
        }
        merged.push(range);
    }
    merged
}

/// Which subchunks `transfers` need, in ascending order.
pub fn places(sharding: &Sharding, grid: &[u64], transfers: &[Transfer]) -> Result<Vec<usize>> {
    let subchunk = lengths(&sharding.subchunk);
    let mut places = Vec::new();
    for transfer in transfers.iter().filter(|transfer| !transfer.is_empty()) {
        let parts = transfer.cut(&subchunk)?;
        places.extend(parts.iter().map(|(indices, _)| place(indices, grid)));
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

/// The place in the index of a subchunk.
pub fn place(subchunk: &[u64], grid: &[u64]) -> usize {
    let indices = std::iter::zip(subchunk, grid);
    indices.fold(0, |place, (i, n)| place * *n as usize + *i as usize)
}

/// Number of subchunks.
pub fn encoded_len(grid: &[u64]) -> Result<usize> {
    let ranges: Vec<_> = grid.iter().map(|&n| 0..n).collect();
    size(&ranges, size_of::<[u64; 2]>()).map(|bytes| bytes / size_of::<[u64; 2]>())
}
