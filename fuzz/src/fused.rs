//! Codecs that run in one pass beside the same codecs one after the other.

use std::ops::Range;

use serde_json::{Value, json};
use tempozarr::dtype::NumericType;
use tempozarr::fused::Plan;
use zarrs::array::{ArrayBytes, ArraySubset, CodecChain};
use zarrs_codec::{ArrayToBytesCodecTraits, CodecError};
use zarrs_metadata::v3::MetadataV3;

use crate::{Chunk, options, pick, register, repeated, table};

/// Decode and encode in one pass and codec by codec: both fail, or both give the same.
///
/// # Panics
/// If there is a finding.
pub fn fused(data: &[u8]) {
    register();
    let Some((
        &[
            data_type,
            shape,
            first,
            second,
            third,
            bytes,
            compressor,
            mode,
        ],
        rest,
    )) = data.split_first_chunk()
    else {
        return;
    };
    let data_type = pick(NumericType::ALL, data_type);
    let chunk = Chunk::with(data_type.data_type(), pick(table::SHAPES, shape));
    let metadata = codecs(&chunk, data_type, [first, second, third], bytes, compressor);
    let codecs: Vec<MetadataV3> =
        serde_json::from_value(Value::from(metadata)).expect("they are metadata");
    let Ok(chain) = CodecChain::from_metadata(&codecs) else {
        return;
    };
    let Chunk {
        shape,
        data_type,
        fill_value,
    } = &chunk;
    let Ok(plan) = Plan::new(&chain, shape, data_type, fill_value) else {
        return;
    };
    let _ = plan.to_string();
    let length = chunk.bytes().expect("shapes of the table are small");
    assert_eq!(plan.decoded_len(), length);

    let values = repeated(rest, length);
    let encode = || {
        chain.encode(
            values.as_slice().into(),
            shape,
            data_type,
            fill_value,
            &options(),
        )
    };
    let decode = |bytes: &[u8]| -> Result<ArrayBytes<'static>, CodecError> {
        let decoded = chain.decode(bytes.into(), shape, data_type, fill_value, &options())?;
        Ok(decoded.into_owned())
    };
    let encoded = match mode % 4 {
        // Any bytes.
        0 => rest.to_vec(),
        // Any values, encoded; then one bit is another one.
        kind @ (1 | 2) => {
            let encoded = encode();
            let mut ours = vec![1, 2, 3];
            match (plan.encode(&values, &mut ours), &encoded) {
                (Ok(()), Ok(encoded)) => assert_eq!(ours[3..], **encoded, "{plan}"),
                (Ok(()), Err(error)) => panic!("{plan} encodes, codec by codec there is {error}"),
                (Err(_), _) => assert_eq!(ours, [1, 2, 3]),
            }
            let Ok(encoded) = encoded else { return };
            let mut encoded = encoded.into_owned();
            let at = usize::from(mode / 4) * encoded.len() / 64;
            if let Some(byte) = encoded.get_mut(at)
                && kind == 2
            {
                *byte ^= 1 << (mode / 4 % 8);
            }
            encoded
        }
        // Any bytes, compressed.
        _ => {
            let stored = chain.array_to_array_codecs().iter().try_fold(
                (shape.clone(), data_type.clone(), fill_value.clone()),
                |now, codec| codec.encoded_representation(&now.0, &now.1, &now.2),
            );
            let Ok((stored_shape, stored_type, _)) = stored else {
                return;
            };
            let stored = stored_type.fixed_size().map(|size| {
                let elements: u64 = stored_shape.iter().map(|length| length.get()).product();
                size * usize::try_from(elements).unwrap_or(0)
            });
            let mut bytes = repeated(rest, stored.unwrap_or(0));
            for codec in chain.bytes_to_bytes_codecs() {
                let Ok(encoded) = codec.encode(bytes.into(), &options()) else {
                    return;
                };
                bytes = encoded.into_owned();
            }
            bytes
        }
    };

    let expected = decode(&encoded);
    let mut decoded = vec![0xaa; length];
    match (plan.decode(&encoded, &mut decoded), &expected) {
        (Ok(()), Ok(expected)) => {
            assert!(*expected == ArrayBytes::from(decoded.as_slice()), "{plan}")
        }
        (Err(_), Err(_)) => {}
        (ours, expected) => {
            panic!(
                "{plan}: {ours:?}, codec by codec {:?}",
                expected.as_ref().err()
            );
        }
    }
    let Ok(expected) = expected else { return };
    let lengths: Vec<_> = shape.iter().map(|length| length.get()).collect();
    for part in [
        |length: u64| 0..length.div_ceil(2),
        |length: u64| length / 2..length / 2 + length.div_ceil(4),
    ] {
        let part: Vec<Range<u64>> = lengths.iter().map(|length| part(*length)).collect();
        let region: Vec<_> = part
            .iter()
            .filter_map(|range| {
                Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
            })
            .collect();
        let cut = expected
            .extract_array_subset(&ArraySubset::from(part), &lengths, data_type)
            .expect("the part is in the chunk")
            .into_fixed()
            .expect("numbers have a fixed size");
        let mut decoded = vec![0x55; cut.len()];
        let result = plan.decode_region(&encoded, &region, &mut decoded);
        assert!(
            result.is_ok() && decoded == *cut,
            "{plan}: {result:?}, {region:?}"
        );
    }
}

/// Metadata of codecs that are fused, as the numbers say.
fn codecs(
    chunk: &Chunk,
    mut now: NumericType,
    filters: [u8; 3],
    bytes: u8,
    compressor: u8,
) -> Vec<Value> {
    let named =
        |name: &str, configuration: Value| json!({"name": name, "configuration": configuration});
    let dimensions = chunk.shape.len();
    let mut codecs = Vec::new();
    for filter in filters {
        let number = usize::from(filter / 8);
        let other = NumericType::ALL[number % NumericType::ALL.len()];
        let axis = number % dimensions.max(1);
        match filter % 8 {
            1 => codecs.push(named("temporal_xor", json!({"axis": axis}))),
            2 => codecs.push(named("numcodecs.delta", json!({"dtype": now.numpy()}))),
            3 => {
                let types = json!({"dtype": now.numpy(), "astype": other.numpy()});
                codecs.push(named("numcodecs.delta", types));
                now = other;
            }
            4 => {
                let types = json!({"encode_dtype": other.numpy(), "decode_dtype": now.numpy()});
                codecs.push(named("numcodecs.astype", types));
                now = other;
            }
            5 => {
                let mut order: Vec<_> = (0..dimensions).collect();
                order.rotate_left(axis);
                codecs.push(named("transpose", json!({"order": order})));
            }
            _ => {}
        }
    }
    let endian = if bytes & 1 == 0 { "little" } else { "big" };
    codecs.push(named("bytes", json!({"endian": endian})));
    if bytes & 2 != 0 {
        codecs.push(named(
            "numcodecs.shuffle",
            json!({"elementsize": now.size()}),
        ));
    }
    if bytes & 4 != 0 {
        codecs.push(json!({"name": "crc32c"}));
    }
    codecs.extend(match compressor % 6 {
        0 => None,
        1 => Some(named("zstd", json!({"level": 1, "checksum": false}))),
        2 => Some(named("zstd", json!({"level": -3, "checksum": true}))),
        3 => Some(named("numcodecs.lz4", json!({}))),
        4 => Some(named("numcodecs.gzip", json!({"level": 1}))),
        _ => Some(named("numcodecs.blosc", json!({"typesize": now.size()}))),
    });
    if bytes & 8 != 0 {
        codecs.push(json!({"name": "numcodecs.crc32c"}));
    }
    codecs
}
