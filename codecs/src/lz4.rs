//! The `lz4` bytes->bytes codec: a 4-byte little-endian length, then one raw
//! [LZ4 block](https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).
//!
//! ### Compatible implementations
//! `numcodecs.lz4` of zarr-python: either reads what the other writes. `acceleration` tells
//! both encoders how little to try. A [level](crate::Encoding) of high compression is for this encoder, and in
//! no metadata.
//!
//! Both are liblz4, through the crate `lz4`: on order books it decodes 1.3 to 2.8 times as fast as
//! `lz4_flex`, which tests compare it with.
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

use lz4::block::{CompressionMode, compress_bound, compress_to_buffer, decompress_to_buffer};
use serde::{Deserialize, Serialize};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError,
    CodecMetadataOptions, CodecOptions, CodecPluginV2, CodecTraits, CodecTraitsV2, CodecTraitsV3,
};
use zarrs_metadata::Configuration;
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::memory;
use crate::util::{bytes_on_one_thread, codec_traits, configuration};

/// The configuration of [`Lz4Codec`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lz4Configuration {
    /// How much faster and worse to encode, from 1 on. Written back as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceleration: Option<i32>,
}

/// The levels of LZ4's high compression.
pub(crate) const LEVELS: std::ops::RangeInclusive<i32> = 2..=12;

/// The `lz4` codec.
#[derive(Clone, Debug, Default)]
pub struct Lz4Codec {
    configuration: Lz4Configuration,
    level: Option<i32>,
}

zarrs_plugin::impl_extension_aliases!(Lz4Codec, v3: "numcodecs.lz4", v2: "lz4");

inventory::submit! {
    CodecPluginV2::new::<Lz4Codec>()
}

impl CodecTraitsV3 for Lz4Codec {
    fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
        Ok(Codec::BytesToBytes(Arc::new(Self::of(metadata)?)))
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
    pub(crate) fn of(metadata: &MetadataV3) -> Result<Self, PluginCreateError> {
        Ok(Self {
            configuration: metadata.to_typed_configuration()?,
            level: None,
        })
    }

    /// Encode with high compression of `level` (2 to 12; others are clamped): slowly, to fewer bytes
    /// that every LZ4 decoder reads.
    #[must_use]
    pub fn with_level(self, level: i32) -> Self {
        Self {
            level: Some(level.clamp(*LEVELS.start(), *LEVELS.end())),
            ..self
        }
    }

    /// How it encodes.
    pub(crate) fn mode(&self) -> CompressionMode {
        match self.level {
            Some(level) => CompressionMode::HIGHCOMPRESSION(level),
            None => CompressionMode::FAST(self.configuration.acceleration.unwrap_or(1)),
        }
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
    let size = i32::try_from(length).map_err(|_| {
        error(format_args!(
            "the chunk states a length of {length} bytes, and LZ4 has at most 2113929216"
        ))
    })?;
    let decoded = decompress_to_buffer(&encoded[HEADER..], Some(size), out)
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
pub(crate) fn compress_onto(
    plain: &[u8],
    mode: CompressionMode,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let bound = compress_bound(plain.len()).ok();
    let (Ok(length), Some(bound)) = (u32::try_from(plain.len()), bound) else {
        return Err(error(format_args!(
            "a chunk of {} bytes is too large, expected at most 2113929216; use smaller chunks",
            plain.len(),
        )));
    };
    out.extend(length.to_le_bytes());
    if plain.is_empty() {
        // Levels from 10 on look before the end of their input, and an empty slice may be nowhere.
        out.push(0);
        return Ok(());
    }
    let start = out.len();
    memory::reserve(out, bound)?;
    out.resize(start + bound, 0);
    let block = compress_to_buffer(plain, Some(mode), false, &mut out[start..])
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
        let size = decoded_representation.size();
        let size = size.and_then(|size| usize::try_from(size).ok());
        match size.map(compress_bound) {
            Some(Ok(bound)) => BytesRepresentation::BoundedSize((HEADER + bound) as u64),
            _ => BytesRepresentation::UnboundedSize,
        }
    }

    fn encode<'a>(
        &self,
        decoded_value: ArrayBytesRaw<'a>,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let mut out = Vec::new();
        compress_onto(&decoded_value, self.mode(), &mut out)?;
        Ok(out.into())
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        decoded_representation: &BytesRepresentation,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let mut out = memory::zeros(stated_length(&encoded_value, decoded_representation)?)?;
        decompress_into(&encoded_value, &mut out)?;
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: fn() -> CodecOptions = CodecOptions::default;

    /// The fast encoder, and all levels.
    fn encoders() -> impl Iterator<Item = Lz4Codec> {
        std::iter::once(Lz4Codec::default())
            .chain(LEVELS.map(|l| Lz4Codec::default().with_level(l)))
    }

    /// Bytes that repeat.
    fn steps(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i / 3 % 251) as u8).collect()
    }

    /// Bytes that do not.
    fn noise(size: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(&mut next).take(size).collect()
    }

    #[test]
    fn round_trips() {
        for size in [1_usize, 4, 13, 1000, 300_000] {
            for (plain, codec) in
                encoders().flat_map(|codec| [(steps(size), codec.clone()), (noise(size), codec)])
            {
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
                let other = lz4_flex::block::decompress_size_prepended(&encoded).unwrap();
                assert_eq!(other, plain, "{codec:?}");
            }
        }
    }

    #[test]
    fn levels_store_less() {
        let plain: Vec<u8> = (0..60_000_u32)
            .flat_map(|i| (i % 977 + i / 1000).to_le_bytes())
            .collect();
        let size = |codec: &Lz4Codec| codec.encode((&plain).into(), &OPTIONS()).unwrap().len();
        let sizes: Vec<_> = encoders().map(|codec| size(&codec)).collect();
        assert!(sizes[8] < sizes[0] && sizes[11] <= sizes[2], "{sizes:?}");
        let configuration = Lz4Configuration {
            acceleration: Some(1000),
        };
        let hasty = Lz4Codec {
            configuration,
            level: None,
        };
        assert!(size(&hasty) > sizes[0]);
        for (given, used) in [(i32::MIN, 2), (1, 2), (13, 12), (i32::MAX, 12)] {
            let codec = Lz4Codec::default().with_level(given);
            assert_eq!(codec.level, Some(used));
        }
    }

    /// What the decoder accepts is what another decoder makes of it, whatever was there before, and
    /// nothing is written around it.
    #[test]
    fn agrees_with_another_decoder_on_damaged_blocks() {
        const SIZE: usize = 150;
        const GUARD: usize = 64;
        let decode = |encoded: &[u8], before: u8| {
            let mut out = [before; SIZE + 2 * GUARD];
            let result = decompress_into(encoded, &mut out[GUARD..GUARD + SIZE]);
            for guard in [&out[..GUARD], &out[GUARD + SIZE..]] {
                assert_eq!(guard, [before; GUARD]);
            }
            result.map(|_| out[GUARD..GUARD + SIZE].to_vec())
        };
        let check = |encoded: &[u8]| {
            let decoded = decode(encoded, 0xa5);
            assert_eq!(decoded, decode(encoded, 0x5a));
            let Ok(decoded) = decoded else { return false };
            let mut other = [0; SIZE];
            match lz4_flex::block::decompress_into(&encoded[HEADER..], &mut other) {
                Ok(size) => assert_eq!((size, &*decoded), (SIZE, &other[..])),
                // liblz4 takes what it refers to for zeros.
                Err(lz4_flex::block::DecompressError::OffsetZero) => {}
                Err(error) => panic!("{error}: {encoded:?}"),
            }
            true
        };
        let (mut accepted, mut refused) = (0, 0);
        for plain in [
            steps(SIZE),
            noise(SIZE),
            vec![7; SIZE],
            (0..SIZE).map(|i| (i % 9 * (i / 40 + 1)) as u8).collect(),
        ] {
            for codec in encoders() {
                let encoded = codec.encode((&plain).into(), &OPTIONS()).unwrap();
                assert!(check(&encoded));
                for length in 0..encoded.len() {
                    assert!(!check(&encoded[..length]));
                }
                for bit in 0..encoded.len() * 8 {
                    let mut damaged = encoded.to_vec();
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    let count = if check(&damaged) {
                        &mut accepted
                    } else {
                        &mut refused
                    };
                    *count += 1;
                }
            }
        }
        assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn refuses_what_is_too_long_before_it_allocates() {
        for size in [0x7e00_0001, (1 << 32) + 1] {
            let plain = vec![0; size]; // pages that nobody touches
            for codec in encoders() {
                let mut out = Vec::new();
                let error = compress_onto(&plain, codec.mode(), &mut out).unwrap_err();
                assert!(error.contains("expected at most 2113929216"), "{error}");
                assert_eq!(out.capacity(), 0);
            }
        }
    }

    #[test]
    fn empty_input_is_a_zero_length_and_an_empty_token() {
        for codec in encoders() {
            let encoded = codec.encode((&[]).into(), &OPTIONS()).unwrap();
            assert_eq!(*encoded, [0, 0, 0, 0, 0]);
            let back = codec
                .decode(encoded, &BytesRepresentation::FixedSize(0), &OPTIONS())
                .unwrap();
            assert!(back.is_empty());
        }
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
