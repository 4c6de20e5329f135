//! The `lz4` bytes->bytes codec: a 4-byte little-endian length, then one raw
//! [LZ4 block](https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).
//!
//! ### Compatible implementations
//! `numcodecs.lz4` of zarr-python: either reads what the other writes. `acceleration` is kept in
//! the metadata; it tells only numcodecs' encoder how hard to try.
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

use lz4_flex::block::{compress_into, get_maximum_output_size};
use serde::{Deserialize, Serialize};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError,
    CodecMetadataOptions, CodecOptions, CodecPluginV2, CodecTraits, CodecTraitsV2, CodecTraitsV3,
};
use zarrs_metadata::Configuration;
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::util::{bytes_on_one_thread, codec_traits, configuration};

/// The configuration of [`Lz4Codec`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lz4Configuration {
    /// Written back as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceleration: Option<i32>,
}

/// The `lz4` codec.
#[derive(Clone, Debug, Default)]
pub struct Lz4Codec {
    configuration: Lz4Configuration,
}

zarrs_plugin::impl_extension_aliases!(Lz4Codec, v3: "numcodecs.lz4", v2: "lz4");

inventory::submit! {
    CodecPluginV2::new::<Lz4Codec>()
}

impl CodecTraitsV3 for Lz4Codec {
    fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
        let configuration = metadata.to_typed_configuration()?;
        Ok(Codec::BytesToBytes(Arc::new(Self { configuration })))
    }
}

impl CodecTraitsV2 for Lz4Codec {
    fn create(metadata: &MetadataV2) -> Result<Codec, PluginCreateError> {
        let configuration = metadata.to_typed_configuration()?;
        Ok(Codec::BytesToBytes(Arc::new(Self { configuration })))
    }
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

/// Append `plain`, compressed, to `out`.
///
/// # Errors
/// Returns a message if it is too long for the format.
pub(crate) fn compress_onto(plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let length = u32::try_from(plain.len()).map_err(|_| {
        error(format_args!(
            "a chunk of {} bytes is too large, expected less than 4 GiB; use smaller chunks",
            plain.len(),
        ))
    })?;
    out.extend(length.to_le_bytes());
    let start = out.len();
    out.resize(start + get_maximum_output_size(plain.len()), 0);
    let block = compress_into(plain, &mut out[start..])
        .map_err(|err| error(format_args!("compressing the chunk failed: {err}")))?;
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
        compress_onto(&decoded_value, &mut out)?;
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
