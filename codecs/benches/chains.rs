//! Speed of whole chains on one thread and one chunk of 4,096 rows of the example store, in bytes of
//! decoded data a second: the compressor alone, the chain in one pass, the chain codec by codec, and
//! the filters without the compressor.
//!
//! `make bench-kernels`

use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use serde_json::{Value, json};
use tempozarr::fused::{Plan, Target};
use zarrs::array::{Array, ArrayBytes, ArraySubset, CodecChain, DataType, FillValue};
use zarrs_codec::{ArrayToBytesCodecTraits, CodecOptions};
use zarrs_filesystem::FilesystemStore;
use zarrs_metadata::v3::MetadataV3;

const STORE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/data/books.zarr/cm-btcusd"
);
const ROWS: u64 = 4096;
const CHAINS: [&str; 4] = ["P1 book", "P2 time_ms", "P3 book_raw", "P4 book_raw"];

fn main() {
    tempozarr::register();
    divan::main();
}

/// A chunk, and what it is stored as.
struct Chunk {
    shape: Vec<std::num::NonZeroU64>,
    data_type: DataType,
    fill: FillValue,
    chain: CodecChain,
    plan: Plan,
    /// The filters alone.
    filters: Plan,
    decoded: Vec<u8>,
    filtered: Vec<u8>,
    encoded: Vec<u8>,
}

fn codecs(name: &str) -> Vec<Value> {
    let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let zstd = json!({"name": "zstd", "configuration": {"level": 3, "checksum": false}});
    let xor = json!({"name": "temporal_xor", "configuration": {"axis": 0}});
    let shuffle =
        |size| json!({"name": "numcodecs.shuffle", "configuration": {"elementsize": size}});
    let halves = json!({"name": "numcodecs.astype", "configuration": {"encode_dtype": "<f2"}});
    let delta = json!({"name": "numcodecs.delta", "configuration": {"dtype": "<i8"}});
    match &name[..2] {
        "P1" => vec![halves, xor, bytes, shuffle(2), zstd],
        "P2" => vec![delta, bytes, zstd],
        "P3" => vec![xor, bytes, shuffle(4), zstd],
        _ => vec![bytes, zstd],
    }
}

fn chain(codecs: &[Value]) -> CodecChain {
    let codecs: Vec<MetadataV3> = serde_json::from_value(json!(codecs)).expect("metadata");
    CodecChain::from_metadata(&codecs).expect("codecs")
}

impl Chunk {
    fn new(name: &str) -> Self {
        let store = FilesystemStore::new(STORE).expect("a folder");
        let array = Array::open(Arc::new(store), &format!("/{}", &name[3..])).expect("an array");
        let mut shape = array.shape().to_vec();
        shape[0] = ROWS;
        let rows: ArrayBytes = array
            .retrieve_array_subset(&ArraySubset::new_with_shape(shape.clone()))
            .expect("sound chunks");
        let shape: Vec<_> = shape.iter().filter_map(|&n| n.try_into().ok()).collect();
        let (data_type, fill) = (array.data_type().clone(), array.fill_value().clone());
        let codecs = codecs(name);
        let plan = |codecs: &[Value]| {
            Plan::new(&chain(codecs), &shape, &data_type, &fill).expect("a chain that is fused")
        };
        let (plan, filters) = (plan(&codecs), plan(&codecs[..codecs.len() - 1]));
        let decoded = rows.into_fixed().expect("numbers").into_owned();
        let (mut encoded, mut filtered) = (Vec::new(), Vec::new());
        plan.encode(&decoded, &mut encoded).expect("values");
        filters.encode(&decoded, &mut filtered).expect("values");
        Self {
            chain: chain(&codecs),
            shape,
            data_type,
            fill,
            plan,
            filters,
            decoded,
            filtered,
            encoded,
        }
    }

    fn count(&self) -> BytesCount {
        BytesCount::new(self.decoded.len())
    }
}

/// Decode a chunk again and again: to the same memory, or through an array that no cache holds.
fn decode(bencher: Bencher, chunk: &Chunk, plan: &Plan, encoded: &[u8], touched: bool) {
    let length = chunk.decoded.len();
    let chunks = if touched { (256 << 20) / length } else { 1 };
    let mut memory = vec![1; chunks * length];
    let shape = plan.decoded_shape();
    let region: Vec<_> = shape.iter().map(|&length| 0..length).collect();
    let size = length / shape.iter().product::<usize>();
    let mut places = (0..chunks).cycle();
    bencher.counter(chunk.count()).bench_local(|| {
        let place = places.next().unwrap_or(0) * length;
        let target = Target::new(&mut memory[place..place + length], &shape, size)
            .expect("memory for a chunk")
            .streaming(touched);
        // SAFETY: the target is a part of `memory`, which nobody else accesses.
        unsafe { plan.decode_box(encoded, &region, &target) }.expect("a sound chunk");
    });
}

#[divan::bench(args = CHAINS)]
fn decode_1_zstd_alone(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    let mut context = zstd_safe::DCtx::create();
    let mut buffer = vec![0; chunk.filtered.len()];
    bencher
        .counter(chunk.count())
        .bench_local(|| context.decompress(&mut buffer[..], &chunk.encoded));
}

#[divan::bench(args = CHAINS)]
fn decode_2_fused(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    decode(bencher, &chunk, &chunk.plan, &chunk.encoded, false);
}

#[divan::bench(args = CHAINS)]
fn decode_3_fused_into_a_touched_array(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    decode(bencher, &chunk, &chunk.plan, &chunk.encoded, true);
}

#[divan::bench(args = CHAINS)]
fn decode_4_codec_by_codec(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    let options = CodecOptions::default();
    bencher.counter(chunk.count()).bench_local(|| {
        let (shape, data_type) = (&chunk.shape, &chunk.data_type);
        let encoded = (&chunk.encoded).into();
        chunk
            .chain
            .decode(encoded, shape, data_type, &chunk.fill, &options)
    });
}

#[divan::bench(args = CHAINS)]
fn filters_1_hot_chunk(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    decode(bencher, &chunk, &chunk.filters, &chunk.filtered, false);
}

#[divan::bench(args = CHAINS)]
fn filters_2_into_a_touched_array(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    decode(bencher, &chunk, &chunk.filters, &chunk.filtered, true);
}

#[divan::bench(args = CHAINS)]
fn filters_3_memcpy_of_a_hot_chunk(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    let mut memory = vec![1; chunk.decoded.len()];
    bencher.counter(chunk.count()).bench_local(|| {
        memory.copy_from_slice(divan::black_box(&chunk.decoded));
        divan::black_box(&mut memory);
    });
}

#[divan::bench(args = CHAINS)]
fn encode_1_zstd_alone(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    let mut context = zstd_safe::CCtx::create();
    let mut buffer = vec![0; zstd_safe::compress_bound(chunk.filtered.len())];
    bencher.counter(chunk.count()).bench_local(|| {
        context
            .set_parameter(zstd_safe::CParameter::CompressionLevel(3))
            .and_then(|_| context.compress2(&mut buffer[..], &chunk.filtered))
    });
}

#[divan::bench(args = CHAINS)]
fn encode_2_fused(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    let mut encoded = Vec::new();
    bencher.counter(chunk.count()).bench_local(|| {
        encoded.clear();
        chunk.plan.encode(&chunk.decoded, &mut encoded)
    });
}

#[divan::bench(args = CHAINS)]
fn encode_3_codec_by_codec(bencher: Bencher, name: &str) {
    let chunk = Chunk::new(name);
    let options = CodecOptions::default();
    bencher.counter(chunk.count()).bench_local(|| {
        let (shape, data_type) = (&chunk.shape, &chunk.data_type);
        let decoded = chunk.decoded.as_slice().into();
        chunk
            .chain
            .encode(decoded, shape, data_type, &chunk.fill, &options)
            .map(std::borrow::Cow::into_owned)
    });
}
