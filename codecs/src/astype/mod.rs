//! The `numcodecs.astype` array->array codec: a chunk is stored as another numeric type.
//!
//! Casts equal numpy's bit for bit wherever numpy's answer is defined: a float narrows to the
//! nearest (ties to even, overflow to infinity, NaN with what fits of its payload), and truncates
//! toward zero into an integer. Beyond that:
//! - On write, a value that the stored type cannot hold at all (NaN or out of range into an
//!   integer, an integer that would wrap) is an error, and nothing is stored. numcodecs stores
//!   whatever the processor makes of it.
//! - On read, integers wrap as in numpy; a float that is no integer of the array's type is an
//!   error.
//! - A fill value that cannot be stored does no harm: only writing it as an element is an error.
//!
//! ### Compatible implementations
//! `numcodecs.AsType`, also by way of `zarr.codecs.numcodecs.AsType`, byte for byte.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.astype`
//! - Zarr V2 `id`: `astype`
//!
//! ### Configuration example
//! A missing `decode_dtype` means the array's own data type. It may have another name than that
//! one if it has the same width (`<i8` on datetime64), and then works on its bits.
//! ```rust
//! # let configuration = r#"
//! { "encode_dtype": "<f2", "decode_dtype": "<f4" }
//! # "#;
//! # serde_json::from_str::<tempozarr::AsTypeConfiguration>(configuration).unwrap();
//! ```

mod codec;
#[cfg(test)]
mod tests;

pub use codec::{AsTypeCodec, AsTypeConfiguration};
