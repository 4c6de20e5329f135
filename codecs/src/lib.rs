//! Fast codecs for numeric time series in Zarr V3, as plugins for
//! [zarrs](https://docs.rs/zarrs).
//!
//! Call [`register`] once and every array that zarrs opens knows these codecs:
//!
//! | Codec | Zarr V3 name | Zarr V2 id | Kind |
//! |---|---|---|---|
//! | [TemporalXOR](temporal_xor) | `temporal_xor` | `temporal_xor` | array->array |
//! | [Delta](delta) | `numcodecs.delta` | `delta` | array->array |
//! | [AsType](astype) | `numcodecs.astype` | `astype` | array->array |
//! | [BitRound](bitround) | `numcodecs.bitround` | `bitround` | array->array |
//! | [Quantize](quantize) | `numcodecs.quantize` | `quantize` | array->array |
//! | [FixedScaleOffset](fixedscaleoffset) | `numcodecs.fixedscaleoffset` | `fixedscaleoffset` | array->array |
//! | [ScaleOffset](scale_offset) | `scale_offset` | | array->array |
//! | [CastValue](cast_value) | `cast_value` | | array->array |
//! | [PackBits](packbits) | `numcodecs.packbits` | `packbits` | array->array |
//! | [Shuffle](shuffle) | `numcodecs.shuffle` | `shuffle` | bytes->bytes |
//! | [LZ4](lz4) | `numcodecs.lz4` | `lz4` | bytes->bytes |
//! | [Zstd](zstd) | `zstd`, `numcodecs.zstd` | `zstd` | bytes->bytes |
//! | [Blosc](blosc) | `numcodecs.blosc` | `blosc` | bytes->bytes |
//! | [GZip, Zlib, BZ2](streams) | `numcodecs.gzip`, `numcodecs.zlib`, `numcodecs.bz2` | `gzip`, `zlib`, `bz2` | bytes->bytes |
//! | [LZMA](lzma) | `numcodecs.lzma` | `lzma` | bytes->bytes |
//! | [CRC32, CRC32C, Adler32](checksums) | `numcodecs.crc32`, `numcodecs.crc32c`, `numcodecs.adler32` | `crc32`, `crc32c`, `adler32` | bytes->bytes |
//! | [Fletcher32, JenkinsLookup3](checksums) | `numcodecs.fletcher32`, `numcodecs.jenkins_lookup3` | `fletcher32`, `jenkins_lookup3` | bytes->bytes |
//!
//! Chains of them run in one pass where they can: [`fuse`] the metadata that an array is opened with,
//! and [`explain`] why a chain is not [fused].
//!
//! [`register`] also puts guards in front of codecs of zarrs that trust stored bytes too much: shard indexes
//! and the lengths in `vlen-utf8`, `vlen-bytes` and `pcodec` chunks are checked, and `gzip` and `blosc`
//! decode no more than the metadata allows. Open arrays from strangers with [`guarded`] metadata.
//!
//! Each codec is a room of its own: a card that says what it is (the module's documentation), its
//! configuration, kernels over plain slices that know nothing of zarrs, and the zarrs traits on top.
//! No codec uses another.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::single_range_in_vec_init,
        reason = "sample data and one-dimensional subsets"
    )
)]

pub mod astype;
pub mod bitround;
pub mod blosc;
mod bounded;
pub mod cast;
pub mod cast_value;
pub mod checksums;
pub mod delta;
mod document;
pub mod dtype;
mod elements;
mod encoding;
pub mod endian;
mod fill;
pub mod fixedscaleoffset;
pub mod fused;
mod guard;
pub mod limits;
pub mod lz4;
pub mod lzma;
pub mod memory;
pub mod packbits;
mod partial;
pub mod quantize;
mod registry;
mod scalar;
pub mod scale_offset;
mod scan;
pub mod shuffle;
pub mod stream;
pub mod streams;
pub mod temporal_xor;
#[cfg(test)]
mod testing;
mod util;
pub mod zstd;

pub use astype::{AsTypeCodec, AsTypeConfiguration};
pub use bitround::{BitRoundCodec, BitRoundConfiguration};
pub use blosc::{BloscCodec, BloscConfiguration};
pub use cast_value::{CastValueCodec, CastValueConfiguration, ScalarMap};
pub use checksums::{ChecksumCodec, ChecksumConfiguration, ChecksumLocation};
pub use delta::{DeltaCodec, DeltaConfiguration};
pub use document::store_metadata;
pub use encoding::{Encoding, encode_with};
pub use fixedscaleoffset::{FixedScaleOffsetCodec, FixedScaleOffsetConfiguration};
pub use fused::{explain, fuse};
pub use guard::guarded;
pub use lz4::{Lz4Codec, Lz4Configuration};
pub use lzma::{LzmaCodec, LzmaConfiguration, LzmaFilter};
pub use packbits::{PackBitsCodec, PackBitsConfiguration};
pub use quantize::{QuantizeCodec, QuantizeConfiguration};
pub use registry::{codec_names, register, register_alias};
pub use scale_offset::{ScaleOffsetCodec, ScaleOffsetConfiguration};
pub use shuffle::{ShuffleCodec, ShuffleConfiguration};
pub use streams::{StreamCodec, StreamConfiguration};
pub use temporal_xor::{TemporalXorCodec, TemporalXorConfiguration};
pub use zstd::{ZstdCodec, ZstdConfiguration};
