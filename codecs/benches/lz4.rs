//! LZ4 on one thread, in bytes of decoded data a second: liblz4, which the codec uses, beside the
//! safe decoder and encoder of `lz4_flex`, on blocks of the example store and of noise.
//!
//! `make bench-kernels`

use std::sync::Arc;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use half::f16;
use lz4::block::{CompressionMode, compress_to_buffer, decompress_to_buffer};
use zarrs::array::{Array, ArraySubset, ElementOwned};
use zarrs_filesystem::FilesystemStore;

const STORE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/data/books.zarr/cm-btcusd"
);
/// Data, and KiB of a block of it.
const BLOCKS: [(&str, usize); 9] = [
    ("book", 64),
    ("book", 256),
    ("book", 1200),
    ("book", 2048),
    ("book_raw", 64),
    ("book_raw", 2048),
    ("time_ms", 64),
    ("time_ms", 234),
    ("noise", 2048),
];
const TOTAL: usize = 6 << 20;
const LEVELS: [i32; 12] = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn main() {
    tempozarr::register();
    divan::main();
}

/// Blocks as chains hand them to LZ4, of 6 MiB at most: `book` as float16, differences of `time_ms`.
/// One block again and again would be decoded faster than any chunk of an array is: the processor
/// learns where it branches.
fn blocks((name, kib): (&str, usize)) -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = match name {
        "noise" => {
            let mut state = 1_u64;
            let next = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_be_bytes()[0]
            };
            std::iter::repeat_with(next).take(TOTAL).collect()
        }
        "time_ms" => {
            let times: Vec<i64> = values(name);
            let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
            steps.flat_map(i64::to_le_bytes).collect()
        }
        "book" => {
            let halves = values(name).into_iter().map(f16::from_f32);
            halves.flat_map(f16::to_le_bytes).collect()
        }
        _ => values::<f32>(name)
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect(),
    };
    let blocks = bytes.chunks_exact(kib << 10);
    blocks
        .take(TOTAL / (kib << 10))
        .map(<[u8]>::to_vec)
        .collect()
}

fn values<T: ElementOwned>(name: &str) -> Vec<T> {
    let store = Arc::new(FilesystemStore::new(STORE).expect("a folder"));
    let array = Array::open(store, &format!("/{name}")).expect("an array");
    let all = ArraySubset::new_with_shape(array.shape().to_vec());
    array.retrieve_array_subset(&all).expect("sound chunks")
}

/// Encode with high compression; with the fast encoder, if there is no level.
fn encode(plain: &[u8], level: i32, encoded: &mut [u8]) -> usize {
    let mode = match level {
        0 => CompressionMode::FAST(1),
        level => CompressionMode::HIGHCOMPRESSION(level),
    };
    compress_to_buffer(plain, Some(mode), false, encoded).expect("room for the block")
}

fn total(blocks: &[Vec<u8>]) -> BytesCount {
    BytesCount::new(blocks.iter().map(Vec::len).sum::<usize>())
}

fn bench_decoder(
    bencher: Bencher,
    (of, level): ((&str, usize), i32),
    decode: impl Fn(&[u8], &mut [u8]) -> usize,
) {
    let blocks = blocks(of);
    let mut room = vec![0; 2 * blocks[0].len()];
    let encoded = |block: &Vec<u8>| {
        let length = encode(block, level, &mut room);
        room[..length].to_vec()
    };
    let encoded: Vec<_> = blocks.iter().map(encoded).collect();
    let mut out = vec![0; blocks[0].len()];
    bencher.counter(total(&blocks)).bench_local(|| {
        for block in &encoded {
            decode(black_box(block), &mut out);
        }
    });
    assert_eq!(Some(&out), blocks.last());
}

fn liblz4(encoded: &[u8], out: &mut [u8]) -> usize {
    let length = i32::try_from(out.len()).ok();
    decompress_to_buffer(encoded, length, out).expect("a sound block")
}

fn lz4_flex(encoded: &[u8], out: &mut [u8]) -> usize {
    lz4_flex::block::decompress_into(encoded, out).expect("a sound block")
}

#[divan::bench(args = BLOCKS)]
fn decode_1_liblz4_of_the_fast_encoder(bencher: Bencher, of: (&str, usize)) {
    bench_decoder(bencher, (of, 0), liblz4);
}

#[divan::bench(args = BLOCKS)]
fn decode_2_lz4_flex_of_the_fast_encoder(bencher: Bencher, of: (&str, usize)) {
    bench_decoder(bencher, (of, 0), lz4_flex);
}

#[divan::bench(args = BLOCKS)]
fn decode_3_liblz4_of_level_9(bencher: Bencher, of: (&str, usize)) {
    bench_decoder(bencher, (of, 9), liblz4);
}

#[divan::bench(args = BLOCKS)]
fn decode_4_lz4_flex_of_level_9(bencher: Bencher, of: (&str, usize)) {
    bench_decoder(bencher, (of, 9), lz4_flex);
}

fn bench_encoder(bencher: Bencher, encode: impl Fn(&[u8], &mut [u8]) -> usize) {
    let blocks = blocks(("book", 1200));
    let mut room = vec![0; 2 * blocks[0].len()];
    bencher.counter(total(&blocks)).bench_local(|| {
        for block in &blocks {
            encode(black_box(block), &mut room);
        }
    });
}

/// The level 0 is the fast encoder.
#[divan::bench(args = LEVELS)]
fn encode_1_liblz4_at_a_level(bencher: Bencher, level: i32) {
    bench_encoder(bencher, |plain, room| encode(plain, level, room));
}

#[divan::bench]
fn encode_2_lz4_flex(bencher: Bencher) {
    bench_encoder(bencher, |plain, room| {
        lz4_flex::block::compress_into(plain, room).expect("room for the block")
    });
}
