//! Speed of whole chains, as zarrs runs them on one thread, in bytes of decoded data a second: the
//! first chunk, or shard, of arrays of the example store, from the page cache.
//!
//! `make bench-kernels`

use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use zarrs::array::{Array, ArrayBytes};
use zarrs_codec::CodecOptions;
use zarrs_filesystem::FilesystemStore;

const STORE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/data/books.zarr/cm-btcusd"
);

fn main() {
    tempozarr::register();
    divan::main();
}

#[divan::bench(args = ["book", "book_raw", "time_ms", "flow"])]
fn decode(bencher: Bencher, name: &str) {
    let store = FilesystemStore::new(STORE).expect("a folder");
    let array = Array::open(Arc::new(store), &format!("/{name}")).expect("an array");
    let first = vec![0; array.dimensionality()];
    let options = CodecOptions::default().with_concurrent_target(1);
    let read = || array.retrieve_chunk_opt::<ArrayBytes>(&first, &options);
    let bytes = read().expect("a sound chunk").size();
    bencher.counter(BytesCount::new(bytes)).bench_local(read);
}
