//! What the fuzz targets do with an input. `make fuzz` runs them; `../CONTRIBUTING.md` says what to do
//! with a finding.
//!
//! - [`array`]: JSON of an array's metadata, a zero byte, the bytes of each chunk.
//! - [`codecs`], [`round_trip`]: the numbers of a codec, a data type and a shape, one byte each, in the tables of
//!   `table.rs`; then a chunk. The number behind the last codec: JSON of a codec's metadata, a zero byte, the chunk.
//! - [`fused`]: the numbers of a data type, a shape and codecs, in 8 bytes; then a chunk or values.

use std::num::NonZeroU64;
use std::panic;
use std::sync::Once;

use serde_json::Value;
use tempozarr::limits::{Limits, set_limits};
use zarrs::array::{ArrayBytes, DataType, FillValue};
use zarrs_codec::{Codec, CodecOptions};
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;

mod array;
mod codecs;
mod fused;
mod table;

pub use array::array;
pub use codecs::{codecs, round_trip};
pub use fused::fused;

/// Metadata may ask for this many bytes of a chunk, and no more: so much memory is no finding.
const LARGEST_CHUNK: usize = 1 << 20;

/// Make the codecs known, once.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tempozarr::register();
        // A panic is a finding when it is raised, except the one that zarrs' stores are known for and that sharding
        // catches: not caught, it is a finding, too.
        let finding = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let known = |at: &panic::Location| at.file().ends_with("src/byte_range.rs");
            if !info.location().is_some_and(known) {
                finding(info);
            }
        }));
        table::check();
        set_limits(Limits {
            chunk_bytes: LARGEST_CHUNK as u64,
            subchunks: 1 << 12,
            ..Limits::default()
        });
    });
}

/// One thread, so that an input does the same each time.
fn options() -> CodecOptions {
    CodecOptions::default().with_concurrent_target(1)
}

/// The JSON before the first zero byte, and the bytes after it.
fn split<T: serde::de::DeserializeOwned>(data: &[u8]) -> Option<(T, &[u8])> {
    let end = data.iter().position(|byte| *byte == 0)?;
    let json = serde_json::from_slice(&data[..end]).ok()?;
    Some((json, &data[end + 1..]))
}

/// The codec of metadata of either version of Zarr.
fn codec(metadata: Value) -> Option<Codec> {
    if metadata.get("id").is_some() {
        let metadata: MetadataV2 = serde_json::from_value(metadata).ok()?;
        return Codec::from_metadata(&metadata).ok();
    }
    let metadata: MetadataV3 = serde_json::from_value(metadata).ok()?;
    Codec::from_metadata(&metadata).ok()
}

/// The shape of a chunk and the type of its elements.
struct Chunk {
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill_value: FillValue,
}

impl Chunk {
    /// The chunk of data type and shape numbers `data_type` and `shape`.
    fn of(data_type: u8, shape: u8) -> Self {
        let metadata: MetadataV3 =
            serde_json::from_str(pick(table::DATA_TYPES, data_type)).expect("the table is JSON");
        let data_type = DataType::from_metadata(&metadata).expect("the table has known types");
        Self::with(data_type, pick(table::SHAPES, shape))
    }

    fn with(data_type: DataType, shape: &[u64]) -> Self {
        Self {
            shape: shape.iter().copied().filter_map(NonZeroU64::new).collect(),
            fill_value: FillValue::new(vec![0; data_type.fixed_size().unwrap_or(0)]),
            data_type,
        }
    }

    fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |elements, length| {
            elements.checked_mul(usize::try_from(length.get()).ok()?)
        })
    }

    /// Its decoded bytes, if there are no more than [`LARGEST_CHUNK`]. Elements of variable length
    /// count as 16 bytes.
    fn bytes(&self) -> Option<usize> {
        let size = self.data_type.fixed_size().unwrap_or(16).max(1);
        let bytes = self.elements()?.checked_mul(size)?;
        (bytes <= LARGEST_CHUNK).then_some(bytes)
    }

    /// Check that decoded `bytes` are such a chunk.
    fn check(&self, bytes: &ArrayBytes<'_>) {
        let elements = self.elements().expect("it was decoded") as u64;
        let valid = bytes.validate(elements, &self.data_type);
        valid.expect("what is decoded is a chunk");
    }
}

/// Element number `at` of a table, which starts again behind its end.
fn pick<T: Copy>(table: &[T], at: u8) -> T {
    table[usize::from(at) % table.len()]
}

/// `length` bytes: `bytes` over and over.
fn repeated(bytes: &[u8], length: usize) -> Vec<u8> {
    let bytes = if bytes.is_empty() { &[0] } else { bytes };
    bytes.iter().copied().cycle().take(length).collect()
}
