use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use zarrs::array::codec::BytesCodec;
use zarrs::array::{ArraySubset, CodecChain, DataType, FillValue, data_type};
use zarrs_codec::{
    ArrayBytes, ArrayToArrayCodecTraits, ArrayToBytesCodecTraits, BytesPartialDecoderTraits, Codec,
    CodecMetadataOptions, CodecOptions, CodecTraitsV3,
};
use zarrs_metadata::v3::MetadataV3;

use super::{TemporalXorCodec, kernel};

/// `x[o][i][k] = e[o][i][k] ^ x[o][i - 1][k]`, byte by byte.
fn naive_decode(encoded: &[u8], rows: usize, row_bytes: usize) -> Vec<u8> {
    let mut decoded = encoded.to_vec();
    for at in 0..decoded.len() {
        if !(at / row_bytes).is_multiple_of(rows) {
            decoded[at] = encoded[at] ^ decoded[at - row_bytes];
        }
    }
    decoded
}

fn shape(lengths: &[u64]) -> Vec<NonZeroU64> {
    lengths
        .iter()
        .map(|length| NonZeroU64::new(*length).unwrap())
        .collect()
}

proptest! {
    #[test]
    fn kernels_equal_naive(
        outer in 1_usize..4,
        rows in 1_usize..40,
        row_bytes in 1_usize..70,
        seed in any::<u64>(),
    ) {
        let encoded: Vec<u8> = (0..outer * rows * row_bytes)
            .map(|i| (seed.wrapping_mul(2 * i as u64 + 1) >> 32) as u8)
            .collect();
        let decoded = naive_decode(&encoded, rows, row_bytes);
        let mut data = encoded.clone();
        kernel::decode(&mut data, rows, row_bytes);
        prop_assert_eq!(&data, &decoded);
        prop_assert_eq!(kernel::encode(&decoded, rows, row_bytes), encoded);
    }

    #[test]
    fn windows_equal_the_whole(
        lengths in prop::collection::vec(1_u64..7, 1..4),
        axis in -4_i64..4,
        cuts in prop::collection::vec((0_u64..7, 1_u64..7), 3),
    ) {
        prop_assume!((-(lengths.len() as i64)..lengths.len() as i64).contains(&axis));
        let chain = chain(axis);
        let chunk = shape(&lengths);
        let values: Vec<f32> = (0..lengths.iter().product()).map(|i| 0.5 + i as f32).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let (data_type, fill) = (data_type::float32(), FillValue::from(1.5_f32));
        let options = CodecOptions::default();
        let encoded = chain
            .encode(bytes.clone().into(), &chunk, &data_type, &fill, &options)
            .unwrap();
        let window: Vec<_> = lengths
            .iter()
            .zip(&cuts)
            .map(|(length, (start, count))| (start % length)..(start % length + count).min(*length))
            .collect();
        let window = ArraySubset::new_with_ranges(&window);
        let encoded = encoded.into_owned();
        let decoded = chain
            .clone()
            .partial_decoder(Arc::new(encoded.clone()), &chunk, &data_type, &fill, &options)
            .unwrap()
            .partial_decode(&window, &options)
            .unwrap()
            .into_owned();
        let whole = ArrayBytes::from(bytes);
        let expected = whole.extract_array_subset(&window, &lengths, &data_type).unwrap();
        prop_assert_eq!(&decoded, &expected);

        #[cfg(feature = "async")]
        futures::executor::block_on(async {
            let decoder = chain
                .async_partial_decoder(Arc::new(encoded), &chunk, &data_type, &fill, &options)
                .await
                .unwrap();
            let decoded = decoder.partial_decode(&window, &options).await.unwrap();
            prop_assert_eq!(&decoded, &expected);
            Ok(())
        })?;
    }
}

fn chain(axis: i64) -> Arc<CodecChain> {
    Arc::new(CodecChain::new(
        vec![Arc::new(TemporalXorCodec::new(axis))],
        Arc::new(BytesCodec::little()),
        vec![],
    ))
}

#[test]
fn scattered_indices_equal_the_whole() {
    let (chunk, lengths) = (shape(&[5, 3]), [5, 3]);
    let (data_type, fill) = (data_type::uint16(), FillValue::from(0_u16));
    let options = CodecOptions::default();
    let values: Vec<u8> = (0..15_u16).flat_map(|i| (i * 977).to_ne_bytes()).collect();
    let chain = chain(0);
    let encoded = chain
        .encode(values.clone().into(), &chunk, &data_type, &fill, &options)
        .unwrap();
    let indices: &[&[u64]] = &[&[3, 1], &[0, 2], &[3, 1]];
    let indices: Vec<Vec<u64>> = indices.iter().map(|index| index.to_vec()).collect();
    let decoder = chain
        .partial_decoder(
            Arc::new(encoded.into_owned()),
            &chunk,
            &data_type,
            &fill,
            &options,
        )
        .unwrap();
    let whole = ArrayBytes::from(values);
    assert_eq!(
        decoder.partial_decode(&indices, &options).unwrap(),
        whole
            .extract_array_subset(&indices, &lengths, &data_type)
            .unwrap(),
    );
    assert!(
        decoder
            .partial_decode(&vec![vec![5_u64, 0]], &options)
            .is_err()
    );
}

#[test]
fn a_missing_chunk_is_the_fill_value() {
    let (chunk, data_type) = (shape(&[4, 2]), data_type::float32());
    let (fill, options) = (FillValue::from(f32::NAN), CodecOptions::default());
    let missing: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let decoded = chain(0)
        .partial_decoder(missing, &chunk, &data_type, &fill, &options)
        .unwrap()
        .partial_decode(&ArraySubset::new_with_ranges(&[1..3, 0..2]), &options)
        .unwrap()
        .into_owned();
    assert!(decoded.is_fill_value(&fill) && decoded.size() == 16);
}

#[test]
fn partial_encode_updates_the_chunk_and_erases_an_empty_one() {
    let (chunk, data_type) = (shape(&[4]), data_type::int32());
    let (fill, options) = (FillValue::from(7_i32), CodecOptions::default());
    let store: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let encoder = chain(0)
        .partial_encoder(store.clone(), &chunk, &data_type, &fill, &options)
        .unwrap();
    let write = |start: u64, values: &[i32]| {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_ne_bytes())
            .collect();
        let subset = ArraySubset::new_with_ranges(&[start..start + values.len() as u64]);
        encoder
            .partial_encode(&subset, &bytes.into(), &options)
            .unwrap();
    };
    write(1, &[8, 9]);
    let all = ArraySubset::new_with_shape(vec![4]);
    let stored = encoder
        .partial_decode(&all, &options)
        .unwrap()
        .into_fixed()
        .unwrap();
    let expected: Vec<u8> = [7_i32, 8, 9, 7]
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect();
    assert_eq!(*stored, *expected);
    write(0, &[7; 4]);
    assert!(!BytesPartialDecoderTraits::exists(&*store).unwrap());
}

fn create(configuration: &str) -> Result<Codec, String> {
    let json = format!(r#"{{"name":"temporal_xor","configuration":{configuration}}}"#);
    <TemporalXorCodec as CodecTraitsV3>::create(&serde_json::from_str(&json).unwrap())
        .map_err(|err| err.to_string())
}

#[test]
fn configuration_is_written_back_as_it_came() {
    for configuration in [
        r#"{"axis":0}"#,
        r#"{"axis":-1}"#,
        r#"{"axis":1,"transform":"xor"}"#,
    ] {
        let written = create(configuration)
            .unwrap()
            .configuration_v3(&CodecMetadataOptions::default())
            .unwrap();
        assert_eq!(serde_json::to_string(&written).unwrap(), configuration);
    }
    let bare: MetadataV3 = serde_json::from_str(r#"{"name":"temporal_xor"}"#).unwrap();
    assert!(<TemporalXorCodec as CodecTraitsV3>::create(&bare).is_ok());
}

#[test]
fn bad_configuration_is_a_named_error() {
    for (configuration, message) in [
        (r#"{"axis":0.5}"#, "expected i64"),
        (r#"{"axis":"0"}"#, "expected i64"),
        (r#"{"axes":0}"#, "unknown field `axes`"),
        (r#"{"transform":"add"}"#, "unknown variant `add`"),
    ] {
        let error = create(configuration).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn axis_out_of_range_and_variable_size_are_errors() {
    for axis in [2, -3, i64::MIN, i64::MAX] {
        let error = TemporalXorCodec::new(axis)
            .encoded_shape(&shape(&[2, 3]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("is out of range for a chunk of 2 dimensions"),
            "{error}"
        );
    }
    let string: DataType = data_type::string();
    let error = TemporalXorCodec::new(0)
        .encoded_data_type(&string)
        .unwrap_err();
    assert!(error.to_string().contains("temporal_xor"), "{error}");
}

#[test]
fn vectors_of_the_specification() {
    let decoded = [0x3f80_u16, 0x3f81, 0x3f81, 0xbf81]
        .map(u16::to_ne_bytes)
        .concat();
    let encoded = [0x3f80_u16, 0x0001, 0x0000, 0x8000]
        .map(u16::to_ne_bytes)
        .concat();
    assert_eq!(kernel::encode(&decoded, 4, 2), encoded);

    let decoded = [0x01, 0x03, 0x03, 0xff, 0x00, 0x0f];
    let mut encoded = [0x01, 0x02, 0x00, 0xff, 0xff, 0x0f];
    assert_eq!(kernel::encode(&decoded, 3, 1), encoded);
    kernel::decode(&mut encoded, 3, 1);
    assert_eq!(encoded, decoded);
}

/// Run `scan` over `data` in pieces that end at `cuts`.
fn in_pieces(data: &[u8], cuts: &[usize], mut run: impl FnMut(&mut [u8])) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut rest = &mut data[..];
    let mut done = 0;
    for cut in cuts.iter().copied().chain([done + rest.len()]) {
        let (piece, after) = rest.split_at_mut(cut.saturating_sub(done).min(rest.len()));
        done += piece.len();
        run(piece);
        rest = after;
    }
    data
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|i| ((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
        .collect()
}

/// `cuts` of a block of `outer`, in both directions.
fn check_pieces(outer: usize, rows: usize, row_bytes: usize, cuts: &[usize]) {
    let encoded = noise(outer * rows * row_bytes);
    let decoded = naive_decode(&encoded, rows, row_bytes);
    let mut scan = kernel::Scan::default();
    scan.reset(rows, row_bytes);
    assert_eq!(
        in_pieces(&encoded, cuts, |piece| scan.decode(piece)),
        decoded,
        "{outer} {rows} {row_bytes} {cuts:?}"
    );
    scan.seek(rows * row_bytes);
    let anywhere = in_pieces(&encoded, cuts, |piece| scan.run_anywhere::<true>(piece));
    assert_eq!(anywhere, decoded);
    scan.seek(rows * row_bytes);
    assert_eq!(
        in_pieces(&decoded, cuts, |piece| scan.encode(piece)),
        encoded,
        "{outer} {rows} {row_bytes} {cuts:?}"
    );
}

#[test]
fn every_cut_in_three_pieces_is_the_whole() {
    for (outer, rows, row_bytes) in [
        (1, 70, 1),
        (1, 40, 2),
        (1, 20, 4),
        (1, 11, 8),
        (1, 6, 16),
        (1, 20, 3),
        (1, 10, 6),
        (1, 7, 12),
        (3, 3, 4),
        (5, 3, 2),
        (4, 19, 1),
        (2, 5, 7),
        (2, 3, 12),
        (2, 2, 24),
        (20, 1, 3),
        (1, 2, 35),
    ] {
        let length = outer * rows * row_bytes;
        for first in 0..=length {
            for second in first..=length {
                check_pieces(outer, rows, row_bytes, &[first, second]);
            }
        }
    }
}

#[test]
fn rows_of_every_width_in_pieces() {
    for row_bytes in (1..300).chain([511, 4096, 20_000]) {
        for rows in [1, 2, 3, 9] {
            let length = 3 * rows * row_bytes;
            for step in [length, length / 2 + 1, 2 * row_bytes + 1, row_bytes, 97] {
                let cuts: Vec<usize> = (step..length).step_by(step).collect();
                check_pieces(3, rows, row_bytes, &cuts);
            }
        }
    }
}

#[test]
fn a_scan_goes_on_at_any_block() {
    let (rows, row_bytes) = (5, 6);
    let encoded = noise(4 * rows * row_bytes);
    let decoded = naive_decode(&encoded, rows, row_bytes);
    let mut scan = kernel::Scan::new(rows, row_bytes);
    for block in [2, 0, 3, 1] {
        let start = block * rows * row_bytes;
        scan.seek(start);
        // Leaves off within a row.
        let mut data = encoded[start..][..17].to_vec();
        scan.decode(&mut data);
        assert_eq!(data, decoded[start..][..17]);
    }
}

#[test]
#[should_panic = "not the start of a block"]
fn a_scan_does_not_go_on_within_a_block() {
    kernel::Scan::new(5, 6).seek(36);
}
