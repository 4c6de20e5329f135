//! Metadata that cannot be used (`bad_metadata.json`): an error that says what was expected and
//! what was found, when the array is opened. Only what depends on the shape of chunks comes out at
//! the first read, because zarrs tells codecs nothing of it before.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::{Value, json};
use tempozarr_conformance::{folder, read_json, store_key};
use zarrs::array::{Array, ArrayBytes};
use zarrs_storage::WritableStorageTraits;
use zarrs_storage::store::MemoryStore;

/// Sound metadata with some fields replaced.
fn metadata(replace: &Value) -> Value {
    let mut metadata = if replace["zarr_format"] == 2 {
        json!({
            "zarr_format": 2, "shape": [7, 4], "chunks": [3, 4], "dtype": "<f4", "fill_value": 0.0,
            "order": "C", "filters": null, "compressor": null,
        })
    } else {
        json!({
            "zarr_format": 3, "node_type": "array", "shape": [7, 4], "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 4]}},
            "chunk_key_encoding": {"name": "default"}, "fill_value": 0,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        })
    };
    for (field, value) in replace.as_object().unwrap() {
        metadata[field] = value.clone();
    }
    metadata
}

/// When opening and reading the array failed, and why.
fn failure(metadata: &Value) -> Option<(&'static str, String)> {
    tempozarr::register();
    let store = Arc::new(MemoryStore::new());
    let key = if metadata["zarr_format"] == 2 {
        ".zarray"
    } else {
        "zarr.json"
    };
    store
        .set(&store_key(key), metadata.to_string().into_bytes().into())
        .unwrap();
    let read = || match Array::open(store, "/") {
        Err(error) => Some(("open", error.to_string())),
        Ok(array) => {
            let values = array.retrieve_array_subset::<ArrayBytes>(&array.subset_all());
            values.err().map(|error| ("read", error.to_string()))
        }
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Some(("panic", String::new())))
}

#[test]
fn unusable_metadata_is_a_clear_error() {
    assert_eq!(failure(&metadata(&json!({}))), None, "the sound metadata");
    assert_eq!(
        failure(&metadata(&json!({"zarr_format": 2}))),
        None,
        "the sound v2 metadata"
    );
    let mut wrong = vec![];
    for case in read_json(&folder("bad_metadata.json")).as_array().unwrap() {
        let at = case["at"].as_str().unwrap_or("open");
        let parts: Vec<_> = case["error"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap())
            .collect();
        match failure(&metadata(&case["replace"])) {
            Some((when, error)) if when == at && parts.iter().all(|part| error.contains(part)) => {}
            other => wrong.push(format!(
                "{}: expected {parts:?} at {at}, got {other:?}",
                case["what"]
            )),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
