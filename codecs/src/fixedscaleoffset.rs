//! The `numcodecs.fixedscaleoffset` array->array codec: `(value - offset) * scale`, rounded, is
//! stored as another numeric type.
//!
//! It computes in the types in which numpy does: integers stay integers if `offset` and `scale` are
//! (and wrap), and floats keep their width. Beyond numcodecs:
//! - On write, a value that the stored type cannot hold is an error, and nothing is stored, unless
//!   it is the fill value: chunks at the edge of an array are padded with that. numcodecs stores
//!   whatever the processor makes of it.
//! - On read, a float out of the range of an integer type becomes the nearest of that type, and NaN
//!   zero; numcodecs makes of them, too, whatever the processor does.
//!
//! ### Compatible implementations
//! `numcodecs.FixedScaleOffset`, also by way of `zarr.codecs.numcodecs.FixedScaleOffset`, byte for
//! byte. It replaces the codec of the same name in zarrs, which computes in f32.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.fixedscaleoffset`
//! - Zarr V2 `id`: `fixedscaleoffset`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "offset": 1000, "scale": 10, "dtype": "<f8", "astype": "<i2" }
//! # "#;
//! # serde_json::from_str::<tempozarr::FixedScaleOffsetConfiguration>(configuration).unwrap();
//! ```

use std::num::NonZeroU64;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Number;
use zarrs_chunk_grid::ArraySubset;
use zarrs_codec::{
    ArrayBytes, ArrayToArrayCodecTraits, CodecError, CodecMetadataOptions, CodecOptions,
    CodecTraits,
};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::Configuration;
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::cast::{CastError, Overflow, cast_bytes};
use crate::dtype::{
    NumericType, check_byte_order, check_width, configuration_for, parse_field, typed,
};
use crate::elements::fixed;
use crate::fill;
use crate::partial::{PartialCodec, partial_coders};
use crate::scalar::{Operation, Scalar, apply, round};
use crate::util::{array_on_one_thread, codec_traits, named};

const NAME: &str = "numcodecs.fixedscaleoffset";

/// The configuration of [`FixedScaleOffsetCodec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedScaleOffsetConfiguration {
    /// What is subtracted from each value.
    pub offset: Number,
    /// What the difference is multiplied with.
    pub scale: Number,
    /// The type of the array, as numpy writes it.
    pub dtype: String,
    /// The type to store; the same, if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub astype: Option<String>,
}

/// The `numcodecs.fixedscaleoffset` codec.
#[derive(Clone, Debug)]
pub struct FixedScaleOffsetCodec {
    configuration: Configuration,
    offset: Scalar,
    scale: Scalar,
    dtype: NumericType,
    astype: NumericType,
}

named!(FixedScaleOffsetCodec: ArrayToArray, v3: "numcodecs.fixedscaleoffset", v2: "fixedscaleoffset");

impl FixedScaleOffsetCodec {
    fn from_metadata(
        version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        let parsed: FixedScaleOffsetConfiguration = typed(NAME, &configuration)?;
        let dtype = parse_field(NAME, "dtype", &parsed.dtype)?;
        let astype = match &parsed.astype {
            Some(astype) => parse_field(NAME, "astype", astype)?,
            None => dtype,
        };
        check_byte_order(NAME, version, ("dtype", Some(dtype)), ("astype", astype))?;
        Ok(Self {
            configuration,
            offset: (&parsed.offset).into(),
            scale: (&parsed.scale).into(),
            dtype: dtype.numeric,
            astype: astype.numeric,
        })
    }

    /// Another name of the same width is a view of the bits, if neither is a float.
    fn check(&self, data_type: &DataType) -> Result<(), CodecError> {
        let numeric = NumericType::of(data_type);
        let is_float = |numeric: NumericType| numeric.is_float();
        if numeric != Some(self.dtype) && (self.dtype.is_float() || numeric.is_some_and(is_float)) {
            return Err(CodecError::Other(format!(
                "{NAME}: dtype {} is not the array's data type {data_type}, expected the same",
                self.dtype.name()
            )));
        }
        check_width(NAME, "dtype", self.dtype, data_type)
    }

    /// The numbers to store of `values`, and their type, which is not yet the stored one.
    fn scaled(&self, values: Vec<u8>) -> Result<(Vec<u8>, NumericType), String> {
        let (bytes, computed) = apply(values, self.dtype, Operation::Minus, self.offset)?;
        let (mut bytes, computed) = apply(bytes, computed, Operation::Times, self.scale)?;
        round(&mut bytes, computed);
        Ok((bytes, computed))
    }

    /// The inverse of [`scaled`](Self::scaled) but for the rounding, from stored numbers.
    fn unscaled(&self, stored: Vec<u8>) -> Result<(Vec<u8>, NumericType), String> {
        let (bytes, computed) = apply(stored, self.astype, Operation::Over, self.scale)?;
        apply(bytes, computed, Operation::Plus, self.offset)
    }
}

impl CodecTraits for FixedScaleOffsetCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(
        &self,
        version: ZarrVersion,
        _options: &CodecMetadataOptions,
    ) -> Option<Configuration> {
        Some(configuration_for(version, &self.configuration))
    }

    codec_traits!(parts);
}

array_on_one_thread!(FixedScaleOffsetCodec);

impl ArrayToArrayCodecTraits for FixedScaleOffsetCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        self.check(decoded_data_type)?;
        Ok(self.astype.data_type())
    }

    /// The fill value itself, as zarr-python has it, although a chunk full of it is not encoded as
    /// one.
    fn encoded_fill_value(
        &self,
        decoded_data_type: &DataType,
        decoded_fill_value: &FillValue,
    ) -> Result<FillValue, CodecError> {
        self.check(decoded_data_type)?;
        fill::cast(decoded_fill_value, self.dtype, self.astype)
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.check(data_type)?;
        let values = fixed(bytes, shape, self.dtype)?;
        let (mut scaled, computed) = self
            .scaled(values.to_vec())
            .map_err(|error| format!("{NAME}: {error}"))?;
        if let Ok(encoded) = cast_bytes(&scaled, computed, self.astype, Overflow::Refuse) {
            return Ok(encoded.into());
        }
        let encode = |scaled: &[u8], overflow| {
            cast_bytes(scaled, computed, self.astype, overflow).map_err(|error: CastError| {
                format!(
                    "{NAME}: {error} in the scaled values: nothing was stored; replace such values \
                     or choose a wider astype"
                )
            })
        };
        let encoded = encode(&scaled, Overflow::Clamp)?;
        let values = values.chunks(self.dtype.size());
        for (scaled, value) in scaled.chunks_mut(computed.size()).zip(values) {
            if value == fill_value.as_ne_bytes() {
                scaled.fill(0);
            }
        }
        encode(&scaled, Overflow::Refuse)?;
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
        self.check(data_type)?;
        let stored = fixed(bytes, shape, self.astype)?;
        let decoded = self
            .unscaled(stored.into_owned())
            .and_then(|(values, computed)| {
                cast_bytes(&values, computed, self.dtype, Overflow::Clamp)
                    .map_err(|error| error.to_string())
            })
            .map_err(|error| format!("{NAME}: cannot decode a chunk: {error}"))?;
        Ok(decoded.into())
    }

    partial_coders!();
}

impl PartialCodec for FixedScaleOffsetCodec {
    /// The region itself: elements do not depend on each other.
    fn dependency(&self, region: &ArraySubset, _shape: &[u64]) -> ArraySubset {
        region.clone()
    }

    /// It is offset.
    fn keeps_fill(&self, _fill_value: &FillValue) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{array_codec, bytes, open, raw, v3};

    fn filter(configuration: &Value) -> Value {
        json!({"name": NAME, "configuration": configuration})
    }

    #[test]
    fn the_fill_value_need_not_fit_and_other_values_must() {
        let codec = filter(&json!({"offset": 1000, "scale": 10, "dtype": "<f4", "astype": "|u1"}));
        for fill in [json!(0), json!("NaN")] {
            let array = open(&v3(&json!("float32"), &fill, std::slice::from_ref(&codec))).unwrap();
            let store = |values: [f32; 12]| {
                let chunk = array.store_chunk(&[0, 0], ArrayBytes::from(raw(&values)));
                chunk.map_err(|error| error.to_string())
            };
            let filling = bytemuck::pod_read_unaligned::<f32>(array.fill_value().as_ne_bytes());
            let mut values = [
                1000.04, 1025.5, 1000.5, filling, 0., 0., 0., 0., 0., 0., 0., 0.,
            ];
            values[4..].fill(1001.0);
            store(values).unwrap();
            let chunk = array.chunk_subset(&[0, 0]).unwrap();
            let read: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes(&array, &chunk).unwrap());
            assert_eq!(read[..3], [1000.0, 1025.5, 1000.5]);
            values[5] = 1025.6;
            assert_eq!(
                store(values).unwrap_err(),
                "numcodecs.fixedscaleoffset: element 5 (256.0) has no value as uint8 in the scaled \
                 values: nothing was stored; replace such values or choose a wider astype"
            );
            // A chunk that is missing, and its parts, are full of the fill value.
            let missing = ArraySubset::new_with_ranges(&[5..6, 1..3]);
            let expected = array.fill_value().as_ne_bytes().repeat(2);
            assert_eq!(bytes(&array, &missing).unwrap(), expected);
        }
    }

    #[test]
    fn views_are_of_integers_only() {
        let time =
            json!({"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}});
        let codec = filter(&json!({"offset": 5, "scale": 1, "dtype": "<i8", "astype": "<i4"}));
        array_codec(&codec);
        let array = open(&v3(&time, &json!(0), std::slice::from_ref(&codec))).unwrap();
        let chunk = array.chunk_subset(&[0, 0]).unwrap();
        array
            .store_chunk(&[0, 0], ArrayBytes::from(raw(&[7_i64; 12])))
            .unwrap();
        let stored = array.retrieve_encoded_chunk(&[0, 0]).unwrap().unwrap();
        assert_eq!(stored, raw(&[2_i32; 12]));
        assert_eq!(bytes(&array, &chunk).unwrap(), raw(&[7_i64; 12]));
        assert_eq!(
            open(&v3(&json!("float64"), &json!(0), &[codec])).unwrap_err(),
            "numcodecs.fixedscaleoffset: dtype int64 is not the array's data type float64 / <f8, expected \
             the same"
        );
    }

    #[test]
    fn an_offset_that_the_type_does_not_hold_is_named() {
        let codec = filter(&json!({"offset": -5, "scale": 1, "dtype": "|u1"}));
        let array = open(&v3(&json!("uint8"), &json!(0), &[codec])).unwrap();
        let stored = array.store_chunk(&[0, 0], ArrayBytes::from(vec![7; 12]));
        assert_eq!(
            stored.unwrap_err().to_string(),
            "numcodecs.fixedscaleoffset: -5 is not a value of uint8"
        );
    }
}
