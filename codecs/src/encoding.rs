//! How to encode where metadata leave it open: LZ4 and zstd decoders read whatever their encoders chose.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zarrs_codec::{Codec, CodecError};
use zarrs_metadata::ArrayMetadata;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::PluginCreateError;

use crate::util::{configuration, sharding};
use crate::{Lz4Codec, ZstdCodec, lz4, registry};

/// How to encode, beyond what metadata can say. Every decoder of the codecs reads what is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoding {
    /// Encode `numcodecs.lz4` with high compression of this level, 2 to 12: slowly, to fewer bytes,
    /// which are decoded faster.
    pub lz4_level: Option<i32>,
    /// Encode `zstd` [for fast decoding](ZstdCodec::with_fast_decode): to more bytes. Levels from 6 on
    /// gain most.
    pub zstd_fast_decode: bool,
}

impl Encoding {
    /// Whether it says how that codec encodes.
    fn is_about(self, codec: &MetadataV3) -> bool {
        (self.lz4_level.is_some() && is_one_of(codec, &LZ4))
            || (self.zstd_fast_decode && is_one_of(codec, &ZSTD))
    }
}

const LZ4: [&str; 1] = ["numcodecs.lz4"];
const ZSTD: [&str; 2] = ["zstd", "numcodecs.zstd"];

fn is_one_of(codec: &MetadataV3, names: &[&str]) -> bool {
    names.iter().any(|name| registry::is_named(codec, name))
}

/// The name in metadata of a codec with an encoding.
pub(crate) const NAME: &str = "encoding";

#[derive(Serialize, Deserialize)]
struct Encoded {
    encoding: Encoding,
    codec: MetadataV3,
}

/// Create a codec that [`encode_with`] put into metadata.
pub(crate) fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
    let Encoded { encoding, codec } = metadata.to_typed_configuration()?;
    Ok(Codec::BytesToBytes(match encoding.lz4_level {
        Some(level) if is_one_of(&codec, &LZ4) => Arc::new(Lz4Codec::of(&codec)?.with_level(level)),
        _ => Arc::new(ZstdCodec::of(&codec)?.with_fast_decode()),
    }))
}

/// The metadata of an array whose codecs, at any level of sharding, encode so.
///
/// It is for opening the array: what is stored says nothing of an encoding, and
/// [`store_metadata`](crate::store_metadata) leaves it out.
/// [`fuse`](crate::fuse) comes after it, and [`register`](crate::register) before.
///
/// ```
/// # tempozarr::register();
/// # let metadata = serde_json::from_str(r#"{
/// #     "zarr_format": 3, "node_type": "array", "shape": [9000], "data_type": "float32",
/// #     "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4096]}},
/// #     "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [
/// #         {"name": "bytes", "configuration": {"endian": "little"}},
/// #         {"name": "numcodecs.lz4", "configuration": {"acceleration": 1}}]}"#).unwrap();
/// let small = tempozarr::Encoding { lz4_level: Some(9), ..Default::default() };
/// let metadata = tempozarr::encode_with(&metadata, small)?;
/// let fused = tempozarr::fuse(&metadata); // open the array with this
/// # Ok::<(), zarrs_codec::CodecError>(())
/// ```
///
/// # Errors
/// Returns a [`CodecError`] if there is no such level, or no codec that a setting is about: also if
/// the array is one of Zarr V2.
pub fn encode_with(
    metadata: &ArrayMetadata,
    encoding: Encoding,
) -> Result<ArrayMetadata, CodecError> {
    let error = |message: String| Err(CodecError::Other(message));
    if let Some(level) = encoding.lz4_level
        && !lz4::LEVELS.contains(&level)
    {
        return error(format!(
            "lz4: level {level} is out of range, expected 2 <= level <= 12"
        ));
    }
    let settings = [
        (encoding.lz4_level.is_some(), "lz4_level", &LZ4[..]),
        (encoding.zstd_fast_decode, "zstd_fast_decode", &ZSTD),
    ];
    for (is_set, setting, names) in settings {
        if is_set && !matches!(metadata, ArrayMetadata::V3(v3) if has_one(&v3.codecs, names)) {
            return error(format!(
                "{setting}: expected Zarr V3 metadata with {}, got none; leave {setting} out",
                names[0],
            ));
        }
    }
    let mut encoded = metadata.clone();
    if encoding != Encoding::default()
        && let ArrayMetadata::V3(metadata) = &mut encoded
    {
        metadata.codecs = with(&metadata.codecs, encoding);
    }
    Ok(encoded)
}

/// Whether there is a codec of those names, at any level of sharding.
fn has_one(codecs: &[MetadataV3], names: &[&str]) -> bool {
    codecs.iter().any(|codec| {
        is_one_of(codec, names)
            || sharding(codec).is_some_and(|sharding| has_one(&sharding.codecs, names))
    })
}

/// The codecs, and those within them, with an encoding.
fn with(codecs: &[MetadataV3], encoding: Encoding) -> Vec<MetadataV3> {
    let mut encoded = codecs.to_vec();
    for codec in &mut encoded {
        let (name, configuration) = if encoding.is_about(codec) {
            let codec = codec.clone();
            (
                registry::hidden(NAME),
                configuration(&Encoded { encoding, codec }),
            )
        } else if let Some(mut sharding) = sharding(codec) {
            sharding.codecs = with(&sharding.codecs, encoding);
            (codec.name().to_owned(), configuration(&sharding))
        } else {
            continue;
        };
        *codec = MetadataV3::new_with_configuration(name, configuration);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zarrs_codec::{CodecMetadataOptions, CodecOptions};

    use super::*;

    const HC: Encoding = Encoding {
        lz4_level: Some(9),
        zstd_fast_decode: false,
    };
    const FAST_DECODE: Encoding = Encoding {
        lz4_level: None,
        zstd_fast_decode: true,
    };

    fn metadata(codecs: &Value) -> ArrayMetadata {
        let document = json!({
            "zarr_format": 3, "node_type": "array", "shape": [6000, 4], "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [6000, 4]}},
            "chunk_key_encoding": {"name": "default"}, "fill_value": 0.0, "codecs": codecs
        });
        serde_json::from_value(document).unwrap()
    }

    /// Store an array, opened with `metadata`; give the only file of it. On one thread: zarrs puts
    /// subchunks in the order in which threads finish them.
    fn stored(metadata: ArrayMetadata) -> Vec<u8> {
        let store = Arc::new(zarrs::storage::store::MemoryStore::new());
        let array = zarrs::array::Array::new_with_metadata(store, "/", metadata).unwrap();
        let values: Vec<f32> = (0..24_000).map(|i| (i % 4 * 100 + i / 97) as f32).collect();
        let options = CodecOptions::default().with_concurrent_target(1);
        array.store_chunk_opt(&[0, 0], values, &options).unwrap();
        array.retrieve_encoded_chunk(&[0, 0]).unwrap().unwrap()
    }

    fn lz4() -> Value {
        json!({"name": "numcodecs.lz4", "configuration": {"acceleration": 1}})
    }

    fn zstd(name: &str) -> Value {
        json!({"name": name, "configuration": {"level": 6, "checksum": false}})
    }

    #[test]
    fn an_encoding_reaches_every_chain_and_no_metadata() {
        crate::register();
        let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
        let xor = json!({"name": "temporal_xor", "configuration": {"axis": 0}});
        let sharded = |codecs: &Value, rows: u64| {
            json!([{"name": "sharding_indexed", "configuration": {
                "chunk_shape": [rows, 4], "codecs": codecs,
                "index_codecs": [bytes, {"name": "crc32c"}]}}])
        };
        for (encoding, codec) in [
            (HC, lz4()),
            (FAST_DECODE, zstd("zstd")),
            (FAST_DECODE, zstd("numcodecs.zstd")),
        ] {
            let plain = json!([xor, bytes, codec]);
            let unfused = json!([xor, bytes, codec, {"name": "numcodecs.adler32"}]);
            let nested = sharded(&sharded(&plain, 1000), 3000);
            for codecs in [plain.clone(), unfused, sharded(&plain, 1000), nested] {
                let metadata = metadata(&codecs);
                let encoded = encode_with(&metadata, encoding).unwrap();
                assert_eq!(
                    crate::explain(&encoded).to_string(),
                    crate::explain(&metadata).to_string()
                );
                let codec_by_codec = stored(encoded.clone());
                assert_eq!(stored(crate::fuse(&encoded)), codec_by_codec);
                let usual = stored(metadata.clone()).len();
                assert_eq!(codec_by_codec.len() < usual, encoding == HC);
                assert_ne!(codec_by_codec.len(), usual);
                // What a chain says that it is, is what was stored.
                let chain = |metadata: ArrayMetadata| {
                    let array = zarrs::array::Array::new_with_metadata(Arc::new(()), "/", metadata);
                    let chain = array.unwrap().codecs();
                    serde_json::to_value(chain.create_metadatas(&CodecMetadataOptions::default()))
                };
                assert_eq!(chain(encoded).unwrap(), chain(metadata).unwrap());
            }
        }
    }

    #[test]
    fn both_settings_apply_to_a_chain_with_both_codecs() {
        crate::register();
        let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
        let both = Encoding {
            zstd_fast_decode: true,
            ..HC
        };
        let metadata = metadata(&json!([bytes, lz4(), zstd("zstd")]));
        let found = [HC, FAST_DECODE, both].map(|e| stored(encode_with(&metadata, e).unwrap()));
        assert!(found[0] != found[1] && found[1] != found[2] && found[0] != found[2]);
    }

    #[test]
    fn no_encoding_leaves_metadata_as_they_are_spelt() {
        crate::register();
        let little = json!({"name": "bytes", "configuration": {"endian": "little"}});
        let sharded = json!([{"name": "sharding_indexed", "configuration": {
            "chunk_shape": [1000, 4], "codecs": [little, lz4()], "index_codecs": [little]}}]);
        for codecs in [json!([little, lz4()]), sharded] {
            let metadata = metadata(&codecs);
            let same = encode_with(&metadata, Encoding::default()).unwrap();
            assert_eq!(
                serde_json::to_value(same).unwrap(),
                serde_json::to_value(metadata).unwrap()
            );
        }
    }

    #[test]
    fn an_encoding_needs_its_codec_to_be_in_zarr_v3_metadata() {
        crate::register();
        let bytes = metadata(&json!([{"name": "bytes", "configuration": {"endian": "little"}}]));
        let v2: ArrayMetadata = serde_json::from_value(json!({
            "zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "<f4", "compressor": {"id": "lz4"},
            "fill_value": 0, "order": "C", "filters": null
        }))
        .unwrap();
        let level = |level| Encoding {
            lz4_level: Some(level),
            ..Encoding::default()
        };
        for (metadata, encoding, message) in [
            (&bytes, HC, "with numcodecs.lz4, got none"),
            (&v2, HC, "with numcodecs.lz4, got none"),
            (&bytes, FAST_DECODE, "with zstd, got none"),
            (&v2, FAST_DECODE, "with zstd, got none"),
            (&bytes, level(1), "expected 2 <= level <= 12"),
            (&bytes, level(13), "expected 2 <= level <= 12"),
        ] {
            let error = encode_with(metadata, encoding).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
