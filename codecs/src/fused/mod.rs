//! Chains of codecs run in one pass: filters vanish behind the decompressor.
//!
//! Codec by codec, a chain such as `[astype f4->f2, temporal_xor, bytes, shuffle 2, zstd]` costs an
//! allocation and a pass over memory for each codec. Here a chunk is decompressed into a buffer that
//! its thread keeps, and then, block by block of what fits in L1, unshuffled, summed up, cast and
//! written to where the caller wants it.
//!
//! - [`Plan`] is a chain that was recognised, for chunks of one shape and data type: it decodes and
//!   encodes slices and knows nothing of zarrs but the chain that it was made of.
//! - [`FusedCodec`] is a plan as a codec of zarrs, which [`fuse`] puts into the metadata of an array
//!   in memory, at any level of sharding. Nothing that is stored changes.
//! - [`explain`] says whether a chain runs so, and why not.
//!
//! What can be fused: any of AsType, TemporalXOR, Delta and transpose, in any order, before `bytes`;
//! after it, at most one each of shuffle, crc32c, a compressor (zstd, LZ4, blosc or gzip) and again
//! crc32c, in this order. What is not recognised stays as it is. The fused chain gives the bits, and
//! stores the bytes, of the chain that it replaces.
//!
//! ```
//! # tempozarr::register();
//! # let metadata = serde_json::from_str(r#"{
//! #     "zarr_format": 3, "node_type": "array", "shape": [9000, 50, 3], "data_type": "float32",
//! #     "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4096, 50, 3]}},
//! #     "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [
//! #         {"name": "numcodecs.astype", "configuration": {"encode_dtype": "<f2"}},
//! #         {"name": "temporal_xor"},
//! #         {"name": "bytes", "configuration": {"endian": "little"}},
//! #         {"name": "numcodecs.shuffle", "configuration": {"elementsize": 2}},
//! #         {"name": "zstd", "configuration": {"level": 3, "checksum": false}}]}"#).unwrap();
//! assert_eq!(
//!     tempozarr::explain(&metadata).to_string(),
//!     "fused: zstd, unshuffle 2, undo XOR (4096 rows of 300 bytes), float16 to float32"
//! );
//! let fused = tempozarr::fuse(&metadata); // open the array with this
//! ```

mod chain;
mod codec;
mod compressor;
mod filters;
mod metadata;
mod plan;
mod target;
#[cfg(test)]
mod tests;

pub use chain::Unfused;
pub use codec::FusedCodec;
pub(crate) use codec::NAME;
pub use metadata::{Explanation, explain, fuse, fuse_chain};
pub use plan::{Error, Plan};
pub use target::Target;
