//! The adapter for zarrs without any codec of tempozarr: nothing here may name that crate, whose
//! codecs would come along.

#[path = "../matrix/adapter.rs"]
mod adapter;

use zarrs::array::Array;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let versions = serde_json::json!({"zarrs": zarrs::version::version_str()});
    adapter::serve(&versions, adapter::read_all, Array::store_metadata)
}
