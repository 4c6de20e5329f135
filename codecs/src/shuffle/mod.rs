//! The `shuffle` bytes->bytes codec: all first bytes of the elements, then all second bytes, ...
//!
//! ### Compatible implementations
//! Byte-compatible with `numcodecs.shuffle` of zarr-python. It replaces the codec of the same name
//! in zarrs, which is slower.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.shuffle`
//! - Zarr V2 `id`: `shuffle`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "elementsize": 4 }
//! # "#;
//! # serde_json::from_str::<tempozarr::ShuffleConfiguration>(configuration).unwrap();
//! ```

mod codec;
pub mod kernel;

pub use codec::{ShuffleCodec, ShuffleConfiguration};
