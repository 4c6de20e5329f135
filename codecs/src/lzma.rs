//! The `numcodecs.lzma` bytes->bytes codec: an XZ file, an LZMA file or a raw LZMA stream.
//!
//! ### Compatible implementations
//! `numcodecs.LZMA`, also by way of `zarr.codecs.numcodecs.LZMA`: either reads what the other
//! writes. The numbers are those of Python's module `lzma`; what is missing or null has its
//! defaults.
//! - `format` 1 is XZ, 2 is LZMA ("alone"), 3 is raw; a raw stream needs `filters`, and the others
//!   take none: numcodecs does not read what it writes with them.
//! - `check` is the checksum in an XZ file: -1 (a CRC-64), 0 (none), 1 (a CRC-32), 4 (a CRC-64)
//!   or 10 (a SHA-256).
//! - A file whose dictionary is larger than that of preset 9 is not read, however small it is.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.lzma`
//! - Zarr V2 `id`: `lzma`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "format": 3, "filters": [{ "id": 3, "dist": 4 }, { "id": 33, "preset": 6 }] }
//! # "#;
//! # serde_json::from_str::<tempozarr::LzmaConfiguration>(configuration).unwrap();
//! ```

use std::io::Read;
use std::sync::Arc;

use liblzma::bufread::{XzDecoder, XzEncoder};
use liblzma::stream::{
    CONCATENATED, Check, Filters, LzmaOptions, MatchFinder, Mode, PRESET_DEFAULT, Stream,
};
use serde::{Deserialize, Serialize};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, CodecError, CodecMetadataOptions,
    CodecOptions, CodecTraits,
};
use zarrs_metadata::Configuration;
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::bounded;
use crate::dtype::typed;
use crate::util::{bytes_on_one_thread, codec_traits, named};

const NAME: &str = "numcodecs.lzma";

/// What the decoder of the largest preset needs, and something more.
const MEMORY: u64 = 80 << 20;

/// The smallest dictionary that there is.
const SMALLEST_DICTIONARY: u32 = 4096;

/// The configuration of [`LzmaCodec`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LzmaConfiguration {
    /// 1 to 3; 1 if missing.
    pub format: Option<u32>,
    /// The checksum in an XZ file; -1 if missing.
    pub check: Option<i32>,
    /// How hard to compress: 0 to 9, or 2^31 more for trying harder.
    pub preset: Option<u32>,
    /// The filters of a raw stream, first the one that sees the chunk.
    pub filters: Option<Vec<LzmaFilter>>,
}

/// A filter of a raw stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "they are the keys of Python's module lzma")]
pub struct LzmaFilter {
    pub id: u64,
    pub preset: Option<u32>,
    pub dict_size: Option<u32>,
    pub lc: Option<u32>,
    pub lp: Option<u32>,
    pub pb: Option<u32>,
    pub mode: Option<u32>,
    pub nice_len: Option<u32>,
    pub mf: Option<u32>,
    pub depth: Option<u32>,
    pub dist: Option<u8>,
    pub start_offset: Option<u32>,
}

/// What is written and read.
#[derive(Clone, Debug)]
enum Format {
    Xz(u32, Check),
    Alone(u32),
    Raw(Vec<LzmaFilter>),
}

/// The `numcodecs.lzma` codec.
#[derive(Clone, Debug)]
pub struct LzmaCodec {
    configuration: Configuration,
    format: Format,
}

named!(LzmaCodec: BytesToBytes, v3: "numcodecs.lzma", v2: "lzma");

impl LzmaCodec {
    fn from_metadata(
        _version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        let parsed: LzmaConfiguration = typed(NAME, &configuration)?;
        let format = Format::new(parsed)
            .and_then(|format| {
                format.decoder(0)?;
                Ok(format)
            })
            .map_err(|error| PluginCreateError::Other(format!("{NAME}: {error}")))?;
        Ok(Self {
            configuration,
            format,
        })
    }
}

impl Format {
    fn new(parsed: LzmaConfiguration) -> Result<Self, String> {
        let preset = parsed.preset.unwrap_or(PRESET_DEFAULT);
        if LzmaOptions::new_preset(preset).is_err() {
            return Err(format!("preset {preset} is unknown, expected 0 to 9"));
        }
        let format = parsed.format.unwrap_or(1);
        let check = match (format, parsed.check.unwrap_or(-1)) {
            (1, -1 | 4) => Check::Crc64,
            (_, -1 | 0) => Check::None,
            (1, 1) => Check::Crc32,
            (1, 10) => Check::Sha256,
            (_, check) => {
                return Err(format!(
                    "check {check} of format {format} is unknown, expected -1, 0, 1, 4 or 10 of \
                     format 1, and -1 or 0 of the others"
                ));
            }
        };
        match (format, parsed.filters) {
            (1, None) => Ok(Self::Xz(preset, check)),
            (2, None) => Ok(Self::Alone(preset)),
            (3, Some(filters)) if parsed.preset.is_none() => Ok(Self::Raw(filters)),
            (3, Some(_)) => Err("both preset and filters, expected one of them".into()),
            (3, None) => Err("format 3 without filters, expected at least one".into()),
            (1 | 2, Some(_)) => Err(format!(
                "filters of format {format}, expected none: numcodecs does not read what it writes \
                 with them; format 3 takes filters"
            )),
            (format, _) => Err(format!(
                "format {format} is unknown, expected 1 (XZ), 2 (LZMA) or 3 (raw)"
            )),
        }
    }

    /// An encoder of `length` bytes.
    fn encoder(&self, length: u64) -> Result<Stream, String> {
        match self {
            Self::Xz(preset, check) => Stream::new_easy_encoder(*preset, *check),
            Self::Alone(preset) => LzmaOptions::new_preset(*preset)
                .and_then(|options| Stream::new_lzma_encoder(&options)),
            Self::Raw(filters) => Stream::new_raw_encoder(&chain(filters, length)?),
        }
        .map_err(|error| format!("making an encoder failed: {error}"))
    }

    /// A decoder of what holds at most `bound` bytes.
    fn decoder(&self, bound: u64) -> Result<Stream, String> {
        match self {
            Self::Xz(..) => Stream::new_stream_decoder(MEMORY, CONCATENATED),
            Self::Alone(_) => Stream::new_lzma_decoder(MEMORY),
            Self::Raw(filters) => Stream::new_raw_decoder(&chain(filters, bound)?),
        }
        .map_err(|error| format!("making a decoder failed: {error}"))
    }
}

/// liblzma's chain of `filters` for at most `length` bytes: no match reaches back further than
/// that, so no dictionary need be larger.
fn chain(filters: &[LzmaFilter], length: u64) -> Result<Filters, String> {
    let largest = u32::try_from(length).unwrap_or(u32::MAX);
    let largest = largest.max(SMALLEST_DICTIONARY);
    let mut chain = Filters::new();
    for filter in filters {
        let added = match filter.id {
            0x4000_0000_0000_0001 => Ok(chain.lzma1(&options(filter, largest)?)),
            0x21 => Ok(chain.lzma2(&options(filter, largest)?)),
            0x03 => chain.delta_properties(&[filter.dist.unwrap_or(1).wrapping_sub(1)]),
            0x04 => chain.x86_properties(&start(filter)),
            0x05 => chain.powerpc_properties(&start(filter)),
            0x06 => chain.ia64_properties(&start(filter)),
            0x07 => chain.arm_properties(&start(filter)),
            0x08 => chain.arm_thumb_properties(&start(filter)),
            0x09 => chain.sparc_properties(&start(filter)),
            id => {
                return Err(format!(
                    "filter {id} is unknown, expected 3 to 9, 33 or 2^62 + 1"
                ));
            }
        };
        added.map_err(|error| format!("filter {filter:?}: {error}"))?;
    }
    Ok(chain)
}

fn start(filter: &LzmaFilter) -> [u8; 4] {
    filter.start_offset.unwrap_or(0).to_le_bytes()
}

fn options(filter: &LzmaFilter, largest: u32) -> Result<LzmaOptions, String> {
    let preset = filter.preset.unwrap_or(PRESET_DEFAULT);
    let mut options = LzmaOptions::new_preset(preset)
        .map_err(|_| format!("preset {preset} of a filter is unknown, expected 0 to 9"))?;
    let dictionary = filter.dict_size.unwrap_or_else(|| dictionary(preset));
    options.dict_size(dictionary.min(largest));
    for (value, set) in [
        (
            filter.lc,
            LzmaOptions::literal_context_bits as fn(&mut LzmaOptions, u32) -> &mut LzmaOptions,
        ),
        (filter.lp, LzmaOptions::literal_position_bits),
        (filter.pb, LzmaOptions::position_bits),
        (filter.nice_len, LzmaOptions::nice_len),
        (filter.depth, LzmaOptions::depth),
    ] {
        if let Some(value) = value {
            set(&mut options, value);
        }
    }
    match filter.mode {
        None => {}
        Some(1) => _ = options.mode(Mode::Fast),
        Some(2) => _ = options.mode(Mode::Normal),
        Some(mode) => return Err(format!("mode {mode} is unknown, expected 1 or 2")),
    }
    match filter.mf {
        None => {}
        Some(0x03) => _ = options.match_finder(MatchFinder::HashChain3),
        Some(0x04) => _ = options.match_finder(MatchFinder::HashChain4),
        Some(0x12) => _ = options.match_finder(MatchFinder::BinaryTree2),
        Some(0x13) => _ = options.match_finder(MatchFinder::BinaryTree3),
        Some(0x14) => _ = options.match_finder(MatchFinder::BinaryTree4),
        Some(mf) => return Err(format!("mf {mf} is unknown, expected 3, 4, 18, 19 or 20")),
    }
    Ok(options)
}

/// The size of the dictionary of a preset.
const fn dictionary(preset: u32) -> u32 {
    1 << match preset & 0x1f {
        0 => 18,
        1 => 20,
        2 => 21,
        3 | 4 => 22,
        5 | 6 => 23,
        7 => 24,
        8 => 25,
        _ => 26,
    }
}

impl CodecTraits for LzmaCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(self.configuration.clone())
    }

    codec_traits!(whole);
}

impl BytesToBytesCodecTraits for LzmaCodec {
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
        let stream = self
            .format
            .encoder(decoded_value.len() as u64)
            .map_err(|error| format!("{NAME}: {error}"))?;
        let mut encoded = Vec::new();
        XzEncoder::new_stream(&*decoded_value, stream).read_to_end(&mut encoded)?;
        Ok(encoded.into())
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        decoded_representation: &BytesRepresentation,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let stream = self
            .format
            .decoder(bounded::bound(decoded_representation))
            .map_err(|error| format!("{NAME}: {error}"))?;
        let reader = XzDecoder::new_stream(&*encoded_value, stream);
        Ok(bounded::read(NAME, reader, decoded_representation)?.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{bytes_codec, corrupted, unhex};

    const LZMA1: u64 = 0x4000_0000_0000_0001;

    fn metadata(configuration: &Value) -> Value {
        json!({"name": NAME, "configuration": configuration})
    }

    #[test]
    fn every_format_round_trips_and_survives_corruption() {
        let plain: Vec<u8> = (0..500).map(|i| (i / 3 % 251) as u8).collect();
        let options = CodecOptions::default();
        let size = BytesRepresentation::FixedSize(500);
        for (configuration, is_checked) in [
            (json!({}), true),
            (
                json!({"format": 1, "check": 10, "preset": 9, "filters": null}),
                true,
            ),
            (json!({"check": 0, "preset": 2_147_483_648_u32}), false),
            (json!({"format": 2, "preset": 0}), false),
            (
                json!({"format": 3, "filters": [{"id": LZMA1, "lc": 0, "lp": 2, "pb": 1}]}),
                false,
            ),
            (
                json!({"format": 3, "filters": [
                    {"id": 3, "dist": 4}, {"id": 4},
                    {"id": 33, "preset": 1, "dict_size": 1 << 30, "mode": 1, "nice_len": 64,
                     "mf": 4, "depth": 3},
                ]}),
                false,
            ),
        ] {
            let codec = bytes_codec(&metadata(&configuration));
            let encoded = codec.encode((&plain).into(), &options).unwrap();
            let decoded = codec.decode(encoded.clone(), &size, &options).unwrap();
            assert_eq!(*decoded, plain, "{configuration}");
            for bytes in corrupted(&encoded) {
                match codec.decode(bytes.into(), &size, &options) {
                    Err(error) => assert!(error.to_string().starts_with(NAME), "{error}"),
                    Ok(decoded) => assert!(!is_checked && decoded.len() <= 500),
                }
            }
        }
    }

    /// `bytes(1000)` as Python's module `lzma` compresses it.
    #[test]
    fn what_python_writes_is_read() {
        for (configuration, hex) in [
            (
                json!({}),
                "fd377a585a000004e6d6b4460200210116000000742fe5a3e003e7000b5d00006ffdffffa3b75a0d5e0000004f258aec2be22a37000127e807000000f4558f5cb1c467fb020000000004595a",
            ),
            (
                json!({"format": 2}),
                "5d00008000ffffffffffffffff00006ffdffffa3b75ad3aedbffff9ff00000",
            ),
            (
                json!({"format": 1, "check": 0}),
                "fd377a585a000000ff12d9410200210116000000742fe5a3e003e7000b5d00006ffdffffa3b75a0d5e00000000011fe80700000034d0a6b4a8000afc020000000000595a",
            ),
            (
                json!({"format": 3, "filters": [{"id": 3, "dist": 8}, {"id": 33, "dict_size": 65536}]}),
                "e003e7000b5d00006ffdffffa3b75a0d5e0000",
            ),
            (
                json!({"format": 3, "filters": [{"id": LZMA1, "preset": 9}]}),
                "00006ffdffffa3b75ad3aedbffff9ff00000",
            ),
        ] {
            let codec = bytes_codec(&metadata(&configuration));
            for size in [
                BytesRepresentation::FixedSize(1000),
                BytesRepresentation::UnboundedSize,
            ] {
                let decoded = codec.decode(unhex(hex).into(), &size, &CodecOptions::default());
                assert_eq!(*decoded.unwrap(), [0; 1000], "{configuration}");
            }
            let size = BytesRepresentation::BoundedSize(999);
            let decoded = codec.decode(unhex(hex).into(), &size, &CodecOptions::default());
            let error = decoded.unwrap_err().to_string();
            assert!(error.contains("more than the 999 bytes"), "{error}");
        }
    }

    /// A file that states a dictionary of nearly 4 GiB.
    #[test]
    fn a_huge_dictionary_is_an_error() {
        let codec = bytes_codec(&metadata(&json!({"format": 2})));
        let mut alone = codec
            .encode((&[0; 100]).into(), &CodecOptions::default())
            .unwrap()
            .into_owned();
        alone[1..5].copy_from_slice(&0xc000_0000_u32.to_le_bytes());
        let size = BytesRepresentation::FixedSize(100);
        let decoded = codec.decode(alone.into(), &size, &CodecOptions::default());
        let error = decoded.unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }

    #[test]
    fn configurations_that_cannot_be_used_say_why() {
        for (configuration, message) in [
            (json!({"format": 0}), "format 0 is unknown"),
            (json!({"format": 3}), "format 3 without filters"),
            (
                json!({"format": 1, "filters": [{"id": 33}]}),
                "filters of format 1",
            ),
            (
                json!({"format": 3, "preset": 1, "filters": [{"id": 33}]}),
                "both preset and filters",
            ),
            (
                json!({"format": 2, "check": 1}),
                "check 1 of format 2 is unknown",
            ),
            (json!({"preset": 10}), "preset 10 is unknown"),
            (
                json!({"format": 3, "filters": [{"id": 34}]}),
                "filter 34 is unknown",
            ),
            (
                json!({"format": 3, "filters": [{"id": LZMA1, "lc": 9}]}),
                "making a decoder failed",
            ),
            (
                json!({"format": 3, "filters": [{"id": 33, "mode": 3}]}),
                "mode 3 is unknown",
            ),
            (
                json!({"format": 3, "filters": []}),
                "making a decoder failed",
            ),
            (json!({"level": 1}), "unknown field `level`"),
        ] {
            let error = crate::testing::codec(&metadata(&configuration)).unwrap_err();
            assert!(
                error.starts_with("numcodecs.lzma: ") && error.contains(message),
                "{error}"
            );
        }
    }
}
