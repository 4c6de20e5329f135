//! The `numcodecs.blosc` bytes->bytes codec: a
//! [Blosc chunk](https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst), with the
//! parameters as numcodecs has them.
//!
//! ### Compatible implementations
//! `numcodecs.Blosc`, also by way of `zarr.codecs.numcodecs.Blosc`: either reads what the other
//! writes. All parameters have numcodecs' defaults. `shuffle` is 0 (none), 1 (bytes), 2 (bits) or -1
//! (bits of single bytes, else bytes); a missing `typesize` is 1, as Zarr V3 hands on bytes.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.blosc`
//! - Zarr V2 `id`: `blosc` (as a filter; of a compressor zarrs makes its own codec, unless the metadata are
//!   [`guarded`](crate::guarded))
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "cname": "zstd", "clevel": 5, "shuffle": 1, "blocksize": 0, "typesize": 4 }
//! # "#;
//! # serde_json::from_str::<tempozarr::BloscConfiguration>(configuration).unwrap();
//! ```

use std::ffi::{CString, c_int};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, CodecError, CodecMetadataOptions,
    CodecOptions, CodecTraits,
};
use zarrs_metadata::Configuration;
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::bounded;
use crate::dtype::typed;
use crate::memory;
use crate::util::{bytes_on_one_thread, codec_traits, named};

const NAME: &str = "numcodecs.blosc";

/// The configuration of [`BloscCodec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BloscConfiguration {
    /// The compressor within Blosc.
    pub cname: Compressor,
    /// How hard it tries, 0 to 9.
    pub clevel: u8,
    /// -1 to 2.
    pub shuffle: i8,
    /// Bytes that are compressed at a time; 0 leaves that to Blosc.
    pub blocksize: u32,
    /// Bytes of an element: 1 to 2^31 - 1. More than 255 count as 1, as the format has one byte for it.
    pub typesize: Option<u32>,
}

impl Default for BloscConfiguration {
    fn default() -> Self {
        Self {
            cname: Compressor::Lz4,
            clevel: 5,
            shuffle: 1,
            blocksize: 0,
            typesize: None,
        }
    }
}

/// A compressor within Blosc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "they are names of compressors")]
pub enum Compressor {
    BloscLz,
    Lz4,
    Lz4hc,
    Snappy,
    Zlib,
    Zstd,
}

impl Compressor {
    const fn name(self) -> &'static str {
        match self {
            Self::BloscLz => "blosclz",
            Self::Lz4 => "lz4",
            Self::Lz4hc => "lz4hc",
            Self::Snappy => "snappy",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

/// The `numcodecs.blosc` codec.
#[derive(Clone, Debug)]
pub struct BloscCodec {
    configuration: Configuration,
    parsed: BloscConfiguration,
}

named!(BloscCodec: BytesToBytes, v3: "numcodecs.blosc", v2: "blosc");

impl BloscCodec {
    fn from_metadata(
        _version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        let parsed: BloscConfiguration = typed(NAME, &configuration)?;
        let refuse = |field, value: i64, expected| {
            Err(PluginCreateError::Other(format!(
                "{NAME}: {field} {value} is out of range, expected {expected}"
            )))
        };
        if parsed.clevel > 9 {
            return refuse("clevel", parsed.clevel.into(), "0 <= clevel <= 9");
        }
        if !(-1..=2).contains(&parsed.shuffle) {
            return refuse("shuffle", parsed.shuffle.into(), "-1 <= shuffle <= 2");
        }
        // A C int, as numcodecs has it. From 2^31 on it is negative there.
        if let Some(typesize) = parsed.typesize
            && !(1..1 << 31).contains(&typesize)
        {
            return refuse("typesize", typesize.into(), "1 <= typesize < 2^31");
        }
        if parsed.blocksize >= 1 << 31 {
            return refuse(
                "blocksize",
                parsed.blocksize.into(),
                "0 <= blocksize < 2^31",
            );
        }
        Ok(Self {
            configuration,
            parsed,
        })
    }
}

/// Decompress a chunk whose header states as many bytes as `out` has; returns how many there were.
///
/// # Errors
/// Returns a message if it is corrupt or states another length.
pub(crate) fn decompress_into(encoded: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let stated = stated_length(encoded)?;
    if stated != out.len() {
        return Err(format!(
            "blosc: expected a chunk of {} bytes, got one that states {stated}",
            out.len()
        ));
    }
    // SAFETY: the header of `encoded` was found to agree with its length, and blosc writes no more
    // than the length of `out` that it is given.
    let length = unsafe {
        blosc_src::blosc_decompress_ctx(
            encoded.as_ptr().cast(),
            out.as_mut_ptr().cast(),
            out.len(),
            1,
        )
    };
    usize::try_from(length).map_err(|_| format!("blosc: decompressing failed with {length}"))
}

/// The decoded length that the header of a chunk states, if it agrees with the chunk's own.
fn stated_length(encoded: &[u8]) -> Result<usize, String> {
    let mut stated = 0;
    // SAFETY: both pointers are valid, the first for that many bytes.
    let valid = unsafe {
        blosc_src::blosc_cbuffer_validate(encoded.as_ptr().cast(), encoded.len(), &raw mut stated)
    };
    if valid < 0 {
        return Err(format!(
            "blosc: the header of a chunk of {} bytes is not valid; it is corrupt",
            encoded.len()
        ));
    }
    Ok(stated)
}

/// Compress `plain`.
///
/// # Errors
/// Returns a message if it is too long for the format.
fn compress(plain: &[u8], parsed: &BloscConfiguration) -> Result<Vec<u8>, String> {
    let typesize = parsed.typesize.unwrap_or(1);
    let shuffle = match (parsed.shuffle, typesize) {
        (-1, 1) => 2,
        (-1, _) => 1,
        (stated, _) => stated,
    };
    let name = CString::new(parsed.cname.name()).map_err(|error| error.to_string())?;
    let mut out = memory::zeros::<u8>(plain.len() + blosc_src::BLOSC_MAX_OVERHEAD as usize)?;
    // SAFETY: the pointers are valid for the lengths that go with them, `name` ends in a zero.
    let length = unsafe {
        blosc_src::blosc_compress_ctx(
            c_int::from(parsed.clevel),
            c_int::from(shuffle),
            typesize as usize,
            plain.len(),
            plain.as_ptr().cast(),
            out.as_mut_ptr().cast(),
            out.len(),
            name.as_ptr(),
            parsed.blocksize as usize,
            1,
        )
    };
    match usize::try_from(length) {
        Ok(length) if length > 0 => {
            out.truncate(length);
            Ok(out)
        }
        _ => Err(format!(
            "blosc: compressing a chunk of {} bytes failed with {length}; 2 GiB is the most that \
             the format takes",
            plain.len()
        )),
    }
}

impl CodecTraits for BloscCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(self.configuration.clone())
    }

    codec_traits!(whole);
}

impl BytesToBytesCodecTraits for BloscCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn BytesToBytesCodecTraits> {
        self
    }

    bytes_on_one_thread!();

    fn encoded_representation(
        &self,
        decoded_representation: &BytesRepresentation,
    ) -> BytesRepresentation {
        bounded::compressed(decoded_representation)
    }

    fn encode<'a>(
        &self,
        decoded_value: ArrayBytesRaw<'a>,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        Ok(compress(&decoded_value, &self.parsed)?.into())
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        decoded_representation: &BytesRepresentation,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let stated = stated_length(&encoded_value)?;
        bounded::check(NAME, stated as u64, decoded_representation)?;
        let mut out = memory::zeros(stated)?;
        let length = decompress_into(&encoded_value, &mut out)?;
        out.truncate(length);
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::bytes_codec;

    #[test]
    fn every_compressor_and_shuffle_round_trips() {
        let plain: Vec<u8> = (0..5000).map(|i| (i / 3 % 251) as u8).collect();
        let options = CodecOptions::default();
        for cname in ["blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd"] {
            for shuffle in -1..=2 {
                for typesize in [1, 8, 255, 256, 300, (1_u32 << 31) - 1] {
                    let codec = bytes_codec(&json!({"name": NAME, "configuration": {
                        "cname": cname, "shuffle": shuffle, "typesize": typesize,
                    }}));
                    let encoded = codec.encode((&plain).into(), &options).unwrap();
                    for size in [
                        BytesRepresentation::FixedSize(5000),
                        BytesRepresentation::UnboundedSize,
                    ] {
                        let decoded = codec.decode(encoded.clone(), &size, &options).unwrap();
                        assert_eq!(*decoded, plain, "{cname} {shuffle} {typesize}");
                    }
                }
            }
        }
    }

    /// The flags in the header that numcodecs 0.16.6 writes for the same parameters.
    #[test]
    fn parameters_mean_what_they_mean_to_numcodecs() {
        let doubles: Vec<u8> = (0..100).flat_map(|i| f64::from(i).to_le_bytes()).collect();
        for (configuration, header) in [
            (json!({}), [2, 1, 0x21, 1]),
            (json!({"typesize": 8}), [2, 1, 0x31, 8]),
            (json!({"typesize": null, "shuffle": -1}), [2, 1, 0x24, 1]),
            (json!({"typesize": 4, "shuffle": -1}), [2, 1, 0x21, 4]),
            (json!({"clevel": 0, "typesize": 8}), [2, 1, 0x33, 8]),
            (json!({"typesize": 300}), [2, 1, 0x21, 1]),
            (json!({"shuffle": 0, "typesize": 8}), [2, 1, 0x30, 8]),
        ] {
            let codec = bytes_codec(&json!({"name": NAME, "configuration": configuration}));
            let encoded = codec.encode((&doubles).into(), &CodecOptions::default());
            assert_eq!(encoded.unwrap()[..4], header, "{configuration}");
        }
    }

    #[test]
    fn configurations_that_cannot_be_used_say_why() {
        for (configuration, message) in [
            (
                json!({"clevel": 10}),
                "clevel 10 is out of range, expected 0 <= clevel <= 9",
            ),
            (
                json!({"shuffle": 3}),
                "shuffle 3 is out of range, expected -1 <= shuffle <= 2",
            ),
            (
                json!({"typesize": 0}),
                "typesize 0 is out of range, expected 1 <= typesize < 2^31",
            ),
            (
                json!({"typesize": 1_u64 << 31}),
                "typesize 2147483648 is out of range, expected 1 <= typesize < 2^31",
            ),
            (
                json!({"typesize": u32::MAX}),
                "typesize 4294967295 is out of range",
            ),
            (json!({"typesize": -1}), "invalid value: integer `-1`"),
            (
                json!({"blocksize": 1_u64 << 31}),
                "blocksize 2147483648 is out of range, expected 0 <= blocksize < 2^31",
            ),
            (json!({"cname": "snap"}), "unknown variant `snap`"),
        ] {
            let metadata = json!({"name": NAME, "configuration": configuration});
            let error = crate::testing::codec(&metadata).unwrap_err();
            assert!(
                error.starts_with("numcodecs.blosc: ") && error.contains(message),
                "{error}"
            );
        }
    }
}
