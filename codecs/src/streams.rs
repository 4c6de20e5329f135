//! The `numcodecs.gzip`, `numcodecs.zlib` and `numcodecs.bz2` bytes->bytes codecs: streams of the
//! formats that Python's standard library calls by these names.
//!
//! ### Compatible implementations
//! `numcodecs.GZip`, `numcodecs.Zlib` and `numcodecs.BZ2`, also by way of `zarr.codecs.numcodecs`:
//! either reads what the other writes. `level` is 1 if missing; -1 leaves it to zlib.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.gzip`, `numcodecs.zlib`, `numcodecs.bz2`
//! - Zarr V2 `id`: `gzip`, `zlib`, `bz2`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "level": 5 }
//! # "#;
//! # serde_json::from_str::<tempozarr::StreamConfiguration>(configuration).unwrap();
//! ```

use std::borrow::Cow;
use std::io::Read;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError,
    CodecMetadataOptions, CodecOptions, CodecTraits,
};
use zarrs_metadata::Configuration;
use zarrs_plugin::{ExtensionName, PluginCreateError, ZarrVersion};

use crate::bounded;
use crate::dtype::typed;
use crate::util::{CodecMetadata, bytes_on_one_thread, codec_traits};

/// The configuration of a [`StreamCodec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfiguration {
    /// How hard to compress.
    #[serde(default = "default_level")]
    pub level: i32,
}

const fn default_level() -> i32 {
    1
}

/// What tells one format from another.
#[derive(Debug)]
struct Format {
    name: &'static str,
    id: &'static str,
    levels: RangeInclusive<i32>,
    encode: for<'a> fn(&'a [u8], i32) -> Box<dyn Read + 'a>,
    decode: for<'a> fn(&'a [u8]) -> Box<dyn Read + 'a>,
}

static GZIP: Format = Format {
    name: "numcodecs.gzip",
    id: "gzip",
    levels: -1..=9,
    encode: |plain, level| Box::new(flate2::read::GzEncoder::new(plain, deflate(level))),
    decode: |encoded| Box::new(flate2::read::MultiGzDecoder::new(encoded)),
};

static ZLIB: Format = Format {
    name: "numcodecs.zlib",
    id: "zlib",
    levels: -1..=9,
    encode: |plain, level| Box::new(flate2::read::ZlibEncoder::new(plain, deflate(level))),
    decode: |encoded| Box::new(flate2::read::ZlibDecoder::new(encoded)),
};

static BZ2: Format = Format {
    name: "numcodecs.bz2",
    id: "bz2",
    levels: 1..=9,
    encode: |plain, level| {
        let level = bzip2::Compression::new(level.unsigned_abs());
        Box::new(bzip2::read::BzEncoder::new(plain, level))
    },
    decode: |encoded| Box::new(bzip2::read::MultiBzDecoder::new(encoded)),
};

fn deflate(level: i32) -> flate2::Compression {
    u32::try_from(level).map_or_else(|_| flate2::Compression::default(), flate2::Compression::new)
}

/// The `numcodecs.gzip`, `numcodecs.zlib` or `numcodecs.bz2` codec.
#[derive(Clone, Debug)]
pub struct StreamCodec {
    format: &'static Format,
    configuration: Configuration,
    level: i32,
}

pub(crate) fn gzip<M: CodecMetadata>(metadata: &M) -> Result<Codec, PluginCreateError> {
    create(&GZIP, metadata)
}

pub(crate) fn zlib<M: CodecMetadata>(metadata: &M) -> Result<Codec, PluginCreateError> {
    create(&ZLIB, metadata)
}

pub(crate) fn bz2<M: CodecMetadata>(metadata: &M) -> Result<Codec, PluginCreateError> {
    create(&BZ2, metadata)
}

fn create(
    format: &'static Format,
    metadata: &impl CodecMetadata,
) -> Result<Codec, PluginCreateError> {
    let configuration = metadata.fields();
    let StreamConfiguration { level } = typed(format.name, &configuration)?;
    if !format.levels.contains(&level) {
        let (name, levels) = (format.name, &format.levels);
        return Err(PluginCreateError::Other(format!(
            "{name}: level {level} is out of range, expected {} <= level <= {}",
            levels.start(),
            levels.end(),
        )));
    }
    Ok(Codec::BytesToBytes(Arc::new(StreamCodec {
        format,
        configuration,
        level,
    })))
}

impl StreamCodec {
    pub(crate) fn is_gzip(&self) -> bool {
        std::ptr::eq(self.format, &raw const GZIP)
    }
}

impl ExtensionName for StreamCodec {
    fn name(&self, version: ZarrVersion) -> Option<Cow<'static, str>> {
        Some(match version {
            ZarrVersion::V2 => self.format.id.into(),
            ZarrVersion::V3 => self.format.name.into(),
        })
    }
}

impl CodecTraits for StreamCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(self.configuration.clone())
    }

    codec_traits!(whole);
}

impl BytesToBytesCodecTraits for StreamCodec {
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
        let mut encoded = Vec::new();
        (self.format.encode)(&decoded_value, self.level).read_to_end(&mut encoded)?;
        Ok(encoded.into())
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        decoded_representation: &BytesRepresentation,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let reader = (self.format.decode)(&encoded_value);
        Ok(bounded::read(self.format.name, reader, decoded_representation)?.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::bytes_codec;

    #[test]
    fn every_level_round_trips() {
        let plain: Vec<u8> = (0..5000).map(|i| (i / 3 % 251) as u8).collect();
        let options = CodecOptions::default();
        for format in [&GZIP, &ZLIB, &BZ2] {
            for level in format.levels.clone() {
                let codec =
                    bytes_codec(&json!({"name": format.name, "configuration": {"level": level}}));
                let encoded = codec.encode((&plain).into(), &options).unwrap();
                let size = BytesRepresentation::FixedSize(5000);
                assert_eq!(*codec.decode(encoded, &size, &options).unwrap(), plain);
            }
        }
    }

    #[test]
    fn a_level_out_of_range_is_named() {
        for (name, level, expected) in [
            ("numcodecs.gzip", 10, "-1 <= level <= 9"),
            ("numcodecs.zlib", -2, "-1 <= level <= 9"),
            ("numcodecs.bz2", 0, "1 <= level <= 9"),
        ] {
            let metadata = json!({"name": name, "configuration": {"level": level}});
            assert_eq!(
                crate::testing::codec(&metadata).unwrap_err(),
                format!("{name}: level {level} is out of range, expected {expected}")
            );
        }
    }
}
