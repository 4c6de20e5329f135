//! Open an array of the example store, written by zarr-python, and print its newest rows.
//!
//! `cargo run --release --example read_store -p tempozarr -- examples/data/books.zarr /usdm-btcusdt/book_raw`

use std::sync::Arc;

use zarrs::array::{Array, ArraySubset};
use zarrs_filesystem::FilesystemStore;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tempozarr::register();

    let mut arguments = std::env::args().skip(1);
    let (Some(store), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: read_store <store> </path/of/a/float32/array>".into());
    };
    let array = Array::open(Arc::new(FilesystemStore::new(store)?), &path)?;
    println!("{path}: {:?} {}", array.shape(), array.data_type());

    let mut newest = array
        .shape()
        .iter()
        .map(|length| 0..*length)
        .collect::<Vec<_>>();
    newest[0].start = newest[0].end.saturating_sub(3);
    let values: Vec<f32> = array.retrieve_array_subset(&ArraySubset::new_with_ranges(&newest))?;
    let row = values.len() / 3;
    for values in values.chunks(row.max(1)) {
        println!("{:?} ...", &values[..values.len().min(6)]);
    }
    Ok(())
}
