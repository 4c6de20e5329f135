//! The `numcodecs.delta` array->array codec: each element of a chunk, flattened in C order, is
//! stored as its difference to the element before.
//!
//! Integers wrap, and are restored exactly. Differences of floats are rounded, so that writing
//! them is lossy (and logs a warning); [`temporal_xor`](crate::temporal_xor) is not.
//!
//! ### Compatible implementations
//! `numcodecs.Delta`, also by way of `zarr.codecs.numcodecs.Delta`, byte for byte.
//! - `dtype` may have another name than the array's data type if it has the same width (`<i8` on
//!   datetime64, `<u4` on int32): the differences are then those of the bits.
//! - Differences wrap into an integer `astype` as in numcodecs: if it is too narrow, other values
//!   come back. The first element, which is stored as it is, must fit.
//! - Sums of int64 with `uint64` differences (and the reverse) wrap; numcodecs makes them floats.
//! - bool is an error, since numcodecs does not restore it.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.delta`
//! - Zarr V2 `id`: `delta`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "dtype": "<i4", "astype": "<i2" }
//! # "#;
//! # serde_json::from_str::<tempozarr::DeltaConfiguration>(configuration).unwrap();
//! ```

mod codec;
pub mod kernel;
#[cfg(test)]
mod tests;

pub use codec::{DeltaCodec, DeltaConfiguration};
