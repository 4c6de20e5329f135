//! One chunk that is being read: from its file, what was fetched, or the cache, into the caller's
//! memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tempozarr::fused::{FusedCodec, Plan};
use zarrs::array::ArraySubset;
use zarrs_codec::{
    ArrayBytes, ArrayBytesDecodeIntoTarget, ArrayBytesVariableLength, ArrayPartialDecoderTraits,
    ArrayToBytesCodecTraits, CodecOptions,
};

use crate::cache::{Block, Chunk, Held};
use crate::chunk::{
    ENCODED, Spec, Unit, fixed, lengths, refused, size, store_error, too_long, view, whole,
};
use crate::errors::{Error, Result};
use crate::memory::Memory;
use crate::pool;
use crate::scatter::{self, Offsets};
use crate::selection::Transfer;
use crate::shard::{self, Sharding};
use crate::stats::{Counter, Stats};
use crate::store::{ChunkFile, Stamp};

/// An element of variable length while it is moved about: which block it is in, and where.
pub type Handle = [u64; 2];

/// The blocks that handles point into.
pub type Blocks = Mutex<Vec<ArrayBytesVariableLength<'static>>>;

/// A chunk that is being read.
pub struct Source<'a> {
    /// Its codecs.
    pub spec: &'a Spec,
    file: Option<Arc<ChunkFile>>,
    /// Its path.
    pub name: String,
    /// Its shape, also where it reaches beyond the array.
    pub shape: &'a [NonZeroU64],
    decoder: OnceLock<Arc<dyn ArrayPartialDecoderTraits>>,
    kept: Option<Kept<'a>>,
}

/// What an array keeps of a chunk, and counts.
pub struct Kept<'a> {
    /// The cache.
    pub held: &'a Arc<Held>,
    /// The array and the chunk, for the cache.
    pub chunk: Chunk,
    /// The counters of the array.
    pub stats: &'a Stats,
    /// Whether to keep what one transfer reads as a whole, too: after a scan, it is seldom read
    /// again.
    pub keeps_whole: bool,
    /// What is known of it beside its bytes.
    pub known: Known,
}

/// What is known of an object, and is not fetched.
#[derive(Default)]
pub struct Known {
    /// Which object that is.
    pub stamp: Stamp,
    /// The index of the shard.
    pub index: Option<Arc<[[u64; 2]]>>,
    /// Decoded subchunks, or the chunk.
    pub pinned: HashMap<usize, Arc<Block>>,
}

impl<'a> Source<'a> {
    /// Open the chunk at `path`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open(spec: &'a Spec, path: &Path, shape: &'a [NonZeroU64]) -> Result<Self> {
        let name = path.display().to_string();
        let file = ChunkFile::open(path).map_err(|error| store_error(&name, &error))?;
        let file = file.map(|file| Arc::new(file.limited(spec.encoded_limit(shape))));
        Ok(Self::new(spec, name, file, shape))
    }

    /// The chunk whose bytes are in `file`; without one, every element has the fill value.
    pub fn new(
        spec: &'a Spec,
        name: String,
        file: Option<Arc<ChunkFile>>,
        shape: &'a [NonZeroU64],
    ) -> Self {
        Self {
            spec,
            file,
            name,
            shape,
            decoder: OnceLock::new(),
            kept: None,
        }
    }

    /// Keep and count with that.
    pub fn keeping(self, kept: Kept<'a>) -> Self {
        Self {
            kept: Some(kept),
            ..self
        }
    }

    /// Add the bytes that were read to the counters of the array.
    pub fn count_bytes(&self) {
        if let (Some(Kept { stats, .. }), Some(file)) = (&self.kept, &self.file) {
            stats.bytes_read.add(file.bytes_read());
        }
    }

    /// Whether there is such a file; if not, every element has the fill value.
    pub fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Read what `transfers` name into `out`, decoding each chunk, or subchunk, once.
    ///
    /// # Safety
    /// No other thread accesses the elements of `out` that `transfers` name, each of them once.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Codec`], with the path; [`Error::Value`] for a value that the
    /// cast of `out` refuses.
    pub unsafe fn read(
        &self,
        transfers: &[Transfer],
        out: &Memory,
        options: &CodecOptions,
    ) -> Result<()> {
        let transfers: Vec<_> = transfers.iter().filter(|part| !part.is_empty()).collect();
        let Some(file) = &self.file else {
            // SAFETY: forwarded.
            return unsafe { self.fill(&transfers, out) };
        };
        let spec = self.spec;
        if let Some(sharding) = &spec.sharding
            && let Some(grid) = sharding.grid(self.shape)
        {
            let fused = spec.fused(&sharding.codecs, &sharding.subchunk);
            if fused.is_some() || self.shares(&transfers) || file.is_partial() {
                // SAFETY: forwarded.
                return unsafe {
                    self.read_subchunks(sharding, &grid, fused.as_ref(), &transfers, out, options)
                };
            }
        }
        let fused = spec.fused(&spec.codecs, self.shape).filter(|(_, plan)| {
            !plan.reads_parts() || transfers.iter().any(|part| part.covers(&whole(self.shape)))
        });
        if fused.is_some() || (self.shares(&transfers) && spec.is_one_unit(self.shape)) {
            let unit = Unit {
                codecs: &spec.codecs,
                fused: fused.as_ref(),
                shape: self.shape,
                place: 0,
                range: 0..file.size(),
            };
            // SAFETY: forwarded.
            return unsafe { self.read_unit(&unit, &transfers, out, options) };
        }
        pool::spread(transfers.len(), options, |i, options| {
            // SAFETY: forwarded.
            unsafe { self.read_part(transfers[i], out, options) }
        })
    }

    /// Whether what is decoded for one of `transfers` may serve others, now or later.
    fn shares(&self, transfers: &[&Transfer]) -> bool {
        transfers.len() > 1 || self.kept.as_ref().is_some_and(|kept| kept.held.keeps(1))
    }

    /// [`Self::read`] from a shard.
    ///
    /// # Safety
    /// As for [`Self::read`].
    unsafe fn read_subchunks(
        &self,
        sharding: &Sharding,
        grid: &[u64],
        fused: Option<&(&FusedCodec, Cow<'_, Plan>)>,
        transfers: &[&Transfer],
        out: &Memory,
        options: &CodecOptions,
    ) -> Result<()> {
        let index = self.index(sharding, grid, options)?;
        let size = self.file()?.size();
        let subchunk = lengths(&sharding.subchunk);
        let mut parts = Vec::with_capacity(transfers.len());
        for transfer in transfers {
            for (indices, part) in transfer.cut(&subchunk)? {
                parts.push((shard::place(&indices, grid), part));
            }
        }
        parts.sort_by_key(|(place, _)| *place);
        let units: Vec<_> = parts.chunk_by(|a, b| a.0 == b.0).collect();
        pool::share(units.len(), |i| {
            let place = units[i][0].0;
            let transfers: Vec<_> = units[i].iter().map(|(_, part)| part).collect();
            let Some(range) = shard::range_of(&self.name, index[place], size)? else {
                // SAFETY: forwarded; the parts name each element once.
                return unsafe { self.fill(&transfers, out) };
            };
            let unit = Unit {
                codecs: &sharding.codecs,
                fused,
                shape: &sharding.subchunk,
                place,
                range,
            };
            // SAFETY: as above.
            unsafe { self.read_unit(&unit, &transfers, out, options) }
        })
    }

    /// [`Self::read`] from what is decoded at once.
    ///
    /// # Safety
    /// As for [`Self::read`].
    unsafe fn read_unit(
        &self,
        unit: &Unit<'_>,
        transfers: &[&Transfer],
        out: &Memory,
        options: &CodecOptions,
    ) -> Result<()> {
        let spec = self.spec;
        let bytes = size(&whole(unit.shape), spec.item)?;
        let stamp = self.file()?.stamp();
        let put = |block: &Block| {
            // SAFETY: forwarded; the block holds the whole unit.
            self.timed(
                |stats| &stats.copy,
                || unsafe {
                    spec.put(
                        &self.name,
                        block.bytes(),
                        &whole(unit.shape),
                        transfers,
                        out,
                    )
                },
            )
        };
        let keeps = self.kept.as_ref().filter(|kept| kept.held.keeps(bytes));
        if let Some(kept) = keeps {
            let pinned = kept.known.pinned.get(&unit.place).cloned();
            if let Some(block) = pinned.or_else(|| kept.held.block(&kept.chunk, unit.place, stamp))
            {
                kept.stats.hits.add(1);
                return put(&block);
            }
            let covers = |part: &&Transfer| part.covers(&whole(unit.shape));
            if kept.keeps_whole || !transfers.iter().any(covers) {
                let mut block = kept.held.empty(bytes)?;
                self.unit(unit, |encoded| {
                    self.decoding(bytes, || {
                        let encoded = (self.name.as_str(), encoded);
                        spec.decode_unit(unit, encoded, block.bytes_mut(), options)
                    })
                })?;
                let block = Arc::new(block);
                (kept.held).keep(&kept.chunk, unit.place, stamp, Arc::clone(&block));
                return put(&block);
            }
        }
        self.unit(unit, |encoded| {
            self.decoding(bytes, || {
                // SAFETY: forwarded.
                unsafe {
                    spec.decode_transfers(unit, (&self.name, encoded), transfers, out, options)
                }
            })
        })
    }

    /// Count a chunk of that many bytes, and the time that `job` takes to decode it.
    fn decoding<T>(&self, bytes: usize, job: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some(Kept { stats, .. }) = &self.kept {
            stats.misses.add(1);
            stats.bytes_decoded.add(bytes as u64);
        }
        self.timed(|stats| &stats.decode, job)
    }

    fn timed<T>(&self, counter: impl FnOnce(&Stats) -> &Counter, job: impl FnOnce() -> T) -> T {
        match &self.kept {
            Some(kept) => counter(kept.stats).time(job),
            None => job(),
        }
    }

    /// [`Self::read`] a box of the chunk, by codecs that need not decode all of it.
    ///
    /// # Safety
    /// As for [`Self::read`].
    unsafe fn read_part(
        &self,
        transfer: &Transfer,
        out: &Memory,
        options: &CodecOptions,
    ) -> Result<()> {
        let wanted = transfer.region();
        let region = self.region(&wanted);
        let bytes = size(&region, self.spec.item)?;
        if out.cells().is_some()
            && out.cast().is_none()
            && region == wanted
            && !region.is_empty()
            && let Some((shape, target)) = transfer.as_boxes(&out.shape)
        {
            return self.decoding(bytes, || {
                // SAFETY: forwarded.
                unsafe { self.decode_into(&region, out, (&shape, &target), options) }
            });
        }
        let block = self.decoding(bytes, || {
            fixed(&self.name, self.decode(&region, options)?, bytes)
        })?;
        // SAFETY: the block holds the region, which holds every index of the transfer.
        self.timed(
            |stats| &stats.copy,
            || unsafe { (self.spec).put(&self.name, &block, &region, &[transfer], out) },
        )
    }

    /// Fill what `transfers` name of `out`.
    ///
    /// # Safety
    /// As for [`Self::read`].
    unsafe fn fill(&self, transfers: &[&Transfer], out: &Memory) -> Result<()> {
        let fill = self.spec.fill_value.as_ne_bytes();
        // Memory: one element.
        let mut cast = vec![0; out.item];
        let fill = match out.cast() {
            None => fill,
            Some(conversion) => {
                (conversion.run(fill, &mut cast)).map_err(|error| refused(&self.name, &error))?;
                &cast
            }
        };
        for transfer in transfers {
            let mut dims = transfer.dims(&transfer.region(), &out.strides, out.item);
            for dim in &mut dims {
                dim.from = Offsets::FIXED;
            }
            // SAFETY: one element is read; the indices on the other side were checked against the
            // shape of `out`, and are the caller's.
            unsafe { scatter::copy(fill.as_ptr(), out.as_ptr(), dims, out.item) };
        }
        Ok(())
    }

    /// Where the subchunks of this shard are; read once.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Codec`], with the path.
    pub fn index(
        &self,
        sharding: &Sharding,
        grid: &[u64],
        options: &CodecOptions,
    ) -> Result<Arc<[[u64; 2]]>> {
        let file = self.file()?;
        if let Some(index) = self.kept.as_ref().and_then(|kept| kept.known.index.clone()) {
            return Ok(index);
        }
        if let Some(kept) = &self.kept
            && let Some(index) = kept.held.index(&kept.chunk, file.stamp())
        {
            return Ok(index);
        }
        let range = sharding.index_range(&self.name, grid, file.size())?;
        let index: Arc<[_]> = self.encoded(range, |encoded| {
            let index = sharding.decode_index(&self.name, encoded, grid, options)?;
            Ok(index.into())
        })?;
        if let Some(kept) = &self.kept {
            (kept.held).keep_index(&kept.chunk, file.stamp(), Arc::clone(&index));
        }
        Ok(index)
    }

    /// Read what `transfer` names into `out`, whose elements are handles to the blocks that this
    /// adds to `blocks`.
    ///
    /// # Safety
    /// As for [`Self::read`].
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Codec`], with the path.
    pub unsafe fn read_objects(
        &self,
        transfer: &Transfer,
        out: &Memory,
        blocks: &Blocks,
        options: &CodecOptions,
    ) -> Result<()> {
        let region = self.region(&transfer.region());
        let failed = |error| Error::codec(&self.name, &error);
        let block = if self.exists() {
            self.decode(&region, options)?
        } else {
            let (data_type, fill) = (&self.spec.data_type, &self.spec.fill_value);
            ArrayBytes::new_fill_value(data_type, 1, fill).map_err(|error| failed(error.into()))?
        };
        let block = block
            .into_variable()
            .map_err(|error| failed(error.into()))?;
        let elements = block.offsets().len() - 1;
        if self.exists() && elements != size(&region, 1)? {
            return Err(failed("wrong number of elements".into()));
        }
        let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let number = blocks.len() as u64;
        blocks.push(block);
        drop(blocks);
        let handles: Vec<Handle> = (0..elements as u64).map(|i| [number, i]).collect();
        let mut dims = transfer.dims(&region, &out.strides, out.item);
        if !self.exists() {
            for dim in &mut dims {
                dim.from = Offsets::FIXED;
            }
        }
        // SAFETY: as in `read`.
        unsafe { scatter::copy(handles.as_ptr().cast(), out.as_ptr(), dims, out.item) };
        Ok(())
    }

    /// Decode a box of the chunk straight into a box of `out`.
    ///
    /// # Safety
    /// As for [`Spec::decode_into`].
    unsafe fn decode_into(
        &self,
        region: &[Range<u64>],
        out: &Memory,
        (shape, target): (&[u64], &[Range<u64>]),
        options: &CodecOptions,
    ) -> Result<()> {
        if region == whole(self.shape) {
            // SAFETY: forwarded.
            return self.all(|encoded| unsafe {
                self.spec.decode_into(
                    &self.name,
                    encoded,
                    self.shape,
                    out,
                    (shape, target),
                    options,
                )
            });
        }
        let failed = |error| Error::codec(&self.name, &error);
        // SAFETY: forwarded.
        let mut view = unsafe { view(out, shape, target) }.map_err(failed)?;
        self.partial(options)?
            .partial_decode_into(
                &ArraySubset::new_with_ranges(region),
                ArrayBytesDecodeIntoTarget::Fixed(&mut view),
                options,
            )
            .map_err(failed)
    }

    /// What to decode for `wanted`: the whole chunk if there is no way to decode less.
    pub fn region(&self, wanted: &[Range<u64>]) -> Vec<Range<u64>> {
        if self.spec.decodes_parts(self.shape) {
            wanted.to_vec()
        } else {
            whole(self.shape)
        }
    }

    /// Decode a box of the chunk, one that [`Self::region`] gave.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Codec`], with the path.
    pub fn decode(
        &self,
        region: &[Range<u64>],
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'static>> {
        if region == whole(self.shape) {
            return self.all(|encoded| self.spec.decode(&self.name, encoded, self.shape, options));
        }
        self.partial(options)?
            .partial_decode(&ArraySubset::new_with_ranges(region), options)
            .map(ArrayBytes::into_owned)
            .map_err(|error| Error::codec(&self.name, &error))
    }

    /// Run `job` with the bytes of a chunk or subchunk.
    ///
    /// # Errors
    /// [`Error::Codec`], with the path, if these are more than the metadata allow; [`Error::Store`],
    /// and those of `job`.
    pub fn unit<T>(&self, unit: &Unit<'_>, job: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        self.expect_length(&unit.range, unit.shape)?;
        self.encoded(unit.range.clone(), job)
    }

    /// [`Self::unit`] with all bytes.
    fn all<T>(&self, job: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let all = 0..self.file()?.size();
        self.expect_length(&all, self.shape)?;
        self.encoded(all, job)
    }

    /// Check the number of encoded bytes of a chunk or subchunk of that shape.
    ///
    /// # Errors
    /// [`Error::Codec`], with the path.
    pub fn expect_length(&self, range: &Range<u64>, shape: &[NonZeroU64]) -> Result<()> {
        let (bytes, limit) = (range.end - range.start, self.spec.encoded_limit(shape));
        if bytes > limit {
            return Err(too_long(&self.name, bytes, limit));
        }
        Ok(())
    }

    /// Run `job` with these bytes of the file.
    ///
    /// # Errors
    /// [`Error::Store`], with the path, and those of `job`.
    fn encoded<T>(&self, range: Range<u64>, job: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let file = self.file()?;
        ENCODED.with(|buffer| {
            buffer.lend(|buffer| {
                let encoded = self.timed(|stats| &stats.read, || file.read_into(range, buffer));
                job(encoded.map_err(|error| store_error(&self.name, &error))?)
            })
        })
    }

    /// These encoded bytes of the chunk, which lie inside.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn bytes(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let file = self.file()?;
        file.read(range)
            .map_err(|error| store_error(&self.name, &error))
    }

    /// The file.
    ///
    /// # Errors
    /// [`Error::Store`] if there is none.
    pub fn file(&self) -> Result<&Arc<ChunkFile>> {
        self.file
            .as_ref()
            .ok_or_else(|| Error::Store(format!("chunk {}: there is no such file", self.name)))
    }

    /// The decoder of boxes. It is made once, because a shard's index is read then.
    fn partial(&self, options: &CodecOptions) -> Result<&Arc<dyn ArrayPartialDecoderTraits>> {
        if let Some(decoder) = self.decoder.get() {
            return Ok(decoder);
        }
        let decoder = Arc::clone(&self.spec.codecs)
            .partial_decoder(
                Arc::clone(self.file()?) as _,
                self.shape,
                &self.spec.data_type,
                &self.spec.fill_value,
                options,
            )
            .map_err(|error| Error::codec(&self.name, &error))?;
        Ok(self.decoder.get_or_init(|| decoder))
    }
}
