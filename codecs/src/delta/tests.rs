mod vectors;

use std::num::NonZeroU64;

use proptest::prelude::*;
use serde_json::{Value, json};
use zarrs::array::{ArraySubset, FillValue};
use zarrs_codec::{ArrayBytes, ArrayToArrayCodecTraits, CodecMetadataOptions, CodecOptions};

use super::{DeltaCodec, DeltaConfiguration, kernel};
use crate::dtype::{NumericType, NumpyType, dispatch};
use crate::testing::{bytes, codec, open, raw, read_v2, sharded, unhex, v3};

fn delta(dtype: &str, astype: Option<&str>) -> DeltaCodec {
    DeltaCodec::new(&DeltaConfiguration {
        dtype: dtype.into(),
        astype: astype.map(Into::into),
    })
    .unwrap()
}

fn filter(configuration: &Value) -> Value {
    json!({"name": "numcodecs.delta", "configuration": configuration})
}

fn numeric(text: &str) -> NumericType {
    NumpyType::parse(text).unwrap().numeric
}

fn encode(codec: &DeltaCodec, numeric: NumericType, values: &[u8]) -> Result<Vec<u8>, String> {
    let fill = FillValue::new(vec![0; numeric.size()]);
    let shape = [NonZeroU64::new((values.len() / numeric.size()) as u64).unwrap()];
    codec
        .encode(
            values.into(),
            &shape,
            &numeric.data_type(),
            &fill,
            &CodecOptions::default(),
        )
        .map(|encoded| encoded.into_fixed().unwrap().into_owned())
        .map_err(|error| error.to_string())
}

fn decode(
    codec: &DeltaCodec,
    numeric: NumericType,
    bytes: &[u8],
    elements: usize,
) -> Result<Vec<u8>, String> {
    let fill = FillValue::new(vec![0; numeric.size()]);
    let shape = [NonZeroU64::new(elements as u64).unwrap()];
    codec
        .decode(
            bytes.into(),
            &shape,
            &numeric.data_type(),
            &fill,
            &CodecOptions::default(),
        )
        .map(|decoded| decoded.into_fixed().unwrap().into_owned())
        .map_err(|error| error.to_string())
}

#[test]
fn encodes_and_decodes_as_numcodecs() {
    for (dtype, astype, values, encoded, decoded) in vectors::NUMCODECS {
        let codec = delta(dtype, *astype);
        let case = format!("{dtype} {astype:?}");
        let (values, mut expected) = (unhex(values), unhex(encoded));
        let elements = values.len() / numeric(dtype).size();
        let encoded = encode(&codec, numeric(dtype), &values);
        let integers = [dtype, &astype.unwrap_or(dtype)].map(|text| numeric(text).is_integer());
        if integers == [true; 2] && unhex(decoded) != values {
            // numcodecs stores what it cannot restore.
            assert!(
                encoded.unwrap_err().contains("choose a wider astype"),
                "{case}"
            );
            continue;
        }
        let mut got = encoded.unwrap();
        let mut sums = decode(&codec, numeric(dtype), &expected, elements).unwrap();
        let mut expected_sums = unhex(decoded);
        // inf - inf: neither IEEE 754 nor Rust says which NaN that is.
        one_nan(numeric(astype.unwrap_or(dtype)), [&mut got, &mut expected]);
        one_nan(numeric(dtype), [&mut sums, &mut expected_sums]);
        assert_eq!(got, expected, "{case}");
        assert_eq!(sums, expected_sums, "{case}");
    }
}

fn one_nan(numeric: NumericType, arrays: [&mut Vec<u8>; 2]) {
    let canonical = match numeric {
        NumericType::Float16 => half::f16::NAN.to_ne_bytes().to_vec(),
        NumericType::Float32 => f32::NAN.to_ne_bytes().to_vec(),
        NumericType::Float64 => f64::NAN.to_ne_bytes().to_vec(),
        _ => return,
    };
    for array in arrays {
        for element in array.chunks_mut(numeric.size()) {
            let nan = match numeric {
                NumericType::Float16 => half::f16::from_ne_bytes([element[0], element[1]]).is_nan(),
                NumericType::Float32 => bytemuck::pod_read_unaligned::<f32>(element).is_nan(),
                _ => bytemuck::pod_read_unaligned::<f64>(element).is_nan(),
            };
            if nan {
                element.copy_from_slice(&canonical);
            }
        }
    }
}

#[test]
fn integers_wrap_in_any_pair_of_64_bits() {
    // numcodecs would add these up as float64.
    let values: Vec<u8> = [i64::MIN, 5, i64::MAX, 1 << 60]
        .iter()
        .flat_map(|v| v.to_ne_bytes())
        .collect();
    let codec = delta("<i8", Some("<u8"));
    let mut values = values;
    values[..8].copy_from_slice(&7_i64.to_ne_bytes());
    let encoded = encode(&codec, NumericType::Int64, &values).unwrap();
    assert_eq!(
        decode(&codec, NumericType::Int64, &encoded, 4).unwrap(),
        values
    );
}

#[test]
fn sums_of_floats_are_a_left_fold() {
    let mut values = vec![1.0_f32; 1000];
    values[0] = 16_777_216.0;
    kernel::decode(&mut values);
    // Each 1 alone is lost; two of them, added first, would not be.
    assert!(
        values
            .iter()
            .all(|value| value.to_bits() == 16_777_216_f32.to_bits())
    );
}

#[test]
fn a_difference_that_does_not_fit_is_named() {
    let codec = delta("<i4", Some("<i2"));
    let values: Vec<u8> = [7_i32, 8, 70_000, 70_001]
        .iter()
        .flat_map(|v| v.to_ne_bytes())
        .collect();
    assert_eq!(
        encode(&codec, NumericType::Int32, &values).unwrap_err(),
        "numcodecs.delta: the difference of elements 1 and 2 does not fit int16: nothing was \
         stored; choose a wider astype"
    );
}

#[test]
fn padding_that_does_not_fit_is_stored() {
    let codec = delta("<i4", Some("<i2"));
    let bytes =
        |values: &[i32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_ne_bytes()).collect() };
    let encoded = encode(
        &codec,
        NumericType::Int32,
        &bytes(&[7, 20_000, 40_000, 0, 0]),
    )
    .unwrap();
    let decoded = decode(&codec, NumericType::Int32, &encoded, 5).unwrap();
    assert_eq!(decoded[..12], bytes(&[7, 20_000, 40_000]));
    assert!(
        encode(
            &codec,
            NumericType::Int32,
            &bytes(&[7, 20_000, 40_000, 0, 1])
        )
        .is_err()
    );
}

proptest! {
    #[test]
    fn integers_come_back(
        numeric in prop::sample::select(NumericType::ALL),
        elements in 1_usize..70,
        offset in 0_usize..9,
        seed in any::<u64>(),
    ) {
        prop_assume!(numeric.is_integer());
        let data: Vec<u8> = (0..offset + elements * numeric.size())
            .map(|i| (seed.wrapping_mul(2 * i as u64 + 1) >> 32) as u8)
            .collect();
        let values = &data[offset..]; // unaligned, too
        let codec = delta(numeric.name(), None);
        let encoded = encode(&codec, numeric, values).unwrap();
        prop_assert_eq!(decode(&codec, numeric, &encoded, elements).unwrap(), values);
        dispatch!(numeric, T => {
            let naive: Vec<T> = bytemuck::pod_collect_to_vec(values);
            let naive: Vec<T> = (0..elements)
                .map(|i| if i == 0 { naive[0] } else { kernel::Arithmetic::minus(naive[i], naive[i - 1]) })
                .collect();
            prop_assert_eq!(encoded, raw(&naive));
        }, bool => ());
    }

    /// Reading a window, of a chunk or of a subchunk of a shard, equals cutting it from the whole.
    #[test]
    fn windows_equal_the_whole(
        start in (0_u64..7, 0_u64..6),
        length in (1_u64..7, 1_u64..6),
        sharding in any::<bool>(),
        chunk_at_a_time in any::<bool>(),
    ) {
        let metadata = v3(&json!("int32"), &json!(-9), &[filter(&json!({"dtype": "<i4"}))]);
        let array = open(&if sharding { sharded(metadata) } else { metadata }).unwrap();
        let (rows, columns) = (7, 6);
        let written = ArraySubset::new_with_ranges(&[1..5, 2..6]); // some chunks stay missing
        let mut whole = vec![-9_i32; rows * columns];
        let mut values = vec![];
        for index in &written.indices() {
            let at = (index[0] * columns as u64 + index[1]) as usize;
            whole[at] = (at as i32).wrapping_mul(0x1234_5677);
            values.push(whole[at]);
        }
        if chunk_at_a_time {
            for (index, value) in written.indices().iter().zip(values) {
                let one = ArraySubset::new_with_start_shape(index.to_vec(), vec![1, 1]).unwrap();
                array.store_array_subset(&one, &[value]).unwrap();
            }
        } else {
            array.store_array_subset(&written, &values).unwrap();
        }
        let window = ArraySubset::new_with_ranges(&[
            start.0..(start.0 + length.0).min(7), start.1..(start.1 + length.1).min(6),
        ]);
        let whole: Vec<u8> = whole.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let whole = ArrayBytes::from(whole);
        let expected = whole
            .extract_array_subset(&window, &[7, 6], array.data_type())
            .unwrap()
            .into_fixed()
            .unwrap();
        prop_assert_eq!(bytes(&array, &window).unwrap(), expected.into_owned());
    }
}

#[test]
fn another_name_of_the_same_width_is_a_view() {
    let time =
        json!({"name": "numpy.datetime64", "configuration": {"unit": "ns", "scale_factor": 1}});
    for (data_type, fill, dtype) in [
        (time, json!("NaT"), "<i8"),
        (json!("int32"), json!(0), "<u4"),
        (json!("float32"), json!("NaN"), "<i4"),
        (json!("bool"), json!(true), "|u1"),
    ] {
        let array = open(&v3(&data_type, &fill, &[filter(&json!({"dtype": dtype}))])).unwrap();
        let chunk = array.chunk_subset(&[0, 0]).unwrap();
        let size = array.data_type().fixed_size().unwrap();
        let values: Vec<u8> = (0..12 * size).map(|i| u8::from(i % 3 == 0)).collect();
        array
            .store_chunk(&[0, 0], ArrayBytes::from(values.clone()))
            .unwrap();
        assert_eq!(bytes(&array, &chunk).unwrap(), values, "{data_type}");
        let missing = array.chunk_subset(&[1, 0]).unwrap();
        let fill = array.fill_value().as_ne_bytes().repeat(12);
        assert_eq!(bytes(&array, &missing).unwrap(), fill, "{data_type}");
    }
}

#[test]
fn a_narrow_astype_refuses_what_numcodecs_refuses() {
    let first = [300_i16, 301].map(i16::to_ne_bytes).concat();
    assert_eq!(
        encode(&delta("<i2", Some("|i1")), NumericType::Int16, &first).unwrap_err(),
        "numcodecs.delta: element 0 (300) has no value as int8 in the differences: nothing was \
         stored; choose a wider astype"
    );
    let nan = [1.0_f32, f32::NAN].map(f32::to_ne_bytes).concat();
    assert_eq!(
        encode(&delta("<f4", Some("<i2")), NumericType::Float32, &nan).unwrap_err(),
        "numcodecs.delta: element 1 (NaN) has no value as int16 in the differences: nothing was \
         stored; choose a wider astype"
    );
    let large = [1.0_f32, 1e10].map(f32::to_ne_bytes).concat();
    assert_eq!(
        decode(&delta("<i2", Some("<f4")), NumericType::Int16, &large, 2).unwrap_err(),
        "numcodecs.delta: cannot decode a chunk: element 1 (10000000000.0) has no value as int16 \
         in the sums"
    );
}

#[test]
fn chunks_of_another_length_are_errors() {
    let codec = delta("<i2", Some("|i1"));
    for length in [0, 1, 3, 4] {
        let error = decode(&codec, NumericType::Int16, &vec![0; length], 2).unwrap_err();
        assert_eq!(
            error,
            format!("the size of a decoded chunk is {length}, expected 2")
        );
    }
}

#[test]
fn a_fill_value_need_not_be_storable() {
    let codec = delta("<i2", Some("|i1"));
    let data_type = NumericType::Int16.data_type();
    let encoded = codec.encoded_fill_value(&data_type, &FillValue::from(300_i16));
    assert_eq!(encoded.unwrap(), FillValue::from(44_i8));
    let configuration = json!({"dtype": "<i2", "astype": "|i1"});
    let array = open(&v3(&json!("int16"), &json!(300), &[filter(&configuration)])).unwrap();
    assert_eq!(
        bytes(&array, &ArraySubset::new_with_ranges(&[1..2, 2..3])).unwrap(),
        300_i16.to_ne_bytes()
    );
}

#[test]
fn configurations_are_written_back_as_they_were() {
    for configuration in [
        json!({"dtype": "float32"}),
        json!({"dtype": "=f4", "astype": "f8"}),
        json!({"dtype": "|u1", "astype": null}),
    ] {
        for metadata in [filter(&configuration), {
            let mut metadata = configuration.clone();
            metadata["id"] = "delta".into();
            metadata
        }] {
            let codec = codec(&metadata).unwrap();
            let options = CodecMetadataOptions::default();
            for written in [
                codec.configuration_v3(&options),
                codec.configuration_v2(&options),
            ] {
                assert_eq!(serde_json::to_value(written).unwrap(), configuration);
            }
        }
    }
}

#[test]
fn configurations_that_cannot_be_used_say_why() {
    let expected = "expected a numpy bool, integer or float type such as \"float32\", \"f4\", \
                    \"<f4\" or \"|u1\"";
    for (configuration, message) in [
        (json!({}), "invalid configuration: missing field `dtype`".into()),
        (json!({"dtype": 4}), "invalid configuration: invalid type: integer `4`, expected a string".into()),
        (
            json!({"dtype": "f4", "axis": 0}),
            "invalid configuration: unknown field `axis`, expected `dtype` or `astype`".into(),
        ),
        (json!({"dtype": "float8"}), format!("dtype \"float8\" is not supported, {expected}")),
        (json!({"dtype": "f4", "astype": "<c8"}), format!("astype \"<c8\" is not supported, {expected}")),
        (
            json!({"dtype": "<M8[ns]"}),
            format!("dtype \"<M8[ns]\" is not supported, {expected}; \"<i8\" works on the bits of a \
                     datetime64 or timedelta64"),
        ),
        (
            json!({"dtype": "bool"}),
            "dtype \"bool\" has no differences that restore it, expected an integer or float type; \
             \"|u1\" works on the bits of a bool".into(),
        ),
        (
            json!({"dtype": "<f4", "astype": ">f4"}),
            "astype is big-endian, expected a little-endian type such as \"<f4\" in Zarr V3, where \
             the bytes codec alone knows a byte order; zarr-python's own results for this array \
             are wrong or vary by version".into(),
        ),
    ] {
        let error = codec(&filter(&configuration)).unwrap_err();
        assert_eq!(error, format!("numcodecs.delta: {message}"));
    }
    let error = codec(&json!({"id": "delta", "dtype": "<i4", "astype": ">i2"})).unwrap_err();
    assert_eq!(
        error,
        "numcodecs.delta: astype and dtype differ in byte order, expected the array's own in both"
    );
}

#[test]
fn data_types_of_another_width_are_errors_on_opening() {
    for (data_type, fill) in [
        ("float64", json!(0)),
        ("string", json!("")),
        ("r16", json!([0, 0])),
    ] {
        let metadata = v3(
            &json!(data_type),
            &fill,
            &[filter(&json!({"dtype": "<i4"}))],
        );
        let error = open(&metadata).unwrap_err();
        let start =
            "numcodecs.delta: dtype int32 does not have the width of the array's data type ";
        assert!(error.starts_with(start), "{error}");
        assert!(error.contains(data_type), "{error}");
    }
}

/// Chunks as zarr-python 3.1.6 and 3.4.2 with `zarr_format=2` wrote `arange(12)**2 * 3 - 5`.
#[test]
fn big_endian_arrays_of_v2_are_read() {
    let values: Vec<i32> = (0..12).map(|i| i * i * 3 - 5).collect();
    let integers: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect();
    let floats: Vec<u8> = values
        .iter()
        .flat_map(|value| (*value as f32).to_ne_bytes())
        .collect();
    for (dtype, astype, hex, expected) in [
        (
            ">f4",
            ">f4",
            "c0a0000040400000411000004170000041a8000041d8000042040000421c000042340000424c00004264\
             0000427c0000",
            &floats,
        ),
        (
            ">i4",
            ">i4",
            "fffffffb00000003000000090000000f000000150000001b00000021000000270000002d00000033000000\
             390000003f",
            &integers,
        ),
        (
            ">i4",
            ">i2",
            "fffb00030009000f0015001b00210027002d00330039003f",
            &integers,
        ),
        (">i4", "|i1", "fb03090f151b21272d33393f", &integers),
    ] {
        let filter = json!({"id": "delta", "dtype": dtype, "astype": astype});
        assert_eq!(
            &read_v2(dtype, std::slice::from_ref(&filter), hex).unwrap(),
            expected,
            "{dtype} {astype}"
        );
        // Converted to Zarr V3, the types lose the byte order that the bytes codec then has.
        let v3 = codec(&filter)
            .unwrap()
            .configuration_v3(&CodecMetadataOptions::default());
        let v3 = serde_json::to_value(v3).unwrap();
        assert_eq!(v3["dtype"], dtype.replace('>', "<"));
        codec(&json!({"name": "numcodecs.delta", "configuration": v3})).unwrap();
    }
}

/// The sum over all before, one by one, whatever the pieces.
fn check_pieces<T: kernel::Arithmetic + bytemuck::Pod>(values: &[T]) {
    let bits = |values: &[T]| bytemuck::cast_slice::<_, u8>(values).to_vec();
    let mut sums = values.to_vec();
    for i in 1..sums.len() {
        sums[i] = sums[i - 1].plus(values[i]);
    }
    let mut differences = values.to_vec();
    for i in 1..values.len() {
        differences[i] = values[i].minus(values[i - 1]);
    }
    for first in 0..=values.len() {
        for second in first..=values.len() {
            let pieces = [0..first, first..second, second..values.len()];
            let (mut decoded, mut encoded) = (values.to_vec(), values.to_vec());
            let (mut sum, mut before) = (None, None);
            for piece in pieces {
                sum = kernel::decode_from(sum, &mut decoded[piece.clone()]);
                before = kernel::encode_from(before, &mut encoded[piece.clone()]);
                assert_eq!(bits(sum.as_slice()), bits(piece_end(&sums, piece.end)));
                assert_eq!(bits(before.as_slice()), bits(piece_end(values, piece.end)));
            }
            assert_eq!(bits(&decoded), bits(&sums));
            assert_eq!(bits(&encoded), bits(&differences));
        }
    }
}

/// The value before `end`, if there is one.
fn piece_end<T>(values: &[T], end: usize) -> &[T] {
    &values[end.saturating_sub(1)..end]
}

#[test]
fn every_cut_in_three_pieces_is_the_whole() {
    let noise: Vec<u8> = (0..70 * 8_u64)
        .map(|i| ((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
        .collect();
    macro_rules! check {
        ($($type:ty)*) => { $(
            check_pieces::<$type>(&bytemuck::pod_collect_to_vec(&noise[..70 * size_of::<$type>()]));
        )* };
    }
    crate::dtype::integers!(check);
    crate::dtype::floats!(check);
    let specials = [-0.0, -0.0, 1e30, 1.0, -1e30, f64::NAN, 1.0, -0.0];
    check_pieces(&specials);
    check_pieces(&specials.map(|value| value as f32));
    check_pieces(&[f32::from_bits(0xff80_0001), -0.0]);
}
