//! The `lz4` bytes->bytes codec: a 4-byte little-endian length, then one raw
//! [LZ4 block](https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).
//!
//! ### Compatible implementations
//! `numcodecs.lz4` of zarr-python: either reads what the other writes. `acceleration` is kept in
//! the metadata; it tells only numcodecs' encoder how hard to try. A [level](encode_lz4_at) is for this
//! encoder, and in no metadata.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.lz4`
//! - Zarr V2 `id`: `lz4`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "acceleration": 1 }
//! # "#;
//! # serde_json::from_str::<tempozarr::Lz4Configuration>(configuration).unwrap();
//! ```

use std::sync::Arc;

use lz4::block::{CompressionMode, compress_to_buffer};
use lz4_flex::block::{compress_into, get_maximum_output_size};
use serde::{Deserialize, Serialize};
use zarrs::array::codec::array_to_bytes::sharding::ShardingCodecConfigurationV1;
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError,
    CodecMetadataOptions, CodecOptions, CodecPluginV2, CodecTraits, CodecTraitsV2, CodecTraitsV3,
};
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;
use zarrs_metadata::{ArrayMetadata, Configuration};
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::registry;
use crate::util::{bytes_on_one_thread, codec_traits, configuration};

/// The configuration of [`Lz4Codec`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lz4Configuration {
    /// Written back as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceleration: Option<i32>,
}

/// The levels of LZ4's high compression.
const LEVELS: std::ops::RangeInclusive<i32> = 2..=12;

/// LZ4 takes no more, and numcodecs refuses what claims to be more.
const MAX_INPUT: usize = 0x7e00_0000;

/// The `lz4` codec.
#[derive(Clone, Debug, Default)]
pub struct Lz4Codec {
    configuration: Lz4Configuration,
    pub(crate) level: Option<i32>,
}

zarrs_plugin::impl_extension_aliases!(Lz4Codec, v3: "numcodecs.lz4", v2: "lz4");

inventory::submit! {
    CodecPluginV2::new::<Lz4Codec>()
}

impl CodecTraitsV3 for Lz4Codec {
    fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
        let configuration = metadata.to_typed_configuration()?;
        Ok(Codec::BytesToBytes(Arc::new(Self {
            configuration,
            level: None,
        })))
    }
}

impl CodecTraitsV2 for Lz4Codec {
    fn create(metadata: &MetadataV2) -> Result<Codec, PluginCreateError> {
        let configuration = metadata.to_typed_configuration()?;
        Ok(Codec::BytesToBytes(Arc::new(Self {
            configuration,
            level: None,
        })))
    }
}

impl Lz4Codec {
    /// Encode with high compression of `level` (2 to 12; others are clamped): slowly, to fewer bytes
    /// that every LZ4 decoder reads.
    #[must_use]
    pub fn with_level(self, level: i32) -> Self {
        Self {
            level: Some(level.clamp(*LEVELS.start(), *LEVELS.end())),
            ..self
        }
    }
}

/// The name in metadata of the codec with a level.
pub(crate) const LEVELLED: &str = "lz4";

#[derive(Serialize, Deserialize)]
struct Levelled {
    level: i32,
    lz4: MetadataV3,
}

/// Create the codec that [`encode_lz4_at`] put into metadata.
pub(crate) fn levelled(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
    let Levelled { level, lz4 } = metadata.to_typed_configuration()?;
    let codec = Lz4Codec {
        configuration: lz4.to_typed_configuration()?,
        level: None,
    };
    Ok(Codec::BytesToBytes(Arc::new(codec.with_level(level))))
}

/// The metadata of an array with `numcodecs.lz4`, at any level of sharding, encoding with high
/// compression of `level`, 2 to 12.
///
/// It is for opening the array, also through [`fuse`](crate::fuse), and never for storing: no level is
/// in stored metadata, and every LZ4 decoder reads what is encoded.
/// [`register`](crate::register) must have been called.
///
/// # Errors
/// Returns a [`CodecError`] if there is no such level, or no `numcodecs.lz4` among the codecs: also if
/// the array is one of Zarr V2.
pub fn encode_lz4_at(metadata: &ArrayMetadata, level: i32) -> Result<ArrayMetadata, CodecError> {
    if !LEVELS.contains(&level) {
        return Err(CodecError::Other(error(format_args!(
            "level {level} is out of range, expected 2 <= level <= 12"
        ))));
    }
    let mut levelled = metadata.clone();
    if let ArrayMetadata::V3(metadata) = &mut levelled
        && let Some(codecs) = with_level(&metadata.codecs, level)
    {
        metadata.codecs = codecs;
        return Ok(levelled);
    }
    Err(CodecError::Other(error(format_args!(
        "level {level} is for numcodecs.lz4 in Zarr V3 metadata, and there is none"
    ))))
}

/// The codecs with a level for those that have one, if there are any.
fn with_level(codecs: &[MetadataV3], level: i32) -> Option<Vec<MetadataV3>> {
    let mut levelled = codecs.to_vec();
    let mut found = false;
    for codec in &mut levelled {
        if registry::is_named(codec, "numcodecs.lz4") {
            let lz4 = codec.clone();
            *codec = MetadataV3::new_with_configuration(
                registry::hidden(LEVELLED),
                configuration(&Levelled { level, lz4 }),
            );
            found = true;
        } else if codec.name() == "sharding_indexed"
            && let Ok(sharding) = codec.to_typed_configuration::<ShardingCodecConfigurationV1>()
            && let Some(codecs) = with_level(&sharding.codecs, level)
        {
            let sharding = ShardingCodecConfigurationV1 { codecs, ..sharding };
            *codec = MetadataV3::new_with_configuration(
                codec.name().to_owned(),
                configuration(&sharding),
            );
            found = true;
        }
    }
    found.then_some(levelled)
}

/// Bytes of the length that precedes the block.
const HEADER: usize = 4;

/// LZ4 cannot expand a byte of input to more than this.
const MAX_RATIO: usize = 255;

fn error(message: impl std::fmt::Display) -> String {
    format!("lz4: {message}")
}

/// The length that `encoded` states, if a chunk of `representation` can have it and the block can
/// hold it.
fn stated_length(encoded: &[u8], representation: &BytesRepresentation) -> Result<usize, String> {
    let header = encoded
        .first_chunk::<HEADER>()
        .ok_or_else(|| error(format_args!("{} bytes do not hold a length", encoded.len())))?;
    let length = u32::from_le_bytes(*header);
    let possible = match *representation {
        BytesRepresentation::FixedSize(size) => u64::from(length) == size,
        BytesRepresentation::BoundedSize(size) => u64::from(length) <= size,
        BytesRepresentation::UnboundedSize => true,
    };
    if !possible {
        return Err(error(format_args!(
            "the chunk states a length of {length} bytes, expected {representation}; it is corrupt"
        )));
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > (encoded.len() - HEADER).saturating_mul(MAX_RATIO) {
        return Err(error(format_args!(
            "the chunk states a length of {length} bytes, more than its {} bytes can hold",
            encoded.len(),
        )));
    }
    Ok(length)
}

/// Decompress a chunk into `out`, which it must fill; returns how many bytes it holds.
///
/// # Errors
/// Returns a message if it is corrupt or states another length.
pub(crate) fn decompress_into(encoded: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let length = stated_length(encoded, &BytesRepresentation::FixedSize(out.len() as u64))?;
    let decoded = lz4_flex::block::decompress_into(&encoded[HEADER..], out)
        .map_err(|err| error(format_args!("decompressing the chunk failed: {err}")))?;
    if decoded != length {
        return Err(error(format_args!(
            "the chunk holds {decoded} bytes but states {length}; it is corrupt"
        )));
    }
    Ok(decoded)
}

/// Append `plain`, compressed, to `out`; with high compression, if there is a `level`.
///
/// # Errors
/// Returns a message if it is too long for the format.
pub(crate) fn compress_onto(
    plain: &[u8],
    level: Option<i32>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let length = u32::try_from(plain.len()).ok();
    let length = length.filter(|_| plain.len() <= MAX_INPUT).ok_or_else(|| {
        error(format_args!(
            "a chunk of {} bytes is too large, expected at most {MAX_INPUT}; use smaller chunks",
            plain.len(),
        ))
    })?;
    out.extend(length.to_le_bytes());
    let start = out.len();
    out.resize(start + get_maximum_output_size(plain.len()), 0);
    let failed =
        |err: &dyn std::fmt::Display| error(format_args!("compressing the chunk failed: {err}"));
    let block = match level {
        None => compress_into(plain, &mut out[start..]).map_err(|err| failed(&err)),
        Some(level) => {
            let mode = Some(CompressionMode::HIGHCOMPRESSION(level));
            compress_to_buffer(plain, mode, false, &mut out[start..]).map_err(|err| failed(&err))
        }
    }?;
    out.truncate(start + block);
    Ok(())
}

impl CodecTraits for Lz4Codec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(configuration(&self.configuration))
    }

    codec_traits!(whole);
}

impl BytesToBytesCodecTraits for Lz4Codec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn BytesToBytesCodecTraits> {
        self
    }

    bytes_on_one_thread!();

    fn encoded_representation(
        &self,
        decoded_representation: &BytesRepresentation,
    ) -> BytesRepresentation {
        match decoded_representation.size().map(usize::try_from) {
            Some(Ok(size)) => {
                BytesRepresentation::BoundedSize((HEADER + get_maximum_output_size(size)) as u64)
            }
            _ => BytesRepresentation::UnboundedSize,
        }
    }

    fn encode<'a>(
        &self,
        decoded_value: ArrayBytesRaw<'a>,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let mut out = Vec::new();
        compress_onto(&decoded_value, self.level, &mut out)?;
        Ok(out.into())
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        decoded_representation: &BytesRepresentation,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let mut out = vec![0; stated_length(&encoded_value, decoded_representation)?];
        decompress_into(&encoded_value, &mut out)?;
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: fn() -> CodecOptions = CodecOptions::default;

    #[test]
    fn round_trips() {
        for size in [1_usize, 4, 13, 1000, 300_000] {
            let plain: Vec<u8> = (0..size).map(|i| (i / 3 % 251) as u8).collect();
            let codec = Lz4Codec::default();
            let encoded = codec.encode((&plain).into(), &OPTIONS()).unwrap();
            for representation in [
                BytesRepresentation::FixedSize(size as u64),
                BytesRepresentation::BoundedSize(size as u64 + 1),
                BytesRepresentation::UnboundedSize,
            ] {
                let back = codec
                    .decode(encoded.clone(), &representation, &OPTIONS())
                    .unwrap();
                assert_eq!(*back, *plain);
            }
        }
    }

    #[test]
    fn empty_input_is_a_zero_length_and_an_empty_token() {
        let codec = Lz4Codec::default();
        let encoded = codec.encode((&[]).into(), &OPTIONS()).unwrap();
        assert_eq!(*encoded, [0, 0, 0, 0, 0]);
        let back = codec
            .decode(encoded, &BytesRepresentation::FixedSize(0), &OPTIONS())
            .unwrap();
        assert!(back.is_empty());
    }

    #[test]
    fn bounds_the_stated_length() {
        let codec = Lz4Codec::default();
        let decode = |bytes: &[u8], representation| {
            codec
                .decode(bytes.into(), &representation, &OPTIONS())
                .unwrap_err()
                .to_string()
        };
        let huge = [0xff, 0xff, 0xff, 0xff, 0x10, 0x41];
        for (bytes, representation, message) in [
            (
                &huge[..3],
                BytesRepresentation::UnboundedSize,
                "do not hold a length",
            ),
            (
                &huge,
                BytesRepresentation::FixedSize(1),
                "expected fixed size: 1",
            ),
            (
                &huge,
                BytesRepresentation::BoundedSize(9),
                "expected bounded size: 9",
            ),
            (
                &huge,
                BytesRepresentation::UnboundedSize,
                "more than its 6 bytes can hold",
            ),
        ] {
            let error = decode(bytes, representation);
            assert!(error.contains(message), "{error}");
        }
    }
}
