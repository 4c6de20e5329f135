//! The compressor of a chain, between memory of known lengths.

use ::lz4::block::CompressionMode;

use super::plan::{Error, error};
use crate::{blosc, lz4, zstd};

/// At most one of these ends a fused chain.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compressor {
    None,
    /// And how to encode, as of the next one.
    Zstd(zstd::Settings),
    Lz4(CompressionMode),
    Gzip,
    Blosc,
}

impl Compressor {
    pub(super) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::Zstd(_) => "zstd",
            Self::Lz4(_) => "lz4",
            Self::Gzip => "gzip",
            Self::Blosc => "blosc",
        })
    }

    /// Decode `encoded`, which must fill `decoded`.
    pub(super) fn decode(self, encoded: &[u8], decoded: &mut [u8]) -> Result<(), Error> {
        let length = match self {
            Self::None => return error("there is no compressor"),
            Self::Zstd(_) => zstd::decompress_into(encoded, decoded),
            Self::Lz4(_) => lz4::decompress_into(encoded, decoded),
            Self::Gzip => gunzip(encoded, decoded),
            Self::Blosc => blosc::decompress_into(encoded, decoded),
        }
        .map_err(Error)?;
        if length == decoded.len() {
            return Ok(());
        }
        error(format_args!(
            "expected {} decompressed bytes, got {length}",
            decoded.len()
        ))
    }

    /// Decode `encoded`, which is that of all of `decoded`, as far as `needed` bytes at least.
    pub(super) fn decode_prefix(
        self,
        encoded: &[u8],
        decoded: &mut [u8],
        needed: usize,
    ) -> Result<(), Error> {
        // Decoding piecemeal costs a copy of each piece.
        if let Self::Zstd(settings) = self
            && needed <= decoded.len() / 4 * 3
            && !settings.checksum
            && zstd::decompress_prefix(encoded, &mut decoded[..needed])
        {
            return Ok(());
        }
        self.decode(encoded, decoded)
    }

    /// What does not encode here, if so.
    pub(super) fn unencodable(self) -> Option<&'static str> {
        match self {
            Self::None | Self::Zstd(_) | Self::Lz4(_) => None,
            Self::Gzip => Some("gzip"),
            Self::Blosc => Some("blosc"),
        }
    }

    /// Append `plain`, encoded, to `encoded`.
    pub(super) fn encode(self, plain: &[u8], encoded: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::None => {
                encoded.extend_from_slice(plain);
                Ok(())
            }
            Self::Zstd(settings) => zstd::compress_onto(plain, settings, encoded),
            Self::Lz4(mode) => lz4::compress_onto(plain, mode, encoded),
            Self::Gzip | Self::Blosc => Err("it is encoded codec by codec".into()),
        }
        .map_err(Error)
    }
}

/// Decode the members of a gzip file: exactly as many bytes as `decoded` has.
fn gunzip(encoded: &[u8], decoded: &mut [u8]) -> Result<usize, String> {
    use std::io::Read;
    let mut reader = flate2::read::MultiGzDecoder::new(encoded);
    reader
        .read_exact(decoded)
        .and_then(|()| reader.read(&mut [0]))
        .map(|excess| decoded.len() + excess)
        .map_err(|error| format!("gzip: {error}"))
}
