//! The `numcodecs.quantize` array->array codec: floats with no more than so many decimal digits
//! behind the point, so that they compress better.
//!
//! Writing is lossy: a value is rounded to a multiple of the power of two that is next below
//! `10 ** -digits`. Reading changes nothing but the type.
//!
//! ### Compatible implementations
//! `numcodecs.Quantize`, also by way of `zarr.codecs.numcodecs.Quantize`, byte for byte.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.quantize`
//! - Zarr V2 `id`: `quantize`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "digits": 2, "dtype": "<f8", "astype": "<f4" }
//! # "#;
//! # serde_json::from_str::<tempozarr::QuantizeConfiguration>(configuration).unwrap();
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

use crate::cast::{Overflow, cast_bytes};
use crate::dtype::{
    NumericType, NumpyType, check_byte_order, configuration_for, parse_field, typed,
};
use crate::elements::fixed;
use crate::fill;
use crate::partial::{PartialCodec, partial_coders};
use crate::scalar::{Operation, Scalar, apply, round};
use crate::util::{array_on_one_thread, codec_traits, named};

const NAME: &str = "numcodecs.quantize";

/// The configuration of [`QuantizeCodec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizeConfiguration {
    /// Decimal digits to keep behind the point.
    pub digits: Number,
    /// The type of the array, as numpy writes it.
    pub dtype: String,
    /// The type to store; the same, if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub astype: Option<String>,
}

/// The `numcodecs.quantize` codec.
#[derive(Clone, Debug)]
pub struct QuantizeCodec {
    configuration: Configuration,
    scale: f64,
    dtype: NumericType,
    astype: NumericType,
}

named!(QuantizeCodec: ArrayToArray, v3: "numcodecs.quantize", v2: "quantize");

impl QuantizeCodec {
    fn from_metadata(
        version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        let parsed: QuantizeConfiguration = typed(NAME, &configuration)?;
        let dtype = float("dtype", &parsed.dtype)?;
        let astype = match &parsed.astype {
            Some(astype) => float("astype", astype)?,
            None => dtype,
        };
        check_byte_order(NAME, version, ("dtype", Some(dtype)), ("astype", astype))?;
        let scale = parsed.digits.as_f64().map_or(f64::NAN, scale);
        if !scale.is_normal() {
            return Err(PluginCreateError::Other(format!(
                "{NAME}: digits {} is out of range, expected about -300 to 300",
                parsed.digits
            )));
        }
        Ok(Self {
            configuration,
            scale,
            dtype: dtype.numeric,
            astype: astype.numeric,
        })
    }

    fn check(&self, data_type: &DataType) -> Result<(), CodecError> {
        if NumericType::of(data_type) == Some(self.dtype) {
            return Ok(());
        }
        Err(CodecError::Other(format!(
            "{NAME}: dtype {} is not the array's data type {data_type}, expected the same",
            self.dtype.name()
        )))
    }
}

fn float(field: &str, text: &str) -> Result<NumpyType, PluginCreateError> {
    let parsed = parse_field(NAME, field, text)?;
    if parsed.numeric.is_float() {
        return Ok(parsed);
    }
    Err(PluginCreateError::Other(format!(
        "{NAME}: {field} {text:?} has no digits behind the point, expected a float type such as \
         \"<f4\""
    )))
}

/// The power of two that is at least ten to the whole digits, away from zero.
fn scale(digits: f64) -> f64 {
    // Operation by operation as numcodecs, whose logarithms may be off by a last bit.
    let exponent = 10_f64.powf(-digits).log10();
    let exponent = if exponent < 0.0 {
        exponent.floor()
    } else {
        exponent.ceil()
    };
    2_f64.powf(10_f64.powf(-exponent).log2().ceil())
}

impl CodecTraits for QuantizeCodec {
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

array_on_one_thread!(QuantizeCodec);

impl ArrayToArrayCodecTraits for QuantizeCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        self.check(decoded_data_type)?;
        Ok(self.astype.data_type())
    }

    /// The fill value itself, as zarr-python has it.
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
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.check(data_type)?;
        let bytes = fixed(bytes, shape, self.dtype)?.into_owned();
        let scale = Scalar::Float(self.scale);
        let (mut bytes, _) = apply(bytes, self.dtype, Operation::Times, scale)?;
        round(&mut bytes, self.dtype);
        let (bytes, _) = apply(bytes, self.dtype, Operation::Over, scale)?;
        let encoded = cast_bytes(&bytes, self.dtype, self.astype, Overflow::Clamp);
        Ok(encoded.map_err(|error| error.to_string())?.into())
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
        let bytes = fixed(bytes, shape, self.astype)?;
        if self.astype == self.dtype {
            return Ok(bytes.into());
        }
        let decoded = cast_bytes(&bytes, self.astype, self.dtype, Overflow::Clamp);
        Ok(decoded.map_err(|error| error.to_string())?.into())
    }

    partial_coders!();
}

impl PartialCodec for QuantizeCodec {
    /// The region itself: elements do not depend on each other.
    fn dependency(&self, region: &ArraySubset, _shape: &[u64]) -> ArraySubset {
        region.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{array_codec, open, v3};

    /// `np.log2(numcodecs' scale)`, by digits.
    #[test]
    #[allow(clippy::float_cmp, reason = "powers of two are exact")]
    fn scales_are_those_of_numcodecs() {
        for (digits, bits) in [
            (-3.0, -9),
            (-1.0, -3),
            (0.0, 0),
            (1.0, 4),
            (2.0, 7),
            (2.5, 10),
            (3.0, 10),
            (4.0, 14),
            (5.0, 17),
            (6.0, 20),
            (7.0, 24),
            (10.0, 34),
            (15.0, 50),
            (22.0, 74),
            (300.0, 997),
        ] {
            assert_eq!(scale(digits), 2_f64.powi(bits), "{digits}");
        }
    }

    #[test]
    fn configurations_that_cannot_be_used_say_why() {
        let metadata = |configuration: Value| json!({"name": NAME, "configuration": configuration});
        for (configuration, message) in [
            (json!({"digits": 2}), "missing field `dtype`"),
            (
                json!({"digits": 2, "dtype": "<i4"}),
                "dtype \"<i4\" has no digits behind the point",
            ),
            (
                json!({"digits": 400, "dtype": "f8"}),
                "digits 400 is out of range",
            ),
            (
                json!({"digits": -400, "dtype": "f8"}),
                "digits -400 is out of range",
            ),
            (
                json!({"digits": 2, "dtype": "f8", "astype": ">f4"}),
                "astype is big-endian",
            ),
        ] {
            let error = crate::testing::codec(&metadata(configuration)).unwrap_err();
            assert!(
                error.starts_with("numcodecs.quantize: ") && error.contains(message),
                "{error}"
            );
        }
        let codec = metadata(json!({"digits": 2.5, "dtype": "float32", "astype": null}));
        array_codec(&codec);
        assert_eq!(
            open(&v3(&json!("float64"), &json!(0), &[codec])).unwrap_err(),
            "numcodecs.quantize: dtype float32 is not the array's data type float64 / <f8, expected the same"
        );
    }
}
