//! The `temporal_xor` array->array codec: each slice of a chunk along one axis is stored as its
//! bits XOR the bits of the slice before.
//!
//! A value that repeats becomes zero and a value that moves little keeps its leading bytes zero,
//! which a byte shuffle and a compressor then remove. Bits, not values: NaN payloads, `-0.0` and
//! infinities survive.
//!
//! ### Specification
//! `specs/temporal_xor` in this crate.
//!
//! ### Codec names
//! - Zarr V3 `name`: `temporal_xor`
//! - Zarr V2 `id`: `temporal_xor`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "axis": 0 }
//! # "#;
//! # serde_json::from_str::<tempozarr::TemporalXorConfiguration>(configuration).unwrap();
//! ```

mod codec;
mod config;
pub mod kernel;
#[cfg(test)]
mod tests;

pub use codec::TemporalXorCodec;
pub use config::TemporalXorConfiguration;
