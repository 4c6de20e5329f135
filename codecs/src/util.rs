//! Small helpers that more than one codec needs.

use std::num::NonZeroU64;

use serde::Serialize;
use zarrs_codec::{CodecError, PartialDecoderCapability};
use zarrs_metadata::Configuration;

/// A configuration as zarrs wants it.
pub(crate) fn configuration(configuration: &impl Serialize) -> Configuration {
    match serde_json::to_value(configuration) {
        Ok(serde_json::Value::Object(map)) => map.into(),
        _ => Configuration::default(),
    }
}

/// The number of elements of a chunk of `shape`.
pub(crate) fn product(shape: &[NonZeroU64]) -> Result<usize, CodecError> {
    shape
        .iter()
        .try_fold(1_usize, |product, length| {
            product.checked_mul(usize::try_from(length.get()).ok()?)
        })
        .ok_or_else(|| CodecError::Other(format!("a chunk of shape {shape:?} is too large")))
}

/// The capability of a bytes->bytes codec that decodes all or nothing.
pub(crate) const WHOLE_CHUNK: PartialDecoderCapability = PartialDecoderCapability {
    partial_read: false,
    partial_decode: false,
};
