//! Whole arrays, read in Rust.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use zarrs::array::{Array, ArrayBytes};
use zarrs_codec::CodecOptions;
use zarrs_filesystem::FilesystemStore;

use crate::Result;

/// Open and read an array with zarrs, which runs one codec after the other; or one that was `fused`.
pub fn zarrs(array: &Path, pool: &ThreadPool, fused: bool) -> Result<(Duration, Vec<u8>)> {
    let options = CodecOptions::default().with_concurrent_target(pool.current_num_threads());
    let start = Instant::now();
    let bytes = pool.install(|| -> Result<ArrayBytes> {
        let mut array = Array::open(Arc::new(FilesystemStore::new(array)?), "/")?;
        if fused {
            let metadata = tempozarr::fuse(array.metadata());
            array = Array::new_with_metadata(array.storage(), "/", metadata)?;
        }
        Ok(array.retrieve_array_subset_opt(&array.subset_all(), &options)?)
    })?;
    let elapsed = start.elapsed();
    Ok((elapsed, bytes.into_fixed()?.into_owned()))
}
