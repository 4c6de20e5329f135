//! Laws: a fused chain decodes to the bits, encodes to the bytes, and fails on the chunks of the
//! chain of codecs that it replaces; whatever the chain, type, shape and region.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use zarrs::array::{Array, ArrayMetadata, ArraySubset, CodecChain, DataType, FillValue};
use zarrs_codec::{ArrayBytes, ArrayToBytesCodecTraits, CodecOptions};
use zarrs_metadata::v3::MetadataV3;

use super::*;
use crate::dtype::NumericType;
use crate::testing;

/// A chain and chunks of it.
#[derive(Clone, Debug)]
struct Case {
    data_type: NumericType,
    shape: Vec<usize>,
    codecs: Vec<Value>,
}

impl Case {
    fn new(data_type: NumericType, shape: &[usize], codecs: &[Value]) -> Self {
        Self {
            data_type,
            shape: shape.to_vec(),
            codecs: codecs.to_vec(),
        }
    }

    fn data_type(&self) -> DataType {
        self.data_type.data_type()
    }

    fn fill(&self) -> FillValue {
        FillValue::new(vec![0; self.data_type.size()])
    }

    fn shape(&self) -> Vec<NonZeroU64> {
        let lengths = self.shape.iter().map(|&length| length as u64);
        lengths
            .map(|length| NonZeroU64::new(length).unwrap())
            .collect()
    }

    fn chain(&self) -> CodecChain {
        crate::register();
        let codecs: Vec<MetadataV3> = serde_json::from_value(json!(self.codecs)).unwrap();
        CodecChain::from_metadata(&codecs).unwrap()
    }

    fn plan(&self) -> Result<Plan, Unfused> {
        Plan::new(
            &self.chain(),
            &self.shape(),
            &self.data_type(),
            &self.fill(),
        )
    }

    fn encode(&self, decoded: &[u8]) -> Result<Vec<u8>, String> {
        self.chain()
            .encode(
                decoded.into(),
                &self.shape(),
                &self.data_type(),
                &self.fill(),
                &CodecOptions::default(),
            )
            .map(std::borrow::Cow::into_owned)
            .map_err(|error| error.to_string())
    }

    fn decode(&self, encoded: &[u8]) -> Result<Vec<u8>, String> {
        self.chain()
            .decode(
                encoded.into(),
                &self.shape(),
                &self.data_type(),
                &self.fill(),
                &CodecOptions::default(),
            )
            .map(|decoded| decoded.into_fixed().unwrap().into_owned())
            .map_err(|error| error.to_string())
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.data_type.size()
    }

    /// Values that move slowly, with some noise; every float is finite and fits float16, and no
    /// integer is negative or larger than 100, so that every cast works.
    fn sample(&self, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let count = self.shape.iter().product();
        let values = (0..count).map(|i: usize| {
            let noise = if random().is_multiple_of(4) {
                random() % 50
            } else {
                0
            };
            (i / 7 % 50) as u64 + noise
        });
        crate::dtype::dispatch!(self.data_type, T => {
            let values: Vec<T> = values
                .map(|value| <T as crate::cast::CastFrom<u64>>::cast(&value))
                .collect();
            testing::raw(&values)
        })
    }

    /// The bytes of a box of a decoded chunk.
    fn cut(&self, decoded: &[u8], region: &[Range<usize>]) -> Vec<u8> {
        let ranges: Vec<_> = region
            .iter()
            .map(|r| r.start as u64..r.end as u64)
            .collect();
        let shape: Vec<_> = self.shape.iter().map(|&length| length as u64).collect();
        ArrayBytes::from(decoded)
            .extract_array_subset(
                &ArraySubset::new_with_ranges(&ranges),
                &shape,
                &self.data_type(),
            )
            .unwrap()
            .into_fixed()
            .unwrap()
            .into_owned()
    }
}

fn named(name: &str, configuration: &Value) -> Value {
    json!({"name": name, "configuration": configuration})
}

fn bytes(endian: &str) -> Value {
    named("bytes", &json!({"endian": endian}))
}

fn xor(axis: usize) -> Value {
    named("temporal_xor", &json!({"axis": axis}))
}

fn astype(encode: NumericType, decode: NumericType) -> Value {
    named(
        "numcodecs.astype",
        &json!({"encode_dtype": encode.numpy(), "decode_dtype": decode.numpy()}),
    )
}

fn shuffle(size: usize) -> Value {
    named("numcodecs.shuffle", &json!({"elementsize": size}))
}

fn zstd() -> Value {
    named("zstd", &json!({"level": 1, "checksum": false}))
}

/// P1 of the benchmarks.
fn book(shape: &[usize]) -> Case {
    use NumericType::{Float16, Float32};
    let codecs = [
        astype(Float16, Float32),
        xor(0),
        bytes("little"),
        shuffle(2),
        zstd(),
    ];
    Case::new(Float32, shape, &codecs)
}

/// A box of a chunk of `shape`, from any number.
fn region(shape: &[usize], mut seed: u64) -> Vec<Range<usize>> {
    let mut random = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % n
    };
    shape
        .iter()
        .map(|&length| {
            let start = random(length);
            start..start + 1 + random(length - start)
        })
        .collect()
}

/// Filters before `bytes` that fit each other, and the type that they store.
fn filters() -> impl Strategy<Value = (NumericType, Vec<usize>, Vec<Value>, NumericType)> {
    let shapes = select(vec![
        vec![],
        vec![1],
        vec![5],
        vec![4099],
        vec![300, 4],
        vec![3, 5],
        vec![1, 777],
        vec![40, 50, 3],
        vec![7, 3, 1, 5],
        vec![3, 5000],
    ]);
    let types = select(NumericType::ALL);
    let picks =
        proptest::collection::vec((0..6_usize, select(NumericType::ALL), any::<u64>()), 0..4);
    (types, shapes, picks).prop_map(|(data_type, shape, picks)| {
        let mut now = data_type;
        let mut codecs = Vec::new();
        for (pick, other, number) in picks {
            match pick {
                0 | 1 if !shape.is_empty() => codecs.push(xor(number as usize % shape.len())),
                2 if now != NumericType::Bool => {
                    codecs.push(named("numcodecs.delta", &json!({"dtype": now.numpy()})));
                }
                // A XOR makes bit patterns that another type may not hold.
                3 if !codecs
                    .iter()
                    .any(|codec: &Value| codec["name"] == "temporal_xor") =>
                {
                    codecs.push(astype(other, now));
                    now = other;
                }
                4 if !shape.is_empty() => {
                    let mut order: Vec<_> = (0..shape.len()).collect();
                    order.rotate_left(number as usize % shape.len());
                    codecs.push(named("transpose", &json!({"order": order})));
                }
                5 if now != NumericType::Bool && now.is_integer() => codecs.push(named(
                    "numcodecs.delta",
                    &json!({"dtype": now.numpy(), "astype": now.numpy()}),
                )),
                _ => {}
            }
        }
        (data_type, shape, codecs, now)
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let compressors = select(vec![
        None,
        Some(zstd()),
        Some(named("zstd", &json!({"level": -3, "checksum": true}))),
        Some(named("numcodecs.lz4", &json!({}))),
        Some(named("gzip", &json!({"level": 1}))),
        Some(named(
            "blosc",
            &json!({"cname": "lz4", "clevel": 3, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}),
        )),
    ]);
    let crc32c = json!({"name": "crc32c"});
    (
        filters(),
        select(vec!["little", "big"]),
        any::<bool>(),
        (any::<bool>(), any::<bool>()),
        compressors,
    )
        .prop_map(
            move |((data_type, shape, mut codecs, stored), endian, shuffled, crc, compressor)| {
                codecs.push(bytes(endian));
                codecs.extend(shuffled.then(|| shuffle(stored.size())));
                codecs.extend(crc.0.then(|| crc32c.clone()));
                let compressed = compressor.is_some();
                codecs.extend(compressor);
                codecs.extend((crc.1 && compressed).then(|| crc32c.clone()));
                Case {
                    data_type,
                    shape,
                    codecs,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn fused_is_unfused(case in cases(), seed in any::<u64>()) {
        let plan = match case.plan() {
            Ok(plan) => plan,
            Err(reason) => {
                prop_assert!(reason.to_string().contains("transpose"), "{reason}");
                return Ok(());
            }
        };
        let decoded = case.sample(seed);
        let Ok(encoded) = case.encode(&decoded) else {
            // A value that a narrow type does not hold: neither way stores it.
            prop_assert!(plan.encode(&decoded, &mut Vec::new()).is_err());
            return Ok(());
        };
        let mut ours = vec![1, 2, 3];
        if plan.encode(&decoded, &mut ours).is_ok() {
            prop_assert_eq!(&ours[3..], &encoded);
        } else {
            prop_assert!(plan.unencodable().is_some(), "{}", plan);
            prop_assert_eq!(&ours, &[1, 2, 3]);
        }
        let Ok(decoded) = case.decode(&encoded) else {
            // float16 stored an infinity that no integer is.
            prop_assert!(plan.decode(&encoded, &mut vec![0; case.bytes()]).is_err());
            return Ok(());
        };
        let mut whole = vec![0xaa; decoded.len()];
        plan.decode(&encoded, &mut whole).unwrap();
        prop_assert_eq!(&whole, &decoded, "{}", plan);
        for i in 0..4 {
            let region = region(&case.shape, seed ^ i);
            let part = plan.decode_region_to_vec(&encoded, &region).unwrap();
            prop_assert_eq!(&part, &case.cut(&decoded, &region), "{} {:?}", plan, region);
        }
    }

    /// Any strides, ordinary stores and those past the caches.
    #[test]
    fn boxes_land_in_place(case in cases(), seed in any::<u64>(), streams in any::<bool>()) {
        let Ok(plan) = case.plan() else { return Ok(()) };
        let Ok(encoded) = case.encode(&case.sample(seed)) else { return Ok(()) };
        let Ok(decoded) = case.decode(&encoded) else { return Ok(()) };
        let region = region(&case.shape, seed);
        let lengths: Vec<_> = region.iter().map(ExactSizeIterator::len).collect();
        let size = case.data_type.size();
        // An array of twice the length in each dimension, every second element of which is meant,
        // or the first ones; in C order or backwards.
        for (spread, order) in [(1, false), (2, false), (1, true), (2, true)] {
            let mut strides = vec![0; lengths.len()];
            let mut total = size;
            let mut dims: Vec<_> = (0..lengths.len()).collect();
            if !order {
                dims.reverse();
            }
            for d in dims {
                strides[d] = (total * spread).cast_signed();
                total *= lengths[d] * 2;
            }
            let mut memory = vec![0x55_u8; total];
            let target = Target::from_raw(memory.as_mut_ptr(), strides.clone()).streaming(streams);
            // SAFETY: every element of the box lies in `memory`, which is as large as twice the
            // lengths of the box.
            unsafe { plan.decode_box(&encoded, &region, &target) }.unwrap();
            let mut expected = vec![0x55_u8; total];
            let values = case.cut(&decoded, &region);
            for (i, value) in values.chunks_exact(size).enumerate() {
                let mut rest = i;
                let mut at = 0;
                for d in (0..lengths.len()).rev() {
                    at += (rest % lengths[d]) * strides[d].cast_unsigned();
                    rest /= lengths[d];
                }
                expected[at..at + size].copy_from_slice(value);
            }
            prop_assert_eq!(memory, expected);
        }
    }

    /// A flipped bit, a cut end, bytes too many: the same value, or an error both ways.
    #[test]
    fn damage_is_met_alike(case in cases(), seed in any::<u64>(), at in any::<usize>(), bit in 0..8) {
        let Ok(plan) = case.plan() else { return Ok(()) };
        let Ok(encoded) = case.encode(&case.sample(seed)) else { return Ok(()) };
        let mut flipped = encoded.clone();
        let place = at % encoded.len();
        flipped[place] ^= 1_u8 << bit;
        let cut = encoded[..place].to_vec();
        let longer = [&encoded[..], &encoded[place..]].concat();
        for damaged in [flipped, cut, longer] {
            let mut ours = vec![0; case.bytes()];
            match (plan.decode(&damaged, &mut ours), case.decode(&damaged)) {
                (Ok(()), Ok(expected)) => prop_assert_eq!(ours, expected),
                (Err(_), Err(_)) => {}
                (ours, unfused) => prop_assert!(false, "{plan}: {ours:?}, {unfused:?}"),
            }
            let _ = plan.decode_region_to_vec(&damaged, &region(&case.shape, seed));
        }
    }
}

#[test]
fn bit_patterns_survive() {
    // Every float16, NaNs with payloads included, in rows that XOR and shuffle take apart.
    let case = book(&[512, 128]);
    let plan = case.plan().unwrap();
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    let mut decoded = vec![0.0_f32; halves.len()];
    crate::cast::cast(&halves, &mut decoded, crate::cast::Overflow::Refuse).unwrap();
    let decoded = testing::raw(&decoded);
    let mut encoded = Vec::new();
    plan.encode(&decoded, &mut encoded).unwrap();
    assert_eq!(encoded, case.encode(&decoded).unwrap());
    let mut back = vec![0; decoded.len()];
    plan.decode(&encoded, &mut back).unwrap();
    assert!(back == decoded);
}

#[test]
fn a_chunk_of_the_wrong_length_is_an_error() {
    let case = book(&[16, 5]);
    let plan = case.plan().unwrap();
    let encoded = case.encode(&case.sample(1)).unwrap();
    let mut short = vec![0; case.bytes() - 4];
    assert!(plan.decode(&encoded, &mut short).is_err());
    assert!(plan.encode(&short, &mut Vec::new()).is_err());
    let whole = [0..16, 0..5];
    for region in [&whole[..1], &[0..17, 0..5], &[3..3, 0..5]] {
        assert!(
            plan.decode_region_to_vec(&encoded, region).is_err(),
            "{region:?}"
        );
    }
}

fn metadata(case: &Case, shape: &[usize], codecs: &Value, chunk: &[usize]) -> ArrayMetadata {
    let metadata = json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": case.data_type.name(),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": codecs,
    });
    serde_json::from_value(metadata).unwrap()
}

fn sharded(inner: &Value, chunk: &[usize]) -> Value {
    json!([{"name": "sharding_indexed", "configuration": {
        "chunk_shape": chunk, "codecs": inner, "index_codecs": [bytes("little"), "crc32c"],
    }}])
}

/// At any level of sharding: arrays read and write alike through zarrs, whole and in parts.
#[test]
fn arrays_are_fused_at_any_level_of_sharding() {
    let case = book(&[8, 5, 3]);
    let inner = json!(case.codecs);
    let one = sharded(&inner, &[8, 5, 3]);
    let two = sharded(&one, &[16, 5, 3]);
    for (codecs, chunk) in [(&inner, [8, 5, 3]), (&one, [16, 5, 6]), (&two, [32, 10, 3])] {
        let plain = metadata(&case, &[45, 10, 6], codecs, &chunk);
        let fused = fuse(&plain);
        assert_ne!(fused, plain);
        assert!(
            explain(&plain)
                .to_string()
                .starts_with("fused: zstd, unshuffle 2")
        );
        let store = Arc::new(zarrs_storage::store::MemoryStore::new());
        let unfused = Array::new_with_metadata(store.clone(), "/a", plain).unwrap();
        let fused = Array::new_with_metadata(store.clone(), "/a", fused).unwrap();
        let all = ArraySubset::new_with_shape(vec![45, 10, 6]);
        let values: Vec<f32> = (0..45 * 60_u16).map(|i| f32::from(i % 1000)).collect();
        fused.store_array_subset(&all, &values).unwrap();
        let whole: Vec<f32> = unfused.retrieve_array_subset(&all).unwrap();
        assert_eq!(whole, values);
        assert_eq!(
            fused.retrieve_array_subset::<Vec<f32>>(&all).unwrap(),
            values
        );
        for seed in 0..20 {
            let ranges: Vec<_> = region(&[45, 10, 6], seed)
                .iter()
                .map(|r| r.start as u64..r.end as u64)
                .collect();
            let subset = ArraySubset::new_with_ranges(&ranges);
            let expected: Vec<f32> = unfused.retrieve_array_subset(&subset).unwrap();
            assert_eq!(
                fused.retrieve_array_subset::<Vec<f32>>(&subset).unwrap(),
                expected
            );
        }
    }
}

#[test]
fn subsets_of_missing_chunks_are_fill_value() {
    let case = book(&[8, 5, 3]);
    let fused = fuse(&metadata(
        &case,
        &[45, 10, 6],
        &json!(case.codecs),
        &[8, 5, 3],
    ));
    let store = Arc::new(zarrs_storage::store::MemoryStore::new());
    let array = Array::new_with_metadata(store, "/a", fused).unwrap();
    let subset = ArraySubset::new_with_ranges(&[3..9, 0..2, 1..5]);
    let read: Vec<f32> = array.retrieve_array_subset(&subset).unwrap();
    assert_eq!(read, vec![0.0; 6 * 2 * 4]);
}

/// The error of a fused chain is the one of the codec that refuses.
#[test]
fn errors_are_those_of_the_codecs() {
    let mut case = book(&[8, 5, 3]);
    case.codecs[0] = astype(NumericType::UInt8, NumericType::Float32);
    let fused = fuse(&metadata(
        &case,
        &[8, 5, 3],
        &json!(case.codecs),
        &[8, 5, 3],
    ));
    let store = Arc::new(zarrs_storage::store::MemoryStore::new());
    let array = Array::new_with_metadata(store, "/a", fused);
    // One byte elements have no halves to shuffle.
    assert!(
        explain(array.as_ref().unwrap().metadata())
            .to_string()
            .contains("do not divide")
    );
    case.codecs.remove(3);
    let fused = fuse(&metadata(
        &case,
        &[8, 5, 3],
        &json!(case.codecs),
        &[8, 5, 3],
    ));
    let store = Arc::new(zarrs_storage::store::MemoryStore::new());
    let array = Array::new_with_metadata(store, "/a", fused).unwrap();
    let mut values = vec![1.0_f32; 120];
    values[7] = 300.0;
    let error = array
        .store_chunk(&[0, 0, 0], &values)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("element 7 (300.0) has no value as uint8"),
        "{error}"
    );
    // SAFETY: the bytes are a chunk as far as the store is concerned; that is what is tested.
    unsafe { array.store_encoded_chunk(&[0, 0, 0], vec![1, 2, 3].into()) }.unwrap();
    let error = array
        .retrieve_chunk::<Vec<f32>>(&[0, 0, 0])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("zstd: decompressing the chunk failed"),
        "{error}"
    );
}

#[test]
fn says_why_not() {
    use NumericType::Float32;
    let little = bytes("little");
    let crc32c = json!({"name": "crc32c"});
    let transpose = named("transpose", &json!({"order": [1, 0]}));
    let delta = named("numcodecs.delta", &json!({"dtype": "<f4"}));
    for (codecs, expected) in [
        (
            vec![little.clone(), named("numcodecs.bz2", &json!({"level": 1}))],
            "codec numcodecs.bz2",
        ),
        (
            vec![
                named("numcodecs.bitround", &json!({"keepbits": 3})),
                little.clone(),
            ],
            "bitround",
        ),
        (vec![little.clone(), zstd(), zstd()], "two compressors"),
        (
            vec![little.clone(), zstd(), shuffle(4)],
            "not the first codec",
        ),
        (vec![little.clone(), shuffle(3)], "do not divide"),
        (
            vec![little.clone(), crc32c.clone(), crc32c],
            "two checksums",
        ),
        (
            vec![delta, transpose, little.clone()],
            "depends on the order",
        ),
        (
            vec![named("numcodecs.pcodec", &json!({"level": 8}))],
            "codec numcodecs.pcodec",
        ),
    ] {
        let case = Case::new(Float32, &[6, 4], &codecs);
        let reason = case.plan().unwrap_err().to_string();
        assert!(reason.contains(expected), "{reason}");
        let plain = metadata(&case, &[6, 4], &json!(codecs), &[6, 4]);
        assert_eq!(fuse(&plain), plain);
        assert_eq!(
            explain(&plain).to_string(),
            format!("codec by codec: {reason}")
        );
    }
}

#[test]
fn says_how() {
    for (case, expected) in [
        (
            Case::new(NumericType::Float64, &[6, 4], &[bytes("little")]),
            "copy",
        ),
        (
            Case::new(
                NumericType::Int64,
                &[9],
                &[
                    named("numcodecs.delta", &json!({"dtype": "<i8"})),
                    bytes("big"),
                    zstd(),
                ],
            ),
            "zstd, swap 8 bytes, sum int64",
        ),
        (
            Case::new(
                NumericType::Float32,
                &[6, 4],
                &[
                    xor(1),
                    named("transpose", &json!({"order": [1, 0]})),
                    bytes("little"),
                ],
            ),
            "undo XOR (4 rows of 24 bytes), transpose (stored order [1, 0]) (encoded codec by codec: a \
             transpose)",
        ),
    ] {
        assert_eq!(case.plan().unwrap().to_string(), expected);
    }
}
