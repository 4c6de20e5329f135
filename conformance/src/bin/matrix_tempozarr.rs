//! The adapter for zarrs with the codecs of tempozarr.

#[path = "../matrix/adapter.rs"]
mod adapter;

use std::error::Error;

use zarrs::array::Array;
use zarrs_filesystem::FilesystemStore;

fn main() -> Result<(), Box<dyn Error>> {
    tempozarr::register();
    let versions = serde_json::json!({
        "tempozarr": env!("CARGO_PKG_VERSION"),
        "zarrs": zarrs::version::version_str(),
    });
    adapter::serve(&versions, read_both_ways, tempozarr::store_metadata)
}

/// Codec by codec and with the chain in one pass, which must give the same.
fn read_both_ways(array: &Array<FilesystemStore>) -> Result<Vec<u8>, Box<dyn Error>> {
    let values = adapter::read_all(array)?;
    let fused = tempozarr::fuse(array.metadata());
    let fused = Array::new_with_metadata(array.storage(), "/", fused)?;
    if adapter::read_all(&fused)? == values {
        Ok(values)
    } else {
        Err("other values in one pass than codec by codec".into())
    }
}
