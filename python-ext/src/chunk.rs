//! How the elements of chunks are stored: decoding them into the caller's memory, and encoding them.

use std::borrow::Cow;
use std::cell::Cell;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tempozarr::cast::CastError;
use tempozarr::fused::{FusedCodec, Plan, Target, fuse_chain};
use tempozarr::limits::limits;
use tempozarr::memory;
use zarrs::array::{ArraySubset, CodecChain, DataType, FillValue};
use zarrs_codec::{
    ArrayBytes, ArrayBytesDecodeIntoTarget, ArrayBytesFixedDisjointView, ArrayCodecTraits,
    ArrayToBytesCodecTraits, CodecError, CodecOptions, CodecTraits,
};

use crate::beneath::Beneath;
use crate::dtype::Kind;
use crate::errors::{Error, Result};
use crate::memory::Memory;
use crate::scatter::{self, Dim};
use crate::selection::Transfer;
use crate::shard::Sharding;
use crate::source::{Handle, Source};

/// How the elements of an array are stored.
#[derive(Debug)]
pub struct Spec {
    /// The chain, in one pass where that is possible.
    pub codecs: Arc<CodecChain>,
    /// The type in the metadata.
    pub data_type: DataType,
    /// The value of what is not stored.
    pub fill_value: FillValue,
    /// The type in Python.
    pub kind: Kind,
    /// Bytes per element in memory: of the element, or of a [`Handle`] to text or bytes.
    pub item: usize,
    /// Sharding, if that is the only codec.
    pub sharding: Option<Sharding>,
}

/// Memory that each thread keeps: large allocations go back to the system when they are freed, and
/// fresh pages are what reading costs most.
pub struct Buffer(Cell<Vec<u8>>);

impl Buffer {
    /// Larger ones are not kept.
    const KEEP: usize = 32 << 20;

    const fn new() -> Self {
        Self(Cell::new(Vec::new()))
    }

    /// Lend the buffer to `job`. It is taken, not borrowed: a codec that waits may run another task
    /// of ours on this thread.
    pub fn lend<T>(&self, job: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut buffer = self.0.take();
        let result = job(&mut buffer);
        if buffer.capacity() <= Self::KEEP {
            self.0.set(buffer);
        }
        result
    }
}

thread_local! {
    pub static ENCODED: Buffer = const { Buffer::new() };
    pub static DECODED: Buffer = const { Buffer::new() };
}

/// What to write to a chunk.
pub struct Update<'a> {
    /// Which elements of the chunk, and of `value`.
    pub transfer: &'a Transfer,
    /// Whether the others do not matter: they get the fill value. Else they keep theirs.
    pub complete: bool,
    /// The new values.
    pub value: &'a Memory,
    /// Whether a chunk of nothing but the fill value is stored.
    pub write_empty_chunks: bool,
}

impl Update<'_> {
    /// Whether a chunk of that shape becomes another one, whatever it was.
    pub fn replaces(&self, shape: &[NonZeroU64]) -> bool {
        self.complete || self.transfer.covers(&whole(shape))
    }
}

/// Where an update and the values before it meet.
pub struct Merge<'a> {
    /// A box of the chunk.
    pub region: Vec<Range<u64>>,
    /// Which elements of that box are new, and where they are in the value of the update.
    pub transfer: Option<&'a Transfer>,
    /// The chunk before; the fill value, if there is none.
    pub old: Option<&'a Source<'a>>,
}

/// What is decoded at once: a chunk, or a subchunk.
pub struct Unit<'a> {
    /// Its codecs,
    pub codecs: &'a CodecChain,
    /// and in one pass, if they run so.
    pub fused: Option<&'a (&'a FusedCodec, Cow<'a, Plan>)>,
    /// Its shape.
    pub shape: &'a [NonZeroU64],
    /// The number of the subchunk.
    pub place: usize,
    /// Where in the file it is.
    pub range: Range<u64>,
}

impl Spec {
    /// How `array` stores its elements, which are `kind` in Python.
    pub fn new<S: ?Sized>(array: &zarrs::array::Array<S>, kind: Kind) -> Self {
        let item = match kind {
            Kind::Fixed(_, size) => size,
            Kind::Text | Kind::Bytes => size_of::<Handle>(),
        };
        let codecs = array.codecs();
        let first = array.chunk_shape(&vec![0; array.dimensionality()]);
        let fused = first.map(|shape| {
            fuse_chain(&codecs, &shape, array.data_type(), array.fill_value()).map(Arc::new)
        });
        Self {
            // Metadata of Zarr 2 has no room for fused codecs.
            codecs: fused.ok().and_then(Result::ok).unwrap_or(codecs),
            data_type: array.data_type().clone(),
            fill_value: array.fill_value().clone(),
            kind,
            item,
            sharding: Sharding::new(array.metadata()),
        }
    }

    /// What no chunk, or subchunk, of that shape has more encoded bytes than: compressors may do
    /// badly, and filters may make numbers longer, but not by that much.
    pub fn encoded_limit(&self, shape: &[NonZeroU64]) -> u64 {
        const SLACK: u64 = 16 << 20;
        match self.kind {
            Kind::Fixed(..) => size(&whole(shape), self.item).map_or(u64::MAX, |bytes| {
                (bytes as u64).saturating_mul(8).saturating_add(SLACK)
            }),
            Kind::Text | Kind::Bytes => limits().chunk_bytes,
        }
    }

    /// The shape of a subchunk, if sharding is the only codec.
    pub fn subchunk(&self) -> Option<Vec<u64>> {
        self.sharding
            .as_ref()
            .map(|sharding| lengths(&sharding.subchunk))
    }

    /// How shards are written, if sharding is the only codec.
    pub fn sharding(&self) -> Option<&Sharding> {
        self.sharding.as_ref()
    }

    /// The codecs and the shape of what is encoded at once: of a subchunk, or of a chunk of that
    /// shape that has none.
    pub fn unit<'a>(&'a self, chunk: &'a [NonZeroU64]) -> (&'a CodecChain, &'a [NonZeroU64]) {
        match &self.sharding {
            Some(sharding) => (&sharding.codecs, &sharding.subchunk),
            None => (&self.codecs, chunk),
        }
    }

    /// The shape of what one read of a chunk of that shape serves: its subchunks, if it has any.
    pub fn granule(&self, shape: &[NonZeroU64]) -> Vec<u64> {
        lengths(&self.codecs.partial_decode_granularity(shape))
    }

    /// Whether a box of a chunk is decoded without the rest of it: subchunks, filters that know
    /// which part of a chunk they need, and plain bytes. A compressor alone gives all or nothing.
    pub fn decodes_parts(&self, shape: &[NonZeroU64]) -> bool {
        !shape.is_empty()
            && (self.codecs.bytes_to_bytes_codecs().is_empty()
                || !self.codecs.array_to_array_codecs().is_empty()
                || self.granule(shape) != lengths(shape))
    }

    /// Whether chunks, or subchunks, of that shape are decoded in one pass, and whole.
    pub fn decodes_at_once(&self, shape: &[u64]) -> bool {
        let codecs = self.unit(&[]).0;
        let shape: Option<Vec<_>> = shape.iter().map(|&len| NonZeroU64::new(len)).collect();
        shape.is_some_and(|shape| {
            self.fused(codecs, &shape)
                .is_some_and(|(_, plan)| !plan.reads_parts())
        })
    }

    /// Whether nothing less than a whole chunk of that shape can be decoded.
    pub fn is_one_unit(&self, shape: &[NonZeroU64]) -> bool {
        let serializer = self.codecs.array_to_bytes_codec();
        self.granule(shape) == lengths(shape)
            && !(self.codecs.partial_decoder_capability().partial_decode
                && serializer.partial_decoder_capability().partial_read)
    }

    /// Decode what `transfers` name of `unit` into `out`.
    ///
    /// # Safety
    /// As for [`Source::read`].
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`; [`Error::Value`] for a value that the cast of `out` refuses.
    pub unsafe fn decode_transfers(
        &self,
        unit: &Unit<'_>,
        (name, encoded): (&str, &[u8]),
        transfers: &[&Transfer],
        out: &Memory,
        options: &CodecOptions,
    ) -> Result<()> {
        let usize_range = |range: &Range<u64>| range.start as usize..range.end as usize;
        if let [transfer] = transfers
            && let Some((_, plan)) = unit.fused
            && out.cast().is_none()
            && let region = transfer.region()
            && let Some((offset, strides)) = transfer.place(&out.strides)
            && has_runs(&region, &strides, out.item)
        {
            let region: Vec<_> = region.iter().map(usize_range).collect();
            let target = Target::from_raw(out.as_ptr().wrapping_offset(offset), strides)
                .streaming(out.streams());
            // SAFETY: the indices were checked against the shape of `out`, whose elements are this
            // thread's: forwarded.
            if unsafe { plan.decode_box(encoded, &region, &target) }.is_ok() {
                return Ok(());
            }
        }
        // Rows of the first dimension, which are stored and decoded in one piece.
        let mut region = whole(unit.shape);
        if let Some(rows) = region.first_mut() {
            let wanted = transfers
                .iter()
                .map(|transfer| transfer.region().swap_remove(0));
            *rows = wanted
                .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
                .unwrap_or(0..0);
        }
        DECODED.with(|buffer| {
            buffer.lend(|buffer| {
                let mut decoded = false;
                if let Some((_, plan)) = unit.fused {
                    let rows: Vec<_> = region.iter().map(usize_range).collect();
                    let block = slice(buffer, size(&region, self.item)?)?;
                    decoded = plan.decode_region(encoded, &rows, block).is_ok();
                }
                if !decoded {
                    region = whole(unit.shape);
                    let block = slice(buffer, size(&region, self.item)?)?;
                    self.decode_unfused(unit, (name, encoded), block, options)?;
                }
                let block = slice(buffer, size(&region, self.item)?)?;
                // SAFETY: the block holds the region, which holds every index of the transfers; the
                // rest is forwarded.
                unsafe { self.put(name, block, &region, transfers, out) }
            })
        })
    }

    /// Decode all of `unit` into `block`, in C order.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub fn decode_unit(
        &self,
        unit: &Unit<'_>,
        encoded: (&str, &[u8]),
        block: &mut [u8],
        options: &CodecOptions,
    ) -> Result<()> {
        match unit.fused {
            Some((_, plan)) if plan.decode(encoded.1, block).is_ok() => Ok(()),
            _ => self.decode_unfused(unit, encoded, block, options),
        }
    }

    /// [`Self::decode_unit`] codec by codec: these have the words for what is wrong.
    fn decode_unfused(
        &self,
        unit: &Unit<'_>,
        (name, encoded): (&str, &[u8]),
        block: &mut [u8],
        options: &CodecOptions,
    ) -> Result<()> {
        let codecs = unit.fused.map_or(unit.codecs, |(codec, _)| codec.chain());
        let (data_type, fill_value) = (&self.data_type, &self.fill_value);
        let chunk = codecs
            .decode(encoded.into(), unit.shape, data_type, fill_value, options)
            .map_err(|error| Error::codec(name, &error))?;
        block.copy_from_slice(&fixed(name, chunk, block.len())?);
        Ok(())
    }

    /// Copy what `transfers` name of a block, which holds `region` of a chunk, to `out`.
    ///
    /// # Safety
    /// Every index on the chunk's side lies in `region`, whose bytes `block` holds; those on the
    /// other side lie in `out`, and no other thread accesses the elements that they name.
    ///
    /// # Errors
    /// [`Error::Value`] for a value that the cast of `out` refuses.
    pub unsafe fn put(
        &self,
        name: &str,
        block: &[u8],
        region: &[Range<u64>],
        transfers: &[&Transfer],
        out: &Memory,
    ) -> Result<()> {
        for transfer in transfers {
            let dims = transfer.dims(region, &out.strides, self.item);
            // SAFETY: forwarded.
            unsafe {
                match out.cast() {
                    None if out.streams() => {
                        scatter::stream(block.as_ptr(), out.as_ptr(), dims, self.item);
                    }
                    None => scatter::copy(block.as_ptr(), out.as_ptr(), dims, self.item),
                    Some(cast) => scatter::cast(block.as_ptr(), out.as_ptr(), dims, cast, out.item)
                        .map_err(|error| refused(name, &error))?,
                }
            }
        }
        Ok(())
    }

    /// Decode a whole chunk into all of `out`, which has its shape.
    ///
    /// # Safety
    /// No other thread accesses `out`.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub unsafe fn decode_all(
        &self,
        name: &str,
        encoded: &[u8],
        shape: &[NonZeroU64],
        out: &Memory,
        options: &CodecOptions,
    ) -> Result<()> {
        if let Some(fused) = &self.fused(&self.codecs, shape) {
            let unit = Unit {
                codecs: &self.codecs,
                fused: Some(fused),
                shape,
                place: 0,
                range: 0..encoded.len() as u64,
            };
            let all = Transfer::all(&out.shape);
            // SAFETY: forwarded.
            return unsafe { self.decode_transfers(&unit, (name, encoded), &[&all], out, options) };
        }
        let lengths = lengths(shape);
        // SAFETY: forwarded.
        unsafe {
            self.decode_into(
                name,
                encoded,
                shape,
                out,
                (&lengths, &whole(shape)),
                options,
            )
        }
    }

    /// The codec and plan of `codecs`, if they run in one pass on chunks of `shape`.
    pub fn fused<'a>(
        &self,
        codecs: &'a CodecChain,
        shape: &[NonZeroU64],
    ) -> Option<(&'a FusedCodec, Cow<'a, Plan>)> {
        let codec = FusedCodec::of(codecs)?;
        let plan = codec.plan(shape, &self.data_type, &self.fill_value).ok()?;
        Some((codec, plan))
    }

    /// Decode a whole chunk.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub fn decode(
        &self,
        name: &str,
        encoded: &[u8],
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'static>> {
        self.codecs
            .decode(
                encoded.into(),
                shape,
                &self.data_type,
                &self.fill_value,
                options,
            )
            .map(ArrayBytes::into_owned)
            .map_err(|error| Error::codec(name, &error))
    }

    /// Decode a whole chunk into a box of `out`, an array whose shape may be written as `shape`.
    ///
    /// # Safety
    /// No other thread accesses that box.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub unsafe fn decode_into(
        &self,
        name: &str,
        encoded: &[u8],
        chunk_shape: &[NonZeroU64],
        out: &Memory,
        (shape, target): (&[u64], &[Range<u64>]),
        options: &CodecOptions,
    ) -> Result<()> {
        let failed = |error| Error::codec(name, &error);
        // SAFETY: forwarded.
        let mut view = unsafe { view(out, shape, target) }.map_err(failed)?;
        self.codecs
            .decode_into(
                encoded.into(),
                chunk_shape,
                &self.data_type,
                &self.fill_value,
                ArrayBytesDecodeIntoTarget::Fixed(&mut view),
                options,
            )
            .map_err(failed)
    }

    /// Encode a whole chunk, or a subchunk, in C order, with these codecs.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub fn encode(
        &self,
        codecs: &CodecChain,
        name: &str,
        chunk: &[u8],
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<Vec<u8>> {
        // Threads inside would store subchunks in the order in which they end.
        let options = options.with_concurrent_target(1);
        codecs
            .encode(
                chunk.into(),
                shape,
                &self.data_type,
                &self.fill_value,
                &options,
            )
            .map(Cow::into_owned)
            .map_err(|error| Error::codec(name, &error))
    }

    /// Update the chunk at `key`.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Codec`], with the path; the file is then as it was.
    pub fn write(
        &self,
        beneath: &Beneath,
        key: &Path,
        shape: &[NonZeroU64],
        update: &Update<'_>,
        options: &CodecOptions,
    ) -> Result<()> {
        let path = &beneath.path().join(key);
        let name = path.display().to_string();
        let old = if update.replaces(shape) {
            None
        } else {
            Some(Source::open(self, path, shape)?).filter(Source::exists)
        };
        let encoded = self.updated(&name, shape, old.as_ref(), update, options)?;
        match encoded {
            Some(bytes) => beneath.write_atomic(key, &bytes),
            None => beneath.remove(key),
        }
        .map_err(|error| store_error(&name, &error))
    }

    /// The encoded chunk after an update; `None` if it does not need to be stored.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Codec`], with `name`.
    pub fn updated(
        &self,
        name: &str,
        shape: &[NonZeroU64],
        old: Option<&Source<'_>>,
        update: &Update<'_>,
        options: &CodecOptions,
    ) -> Result<Option<Vec<u8>>> {
        if let Some(sharding) = &self.sharding {
            return sharding.update(self, name, shape, old, update, options);
        }
        let merge = Merge {
            region: whole(shape),
            transfer: Some(update.transfer),
            old,
        };
        self.merged(name, &merge, update, options, |chunk| {
            self.encode(&self.codecs, name, chunk, shape, options)
        })
    }

    /// Run `job` with the values of a box of the chunk after an update; not if they need not be
    /// stored.
    pub fn merged<T>(
        &self,
        name: &str,
        merge: &Merge<'_>,
        update: &Update<'_>,
        options: &CodecOptions,
        job: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        let bytes = size(&merge.region, self.item)?;
        let lengths = merge.region.iter().map(|range| range.end - range.start);
        let inside: Vec<_> = lengths.map(|len| 0..len).collect();
        DECODED.with(|buffer| {
            buffer.lend(|buffer| {
                let block = slice(buffer, bytes)?;
                let covers = |transfer: &Transfer| transfer.covers(&inside);
                match merge.old {
                    _ if merge.transfer.is_some_and(covers) => {}
                    Some(old) => {
                        let values = old.decode(&merge.region, options)?;
                        block.copy_from_slice(&fixed(name, values, bytes)?);
                    }
                    None => self.fill(block),
                }
                if let Some(transfer) = merge.transfer {
                    let value = update.value;
                    let dims = transfer.dims(&inside, &value.strides, self.item);
                    let dims = dims.into_iter().map(Dim::reversed).collect();
                    // SAFETY: the indices on the chunk's side lie in the box, those on the other
                    // side were checked against the shape of `value`; the block is ours alone.
                    unsafe { scatter::copy(value.as_ptr(), block.as_mut_ptr(), dims, self.item) };
                }
                if !update.write_empty_chunks && self.is_fill(block) {
                    return Ok(None);
                }
                job(block).map(Some)
            })
        })
    }

    /// Fill `block` with the fill value.
    fn fill(&self, block: &mut [u8]) {
        let fill = self.fill_value.as_ne_bytes();
        if fill.iter().all(|&byte| byte == 0) {
            return block.fill(0);
        }
        for element in block.chunks_exact_mut(fill.len()) {
            element.copy_from_slice(fill);
        }
    }

    /// Whether every element has the bits of the fill value: -0.0 is not 0.0, and NaN is NaN.
    pub fn is_fill(&self, chunk: &[u8]) -> bool {
        // The first element equals the fill value, and each one the one before it.
        chunk.is_empty()
            || (chunk.starts_with(self.fill_value.as_ne_bytes())
                && chunk[self.item..] == chunk[..chunk.len() - self.item])
    }
}

/// A view of a box of `out`, an array in one block whose shape may be written as `shape`.
///
/// # Safety
/// No other thread accesses that box.
pub unsafe fn view<'a>(
    out: &'a Memory,
    shape: &'a [u64],
    target: &[Range<u64>],
) -> Result<ArrayBytesFixedDisjointView<'a>, CodecError> {
    let cells = out.cells().ok_or("the array is not one block")?;
    let target = ArraySubset::new_with_ranges(target);
    // SAFETY: forwarded: no view overlaps this one.
    Ok(unsafe { ArrayBytesFixedDisjointView::new(cells, out.item, shape, target) }?)
}

/// Whether a box in memory has runs that are worth copying one by one.
fn has_runs(region: &[Range<u64>], strides: &[isize], item: usize) -> bool {
    const WORTH: usize = 64;
    let mut run = item;
    for (range, &stride) in std::iter::zip(region, strides).rev() {
        let length = (range.end - range.start) as usize;
        if length > 1 && stride != run.cast_signed() {
            return run >= WORTH;
        }
        run = run.saturating_mul(length);
    }
    true
}

/// The first `length` bytes of `buffer`, which grows if it must.
///
/// # Errors
/// [`Error::Codec`] if there is no such memory.
pub fn slice(buffer: &mut Vec<u8>, length: usize) -> Result<&mut [u8]> {
    memory::grow(buffer, length)?;
    Ok(&mut buffer[..length])
}

/// The bytes of a block of fixed-size elements.
pub fn fixed(name: &str, block: ArrayBytes<'_>, expected: usize) -> Result<Vec<u8>> {
    let block = block
        .into_fixed()
        .map_err(|error| Error::codec(name, &error.into()))?
        .into_owned();
    if block.len() == expected {
        return Ok(block);
    }
    Err(Error::Codec(format!(
        "chunk {name}: expected {expected} decoded bytes, got {}",
        block.len()
    )))
}

/// All of a chunk.
pub fn whole(shape: &[NonZeroU64]) -> Vec<Range<u64>> {
    shape.iter().map(|len| 0..len.get()).collect()
}

/// A chunk shape in plain numbers.
pub fn lengths(shape: &[NonZeroU64]) -> Vec<u64> {
    shape.iter().map(|len| len.get()).collect()
}

/// Bytes of the elements of a box.
pub fn size(region: &[Range<u64>], item: usize) -> Result<usize> {
    region
        .iter()
        .try_fold(item as u64, |size, range| {
            size.checked_mul(range.end - range.start)
        })
        .and_then(|size| isize::try_from(size).ok())
        .map(isize::cast_unsigned)
        .ok_or_else(|| Error::memory("more than 2^63"))
}

/// The error of a value that a cast to the caller's data type refuses.
pub fn refused(name: &str, error: &CastError) -> Error {
    Error::Value(format!("chunk {name}: {error}; read it as it is stored"))
}

/// Encoded bytes that are more than the metadata allow.
pub fn too_long(name: &str, bytes: u64, limit: u64) -> Error {
    Error::Codec(format!(
        "chunk {name}: {bytes} encoded bytes, and its metadata allow {limit} at most; it is corrupt"
    ))
}

/// An error of the file system, with the path.
pub fn store_error(name: &str, error: &std::io::Error) -> Error {
    Error::Store(format!("chunk {name}: {error}"))
}
