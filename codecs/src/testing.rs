//! What tests of codecs share: small arrays in memory, and chunks that are corrupt.

use std::sync::Arc;

use serde_json::{Value, json};
use zarrs::array::{Array, ArraySubset};
use zarrs_codec::{
    ArrayToArrayCodecTraits, ArrayToBytesCodecTraits, BytesToBytesCodecTraits, Codec,
    CodecMetadataOptions,
};
use zarrs_metadata::ArrayMetadata;
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;
use zarrs_storage::store::MemoryStore;

pub(crate) type TestArray = Array<MemoryStore>;

/// Open an array with `metadata` in a new store, and check as readers do that its codecs take it.
pub(crate) fn open(metadata: &Value) -> Result<TestArray, String> {
    crate::register();
    let metadata: ArrayMetadata = serde_json::from_value(metadata.clone()).unwrap();
    let store = Arc::new(MemoryStore::new());
    let array = Array::new_with_metadata(store, "/a", metadata).map_err(|e| e.to_string())?;
    let chunk = array
        .chunk_shape(&vec![0; array.dimensionality()])
        .map_err(|e| e.to_string())?;
    array
        .codecs()
        .encoded_representation(&chunk, array.data_type(), array.fill_value())
        .map_err(|e| e.to_string())?;
    Ok(array)
}

/// Metadata of a Zarr V3 array of 7 by 6 elements in chunks of 3 by 4, with `filters` ahead of
/// the bytes codec.
pub(crate) fn v3(data_type: &Value, fill_value: &Value, filters: &[Value]) -> Value {
    let mut codecs = filters.to_vec();
    codecs.push(json!({"name": "bytes", "configuration": {"endian": "little"}}));
    json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": [7, 6],
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 4]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": fill_value,
        "codecs": codecs,
    })
}

/// The same with the codecs inside a shard that is the whole array, in subchunks of 3 by 4.
pub(crate) fn sharded(mut metadata: Value) -> Value {
    let inner = metadata["codecs"].take();
    let little = json!({"name": "bytes", "configuration": {"endian": "little"}});
    metadata["shape"] = json!([9, 8]);
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = json!([9, 8]);
    metadata["codecs"] = json!([{"name": "sharding_indexed", "configuration": {
        "chunk_shape": [3, 4], "codecs": inner, "index_codecs": [little, "crc32c"],
    }}]);
    metadata
}

/// Metadata of a Zarr V2 array of one chunk of 12 elements.
pub(crate) fn v2(dtype: &str, filters: &[Value]) -> Value {
    json!({
        "zarr_format": 2,
        "shape": [12],
        "chunks": [12],
        "dtype": dtype,
        "fill_value": 0,
        "order": "C",
        "filters": filters,
        "compressor": null,
    })
}

/// Open a Zarr V2 array of one chunk, stored as `hex`, and read it.
pub(crate) fn read_v2(dtype: &str, filters: &[Value], hex: &str) -> Result<Vec<u8>, String> {
    let array = open(&v2(dtype, filters))?;
    // SAFETY: the bytes are the chunk as its codecs encode it; that is what the test is about.
    unsafe { array.store_encoded_chunk(&[0], unhex(hex).into()) }.map_err(|e| e.to_string())?;
    bytes(&array, &ArraySubset::new_with_shape(vec![12]))
}

/// The bytes of a subset, as read.
pub(crate) fn bytes(array: &TestArray, subset: &ArraySubset) -> Result<Vec<u8>, String> {
    let read: zarrs::array::ArrayBytes = array
        .retrieve_array_subset(subset)
        .map_err(|e| e.to_string())?;
    Ok(read.into_fixed().unwrap().into_owned())
}

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Create a codec from the metadata of a Zarr version: `{"name", "configuration"}` or `{"id", …}`.
pub(crate) fn codec(metadata: &Value) -> Result<Codec, String> {
    crate::register();
    if metadata.get("id").is_some() {
        let metadata: MetadataV2 = serde_json::from_value(metadata.clone()).unwrap();
        Codec::from_metadata(&metadata)
    } else {
        let metadata: MetadataV3 = serde_json::from_value(metadata.clone()).unwrap();
        Codec::from_metadata(&metadata)
    }
    .map_err(|e| e.to_string())
}

/// Create a bytes->bytes codec as [`codec`] does, and check that it writes its configuration back
/// as it was.
pub(crate) fn bytes_codec(metadata: &Value) -> Arc<dyn BytesToBytesCodecTraits> {
    let codec = codec(metadata).unwrap();
    assert_keeps_configuration(&codec, metadata);
    let Codec::BytesToBytes(codec) = codec else {
        panic!("{metadata}: expected a bytes->bytes codec")
    };
    codec
}

/// The same for an array->array codec.
pub(crate) fn array_codec(metadata: &Value) -> Arc<dyn ArrayToArrayCodecTraits> {
    let codec = codec(metadata).unwrap();
    assert_keeps_configuration(&codec, metadata);
    let Codec::ArrayToArray(codec) = codec else {
        panic!("{metadata}: expected an array->array codec")
    };
    codec
}

/// Check that a codec writes back the configuration that `metadata` has, in both versions.
pub(crate) fn assert_keeps_configuration(codec: &Codec, metadata: &Value) {
    let mut configuration = metadata.clone();
    let configuration = match configuration.get("id") {
        Some(_) => {
            configuration.as_object_mut().unwrap().remove("id");
            configuration
        }
        None => metadata.get("configuration").cloned().unwrap_or(json!({})),
    };
    let options = CodecMetadataOptions::default();
    for written in [
        codec.configuration_v3(&options),
        codec.configuration_v2(&options),
    ] {
        assert_eq!(serde_json::to_value(written).unwrap(), configuration);
    }
}

/// `bytes` with any one bit flipped, and cut off anywhere.
pub(crate) fn corrupted(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flips = (0..8 * bytes.len()).map(|bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    flips.chain((0..bytes.len()).map(|end| bytes[..end].to_vec()))
}

/// The bytes of elements.
pub(crate) fn raw<T: bytemuck::Pod>(elements: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(elements).to_vec()
}
