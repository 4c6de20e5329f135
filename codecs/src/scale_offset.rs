//! The `scale_offset` array->array codec: `(value - offset) * scale` in the array's own data type.
//!
//! It loses nothing without a word: integers that leave their type, or that do not divide by
//! `scale` on read, are errors. Floats are rounded, as they are everywhere.
//!
//! ### Compatible implementations
//! `scale_offset` of zarr-extensions, as zarr-python 3.4.2 has it: a missing `offset` is 0, a missing
//! `scale` 1.
//!
//! ### Codec names
//! - Zarr V3 `name`: `scale_offset`
//!
//! ### Configuration example
//! Both are spelt as a fill value of the array is.
//! ```rust
//! # let configuration = r#"
//! { "offset": 1000, "scale": 0.1 }
//! # "#;
//! # serde_json::from_str::<tempozarr::ScaleOffsetConfiguration>(configuration).unwrap();
//! ```

use std::num::NonZeroU64;
use std::sync::Arc;

use half::f16;
use serde::{Deserialize, Serialize};
use zarrs_chunk_grid::ArraySubset;
use zarrs_codec::{
    ArrayBytes, ArrayToArrayCodecTraits, CodecError, CodecMetadataOptions, CodecOptions,
    CodecTraits,
};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::{Configuration, FillValueMetadata};
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::dtype::{NumericType, dispatch, integers, typed};
use crate::elements::{fixed, with_elements_mut};
use crate::partial::{PartialCodec, partial_coders};
use crate::util::{array_on_one_thread, codec_traits, named};

const NAME: &str = "scale_offset";

/// The configuration of [`ScaleOffsetCodec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScaleOffsetConfiguration {
    /// What is subtracted from each value.
    pub offset: FillValueMetadata,
    /// What the difference is multiplied with.
    pub scale: FillValueMetadata,
}

impl Default for ScaleOffsetConfiguration {
    fn default() -> Self {
        Self {
            offset: 0.into(),
            scale: 1.into(),
        }
    }
}

/// The `scale_offset` codec.
#[derive(Clone, Debug)]
pub struct ScaleOffsetCodec {
    configuration: Configuration,
    parsed: ScaleOffsetConfiguration,
}

named!(ScaleOffsetCodec: ArrayToArray, v3: "scale_offset");

/// Why an integer has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misfit {
    Range,
    Remainder,
}

/// What can be scaled.
trait Scale: Sized {
    /// `(self - offset) * scale`, if the type holds it.
    fn encode(self, offset: Self, scale: Self) -> Result<Self, Misfit>;

    /// `self / scale + offset`, if the type holds it.
    fn decode(self, offset: Self, scale: Self) -> Result<Self, Misfit>;
}

macro_rules! scale_integers {
    ($($type:ty)*) => { $(
        impl Scale for $type {
            fn encode(self, offset: Self, scale: Self) -> Result<Self, Misfit> {
                // 2^65 holds every difference, and the product may be too large for anything.
                let difference = i128::from(self) - i128::from(offset);
                let product = difference.checked_mul(scale.into()).ok_or(Misfit::Range)?;
                product.try_into().map_err(|_| Misfit::Range)
            }

            fn decode(self, offset: Self, scale: Self) -> Result<Self, Misfit> {
                let (encoded, scale) = (i128::from(self), i128::from(scale));
                if encoded.checked_rem(scale) != Some(0) {
                    return Err(Misfit::Remainder);
                }
                (encoded / scale + i128::from(offset)).try_into().map_err(|_| Misfit::Range)
            }
        }
    )* };
}

macro_rules! scale_floats {
    ($($type:ty)*) => { $(
        impl Scale for $type {
            fn encode(self, offset: Self, scale: Self) -> Result<Self, Misfit> {
                Ok((self - offset) * scale)
            }

            fn decode(self, offset: Self, scale: Self) -> Result<Self, Misfit> {
                Ok(self / scale + offset)
            }
        }
    )* };
}

integers!(scale_integers);
scale_floats!(f16 f32 f64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Encode,
    Decode,
}

impl ScaleOffsetCodec {
    fn from_metadata(
        _version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        let parsed = typed(NAME, &configuration)?;
        Ok(Self {
            configuration,
            parsed,
        })
    }

    /// The type of the elements of an array of `data_type`, and the bytes of `offset` and `scale`.
    fn of(&self, data_type: &DataType) -> Result<(NumericType, [FillValue; 2]), CodecError> {
        let failed = |what: &str| CodecError::Other(format!("{NAME}: {what}"));
        let numeric = NumericType::of(data_type)
            .filter(|numeric| *numeric != NumericType::Bool)
            .ok_or_else(|| {
                failed(&format!(
                    "data type {data_type} is not supported, expected an integer or float type"
                ))
            })?;
        let scalar = |field: &str, value: &FillValueMetadata| {
            data_type
                .fill_value_v3(value)
                .map_err(|_| failed(&format!("{field} {value} is not a value of {data_type}")))
        };
        let offset = scalar("offset", &self.parsed.offset)?;
        let scale = scalar("scale", &self.parsed.scale)?;
        #[allow(clippy::float_cmp, reason = "only zero is zero")]
        let is_zero = dispatch!(numeric, T => {
            bytemuck::pod_read_unaligned::<T>(scale.as_ne_bytes()) == T::default()
        }, bool => false);
        if is_zero {
            return Err(failed("scale is 0, expected another number"));
        }
        Ok((numeric, [offset, scale]))
    }

    fn run<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        direction: Direction,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let (numeric, [offset, scale]) = self.of(data_type)?;
        let mut bytes = fixed(bytes, shape, numeric)?;
        let failed = dispatch!(numeric, T => {
            let [offset, scale] =
                [offset, scale].map(|value| bytemuck::pod_read_unaligned::<T>(value.as_ne_bytes()));
            with_elements_mut::<T, _>(bytes.to_mut(), |elements| {
                elements.iter_mut().enumerate().find_map(|(index, element)| {
                    let result = match direction {
                        Direction::Encode => element.encode(offset, scale),
                        Direction::Decode => element.decode(offset, scale),
                    };
                    match result {
                        Ok(result) => {
                            *element = result;
                            None
                        }
                        Err(misfit) => Some((index, element.to_string(), misfit)),
                    }
                })
            })
        }, bool => None);
        let Some((index, value, misfit)) = failed else {
            return Ok(bytes.into());
        };
        let range = format!("is outside the range of dtype {}", numeric.name());
        Err(CodecError::Other(match (direction, misfit) {
            (Direction::Encode, _) => format!(
                "{NAME}: element {index} ({value}) less offset times scale {range}: nothing was stored"
            ),
            (Direction::Decode, Misfit::Range) => format!(
                "{NAME}: cannot decode a chunk: element {index} ({value}) by scale and offset {range}"
            ),
            (Direction::Decode, Misfit::Remainder) => format!(
                "{NAME}: cannot decode a chunk: element {index} ({value}) by scale has a non-zero \
                 remainder"
            ),
        }))
    }
}

impl CodecTraits for ScaleOffsetCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(self.configuration.clone())
    }

    codec_traits!(parts);
}

array_on_one_thread!(ScaleOffsetCodec);

impl ArrayToArrayCodecTraits for ScaleOffsetCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        self.of(decoded_data_type)?;
        Ok(decoded_data_type.clone())
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.run(bytes, shape, data_type, Direction::Encode)
    }

    fn decode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.run(bytes, shape, data_type, Direction::Decode)
    }

    partial_coders!();
}

impl PartialCodec for ScaleOffsetCodec {
    /// The region itself: elements do not depend on each other.
    fn dependency(&self, region: &ArraySubset, _shape: &[u64]) -> ArraySubset {
        region.clone()
    }

    /// Rounding may not give it back.
    fn keeps_fill(&self, _fill_value: &FillValue) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{TestArray, array_codec, bytes, open, raw, v3};

    fn array(data_type: &str, fill: i64, configuration: &Value) -> Result<TestArray, String> {
        let codec = json!({"name": NAME, "configuration": configuration});
        array_codec(&codec);
        open(&v3(&json!(data_type), &json!(fill), &[codec]))
    }

    #[test]
    fn integers_that_leave_their_type_are_errors() {
        let array = array("uint8", 7, &json!({"offset": 5, "scale": 3})).unwrap();
        let store = |values: [u8; 12]| {
            let chunk = array.store_chunk(&[0, 0], ArrayBytes::from(raw(&values)));
            chunk.map_err(|error| error.to_string())
        };
        let chunk = array.chunk_subset(&[0, 0]).unwrap();
        let mut values = [90; 12];
        values[3] = 5;
        store(values).unwrap();
        assert_eq!(bytes(&array, &chunk).unwrap(), values);
        for wrong in [4, 91] {
            values[2] = wrong;
            assert_eq!(
                store(values).unwrap_err(),
                format!(
                    "scale_offset: element 2 ({wrong}) less offset times scale is outside the \
                     range of dtype uint8: nothing was stored"
                )
            );
        }
        // SAFETY: it is a chunk of bytes.
        unsafe { array.store_encoded_chunk(&[0, 0], vec![4; 12].into()) }.unwrap();
        assert_eq!(
            bytes(&array, &chunk).unwrap_err(),
            "scale_offset: cannot decode a chunk: element 0 (4) by scale has a non-zero remainder"
        );
        let missing = ArraySubset::new_with_ranges(&[5..6, 1..3]);
        assert_eq!(bytes(&array, &missing).unwrap(), [7, 7]);
    }

    #[test]
    fn stored_integers_that_leave_their_type_are_errors() {
        let array = array("int8", 0, &json!({"offset": 100})).unwrap();
        // SAFETY: it is a chunk of bytes.
        unsafe { array.store_encoded_chunk(&[0, 0], vec![50; 12].into()) }.unwrap();
        assert_eq!(
            bytes(&array, &array.chunk_subset(&[0, 0]).unwrap()).unwrap_err(),
            "scale_offset: cannot decode a chunk: element 0 (50) by scale and offset is outside the \
             range of dtype int8"
        );
    }

    #[test]
    fn the_widest_integers_do_not_overflow() {
        let array = array("uint64", 0, &json!({"offset": 0, "scale": u64::MAX})).unwrap();
        let store = |value: u64| array.store_chunk(&[0, 0], ArrayBytes::from(raw(&[value; 12])));
        store(1).unwrap();
        assert!(store(u64::MAX).is_err());
    }

    #[test]
    fn configurations_that_cannot_be_used_say_why() {
        for (data_type, configuration, message) in [
            ("int8", json!({"scale": 0}), "scale is 0"),
            ("float32", json!({"scale": -0.0}), "scale is 0"),
            (
                "int8",
                json!({"offset": 200}),
                "offset 200 is not a value of int8",
            ),
            (
                "int8",
                json!({"offset": 0.5}),
                "offset 0.5 is not a value of int8",
            ),
        ] {
            let error = array(data_type, 0, &configuration).unwrap_err();
            assert!(
                error.starts_with("scale_offset: ") && error.contains(message),
                "{error}"
            );
        }
        array("float64", 0, &json!({"offset": "NaN"})).unwrap();
        array("int8", 0, &json!({})).unwrap();
        let bool = open(&v3(&json!("bool"), &json!(false), &[json!({"name": NAME})]));
        assert_eq!(
            bool.unwrap_err(),
            "scale_offset: data type bool / |b1 is not supported, expected an integer or float type"
        );
    }
}
