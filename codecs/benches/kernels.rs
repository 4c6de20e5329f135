//! Speed of the kernels, in bytes of decoded (of casts: of input) data a second, on buffers that stay
//! in the first cache and on buffers that fit into none.
//!
//! `make bench-kernels`

#![allow(
    clippy::wildcard_imports,
    reason = "the modules are headings of one table"
)]

use bytemuck::Pod;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use half::f16;
use tempozarr::cast::{CastFrom, Overflow};
use tempozarr::delta::kernel::Arithmetic;

fn main() {
    divan::main();
}

/// Bytes of a buffer: one that fits into L1 together with a result of the same size, and a large one.
const SIZES: [usize; 2] = [12 << 10, 24 << 20];

/// Bytes that look like noise.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let byte = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(byte).collect()
}

fn values<T: Pod>(bytes: usize) -> Vec<T> {
    bytemuck::pod_collect_to_vec(&sample(bytes))
}

mod shuffle {
    use super::*;
    use tempozarr::shuffle::kernel;

    #[divan::bench(args = SIZES, consts = [2, 4, 8])]
    fn encode<const SIZE: usize>(bencher: Bencher, bytes: usize) {
        let (plain, mut shuffled) = (sample(bytes), vec![0; bytes]);
        bencher
            .counter(BytesCount::new(bytes))
            .bench_local(|| kernel::shuffle(black_box(&plain), black_box(&mut shuffled), SIZE));
    }

    #[divan::bench(args = SIZES, consts = [2, 4, 8])]
    fn decode<const SIZE: usize>(bencher: Bencher, bytes: usize) {
        let (shuffled, mut plain) = (sample(bytes), vec![0; bytes]);
        bencher
            .counter(BytesCount::new(bytes))
            .bench_local(|| kernel::unshuffle(black_box(&shuffled), black_box(&mut plain), SIZE));
    }
}

/// Rows of float16 and float32 books, of `flow`, and of single numbers.
mod temporal_xor {
    use super::*;
    use tempozarr::temporal_xor::kernel;

    #[divan::bench(args = SIZES, consts = [300, 600, 32, 8, 4])]
    fn encode<const ROW: usize>(bencher: Bencher, bytes: usize) {
        let rows = bytes / ROW;
        let decoded = sample(rows * ROW);
        bencher
            .counter(BytesCount::new(decoded.len()))
            .bench_local(|| kernel::encode(black_box(&decoded), rows, ROW));
    }

    #[divan::bench(args = SIZES, consts = [300, 600, 32, 8, 4])]
    fn decode<const ROW: usize>(bencher: Bencher, bytes: usize) {
        let rows = bytes / ROW;
        let mut data = sample(rows * ROW);
        bencher
            .counter(BytesCount::new(data.len()))
            .bench_local(|| kernel::decode(black_box(&mut data), rows, ROW));
    }
}

mod delta {
    use super::*;
    use tempozarr::delta::kernel;

    #[divan::bench(args = SIZES, types = [i8, i16, i32, i64])]
    fn decode<T: Arithmetic + Pod>(bencher: Bencher, bytes: usize) {
        let mut data = values::<T>(bytes);
        bencher
            .counter(BytesCount::new(bytes))
            .bench_local(|| kernel::decode(black_box(&mut data)));
    }
}

mod cast {
    use super::*;

    /// Cast numbers from 0 to 255, which every type holds.
    fn bench<S: Pod + CastFrom<u8>, D: CastFrom<S> + Pod>(bencher: Bencher, bytes: usize) {
        let numbers = sample(bytes / size_of::<S>());
        let mut from = vec![S::zeroed(); numbers.len()];
        let made = tempozarr::cast::cast(&numbers, &mut from, Overflow::Refuse);
        assert_eq!(made, Ok(()));
        let mut to = vec![D::zeroed(); from.len()];
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            tempozarr::cast::cast(black_box(&from), black_box(&mut to), Overflow::Refuse)
        });
    }

    #[divan::bench(args = SIZES)]
    fn f16_to_f32(bencher: Bencher, bytes: usize) {
        bench::<f16, f32>(bencher, bytes);
    }

    #[divan::bench(args = SIZES)]
    fn f32_to_f16(bencher: Bencher, bytes: usize) {
        bench::<f32, f16>(bencher, bytes);
    }

    #[divan::bench(args = SIZES)]
    fn f32_to_f64(bencher: Bencher, bytes: usize) {
        bench::<f32, f64>(bencher, bytes);
    }

    #[divan::bench(args = SIZES)]
    fn f64_to_f32(bencher: Bencher, bytes: usize) {
        bench::<f64, f32>(bencher, bytes);
    }
}

/// The decompressors that chains end in, on a chunk of the example store: all of it, and its start.
mod decompress {
    use super::*;

    const SIZES: [usize; 2] = [12 << 10, 128 << 10];

    macro_rules! chunk {
        ($path:literal) => {
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../examples/data/books.zarr/cm-btcusd/",
                $path
            ))
        };
    }

    #[divan::bench(args = SIZES)]
    fn lz4(bencher: Bencher, bytes: usize) {
        let plain = lz4::block::decompress(chunk!("flow/c/0/0"), None).unwrap_or_default();
        let block = lz4::block::compress(&plain[..bytes], None, false).unwrap_or_default();
        let mut out = vec![0; bytes];
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            let length = i32::try_from(bytes).ok();
            lz4::block::decompress_to_buffer(black_box(&block), length, &mut out)
        });
    }

    #[divan::bench(args = SIZES)]
    fn zstd(bencher: Bencher, bytes: usize) {
        let mut plain = vec![0; 128 << 10];
        let mut frame = Vec::with_capacity(zstd_safe::compress_bound(bytes));
        let made = zstd_safe::decompress(&mut plain[..], chunk!("time_ms/c/0"))
            .and_then(|_| zstd_safe::compress(&mut frame, &plain[..bytes], 3));
        assert!(made.is_ok(), "the example store is sound");
        let mut context = zstd_safe::DCtx::create();
        let mut out = vec![0; bytes];
        bencher
            .counter(BytesCount::new(bytes))
            .bench_local(|| context.decompress(&mut out[..], black_box(&frame)));
    }
}
