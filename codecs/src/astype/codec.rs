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

use crate::cast::{Overflow, cast_bytes};
use crate::dtype::{
    NumericType, check_byte_order, check_width, configuration_for, parse_field, typed,
};
use crate::elements::fixed;
use crate::fill;
use crate::partial::{PartialCodec, partial_coders};
use crate::util::{self, array_on_one_thread, codec_traits, named};

const NAME: &str = "numcodecs.astype";

/// The configuration of [`AsTypeCodec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AsTypeConfiguration {
    /// The type to store, as numpy writes it.
    pub encode_dtype: String,
    /// The type of the array; its data type, if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_dtype: Option<String>,
}

/// The `numcodecs.astype` codec.
#[derive(Clone, Debug)]
pub struct AsTypeCodec {
    configuration: Configuration,
    encode_dtype: NumericType,
    decode_dtype: Option<NumericType>,
}

named!(AsTypeCodec: ArrayToArray, v3: "numcodecs.astype", v2: "astype");

impl AsTypeCodec {
    /// Create a codec from the configuration of Zarr V3 metadata.
    ///
    /// # Errors
    /// Returns a [`PluginCreateError`] if a type is unknown or big-endian.
    pub fn new(configuration: &AsTypeConfiguration) -> Result<Self, PluginCreateError> {
        Self::from_metadata(ZarrVersion::V3, util::configuration(configuration))
    }

    fn from_metadata(
        version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        let parsed: AsTypeConfiguration = typed(NAME, &configuration)?;
        let encode_dtype = parse_field(NAME, "encode_dtype", &parsed.encode_dtype)?;
        let decode_dtype = parsed
            .decode_dtype
            .map(|text| parse_field(NAME, "decode_dtype", &text))
            .transpose()?;
        check_byte_order(
            NAME,
            version,
            ("decode_dtype", decode_dtype),
            ("encode_dtype", encode_dtype),
        )?;
        Ok(Self {
            configuration,
            encode_dtype: encode_dtype.numeric,
            decode_dtype: decode_dtype.map(|parsed| parsed.numeric),
        })
    }

    /// The types of a value of an array of `data_type`, and of a stored one.
    pub(crate) fn types(
        &self,
        data_type: &DataType,
    ) -> Result<(NumericType, NumericType), CodecError> {
        Ok((self.decoded_type(data_type)?, self.encode_dtype))
    }

    /// The numeric type that an array of `data_type` is seen as.
    fn decoded_type(&self, data_type: &DataType) -> Result<NumericType, CodecError> {
        let Some(decode_dtype) = self.decode_dtype else {
            return NumericType::of(data_type).ok_or_else(|| {
                CodecError::Other(format!(
                    "{NAME}: data type {data_type} is not supported, expected a bool, integer or \
                     float type, or a decode_dtype of its width"
                ))
            });
        };
        check_width(NAME, "decode_dtype", decode_dtype, data_type)?;
        Ok(decode_dtype)
    }
}

impl CodecTraits for AsTypeCodec {
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

array_on_one_thread!(AsTypeCodec);

impl ArrayToArrayCodecTraits for AsTypeCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        self.decoded_type(decoded_data_type)?;
        Ok(self.encode_dtype.data_type())
    }

    fn encoded_fill_value(
        &self,
        decoded_data_type: &DataType,
        decoded_fill_value: &FillValue,
    ) -> Result<FillValue, CodecError> {
        let decoded = self.decoded_type(decoded_data_type)?;
        fill::cast(decoded_fill_value, decoded, self.encode_dtype)
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let decoded = self.decoded_type(data_type)?;
        let bytes = fixed(bytes, shape, decoded)?;
        if decoded == self.encode_dtype {
            return Ok(bytes.into());
        }
        match cast_bytes(&bytes, decoded, self.encode_dtype, Overflow::Refuse) {
            Ok(encoded) => Ok(encoded.into()),
            Err(error) => Err(CodecError::Other(format!(
                "{NAME}: {error}: nothing was stored; replace such values or choose an \
                 encode_dtype that holds them"
            ))),
        }
    }

    fn decode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let decoded = self.decoded_type(data_type)?;
        let bytes = fixed(bytes, shape, self.encode_dtype)?;
        if decoded == self.encode_dtype {
            return Ok(bytes.into());
        }
        match cast_bytes(&bytes, self.encode_dtype, decoded, Overflow::Wrap) {
            Ok(decoded) => Ok(decoded.into()),
            Err(error) => Err(CodecError::Other(format!(
                "{NAME}: cannot decode a chunk: stored {error}"
            ))),
        }
    }

    partial_coders!();
}

impl PartialCodec for AsTypeCodec {
    /// The region itself: elements do not depend on each other.
    fn dependency(&self, region: &ArraySubset, _shape: &[u64]) -> ArraySubset {
        region.clone()
    }
}
