//! What the metadata of an array may ask for, checked before anything is made of it.
//!
//! A store may come from a stranger. Its metadata say how much memory a chunk needs, how many
//! subchunks a shard has and how deeply codecs are nested: a few bytes of JSON can ask for more than any
//! machine has. [`check`] refuses such metadata with an error that names the limit, and what zarrs would
//! fall over: numbers that overflow, dimensions that do not agree, keys that leave the store.
//!
//! The limits are those of the process. Each is far above what arrays of numbers need, and can be
//! raised:
//!
//! ```
//! use tempozarr::limits::{Limits, check, limits, set_limits};
//!
//! let metadata = serde_json::from_str(r#"{
//!     "zarr_format": 3, "node_type": "array", "shape": [9000], "data_type": "float64",
//!     "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1000000000]}},
//!     "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": ["bytes"]}"#)?;
//! assert!(check(&metadata).is_err());
//! set_limits(Limits { chunk_bytes: 1 << 33, ..limits() });
//! assert!(check(&metadata).is_ok());
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::fmt::Display;
use std::num::NonZeroU64;
use std::sync::{PoisonError, RwLock};

use serde_json::Value;
use zarrs::metadata_ext::chunk_grid::rectangular::{
    RectangularChunkGridConfiguration, RectangularChunkGridDimensionConfiguration,
};
use zarrs::metadata_ext::chunk_grid::rectilinear::{
    ChunkEdgeLengths, RectilinearChunkGridConfiguration, RunLengthElement,
};
use zarrs::metadata_ext::chunk_grid::regular::RegularChunkGridConfiguration;
use zarrs_codec::Codec;
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::v2::{ArrayMetadataV2, DataTypeMetadataV2};
use zarrs_metadata::v3::{ArrayMetadataV3, MetadataV3};
use zarrs_metadata::{ArrayMetadata, Configuration, DataTypeSize};

use crate::util::{CodecMetadata, sharding};

/// The most that metadata may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Dimensions of an array, at each stage of its codecs: 64, as numpy has it.
    pub dimensions: u64,
    /// Codecs of an array, those inside shards and of their indexes included: 64.
    pub codecs: u64,
    /// Shards in shards: 8.
    pub nesting: u64,
    /// Bytes of an element: 1 MiB.
    pub element_bytes: u64,
    /// Decoded bytes of a chunk, or of a subchunk where the chunk is a shard: 4 GiB. It also bounds
    /// the encoded and decoded bytes of a chunk of text, of which metadata say nothing.
    pub chunk_bytes: u64,
    /// Subchunks of a shard: 2^24, whose index has 256 MiB. It also bounds the lengths that a grid of
    /// irregular chunks lists.
    pub subchunks: u64,
}

impl Limits {
    const DEFAULT: Self = Self {
        dimensions: 64,
        codecs: 64,
        nesting: 8,
        element_bytes: 1 << 20,
        chunk_bytes: 4 << 30,
        subchunks: 1 << 24,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

static LIMITS: RwLock<Limits> = RwLock::new(Limits::DEFAULT);

/// The limits of this process.
#[must_use]
pub fn limits() -> Limits {
    *LIMITS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Set the limits of this process, for arrays that are opened from now on.
pub fn set_limits(limits: Limits) {
    *LIMITS.write().unwrap_or_else(PoisonError::into_inner) = limits;
}

/// What metadata ask for and do not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitError {
    message: String,
    limit: Option<&'static str>,
}

impl LimitError {
    /// The limit that it would take to raise; none, where numbers do not agree or overflow.
    #[must_use]
    pub fn limit(&self) -> Option<&'static str> {
        self.limit
    }
}

impl Display for LimitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LimitError {}

type Result<T, E = LimitError> = std::result::Result<T, E>;

/// An error that the caller can do nothing about.
fn refused<T>(message: impl Into<String>) -> Result<T> {
    Err(LimitError {
        message: message.into(),
        limit: None,
    })
}

/// Check a number against the limit of that name.
fn at_most(
    what: impl Display,
    number: impl Into<u128>,
    name: &'static str,
    limit: u64,
) -> Result<()> {
    let number = number.into();
    if number <= u128::from(limit) {
        return Ok(());
    }
    Err(LimitError {
        message: format!(
            "{what}: {number}, expected at most {limit}. If you trust this store, raise the limit \
             `{name}`"
        ),
        limit: Some(name),
    })
}

/// Check that the metadata ask for no more than [`limits`] allow, and for nothing that zarrs would panic
/// on, before zarrs makes an array of them. What zarrs refuses with an error of its own is left to it.
///
/// Only the chunk key encodings `default` and `v2` pass: others may lead out of the store.
///
/// # Errors
/// Returns a [`LimitError`] that says what was found, what was expected, and which limit it is.
pub fn check(metadata: &ArrayMetadata) -> Result<()> {
    let limits = limits();
    match metadata {
        ArrayMetadata::V3(metadata) => check_v3(metadata, &limits),
        ArrayMetadata::V2(metadata) => check_v2(metadata, &limits),
    }
}

fn check_v3(metadata: &ArrayMetadataV3, limits: &Limits) -> Result<()> {
    check_shape(&metadata.shape, limits)?;
    let dimensions = metadata.shape.len();
    if let Some(names) = &metadata.dimension_names
        && names.len() != dimensions
    {
        return refused(format!(
            "{} dimension names of an array of {dimensions} dimensions, expected as many",
            names.len()
        ));
    }
    let encoding = metadata.chunk_key_encoding.name();
    if !["default", "v2"].contains(&encoding) {
        return refused(format!(
            "chunk key encoding {encoding:?}: expected \"default\" or \"v2\"; keys of others may lead \
             out of the store"
        ));
    }
    check_nesting(&metadata.codecs, limits)?;
    let Some(shape) = largest_chunk(&metadata.chunk_grid, limits)? else {
        return Ok(());
    };
    expect_rank("the chunk grid", shape.len(), dimensions)?;
    let Ok(data_type) = DataType::from_metadata(&metadata.data_type) else {
        return Ok(());
    };
    check_element(&data_type, limits)?;
    let Ok(fill_value) = data_type.fill_value_v3(&metadata.fill_value) else {
        return Ok(());
    };
    let chunk = Chunk {
        what: CHUNK,
        shape,
        data_type,
        fill_value,
    };
    chunk.check(&metadata.codecs, limits)
}

fn check_v2(metadata: &ArrayMetadataV2, limits: &Limits) -> Result<()> {
    check_shape(&metadata.shape, limits)?;
    expect_rank("chunks", metadata.chunks.len(), metadata.shape.len())?;
    let filters = metadata.filters.as_deref().unwrap_or_default();
    let codecs = filters.len() as u64 + u64::from(metadata.compressor.is_some());
    at_most("codecs of an array", codecs, "codecs", limits.codecs)?;
    // zarrs parses the length of a type again and again, and makes fill values of any length.
    if let DataTypeMetadataV2::Simple(name) = &metadata.dtype
        && let Some(length) = name.get(2..).and_then(|digits| digits.parse::<u128>().ok())
    {
        let size = length * if name[1..].starts_with('U') { 4 } else { 1 };
        check_size(size, limits)?;
    }
    let Ok(data_type) = DataType::from_metadata(&metadata.dtype) else {
        return Ok(());
    };
    check_element(&data_type, limits)?;
    let Ok(fill_value) = data_type.fill_value_v2(&metadata.fill_value) else {
        return Ok(());
    };
    let mut chunk = Chunk {
        what: CHUNK,
        shape: metadata.chunks.clone(),
        data_type,
        fill_value,
    };
    chunk.check_size(limits)?;
    let mut before = 0;
    for metadata in filters.iter().chain(&metadata.compressor) {
        let Ok(codec) = Codec::from_metadata(metadata) else {
            return Ok(());
        };
        // zarrs would put them into this order, and decode other values than were encoded.
        let stage = match codec {
            Codec::ArrayToArray(_) => 0,
            Codec::ArrayToBytes(_) => 1,
            Codec::BytesToBytes(_) => 2,
        };
        if stage < before {
            return refused(format!(
                "filters: {:?} follows a codec that makes bytes, expected codecs of values first",
                metadata.id()
            ));
        }
        before = stage;
        chunk.pass(&codec, limits)?;
    }
    Ok(())
}

/// Check the shape of an array: offsets in it are computed in 64 bits.
fn check_shape(shape: &[u64], limits: &Limits) -> Result<()> {
    let dimensions = shape.len() as u64;
    at_most(
        "dimensions of an array",
        dimensions,
        "dimensions",
        limits.dimensions,
    )?;
    match shape.iter().find(|&&length| i64::try_from(length).is_err()) {
        Some(length) => refused(format!(
            "a dimension of length {length}, expected less than 2^63"
        )),
        None => Ok(()),
    }
}

fn expect_rank(what: &str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    refused(format!(
        "{what}: {got} dimensions, expected {expected} as the array has there"
    ))
}

fn check_element(data_type: &DataType, limits: &Limits) -> Result<()> {
    match data_type.size() {
        DataTypeSize::Fixed(size) => check_size(size as u128, limits),
        DataTypeSize::Variable => Ok(()),
    }
}

fn check_size(size: u128, limits: &Limits) -> Result<()> {
    if size == 0 {
        return refused("elements of 0 bytes, expected at least 1");
    }
    at_most(
        "bytes of an element",
        size,
        "element_bytes",
        limits.element_bytes,
    )
}

/// Check how many codecs there are and how deeply they are nested, without making any.
fn check_nesting(codecs: &[MetadataV3], limits: &Limits) -> Result<()> {
    let mut count = 0;
    add_codecs(&mut count, codecs.len(), limits)?;
    for codec in codecs {
        if let Some(configuration) = codec.configuration() {
            check_inner(configuration, 1, &mut count, limits)?;
        }
    }
    Ok(())
}

/// [`check_nesting`] of what a codec of a level has inside: `codecs`, `index_codecs`, `data_codecs`, ...
fn check_inner(
    configuration: &serde_json::Map<String, Value>,
    level: u64,
    count: &mut u64,
    limits: &Limits,
) -> Result<()> {
    let lists = configuration
        .iter()
        .filter(|(key, _)| key.ends_with("codecs"));
    for codecs in lists.filter_map(|(_, codecs)| codecs.as_array()) {
        at_most("codecs inside codecs", level, "nesting", limits.nesting)?;
        add_codecs(count, codecs.len(), limits)?;
        for codec in codecs {
            if let Some(configuration) = codec["configuration"].as_object() {
                check_inner(configuration, level + 1, count, limits)?;
            }
        }
    }
    Ok(())
}

fn add_codecs(count: &mut u64, more: usize, limits: &Limits) -> Result<()> {
    *count += more as u64;
    at_most("codecs of an array", *count, "codecs", limits.codecs)
}

/// The shape of a chunk that is as long as the longest in each dimension; nothing, if the grid is one
/// that zarrs refuses.
fn largest_chunk(grid: &MetadataV3, limits: &Limits) -> Result<Option<Vec<NonZeroU64>>> {
    let longest = |lengths: &mut dyn Iterator<Item = (NonZeroU64, u64)>| {
        let (mut longest, mut number, mut sum) = (NonZeroU64::MIN, 0_u64, 0_u128);
        for (length, count) in lengths {
            longest = longest.max(length);
            number = number.saturating_add(count);
            sum = sum.saturating_add(u128::from(length.get()) * u128::from(count));
        }
        let what = "lengths of the chunks of a dimension";
        at_most(what, number, "subchunks", limits.subchunks)?;
        match i64::try_from(sum) {
            Ok(_) => Ok(longest),
            Err(_) => refused(format!(
                "chunks of {sum} elements in a dimension, expected less than 2^63"
            )),
        }
    };
    let shape = match grid.name() {
        "rectangular" => {
            let Ok(grid) = grid.to_typed_configuration::<RectangularChunkGridConfiguration>()
            else {
                return Ok(None);
            };
            let dimensions = grid.chunk_shape.iter().map(|lengths| match lengths {
                RectangularChunkGridDimensionConfiguration::Fixed(length) => Ok(*length),
                RectangularChunkGridDimensionConfiguration::Varying(lengths) => {
                    longest(&mut lengths.iter().map(|&length| (length, 1)))
                }
            });
            dimensions.collect::<Result<_>>()?
        }
        "rectilinear" => {
            let Ok(RectilinearChunkGridConfiguration::Inline { chunk_shapes }) =
                grid.to_typed_configuration()
            else {
                return Ok(None);
            };
            let dimensions = chunk_shapes.iter().map(|lengths| match lengths {
                ChunkEdgeLengths::Scalar(length) => Ok(*length),
                ChunkEdgeLengths::Varying(runs) => longest(&mut runs.iter().map(|run| match run {
                    RunLengthElement::Single(length) => (*length, 1),
                    RunLengthElement::Repeated([length, count]) => (*length, count.get()),
                })),
            });
            dimensions.collect::<Result<_>>()?
        }
        _ => {
            let Ok(grid) = grid.to_typed_configuration::<RegularChunkGridConfiguration>() else {
                return Ok(None);
            };
            grid.chunk_shape
        }
    };
    Ok(Some(shape))
}

/// What is encoded at once, at one stage of its codecs.
struct Chunk {
    what: &'static str,
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill_value: FillValue,
}

impl Chunk {
    /// Check a chunk of those codecs, and what is inside if it is a shard.
    fn check(mut self, codecs: &[MetadataV3], limits: &Limits) -> Result<()> {
        self.elements()?;
        let is_shard = matches!(codecs, [codec] if sharding(codec).is_some());
        // Of a shard, or a shard in a shard, no more than a subchunk of the first is decoded at once.
        if !is_shard || self.what == SUBCHUNK {
            self.check_size(limits)?;
        }
        for codec in codecs.iter().filter(|codec| sharding(codec).is_none()) {
            self.check_parameters(codec)?;
            match Codec::from_metadata(codec) {
                Ok(codec) => self.pass(&codec, limits)?,
                Err(_) if !codec.must_understand() => {}
                Err(_) => return Ok(()),
            }
        }
        for sharding in codecs.iter().filter_map(sharding) {
            let dimensions = self.shape.len();
            expect_rank(
                "chunk_shape of sharding_indexed",
                sharding.chunk_shape.len(),
                dimensions,
            )?;
            let mut subchunks = 1_u128;
            for (length, inner) in std::iter::zip(&self.shape, &sharding.chunk_shape) {
                if length.get() % inner.get() != 0 {
                    return refused(format!(
                        "subchunks of shape {:?}, expected one that divides {} of shape {:?}",
                        sharding.chunk_shape, self.what, self.shape
                    ));
                }
                subchunks = subchunks.saturating_mul((length.get() / inner.get()).into());
            }
            at_most(
                "subchunks of a shard",
                subchunks,
                "subchunks",
                limits.subchunks,
            )?;
            let inside = Self {
                what: SUBCHUNK,
                shape: sharding.chunk_shape,
                data_type: self.data_type.clone(),
                fill_value: self.fill_value.clone(),
            };
            inside.check(&sharding.codecs, limits)?;
        }
        Ok(())
    }

    /// Go on to what a codec makes of it.
    fn pass(&mut self, codec: &Codec, limits: &Limits) -> Result<()> {
        let Codec::ArrayToArray(codec) = codec else {
            return Ok(());
        };
        let encoded = codec
            .encoded_representation(&self.shape, &self.data_type, &self.fill_value)
            .or_else(|error| refused(format!("codecs: {error}")))?;
        (self.shape, self.data_type, self.fill_value) = encoded;
        let dimensions = self.shape.len() as u64;
        at_most(
            "dimensions of a chunk",
            dimensions,
            "dimensions",
            limits.dimensions,
        )?;
        self.check_size(limits)
    }

    /// How many elements it has: their bytes fit in 63 bits.
    fn elements(&self) -> Result<u64> {
        let mut lengths = self.shape.iter();
        let elements = lengths.try_fold(1_u64, |product, length| product.checked_mul(length.get()));
        match elements {
            Some(elements) if elements <= 1 << 56 => Ok(elements),
            _ => refused(format!(
                "{} of shape {:?} has more than 2^56 elements",
                self.what, self.shape
            )),
        }
    }

    fn check_size(&self, limits: &Limits) -> Result<()> {
        // An element of variable length takes its offset, at least.
        let size = self.data_type.fixed_size().unwrap_or(size_of::<u64>());
        at_most(
            format_args!("decoded bytes of {} of shape {:?}", self.what, self.shape),
            u128::from(self.elements()?) * size as u128,
            "chunk_bytes",
            limits.chunk_bytes,
        )
    }

    /// Check what codecs of zarrs compute with as it is.
    fn check_parameters(&self, codec: &MetadataV3) -> Result<()> {
        match codec.name() {
            "reshape" => self.check_reshape(&codec.fields()),
            "packbits" => {
                let bits = 8 * self.data_type.fixed_size().unwrap_or(0) as u64;
                for field in ["first_bit", "last_bit"] {
                    if let Some(bit) = codec.fields().get(field).and_then(Value::as_u64)
                        && bit >= bits
                    {
                        return refused(format!(
                            "packbits: {field} {bit}, expected less than {bits}"
                        ));
                    }
                }
                Ok(())
            }
            "zarrs.vlen" => refused(
                "codec zarrs.vlen: it trusts lengths that chunks state; use vlen-utf8 or vlen-bytes",
            ),
            _ => Ok(()),
        }
    }

    fn check_reshape(&self, fields: &Configuration) -> Result<()> {
        let mut elements = Some(1_u64);
        for length in fields
            .get("shape")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let lengths = match length {
                Value::Array(dimensions) => dimensions
                    .iter()
                    .filter_map(|dimension| {
                        self.shape.get(usize::try_from(dimension.as_u64()?).ok()?)
                    })
                    .map(|length| length.get())
                    .collect(),
                length => Vec::from_iter(length.as_u64()),
            };
            elements = lengths
                .iter()
                .fold(elements, |product, length| product?.checked_mul(*length));
        }
        match elements {
            Some(elements) if elements <= self.elements()? => Ok(()),
            _ => refused(format!(
                "reshape: {} of shape {:?} has fewer elements than the shape that it is given",
                self.what, self.shape
            )),
        }
    }
}

const CHUNK: &str = "a chunk";
const SUBCHUNK: &str = "a subchunk";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{open, v2, v3};

    fn checked(document: &Value) -> Result<()> {
        crate::register();
        check(&serde_json::from_value(document.clone()).unwrap())
    }

    fn little() -> Value {
        json!({"name": "bytes", "configuration": {"endian": "little"}})
    }

    fn shard(subchunk: &Value, codecs: &Value) -> Value {
        json!({"name": "sharding_indexed", "configuration": {
            "chunk_shape": subchunk, "codecs": codecs, "index_codecs": [little(), "crc32c"]}})
    }

    #[test]
    fn what_tests_of_codecs_open_passes() {
        let filters = [json!({"name": "transpose", "configuration": {"order": [1, 0]}})];
        for document in [
            v3(&json!("float32"), &json!(0), &filters),
            v3(&json!("string"), &json!(""), &[]),
            v2("<f4", &[json!({"id": "delta", "dtype": "<f4"})]),
        ] {
            assert_eq!(checked(&document), Ok(()), "{document}");
        }
    }

    /// What is refused, and the limit that it takes to raise.
    #[test]
    fn each_limit_is_named() {
        let base = v3(&json!("float32"), &json!(0), &[]);
        let with = |pointer: &str, value: Value| {
            let mut document = base.clone();
            *document.pointer_mut(pointer).unwrap() = value;
            document
        };
        let shape = "/chunk_grid/configuration/chunk_shape";
        let codecs = |codec: Value| with("/codecs", json!([codec]));
        let mut nested = little();
        for _ in 0..9 {
            nested = shard(&json!([3, 4]), &json!([nested]));
        }
        for (document, limit, message) in [
            (
                with(shape, json!([1 << 20, 1 << 20])),
                Some("chunk_bytes"),
                "4398046511104",
            ),
            (
                with(shape, json!([1_u64 << 40, 1_u64 << 40])),
                None,
                "more than 2^56 elements",
            ),
            (
                with(shape, json!([3, 4, 5])),
                None,
                "the chunk grid: 3 dimensions, expected 2",
            ),
            (
                with("/codecs", json!(vec!["crc32c"; 65])),
                Some("codecs"),
                "65",
            ),
            (codecs(nested), Some("nesting"), "codecs inside codecs: 9"),
            (
                codecs(shard(&json!([3]), &json!([little()]))),
                None,
                "1 dimensions, expected 2",
            ),
            (
                codecs(shard(&json!([2, 4]), &json!([little()]))),
                None,
                "one that divides a chunk",
            ),
            (
                with("/shape", json!([1_u64 << 63, 6])),
                None,
                "expected less than 2^63",
            ),
            (with("/data_type", json!("r0")), None, "elements of 0 bytes"),
            (
                with("/data_type", json!("r80000000000")),
                Some("element_bytes"),
                "10000000000",
            ),
            (
                with(
                    "/chunk_key_encoding",
                    json!({"name": "zarrs.default_suffix"}),
                ),
                None,
                "expected \"default\" or \"v2\"",
            ),
        ] {
            let error = checked(&document).unwrap_err();
            assert_eq!(error.limit(), limit, "{error}");
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    /// Any shapes of shards and subchunks are opened, read and written, or an error: no panic.
    #[test]
    fn no_shape_makes_zarrs_panic() {
        let lengths = [1_u64, 2, 3, 4, 1 << 31, 1 << 32, 1 << 62, u64::MAX];
        for outer in lengths {
            for inner in lengths {
                for subchunk in [json!([inner]), json!([inner, 1]), json!([1, inner, 2])] {
                    let mut document = v3(&json!("uint8"), &json!(0), &[]);
                    document["shape"] = json!([4, 4]);
                    document["chunk_grid"]["configuration"]["chunk_shape"] = json!([outer, 4]);
                    document["codecs"] = json!([shard(&subchunk, &json!([little()]))]);
                    let is_refused = checked(&document).is_err();
                    let opened = open(&document);
                    assert!(!(is_refused && opened.is_ok()), "{document}");
                }
            }
        }
    }
}
