//! One chunk between its file and the caller's memory: the reader and the writer that `Array`
//! and `ChunkPipeline` share.

use std::borrow::Cow;
use std::cell::Cell;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use zarrs::array::{ArraySubset, CodecChain, DataType, FillValue};
use zarrs_codec::{
    ArrayBytes, ArrayBytesDecodeIntoTarget, ArrayBytesFixedDisjointView, ArrayBytesVariableLength,
    ArrayCodecTraits, ArrayPartialDecoderTraits, ArrayToBytesCodecTraits, CodecError, CodecOptions,
};

use crate::dtype::Kind;
use crate::errors::{Error, Result};
use crate::memory::Memory;
use crate::scatter::{self, Dim, Offsets};
use crate::selection::Transfer;
use crate::shard::Sharding;
use crate::store::{self, ChunkFile};

/// How the elements of an array are stored.
#[derive(Debug)]
pub struct Spec {
    codecs: Arc<CodecChain>,
    data_type: DataType,
    fill_value: FillValue,
    /// The type in Python.
    pub kind: Kind,
    /// Bytes per element in memory: of the element, or of a [`Handle`] to text or bytes.
    pub item: usize,
    /// How shards are written.
    sharding: Option<Sharding>,
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

/// An element of variable length while it is moved about: which block it is in, and where.
pub type Handle = [u64; 2];

/// The blocks that handles point into.
pub type Blocks = Mutex<Vec<ArrayBytesVariableLength<'static>>>;

impl Spec {
    /// How `array` stores its elements, which are `kind` in Python.
    pub fn new<S: ?Sized>(array: &zarrs::array::Array<S>, kind: Kind) -> Self {
        let item = match kind {
            Kind::Fixed(_, size) => size,
            Kind::Text | Kind::Bytes => size_of::<Handle>(),
        };
        Self {
            codecs: array.codecs(),
            data_type: array.data_type().clone(),
            fill_value: array.fill_value().clone(),
            kind,
            item,
            sharding: Sharding::new(array.metadata()),
        }
    }

    /// The shape of a subchunk, if sharding is the only codec.
    pub fn subchunk(&self) -> Option<Vec<u64>> {
        self.sharding
            .as_ref()
            .map(|sharding| lengths(&sharding.subchunk))
    }

    /// The shape of what one read of a chunk of that shape serves: its subchunks, if it has any.
    pub fn granule(&self, shape: &[NonZeroU64]) -> Vec<u64> {
        lengths(&self.codecs.partial_decode_granularity(shape))
    }

    /// Whether a box of a chunk is decoded without the rest of it: subchunks, filters that know
    /// which part of a chunk they need, and plain bytes. A compressor alone gives all or nothing.
    fn decodes_parts(&self, shape: &[NonZeroU64]) -> bool {
        !shape.is_empty()
            && (self.codecs.bytes_to_bytes_codecs().is_empty()
                || !self.codecs.array_to_array_codecs().is_empty()
                || self.granule(shape) != lengths(shape))
    }

    /// Decode a whole chunk.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    fn decode(
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

    /// Encode a whole chunk in C order.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub fn encode(
        &self,
        name: &str,
        chunk: Vec<u8>,
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<Vec<u8>> {
        // Threads inside would store subchunks in the order in which they end.
        let options = options.with_concurrent_target(1);
        self.encode_with(&self.codecs, name, chunk, shape, &options)
    }

    /// Encode a whole chunk, or a subchunk, with these codecs.
    ///
    /// # Errors
    /// [`Error::Codec`], with `name`.
    pub fn encode_with(
        &self,
        codecs: &CodecChain,
        name: &str,
        chunk: Vec<u8>,
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<Vec<u8>> {
        codecs
            .encode(
                chunk.into(),
                shape,
                &self.data_type,
                &self.fill_value,
                options,
            )
            .map(Cow::into_owned)
            .map_err(|error| Error::codec(name, &error))
    }

    /// Update the chunk at `path`.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Codec`], with the path; the file is then as it was.
    pub fn write(
        &self,
        path: &Path,
        shape: &[NonZeroU64],
        update: &Update<'_>,
        options: &CodecOptions,
    ) -> Result<()> {
        let name = path.display().to_string();
        let complete = update.complete || update.transfer.covers(&whole(shape));
        let old = if complete {
            None
        } else {
            Some(Source::open(self, path, shape)?).filter(Source::exists)
        };
        let encoded = self.updated(&name, shape, old.as_ref(), update, options)?;
        match encoded {
            Some(bytes) => store::write_atomic(path, &bytes),
            None => store::remove(path),
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
        let chunk = self.merge(name, old, &whole(shape), update, options)?;
        if !update.write_empty_chunks && self.is_fill(&chunk) {
            return Ok(None);
        }
        self.encode(name, chunk, shape, options).map(Some)
    }

    /// The values of a box of the chunk after an update.
    pub fn merge(
        &self,
        name: &str,
        old: Option<&Source<'_>>,
        region: &[Range<u64>],
        update: &Update<'_>,
        options: &CodecOptions,
    ) -> Result<Vec<u8>> {
        let bytes = size(region, self.item)?;
        let mut block = match old {
            Some(old) if !update.transfer.covers(region) => {
                fixed(name, old.decode(region, options)?, bytes)?
            }
            _ => self.filled(bytes)?,
        };
        let value = update.value;
        let dims = update.transfer.dims(region, &value.strides, self.item);
        let dims = dims.into_iter().map(Dim::reversed).collect();
        // SAFETY: the indices on the chunk's side lie in the region, those on the other side were
        // checked against the shape of `value`; the block is ours alone.
        unsafe { scatter::copy(value.as_ptr(), block.as_mut_ptr(), dims, self.item) };
        Ok(block)
    }

    /// That many bytes of fill value.
    fn filled(&self, bytes: usize) -> Result<Vec<u8>> {
        let fill = self.fill_value.as_ne_bytes();
        if fill.iter().all(|&byte| byte == 0) {
            return zeros(bytes);
        }
        let mut chunk = Vec::new();
        chunk
            .try_reserve_exact(bytes)
            .map_err(|_| Error::memory(bytes))?;
        chunk.extend(fill.iter().cycle().take(bytes));
        Ok(chunk)
    }

    /// Whether every element has the bits of the fill value: -0.0 is not 0.0, and NaN is NaN.
    pub fn is_fill(&self, chunk: &[u8]) -> bool {
        // The first element equals the fill value, and each one the one before it.
        chunk.is_empty()
            || (chunk.starts_with(self.fill_value.as_ne_bytes())
                && chunk[self.item..] == chunk[..chunk.len() - self.item])
    }
}

/// A chunk that is being read.
pub struct Source<'a> {
    spec: &'a Spec,
    file: Option<Arc<ChunkFile>>,
    name: String,
    shape: &'a [NonZeroU64],
    decoder: OnceLock<Arc<dyn ArrayPartialDecoderTraits>>,
}

impl<'a> Source<'a> {
    /// Open the chunk at `path`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open(spec: &'a Spec, path: &Path, shape: &'a [NonZeroU64]) -> Result<Self> {
        let name = path.display().to_string();
        let file = ChunkFile::open(path).map_err(|error| store_error(&name, &error))?;
        Ok(Self {
            spec,
            file: file.map(Arc::new),
            name,
            shape,
            decoder: OnceLock::new(),
        })
    }

    /// Whether there is such a file; if not, every element has the fill value.
    pub fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Read what `transfer` names into `out`.
    ///
    /// # Safety
    /// No other thread accesses the elements of `out` that `transfer` names.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Codec`], with the path.
    pub unsafe fn read(
        &self,
        transfer: &Transfer,
        out: &Memory,
        options: &CodecOptions,
    ) -> Result<()> {
        let item = out.item;
        let wanted = transfer.region();
        if wanted.iter().any(Range::is_empty) {
            return Ok(());
        }
        let region = self.region(&wanted);
        let dims = transfer.dims(&region, &out.strides, item);
        if self.file.is_none() {
            let fill = self.spec.fill_value.as_ne_bytes();
            let same = |dim| Dim {
                from: Offsets::FIXED,
                ..dim
            };
            let dims = dims.into_iter().map(same).collect();
            // SAFETY: one element is read; the indices on the other side were checked against
            // the shape of `out`, and are the caller's.
            unsafe { scatter::copy(fill.as_ptr(), out.as_ptr(), dims, item) };
            return Ok(());
        }
        if out.cells().is_some()
            && region == wanted
            && !region.is_empty()
            && let Some((shape, target)) = transfer.as_boxes(&out.shape)
        {
            // SAFETY: forwarded.
            return unsafe { self.decode_into(&region, out, (&shape, &target), options) };
        }
        let bytes = size(&region, item)?;
        let block = fixed(&self.name, self.decode(&region, options)?, bytes)?;
        // SAFETY: the block holds the region, which holds every index on the chunk's side; the
        // indices on the other side were checked against the shape of `out`.
        unsafe { scatter::copy(block.as_ptr(), out.as_ptr(), dims, item) };
        Ok(())
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
            return self.encoded(|encoded| unsafe {
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
            return self
                .encoded(|encoded| self.spec.decode(&self.name, encoded, self.shape, options));
        }
        self.partial(options)?
            .partial_decode(&ArraySubset::new_with_ranges(region), options)
            .map(ArrayBytes::into_owned)
            .map_err(|error| Error::codec(&self.name, &error))
    }

    /// Run `job` with the encoded bytes of the chunk.
    fn encoded<T>(&self, job: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        thread_local! {
            // Large allocations go back to the system when they are freed, and fresh pages are
            // what reading costs most: each thread keeps its buffer.
            static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        const KEEP: usize = 64 << 20;
        // Taken, not borrowed: a codec that waits may run another task of ours on this thread.
        let mut buffer = BUFFER.take();
        let result = match self.file()?.read_into(&mut buffer) {
            Ok(()) => job(&buffer),
            Err(error) => Err(store_error(&self.name, &error)),
        };
        if buffer.capacity() <= KEEP {
            BUFFER.set(buffer);
        }
        result
    }

    /// The encoded bytes of the chunk.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.file()?.read_into(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(store_error(&self.name, &error)),
        }
    }

    fn file(&self) -> Result<&Arc<ChunkFile>> {
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

/// A view of a box of `out`, an array in one block whose shape may be written as `shape`.
///
/// # Safety
/// No other thread accesses that box.
unsafe fn view<'a>(
    out: &'a Memory,
    shape: &'a [u64],
    target: &[Range<u64>],
) -> Result<ArrayBytesFixedDisjointView<'a>, CodecError> {
    let cells = out.cells().ok_or("the array is not one block")?;
    let target = ArraySubset::new_with_ranges(target);
    // SAFETY: forwarded: no view overlaps this one.
    Ok(unsafe { ArrayBytesFixedDisjointView::new(cells, out.item, shape, target) }?)
}

/// The bytes of a block of fixed-size elements.
fn fixed(name: &str, block: ArrayBytes<'_>, expected: usize) -> Result<Vec<u8>> {
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

/// `bytes` zeros.
pub fn zeros(bytes: usize) -> Result<Vec<u8>> {
    let mut block = Vec::new();
    block
        .try_reserve_exact(bytes)
        .map_err(|_| Error::memory(bytes))?;
    block.resize(bytes, 0);
    Ok(block)
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

fn store_error(name: &str, error: &std::io::Error) -> Error {
    Error::Store(format!("chunk {name}: {error}"))
}
