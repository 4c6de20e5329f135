//! The `numcodecs.bitround` array->array codec: floats with only so many bits of their fractions,
//! so that they compress better.
//!
//! Writing is lossy: what is cut off is rounded, ties to even. Reading changes nothing.
//!
//! ### Compatible implementations
//! `numcodecs.BitRound`, also by way of `zarr.codecs.numcodecs.BitRound`, byte for byte.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.bitround`
//! - Zarr V2 `id`: `bitround`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "keepbits": 10 }
//! # "#;
//! # serde_json::from_str::<tempozarr::BitRoundConfiguration>(configuration).unwrap();
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
use zarrs_metadata::Configuration;
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::dtype::{NumericType, typed};
use crate::elements::{fixed, with_elements_mut};
use crate::partial::{PartialCodec, partial_coders};
use crate::util::{array_on_one_thread, codec_traits, named};

const NAME: &str = "numcodecs.bitround";

/// The configuration of [`BitRoundCodec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitRoundConfiguration {
    /// Bits of the fraction to keep: at most 10 of float16, 23 of float32, 52 of float64.
    pub keepbits: u32,
}

/// The `numcodecs.bitround` codec.
#[derive(Clone, Debug)]
pub struct BitRoundCodec {
    configuration: Configuration,
    keepbits: u32,
}

named!(BitRoundCodec: ArrayToArray, v3: "numcodecs.bitround", v2: "bitround");

impl BitRoundCodec {
    fn from_metadata(
        _version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        let BitRoundConfiguration { keepbits } = typed(NAME, &configuration)?;
        Ok(Self {
            configuration,
            keepbits,
        })
    }

    /// The type of the elements, and how many bits of each are cut off.
    fn cut(&self, data_type: &DataType) -> Result<(NumericType, u32), CodecError> {
        let numeric = NumericType::of(data_type).filter(|numeric| numeric.is_float());
        let fraction: u32 = match numeric {
            Some(NumericType::Float16) => 10,
            Some(NumericType::Float32) => 23,
            _ => 52,
        };
        match (numeric, fraction.checked_sub(self.keepbits)) {
            (Some(numeric), Some(cut)) => Ok((numeric, cut)),
            (Some(_), None) => Err(CodecError::Other(format!(
                "{NAME}: keepbits {} is more than the {fraction} bits that the fraction of \
                 {data_type} has",
                self.keepbits
            ))),
            (None, _) => Err(CodecError::Other(format!(
                "{NAME}: data type {data_type} is not supported, expected float16, float32 or float64"
            ))),
        }
    }
}

macro_rules! rounds {
    ($($round:ident $bits:ty;)*) => { $(
        /// Round the last `cut` bits of each to zeros; a carry runs on into the exponent.
        fn $round(elements: &mut [$bits], cut: u32) {
            for bits in elements {
                let is_odd = *bits >> cut & 1;
                let half = (1 << (cut - 1)) - 1;
                *bits = bits.wrapping_add(half + is_odd) >> cut << cut;
            }
        }
    )* };
}

rounds! {
    round_16 u16;
    round_32 u32;
    round_64 u64;
}

impl CodecTraits for BitRoundCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(self.configuration.clone())
    }

    codec_traits!(parts);
}

array_on_one_thread!(BitRoundCodec);

impl ArrayToArrayCodecTraits for BitRoundCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        self.cut(decoded_data_type)?;
        Ok(decoded_data_type.clone())
    }

    /// The fill value itself, as zarr-python has it.
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
        let (numeric, cut) = self.cut(data_type)?;
        let mut bytes = fixed(bytes, shape, numeric)?;
        if cut > 0 {
            let bytes = bytes.to_mut();
            match numeric.size() {
                2 => with_elements_mut(bytes, |elements| round_16(elements, cut)),
                4 => with_elements_mut(bytes, |elements| round_32(elements, cut)),
                _ => with_elements_mut(bytes, |elements| round_64(elements, cut)),
            }
        }
        Ok(bytes.into())
    }

    fn decode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let (numeric, _) = self.cut(data_type)?;
        Ok(fixed(bytes, shape, numeric)?.into())
    }

    partial_coders!();
}

impl PartialCodec for BitRoundCodec {
    /// The region itself: elements do not depend on each other.
    fn dependency(&self, region: &ArraySubset, _shape: &[u64]) -> ArraySubset {
        region.clone()
    }

    fn keeps_fill(&self, _fill_value: &FillValue) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{array_codec, open, v3};

    #[test]
    fn a_chunk_of_another_length_is_an_error() {
        let codec = array_codec(&json!({"name": NAME, "configuration": {"keepbits": 3}}));
        let two = [NonZeroU64::new(2).unwrap()];
        let (data_type, fill) = (NumericType::Float32.data_type(), FillValue::from(0_f32));
        for (length, fits) in [(0, false), (4, false), (8, true), (64, false)] {
            let bytes = vec![0; length].into();
            let decoded = codec.decode(bytes, &two, &data_type, &fill, &CodecOptions::default());
            assert_eq!(decoded.is_ok(), fits, "{length}");
        }
    }

    /// The bits that numcodecs 0.16.6 makes of bits, with three and with no bits kept.
    #[test]
    fn ties_go_to_even_and_carries_run_on() {
        let bits = [
            0x3f88_0000,
            0x3f98_0000,
            0x3f88_0001,
            0x3fff_ffff,
            0xbf87_ffff,
            0x7f7f_ffff,
        ];
        let mut three = bits;
        round_32(&mut three, 20);
        assert_eq!(
            three,
            [
                0x3f80_0000,
                0x3fa0_0000,
                0x3f90_0000,
                0x4000_0000,
                0xbf80_0000,
                0x7f80_0000
            ]
        );
        let mut none = bits;
        round_32(&mut none, 23);
        assert_eq!(
            none,
            [
                0x3f80_0000,
                0x3f80_0000,
                0x3f80_0000,
                0x4000_0000,
                0xbf80_0000,
                0x7f80_0000
            ]
        );
    }

    #[test]
    fn data_types_and_bits_that_cannot_be_rounded_are_errors_on_opening() {
        let error = |data_type: &str, keepbits: u32| {
            let codec = json!({"name": NAME, "configuration": {"keepbits": keepbits}});
            array_codec(&codec);
            open(&v3(&json!(data_type), &json!(0), &[codec])).err()
        };
        for (data_type, most) in [("float16", 10), ("float32", 23), ("float64", 52)] {
            assert_eq!(error(data_type, most), None);
            let error = error(data_type, most + 1).unwrap();
            let expected = format!("keepbits {} is more than the {most} bits", most + 1);
            assert!(
                error.contains(&expected) && error.contains(data_type),
                "{error}"
            );
        }
        assert_eq!(
            error("int32", 1).unwrap(),
            "numcodecs.bitround: data type int32 / <i4 is not supported, expected float16, float32 or float64"
        );
    }
}
