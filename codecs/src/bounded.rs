//! Decompressing no more than the metadata of a chunk allows.

use std::io::Read;

use zarrs_codec::{BytesRepresentation, CodecError};

use crate::limits::limits;

/// All that `reader` decodes.
///
/// # Errors
/// Returns a [`CodecError`] that names `codec` if the stream is corrupt, or holds more than
/// `representation`.
pub(crate) fn read(
    codec: &str,
    reader: impl Read,
    representation: &BytesRepresentation,
) -> Result<Vec<u8>, CodecError> {
    let bound = bound(representation);
    let mut out = Vec::new();
    // One byte more shows an excess.
    let read = reader.take(bound.saturating_add(1)).read_to_end(&mut out);
    read.map_err(|error| {
        CodecError::Other(format!("{codec}: decompressing the chunk failed: {error}"))
    })?;
    check(codec, out.len() as u64, representation)?;
    Ok(out)
}

/// Check that a chunk of `length` decoded bytes is no more than `representation`.
///
/// # Errors
/// Returns a [`CodecError`] that names `codec` if it is.
pub(crate) fn check(
    codec: &str,
    length: u64,
    representation: &BytesRepresentation,
) -> Result<(), CodecError> {
    let bound = bound(representation);
    if length <= bound {
        return Ok(());
    }
    Err(CodecError::Other(match representation.size() {
        Some(_) => format!(
            "{codec}: the chunk decodes to more than the {bound} bytes that its metadata allows; it \
             is corrupt"
        ),
        None => format!(
            "{codec}: the chunk decodes to more than {bound} bytes. If you trust this store, raise the \
             limit `chunk_bytes`"
        ),
    }))
}

/// The most bytes that a chunk decodes to: what its metadata allow, or the limit where these leave it
/// open, as they do for text.
pub(crate) fn bound(representation: &BytesRepresentation) -> u64 {
    let stated = representation.size();
    stated.unwrap_or_else(|| limits().chunk_bytes)
}

/// What a compressor makes of bytes at worst, with room for one that does badly: an eighth and a
/// kibibyte more.
pub(crate) fn compressed(decoded: &BytesRepresentation) -> BytesRepresentation {
    decoded
        .size()
        .and_then(|size| size.checked_add(size / 8 + 1024))
        .map_or(
            BytesRepresentation::UnboundedSize,
            BytesRepresentation::BoundedSize,
        )
}
