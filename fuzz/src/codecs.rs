//! One codec at a time.

use std::sync::Arc;

use serde_json::Value;
use zarrs::array::{ArrayBytes, ArraySubset};
use zarrs_codec::{BytesRepresentation, Codec};
use zarrs_storage::byte_range::ByteRange;

use crate::{Chunk, codec, options, pick, register, repeated, split, table};

/// The codec, chunk and bytes that an input chooses.
struct Input<'a> {
    codec: Codec,
    chunk: Chunk,
    length: u64,
    bytes: &'a [u8],
    /// Whether it gives back what it was given, unless it is a codec of the table that rounds.
    exact: bool,
}

impl<'a> Input<'a> {
    fn of(data: &'a [u8]) -> Option<Self> {
        register();
        let (&[codec_number, data_type, shape], rest) = data.split_first_chunk()?;
        let (metadata, bytes): (Value, _) = match table::CODECS.get(usize::from(codec_number)) {
            Some(metadata) => (serde_json::from_str(metadata).ok()?, rest),
            None => split(rest)?,
        };
        let name = metadata["name"].as_str().or(metadata["id"].as_str())?;
        let exact = !table::ROUND.iter().any(|rounds| name.ends_with(rounds));
        Some(Self {
            exact,
            codec: codec(metadata)?,
            chunk: Chunk::of(data_type, shape),
            length: pick(table::LENGTHS, shape),
            bytes,
        })
    }
}

/// Decode any bytes, whole and in parts: an error, or a chunk as the metadata have it, and no panic.
///
/// # Panics
/// If there is a finding.
pub fn codecs(data: &[u8]) {
    let Some(Input {
        codec,
        chunk,
        length,
        bytes,
        ..
    }) = Input::of(data)
    else {
        return;
    };
    describe(&codec);
    match codec {
        Codec::BytesToBytes(codec) => {
            for size in [
                BytesRepresentation::FixedSize(length),
                BytesRepresentation::BoundedSize(length),
            ] {
                let _ = codec.encoded_representation(&size);
                if let Ok(decoded) = codec.decode(bytes.into(), &size, &options()) {
                    assert!(
                        decoded.len() as u64 <= length.max(bytes.len() as u64),
                        "more than the metadata allow"
                    );
                }
                let handle = Arc::new(bytes.to_vec());
                let decoder = codec.clone().partial_decoder(handle, &size, &options());
                if let Ok(decoder) = decoder {
                    let _ = decoder
                        .partial_decode(ByteRange::FromStart(length / 2, Some(3)), &options());
                }
            }
        }
        Codec::ArrayToArray(codec) => {
            let Chunk {
                shape,
                data_type,
                fill_value,
            } = &chunk;
            let Ok((encoded_shape, encoded_type, encoded_fill)) =
                codec.encoded_representation(shape, data_type, fill_value)
            else {
                return;
            };
            let encoded = Chunk {
                shape: encoded_shape,
                data_type: encoded_type,
                fill_value: encoded_fill,
            };
            let Some(length) = encoded.bytes() else {
                return;
            };
            for bytes in [bytes.to_vec(), repeated(bytes, length)] {
                let decoded = codec.decode(bytes.into(), shape, data_type, fill_value, &options());
                if let Ok(decoded) = decoded {
                    chunk.check(&decoded);
                }
            }
        }
        Codec::ArrayToBytes(codec) => {
            let Chunk {
                shape,
                data_type,
                fill_value,
            } = &chunk;
            if codec
                .encoded_representation(shape, data_type, fill_value)
                .is_err()
            {
                return;
            }
            let whole = codec.decode(bytes.into(), shape, data_type, fill_value, &options());
            let handle = Arc::new(bytes.to_vec());
            let decoder =
                codec
                    .clone()
                    .partial_decoder(handle, shape, data_type, fill_value, &options());
            let part: ArraySubset = shape
                .iter()
                .map(|length| length.get() / 2..length.get())
                .collect::<Vec<_>>()
                .into();
            let parted = decoder
                .and_then(|decoder| Ok(decoder.partial_decode(&part, &options())?.into_owned()));
            if let Ok(whole) = whole {
                chunk.check(&whole);
                let lengths: Vec<_> = shape.iter().map(|length| length.get()).collect();
                let cut = whole
                    .extract_array_subset(&part, &lengths, data_type)
                    .expect("it is in the chunk");
                assert_eq!(
                    parted.expect("the whole was read"),
                    cut,
                    "a part and the same part of the whole"
                );
            }
        }
    }
}

/// Encode any values: an error, or a chunk that decodes, to the same values where the codec keeps them.
///
/// # Panics
/// If there is a finding.
pub fn round_trip(data: &[u8]) {
    let Some(Input {
        codec,
        chunk,
        bytes,
        exact,
        ..
    }) = Input::of(data)
    else {
        return;
    };
    describe(&codec);
    let Some(length) = chunk.bytes() else { return };
    let Chunk {
        shape,
        data_type,
        fill_value,
    } = &chunk;
    let values = || ArrayBytes::from(repeated(bytes, length));
    match codec {
        Codec::BytesToBytes(codec) => {
            let Ok(encoded) = codec.encode(bytes.into(), &options()) else {
                return;
            };
            let size = BytesRepresentation::FixedSize(bytes.len() as u64);
            if let Some(bound) = codec.encoded_representation(&size).size() {
                assert!(
                    encoded.len() as u64 <= bound,
                    "{} bytes, more than the bound {bound}",
                    encoded.len()
                );
            }
            let decoded = codec.decode(encoded, &size, &options());
            assert_eq!(&*decoded.expect("what was encoded decodes"), bytes);
        }
        Codec::ArrayToArray(codec) if data_type.fixed_size().is_some() => {
            let Ok((encoded_shape, encoded_type, encoded_fill)) =
                codec.encoded_representation(shape, data_type, fill_value)
            else {
                return;
            };
            let stored = Chunk {
                shape: encoded_shape,
                data_type: encoded_type,
                fill_value: encoded_fill,
            };
            let Ok(encoded) = codec.encode(values(), shape, data_type, fill_value, &options())
            else {
                return;
            };
            stored.check(&encoded);
            let decoded = codec.decode(encoded, shape, data_type, fill_value, &options());
            if exact {
                assert_eq!(decoded.expect("what was encoded decodes"), values());
            } else if let Ok(decoded) = decoded {
                chunk.check(&decoded);
            }
        }
        Codec::ArrayToBytes(codec) if data_type.fixed_size().is_some() => {
            let Ok(size) = codec.encoded_representation(shape, data_type, fill_value) else {
                return;
            };
            let Ok(encoded) = codec.encode(values(), shape, data_type, fill_value, &options())
            else {
                return;
            };
            if let Some(bound) = size.size() {
                assert!(
                    encoded.len() as u64 <= bound,
                    "{} bytes, more than the bound {bound}",
                    encoded.len()
                );
            }
            let decoded = codec.decode(encoded, shape, data_type, fill_value, &options());
            assert_eq!(decoded.expect("what was encoded decodes"), values());
        }
        _ => {}
    }
}

/// Write a codec's configuration, as storing metadata does.
fn describe(codec: &Codec) {
    let options = zarrs_codec::CodecMetadataOptions::default();
    let _ = codec.configuration_v3(&options);
    let _ = codec.configuration_v2(&options);
}
