//! Elements of the native-endian bytes that zarrs hands to a codec, which may lie unaligned.

use std::borrow::Cow;
use std::num::NonZeroU64;

use bytemuck::Pod;
use zarrs_codec::{ArrayBytes, CodecError, InvalidBytesLengthError};

use crate::dtype::NumericType;
use crate::util::product;

/// The elements of `bytes`, whose length is a multiple of theirs; a copy only if unaligned.
pub(crate) fn elements<T: Pod>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(elements) => Cow::Borrowed(elements),
        Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
    }
}

/// Let `change` work on the elements of `bytes`, whose length is a multiple of theirs, in place;
/// through a copy only if unaligned.
pub(crate) fn with_elements_mut<T: Pod, R>(
    bytes: &mut [u8],
    change: impl FnOnce(&mut [T]) -> R,
) -> R {
    if let Ok(elements) = bytemuck::try_cast_slice_mut(bytes) {
        return change(elements);
    }
    let mut elements: Vec<T> = bytemuck::pod_collect_to_vec(bytes);
    let result = change(&mut elements);
    bytes.copy_from_slice(bytemuck::cast_slice(&elements));
    result
}

/// The bytes of a chunk of `shape` with elements of `numeric`.
///
/// # Errors
/// Returns a [`CodecError`] if they are not that many.
pub(crate) fn fixed<'a>(
    bytes: ArrayBytes<'a>,
    shape: &[NonZeroU64],
    numeric: NumericType,
) -> Result<Cow<'a, [u8]>, CodecError> {
    let bytes = bytes.into_fixed()?;
    let expected = product(shape)?.saturating_mul(numeric.size());
    if bytes.len() != expected {
        return Err(InvalidBytesLengthError::new(bytes.len(), expected).into());
    }
    Ok(bytes)
}
