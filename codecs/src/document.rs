//! The stored metadata of an array, as every reader takes it.

use std::sync::Arc;

use serde_json::{Value, json};
use zarrs::array::{Array, ArrayMetadata};
use zarrs::config::global_config;
use zarrs::node::meta_key_v3;
use zarrs_storage::{StorageError, StorageHandle, WritableStorageTraits};

use crate::{encoding, fused, registry};

/// Store the metadata of an array, in the place of [`Array::store_metadata`], by the options of zarrs'
/// [`global_config`].
///
/// What that writes is refused by other readers where a codec has no configuration, or an empty one: zarrs
/// leaves it out, as the specification allows, and zarr-python 3.4.2, GDAL 3.12 and zarrita.js 0.7 do not
/// expect that. Here it is written as `{}`. And of an array that was opened with [`fuse`](crate::fuse) or
/// [`encode_with`](crate::encode_with), the codecs are stored that it was fused from.
///
/// ```
/// # use std::sync::Arc;
/// # use zarrs::array::{Array, ArrayMetadata};
/// # use zarrs::storage::store::MemoryStore;
/// # tempozarr::register();
/// # let metadata: ArrayMetadata = serde_json::from_str(r#"{
/// #     "zarr_format": 3, "node_type": "array", "shape": [9000], "data_type": "uint8",
/// #     "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4096]}},
/// #     "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": ["bytes",
/// #         {"name": "numcodecs.lz4", "configuration": {}}]}"#)?;
/// # let store = Arc::new(MemoryStore::new());
/// let array = Array::new_with_metadata(store, "/", tempozarr::fuse(&metadata))?;
/// tempozarr::store_metadata(&array)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Returns a [`StorageError`] if the store does.
pub fn store_metadata<S>(array: &Array<S>) -> Result<(), StorageError>
where
    S: ?Sized + WritableStorageTraits + 'static,
{
    let options = global_config().array_metadata_options();
    let ArrayMetadata::V3(metadata) = array.metadata_opt(&options) else {
        return array.store_metadata();
    };
    let key = meta_key_v3(array.path());
    let invalid =
        |error: serde_json::Error| StorageError::InvalidMetadata(key.clone(), error.to_string());
    let mut document = serde_json::to_value(metadata).map_err(invalid)?;
    document["codecs"] = spelled_out(&document["codecs"]).into();
    let json = serde_json::to_vec_pretty(&document).map_err(invalid)?;
    array
        .storage_transformers()
        .create_writable_transformer(Arc::new(StorageHandle::new(array.storage())))?
        .set(&key, json.into())
}

/// The codecs that are meant, each with its configuration.
fn spelled_out(codecs: &Value) -> Vec<Value> {
    let codecs = codecs.as_array().into_iter().flatten();
    codecs.flat_map(meant).collect()
}

/// The codecs that a codec in memory stands for.
fn meant(codec: &Value) -> Vec<Value> {
    let name = codec
        .as_str()
        .or(codec["name"].as_str())
        .unwrap_or_default();
    let configuration = &codec["configuration"];
    if name == registry::hidden(fused::NAME) {
        return spelled_out(&configuration["codecs"]);
    }
    if name == registry::hidden(encoding::NAME) {
        return meant(&configuration["codec"]);
    }
    let mut fields = codec.as_object().cloned().unwrap_or_default();
    fields.insert("name".into(), name.into());
    let configuration = fields.entry("configuration").or_insert_with(|| json!({}));
    for inner in ["codecs", "index_codecs"] {
        if let Some(codecs) = configuration.get_mut(inner) {
            *codecs = spelled_out(codecs).into();
        }
    }
    vec![fields.into()]
}

#[cfg(test)]
mod tests {
    use zarrs::storage::ReadableStorageTraits;
    use zarrs::storage::store::MemoryStore;

    use super::*;
    use crate::{Encoding, encode_with, fuse, register};

    fn stored(metadata: ArrayMetadata) -> Value {
        let store = Arc::new(MemoryStore::new());
        let array = Array::new_with_metadata(store.clone(), "/group/array", metadata).unwrap();
        store_metadata(&array).unwrap();
        let key = meta_key_v3(array.path());
        assert_eq!(key.as_str(), "group/array/zarr.json");
        serde_json::from_slice(&store.get(&key).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn every_codec_has_a_configuration_and_is_what_was_meant() {
        register();
        let named = |name: &str| json!({"name": name, "configuration": {}});
        let transpose = json!({"name": "transpose", "configuration": {"order": [1, 0]}});
        let lz4 = json!({"name": "numcodecs.lz4", "configuration": {"acceleration": 1}});
        let shard = |codecs: Value, crc32c: &Value| {
            json!({"name": "sharding_indexed", "configuration": {
                "chunk_shape": [10, 4], "codecs": codecs, "index_location": "end",
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, crc32c]}})
        };
        let given = json!([transpose, "bytes", lz4, {"name": "crc32c"}]);
        let wanted = json!([transpose, named("bytes"), lz4, named("crc32c")]);
        let sharded = json!([shard(given.clone(), &json!("crc32c"))]);
        let wanted_sharded = json!([shard(wanted.clone(), &named("crc32c"))]);
        for (given, wanted) in [(given, wanted), (sharded, wanted_sharded)] {
            let document = json!({
                "zarr_format": 3, "node_type": "array", "shape": [40, 4], "data_type": "uint8",
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [20, 4]}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 7, "dimension_names": ["row", null], "attributes": {"unit": "m"},
                "codecs": &given
            });
            let metadata: ArrayMetadata = serde_json::from_value(document.clone()).unwrap();
            let small = Encoding {
                lz4_level: Some(9),
                ..Encoding::default()
            };
            let encoded = encode_with(&metadata, small).unwrap();
            for opened in [
                metadata.clone(),
                fuse(&metadata),
                encoded.clone(),
                fuse(&encoded),
            ] {
                let mut found = stored(opened);
                assert_eq!(found["codecs"], wanted);
                // The rest is as zarrs writes it, which adds its name to the attributes.
                found["codecs"] = given.clone();
                found["attributes"]
                    .as_object_mut()
                    .unwrap()
                    .remove("_zarrs");
                assert_eq!(found, document);
            }
        }
    }

    #[test]
    fn zarr_v2_is_stored_as_it_is() {
        register();
        let document = json!({
            "zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "<f4", "fill_value": 0.0, "order": "C",
            "compressor": {"id": "lz4"}, "filters": null, "attributes": {"unit": "m"}
        });
        let store = Arc::new(MemoryStore::new());
        let metadata = serde_json::from_value(document).unwrap();
        let array = Array::new_with_metadata(store.clone(), "/", metadata).unwrap();
        store_metadata(&array).unwrap();
        for key in [".zarray", ".zattrs"] {
            let key = key.try_into().unwrap();
            assert!(store.get(&key).unwrap().is_some(), "{key}");
        }
    }
}
