//! The compressor of a chain, between memory of known lengths.

use super::plan::{Error, error};
use crate::{lz4, zstd};

/// At most one of these ends a fused chain.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compressor {
    None,
    Zstd(zstd::ZstdConfiguration),
    Lz4,
    Gzip,
    Blosc,
}

impl Compressor {
    pub(super) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::Zstd(_) => "zstd",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::Blosc => "blosc",
        })
    }

    /// Decode `encoded`, which must fill `decoded`.
    pub(super) fn decode(self, encoded: &[u8], decoded: &mut [u8]) -> Result<(), Error> {
        let length = match self {
            Self::None => return error("there is no compressor"),
            Self::Zstd(_) => zstd::decompress_into(encoded, decoded),
            Self::Lz4 => lz4::decompress_into(encoded, decoded),
            Self::Gzip => gunzip(encoded, decoded),
            Self::Blosc => unblosc(encoded, decoded),
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
        if let Self::Zstd(configuration) = self
            && needed <= decoded.len() / 4 * 3
            && configuration.checksum != Some(true)
            && zstd::decompress_prefix(encoded, &mut decoded[..needed])
        {
            return Ok(());
        }
        self.decode(encoded, decoded)
    }

    /// What does not encode here, if so.
    pub(super) fn unencodable(self) -> Option<&'static str> {
        match self {
            Self::None | Self::Zstd(_) | Self::Lz4 => None,
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
            Self::Zstd(configuration) => zstd::compress_onto(plain, configuration, encoded),
            Self::Lz4 => lz4::compress_onto(plain, encoded),
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

/// Decode a blosc chunk whose header states as many bytes as `decoded` has.
fn unblosc(encoded: &[u8], decoded: &mut [u8]) -> Result<usize, String> {
    let mut stated = 0;
    // SAFETY: both pointers are valid, the first for that many bytes.
    let valid = unsafe {
        blosc_src::blosc_cbuffer_validate(encoded.as_ptr().cast(), encoded.len(), &raw mut stated)
    };
    if valid < 0 || stated != decoded.len() {
        return Err(format!(
            "blosc: expected a chunk of {} bytes, got one that states {stated}",
            decoded.len()
        ));
    }
    // SAFETY: the header of `encoded` was found to agree with its length, and blosc writes no more
    // than the length of `decoded` that it is given.
    let length = unsafe {
        blosc_src::blosc_decompress_ctx(
            encoded.as_ptr().cast(),
            decoded.as_mut_ptr().cast(),
            decoded.len(),
            1,
        )
    };
    usize::try_from(length).map_err(|_| format!("blosc: decompressing failed with {length}"))
}
