//! The `zstd` bytes->bytes codec: [Zstandard](https://www.rfc-editor.org/rfc/rfc8878) frames.
//!
//! ### Compatible implementations
//! The `zstd` codec of zarr-extensions, and `numcodecs.zstd` of zarr-python. It replaces zarrs' own
//! `zstd`, which sizes its output by what the frame claims and makes a context per chunk: here
//! contexts are reused and the output is bounded by what the chunk must decode to.
//!
//! How to encode [for fast decoding](ZstdCodec::with_fast_decode) is for this encoder, and in no metadata.
//!
//! ### Codec names
//! - Zarr V3 `name`: `zstd`, `numcodecs.zstd`
//! - Zarr V2 `id`: `zstd`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "level": 3, "checksum": false }
//! # "#;
//! # serde_json::from_str::<tempozarr::ZstdConfiguration>(configuration).unwrap();
//! ```

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError,
    CodecMetadataOptions, CodecOptions, CodecTraits, CodecTraitsV2, CodecTraitsV3,
    InvalidBytesLengthError,
};
use zarrs_metadata::Configuration;
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::{ExtensionName, PluginCreateError, ZarrVersion};
use zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ParamSwitch, ResetDirective,
};

use crate::util::{bytes_on_one_thread, codec_traits, configuration};
use crate::{bounded, memory};

/// The configuration of [`ZstdCodec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZstdConfiguration {
    /// The compression level, -131072 to 22; 0 stands for 3. Decoding does not depend on it.
    #[serde(default)]
    pub level: i32,
    /// Whether to end each frame with a checksum.
    ///
    /// Required by `zstd`, and added to `numcodecs.zstd` over time: written back if it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<bool>,
}

/// The levels that zstd has.
const LEVELS: std::ops::RangeInclusive<i32> = -131_072..=22;

/// The `zstd` codec.
#[derive(Clone, Debug)]
pub struct ZstdCodec {
    name: Cow<'static, str>,
    configuration: ZstdConfiguration,
    fast_decode: bool,
}

/// How to encode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    level: i32,
    pub(crate) checksum: bool,
    fast_decode: bool,
}

/// The shortest match for fast decoding: each one costs the decoder as much as a few dozen bytes, so
/// that those of three to five bytes, which save next to nothing, are not worth it.
const FAST_DECODE_MATCH: u32 = 6;

thread_local! {
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    /// Apart: it keeps a window, and a bound of it.
    static PREFIX_DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

impl CodecTraitsV3 for ZstdCodec {
    fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
        Ok(Codec::BytesToBytes(Arc::new(Self::of(metadata)?)))
    }
}

impl CodecTraitsV2 for ZstdCodec {
    fn create(metadata: &MetadataV2) -> Result<Codec, PluginCreateError> {
        let codec = Self::named("numcodecs.zstd".into(), metadata.to_typed_configuration()?)?;
        Ok(Codec::BytesToBytes(Arc::new(codec)))
    }
}

/// The codec keeps the name it came under: `checksum` is optional in one and required in the other.
impl ExtensionName for ZstdCodec {
    fn name(&self, version: ZarrVersion) -> Option<Cow<'static, str>> {
        Some(match version {
            ZarrVersion::V2 => "zstd".into(),
            ZarrVersion::V3 => self.name.clone(),
        })
    }
}

impl ZstdCodec {
    pub(crate) fn of(metadata: &MetadataV3) -> Result<Self, PluginCreateError> {
        let name = metadata.name().to_owned();
        Self::named(name.into(), metadata.to_typed_configuration()?)
    }

    fn named(
        name: Cow<'static, str>,
        configuration: ZstdConfiguration,
    ) -> Result<Self, PluginCreateError> {
        if !LEVELS.contains(&configuration.level) {
            return Err(PluginCreateError::Other(format!(
                "zstd: level {} is out of range, expected -131072 <= level <= 22",
                configuration.level,
            )));
        }
        Ok(Self {
            name,
            configuration,
            fast_decode: false,
        })
    }

    /// Compress at `level` (-131072 to 22; others are clamped), with a checksum per frame if
    /// `checksum`.
    #[must_use]
    pub fn new(level: i32, checksum: bool) -> Self {
        Self {
            name: "zstd".into(),
            configuration: ZstdConfiguration {
                level: level.clamp(*LEVELS.start(), *LEVELS.end()),
                checksum: Some(checksum),
            },
            fast_decode: false,
        }
    }

    /// Encode such that decoding is fast: no matches of fewer than six bytes, and what matches nothing
    /// is stored as it is instead of Huffman-coded. More bytes than at the same level without, in frames that
    /// every zstd decoder reads.
    #[must_use]
    pub fn with_fast_decode(self) -> Self {
        Self {
            fast_decode: true,
            ..self
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            level: self.configuration.level,
            checksum: self.configuration.checksum == Some(true),
            fast_decode: self.fast_decode,
        }
    }
}

fn error(action: &str, code: zstd_safe::ErrorCode) -> String {
    format!("zstd: {action} failed: {}", zstd_safe::get_error_name(code))
}

/// Decompress `frames` into `out`; returns how many bytes they hold.
///
/// # Errors
/// Returns a message if they are corrupt or hold more than `out` does.
pub(crate) fn decompress_into(frames: &[u8], out: &mut [u8]) -> Result<usize, String> {
    DECOMPRESSOR
        .with_borrow_mut(|context| context.decompress(out, frames))
        .map_err(|code| error("decompressing the chunk", code))
}

/// Decompress `frames` until `out` is full, without a look at the rest; whether that worked.
pub(crate) fn decompress_prefix(frames: &[u8], out: &mut [u8]) -> bool {
    // What holds the matches is allocated by what the frame states: no more than it can need here,
    // or 1 KiB, the smallest that there is.
    let window = out.len().saturating_mul(8).max(1 << 10).ilog2();
    PREFIX_DECOMPRESSOR.with_borrow_mut(|context| {
        let mut input = InBuffer::around(frames);
        let mut output = OutBuffer::around(out);
        let mut prefix = || {
            context.reset(ResetDirective::SessionOnly)?;
            context.set_parameter(DParameter::WindowLogMax(window.min(27)))?;
            while output.pos() < output.capacity() {
                let before = (input.pos(), output.pos());
                context.decompress_stream(&mut output, &mut input)?;
                if before == (input.pos(), output.pos()) {
                    break; // there is no more
                }
            }
            Ok::<_, zstd_safe::ErrorCode>(output.pos() == output.capacity())
        };
        prefix().unwrap_or(false)
    })
}

/// Append `plain`, compressed, to `out`.
///
/// # Errors
/// Returns a message if zstd does.
pub(crate) fn compress_onto(
    plain: &[u8],
    settings: Settings,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let start = out.len();
    memory::reserve(out, zstd_safe::compress_bound(plain.len()))?;
    let mut tail = std::io::Cursor::new(&mut *out);
    tail.set_position(start as u64);
    COMPRESSOR
        .with_borrow_mut(|context| {
            context.set_parameter(CParameter::CompressionLevel(settings.level))?;
            context.set_parameter(CParameter::ChecksumFlag(settings.checksum))?;
            let (least_match, literals) = if settings.fast_decode {
                (FAST_DECODE_MATCH, ParamSwitch::Disable)
            } else {
                (0, ParamSwitch::Auto) // as the level has it
            };
            context.set_parameter(CParameter::MinMatch(least_match))?;
            context.set_parameter(CParameter::LiteralCompressionMode(literals))?;
            context.compress2(&mut tail, plain)
        })
        .map(drop)
        .map_err(|code| error("compressing the chunk", code))
}

/// Decompress `frames` to at most `bound` bytes.
fn decompress_bounded(frames: &[u8], bound: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    memory::reserve_exact(&mut out, bound)?;
    DECOMPRESSOR
        .with_borrow_mut(|context| context.decompress(&mut out, frames))
        .map_err(|code| error("decompressing the chunk", code))?;
    Ok(out)
}

/// Decompress `frames` to as many bytes as there really are: nothing is sized by what they claim.
fn decompress_unbounded(frames: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    let mut input = InBuffer::around(frames);
    DECOMPRESSOR.with_borrow_mut(|context| {
        context
            .reset(ResetDirective::SessionOnly)
            .map_err(|code| error("resetting the context", code))?;
        loop {
            memory::reserve(&mut out, DCtx::out_size())?;
            let written = out.len();
            let mut output = OutBuffer::around_pos(&mut out, written);
            let missing = context
                .decompress_stream(&mut output, &mut input)
                .map_err(|code| error("decompressing the chunk", code))?;
            let stuck = output.pos() == written;
            bounded::check(
                "zstd",
                out.len() as u64,
                &BytesRepresentation::UnboundedSize,
            )?;
            match (input.pos() == frames.len(), missing) {
                (true, 0) => return Ok(()),
                (true, _) if stuck => {
                    let message = "zstd: the chunk ends within a frame; it is truncated";
                    return Err(CodecError::Other(message.into()));
                }
                _ => {}
            }
        }
    })?;
    Ok(out)
}

impl CodecTraits for ZstdCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(configuration(&self.configuration))
    }

    codec_traits!(whole);
}

impl BytesToBytesCodecTraits for ZstdCodec {
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
                BytesRepresentation::BoundedSize(zstd_safe::compress_bound(size) as u64)
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
        compress_onto(&decoded_value, self.settings(), &mut out)?;
        Ok(out.into())
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        decoded_representation: &BytesRepresentation,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let Some(bound) = decoded_representation.size() else {
            return Ok(decompress_unbounded(&encoded_value)?.into());
        };
        let bound = usize::try_from(bound).map_err(|_| {
            CodecError::Other(format!("zstd: a chunk of {bound} bytes is too large"))
        })?;
        let out = decompress_bounded(&encoded_value, bound)?;
        if matches!(decoded_representation, BytesRepresentation::FixedSize(_)) && out.len() != bound
        {
            return Err(InvalidBytesLengthError::new(out.len(), bound).into());
        }
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(codec: &ZstdCodec, plain: &[u8], representation: BytesRepresentation) -> Vec<u8> {
        let options = CodecOptions::default();
        let encoded = codec.encode(plain.into(), &options).unwrap();
        codec
            .decode(encoded, &representation, &options)
            .unwrap()
            .into_owned()
    }

    #[test]
    fn round_trips_bounded_and_unbounded() {
        for size in [0, 1, 7, 1000, 300_000] {
            let plain: Vec<u8> = (0..size).map(|i| (i / 3 % 251) as u8).collect();
            for codec in [ZstdCodec::new(3, false), ZstdCodec::new(-5, true)] {
                for representation in [
                    BytesRepresentation::FixedSize(plain.len() as u64),
                    BytesRepresentation::BoundedSize(plain.len() as u64 + 9),
                    BytesRepresentation::UnboundedSize,
                ] {
                    assert_eq!(round_trip(&codec, &plain, representation), plain);
                }
            }
        }
    }

    /// Whether the literals of a frame's first block are stored as they are: RFC 8878, 3.1.1.
    fn has_raw_literals(frame: &[u8]) -> bool {
        let descriptor = frame[4];
        let is_single_segment = descriptor >> 5 & 1 == 1;
        let window = usize::from(!is_single_segment);
        let content_size = match descriptor >> 6 {
            0 => usize::from(is_single_segment),
            flag => 1 << flag,
        };
        let [magic, block_header] = [4, 3];
        frame[magic + 1 + window + content_size + block_header].trailing_zeros() >= 2
    }

    #[test]
    fn encodes_for_fast_decoding_in_frames_like_any_other() {
        let plain: Vec<u8> = (0..200_000_u64)
            .flat_map(|i| [(i * i / 7 % 23) as u8, (i / 900) as u8, (i % 5) as u8])
            .collect();
        let options = CodecOptions::default();
        for level in [-5, 1, 3, 6, 9, 19] {
            let encode = |codec: &ZstdCodec| {
                let frame = codec.encode((&plain).into(), &options).unwrap();
                let fixed = BytesRepresentation::FixedSize(plain.len() as u64);
                assert_eq!(
                    *codec.decode(frame.clone(), &fixed, &options).unwrap(),
                    *plain
                );
                frame.into_owned()
            };
            let usual = ZstdCodec::new(level, false);
            let frame = encode(&usual);
            let fast = encode(&usual.clone().with_fast_decode());
            assert!(has_raw_literals(&fast), "{level}");
            assert_eq!(has_raw_literals(&frame), level < 0, "{level}");
            // The context is shared: one encoding leaves nothing to the next.
            assert_eq!(encode(&usual), frame);
        }
    }

    #[test]
    fn reads_concatenated_frames() {
        let options = CodecOptions::default();
        let codec = ZstdCodec::new(1, false);
        let mut frames = codec
            .encode((&[1_u8; 100]).into(), &options)
            .unwrap()
            .into_owned();
        frames.extend_from_slice(&codec.encode((&[2_u8; 50]).into(), &options).unwrap());
        for representation in [
            BytesRepresentation::FixedSize(150),
            BytesRepresentation::UnboundedSize,
        ] {
            let plain = codec
                .decode((&frames).into(), &representation, &options)
                .unwrap();
            assert_eq!(plain.len(), 150);
            assert_eq!((plain[0], plain[149]), (1, 2));
        }
    }

    #[test]
    fn rejects_a_frame_that_does_not_hold_the_chunk() {
        let options = CodecOptions::default();
        let codec = ZstdCodec::new(1, false);
        let encoded = codec.encode((&[1_u8; 100]).into(), &options).unwrap();
        for size in [0, 99, 101] {
            assert!(
                codec
                    .decode(
                        encoded.clone(),
                        &BytesRepresentation::FixedSize(size),
                        &options
                    )
                    .is_err()
            );
        }
        let truncated = Cow::Borrowed(&encoded[..encoded.len() - 1]);
        let error = codec
            .decode(truncated, &BytesRepresentation::UnboundedSize, &options)
            .unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
    }

    #[test]
    fn keeps_name_and_configuration() {
        for json in [
            r#"{"name":"zstd","configuration":{"level":3,"checksum":true}}"#,
            r#"{"name":"numcodecs.zstd","configuration":{"level":1}}"#,
        ] {
            let metadata: MetadataV3 = serde_json::from_str(json).unwrap();
            let codec = <ZstdCodec as CodecTraitsV3>::create(&metadata).unwrap();
            let written = MetadataV3::new_with_configuration(
                codec.name_v3().unwrap(),
                codec
                    .configuration_v3(&CodecMetadataOptions::default())
                    .unwrap(),
            );
            assert_eq!(written, metadata);
        }
    }

    #[test]
    fn names_a_level_out_of_range() {
        let json = r#"{"name":"zstd","configuration":{"level":23,"checksum":true}}"#;
        let error =
            <ZstdCodec as CodecTraitsV3>::create(&serde_json::from_str(json).unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("level 23 is out of range"),
            "{error}"
        );
    }
}
