//! Fast codecs for numeric time series in Zarr V3.

/// Install the codecs.
pub fn register() {}
