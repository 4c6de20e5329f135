//! The `numcodecs.packbits` array->array codec: eight bools to a byte.
//!
//! A chunk becomes one dimension of bytes. The first says how many bits at the end are padding (0
//! to 7), the others hold the bools in C order, from the highest bit down.
//!
//! ### Compatible implementations
//! `numcodecs.PackBits`, also by way of `zarr.codecs.numcodecs.PackBits`, byte for byte. The
//! `packbits` of zarr-extensions is another codec.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.packbits`
//! - Zarr V2 `id`: `packbits`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! {}
//! # "#;
//! # serde_json::from_str::<tempozarr::PackBitsConfiguration>(configuration).unwrap();
//! ```

use std::num::NonZeroU64;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zarrs_chunk_grid::ArraySubset;
use zarrs_codec::{
    ArrayBytes, ArrayToArrayCodecTraits, CodecError, CodecMetadataOptions, CodecOptions,
    CodecTraits,
};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::{ChunkShape, Configuration};
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::dtype::{NumericType, typed};
use crate::elements::fixed;
use crate::partial::{PartialCodec, partial_coders};
use crate::util::{array_on_one_thread, codec_traits, named, product};

const NAME: &str = "numcodecs.packbits";

/// The configuration of [`PackBitsCodec`]: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackBitsConfiguration {}

/// The `numcodecs.packbits` codec.
#[derive(Clone, Debug)]
pub struct PackBitsCodec;

named!(PackBitsCodec: ArrayToArray, v3: "numcodecs.packbits", v2: "packbits");

impl PackBitsCodec {
    #[allow(clippy::needless_pass_by_value, reason = "as every codec is made")]
    fn from_metadata(
        _version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        typed::<PackBitsConfiguration>(NAME, &configuration)?;
        Ok(Self)
    }

    fn check(data_type: &DataType) -> Result<(), CodecError> {
        if NumericType::of(data_type) == Some(NumericType::Bool) {
            return Ok(());
        }
        Err(CodecError::Other(format!(
            "{NAME}: data type {data_type} is not supported, expected bool"
        )))
    }
}

/// Append the bools of `bytes`, packed, to `out`.
fn pack(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(bytes.chunks(8).map(|eight| {
        let bits = eight.iter().enumerate();
        bits.fold(0, |byte, (place, bit)| {
            byte | u8::from(*bit != 0) << (7 - place)
        })
    }));
}

/// The first `count` bools of `packed`.
fn unpack(packed: &[u8], count: usize) -> Vec<u8> {
    let bits = packed
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1));
    bits.take(count).collect()
}

/// The byte ahead of `count` bools.
fn padding(count: usize) -> u8 {
    (count.wrapping_neg() % 8).to_le_bytes()[0]
}

impl CodecTraits for PackBitsCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(Configuration::default())
    }

    codec_traits!(parts);
}

array_on_one_thread!(PackBitsCodec);

impl ArrayToArrayCodecTraits for PackBitsCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        Self::check(decoded_data_type)?;
        Ok(NumericType::UInt8.data_type())
    }

    fn encoded_shape(&self, decoded_shape: &[NonZeroU64]) -> Result<ChunkShape, CodecError> {
        let bytes = product(decoded_shape)?.div_ceil(8) as u64;
        Ok(vec![NonZeroU64::MIN.saturating_add(bytes)])
    }

    fn decoded_shape(
        &self,
        _encoded_shape: &[NonZeroU64],
    ) -> Result<Option<ChunkShape>, CodecError> {
        Ok(None)
    }

    /// The fill value itself, as zarr-python has it, although a chunk full of it is not encoded as
    /// one.
    fn encoded_fill_value(
        &self,
        _decoded_data_type: &DataType,
        decoded_fill_value: &FillValue,
    ) -> Result<FillValue, CodecError> {
        Ok(decoded_fill_value.clone())
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        Self::check(data_type)?;
        let bytes = fixed(bytes, shape, NumericType::Bool)?;
        let mut encoded = vec![padding(bytes.len())];
        pack(&bytes, &mut encoded);
        Ok(encoded.into())
    }

    fn decode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        Self::check(data_type)?;
        let encoded = fixed(bytes, &self.encoded_shape(shape)?, NumericType::UInt8)?;
        let count = product(shape)?;
        match encoded.split_first() {
            Some((first, packed)) if *first == padding(count) => Ok(unpack(packed, count).into()),
            first => Err(CodecError::Other(format!(
                "{NAME}: the chunk states {} bits of padding, expected {} for {count} bools; it is \
                 corrupt",
                first.map_or(0, |(first, _)| *first),
                padding(count)
            ))),
        }
    }

    partial_coders!();
}

impl PartialCodec for PackBitsCodec {
    /// The chunk: eight elements share a byte.
    fn dependency(&self, _region: &ArraySubset, shape: &[u64]) -> ArraySubset {
        ArraySubset::new_with_shape(shape.to_vec())
    }

    fn keeps_fill(&self, _fill_value: &FillValue) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{array_codec, bytes, corrupted, open, v3};

    #[test]
    fn bools_of_every_count_come_back() {
        for count in 0..40 {
            let bools: Vec<u8> = (0..count).map(|i| u8::from(i * i % 3 == 1)).collect();
            let mut packed = vec![];
            pack(&bools, &mut packed);
            assert_eq!(unpack(&packed, count), bools);
            assert_eq!(8 * packed.len() - usize::from(padding(count)), count);
        }
    }

    /// The example in numcodecs' documentation.
    #[test]
    fn the_first_bool_is_the_highest_bit() {
        let mut packed = vec![padding(4)];
        pack(&[1, 0, 0, 1], &mut packed);
        assert_eq!(packed, [4, 144]);
        assert_eq!(unpack(&[144], 4), [1, 0, 0, 1]);
    }

    #[test]
    fn chunks_are_read_in_part_and_written_in_part() {
        let codec = json!({"name": NAME});
        array_codec(&codec);
        for fill in [false, true] {
            let array = open(&v3(
                &json!("bool"),
                &json!(fill),
                std::slice::from_ref(&codec),
            ))
            .unwrap();
            let part = ArraySubset::new_with_ranges(&[2..5, 3..5]);
            array.store_array_subset(&part, &[!fill; 6]).unwrap();
            let mut expected = [u8::from(fill); 42];
            for row in 2..5 {
                expected[row * 6 + 3..row * 6 + 5].fill(u8::from(!fill));
            }
            assert_eq!(bytes(&array, &array.subset_all()).unwrap(), expected);
            assert_eq!(bytes(&array, &part).unwrap(), [u8::from(!fill); 6]);
            let row = ArraySubset::new_with_ranges(&[4..5, 0..6]);
            assert_eq!(bytes(&array, &row).unwrap(), expected[24..30]);
        }
    }

    #[test]
    fn what_is_corrupt_is_found_or_harmless() {
        let array = open(&v3(&json!("bool"), &json!(false), &[json!({"name": NAME})])).unwrap();
        let chunk = array.chunk_subset(&[0, 0]).unwrap();
        for (at, encoded) in corrupted(&[4, 0xa5, 0xf0]).enumerate() {
            // SAFETY: what is stored is corrupt on purpose.
            unsafe { array.store_encoded_chunk(&[0, 0], encoded.into()) }.unwrap();
            let read = bytes(&array, &chunk);
            // Only flips behind the first byte leave a chunk of bools.
            assert_eq!(read.is_ok(), (8..24).contains(&at), "{at}: {read:?}");
        }
        assert_eq!(
            open(&v3(&json!("uint8"), &json!(0), &[json!({"name": NAME})])).unwrap_err(),
            "numcodecs.packbits: data type uint8 / |u1 is not supported, expected bool"
        );
    }
}
