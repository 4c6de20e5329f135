use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use zarrs_chunk_grid::ArraySubset;
use zarrs_codec::{
    ArrayBytes, ArrayToArrayCodecTraits, CodecError, CodecMetadataOptions, CodecOptions,
    CodecTraits,
};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::Configuration;
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use super::kernel;
use crate::cast::{Overflow, cast_bytes};
use crate::dtype::{
    NumericType, NumpyType, check_byte_order, check_width, configuration_for, dispatch,
    parse_field, typed,
};
use crate::elements::{fixed, with_elements_mut};
use crate::fill;
use crate::partial::{PartialCodec, partial_coders};
use crate::util::{self, array_on_one_thread, codec_traits, named};

const NAME: &str = "numcodecs.delta";

/// The configuration of [`DeltaCodec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaConfiguration {
    /// The type to compute differences in, as numpy writes it.
    pub dtype: String,
    /// The type to store them in; the same, if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub astype: Option<String>,
}

/// The `numcodecs.delta` codec.
#[derive(Debug)]
pub struct DeltaCodec {
    configuration: Configuration,
    dtype: NumericType,
    astype: NumericType,
    warned: AtomicBool,
}

named!(DeltaCodec: ArrayToArray, v3: "numcodecs.delta", v2: "delta");

impl DeltaCodec {
    /// Create a codec from the configuration of Zarr V3 metadata.
    ///
    /// # Errors
    /// Returns a [`PluginCreateError`] if a type is unknown, bool or big-endian.
    pub fn new(configuration: &DeltaConfiguration) -> Result<Self, PluginCreateError> {
        Self::from_metadata(ZarrVersion::V3, util::configuration(configuration))
    }

    fn from_metadata(
        version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        let parsed: DeltaConfiguration = typed(NAME, &configuration)?;
        let dtype = number("dtype", &parsed.dtype)?;
        let astype = match &parsed.astype {
            Some(astype) => number("astype", astype)?,
            None => dtype,
        };
        check_byte_order(NAME, version, ("dtype", Some(dtype)), ("astype", astype))?;
        Ok(Self {
            configuration,
            dtype: dtype.numeric,
            astype: astype.numeric,
            warned: AtomicBool::new(false),
        })
    }
}

impl DeltaCodec {
    /// The types of a value, of the sum of differences, and of a stored difference.
    pub(crate) fn types(&self) -> (NumericType, NumericType, NumericType) {
        (self.dtype, sum_type(self.dtype, self.astype), self.astype)
    }

    /// Check that the stored differences, cast back, are those of the values, up to fill values
    /// at the end: a chunk at the edge of an array is padded with them, and nobody reads those.
    fn check_restores(
        &self,
        encoded: &[u8],
        differences: Cow<'_, [u8]>,
        fill_value: &FillValue,
    ) -> Result<(), CodecError> {
        let restored = cast_bytes(encoded, self.astype, self.dtype, Overflow::Wrap)
            .map_err(|error| error.to_string())?;
        let mut pairs = restored.iter().zip(&*differences);
        let Some(byte) = pairs.position(|(restored, difference)| restored != difference) else {
            return Ok(());
        };
        let size = self.dtype.size();
        let element = byte / size;
        let mut values = differences;
        dispatch!(self.dtype, T => {
            with_elements_mut::<T, _>(values.to_mut(), kernel::decode);
        }, bool => ());
        if fill_value.equals_all(&values[element * size..]) {
            return Ok(());
        }
        Err(CodecError::Other(format!(
            "{NAME}: the difference of elements {} and {element} does not fit {}: nothing was \
             stored; choose a wider astype",
            element - 1,
            self.astype.name()
        )))
    }
}

/// A type that has differences: bool has none.
fn number(field: &str, text: &str) -> Result<NumpyType, PluginCreateError> {
    let parsed = parse_field(NAME, field, text)?;
    if parsed.numeric == NumericType::Bool {
        return Err(PluginCreateError::Other(format!(
            "{NAME}: {field} {text:?} has no differences that restore it, expected an integer or \
             float type; \"|u1\" works on the bits of a bool"
        )));
    }
    Ok(parsed)
}

/// The type that numpy's `cumsum` adds `term`s up in before it casts each sum to `sum`: that of
/// both. Not so for integers: these wrap, so that the bits of `sum` are enough, and are right even
/// where numpy leaves them for float64 (int64 with uint64).
fn sum_type(sum: NumericType, term: NumericType) -> NumericType {
    use NumericType::{Float16, Float32, Float64};
    let float_for = |numeric: NumericType| match numeric.size() {
        _ if numeric.is_float() => numeric,
        1 => Float16,
        2 => Float32,
        _ => Float64,
    };
    if sum.is_integer() && term.is_integer() {
        return sum;
    }
    let (sum, term) = (float_for(sum), float_for(term));
    if sum.size() < term.size() { term } else { sum }
}

impl CodecTraits for DeltaCodec {
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

array_on_one_thread!(DeltaCodec);

impl ArrayToArrayCodecTraits for DeltaCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        check_width(NAME, "dtype", self.dtype, decoded_data_type)?;
        Ok(self.astype.data_type())
    }

    /// The fill value itself, as zarr-python has it, although a chunk full of it is not encoded
    /// as one: where the two could be confused, `PartialCoder` looks whether the chunk exists.
    fn encoded_fill_value(
        &self,
        decoded_data_type: &DataType,
        decoded_fill_value: &FillValue,
    ) -> Result<FillValue, CodecError> {
        check_width(NAME, "dtype", self.dtype, decoded_data_type)?;
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
        check_width(NAME, "dtype", self.dtype, data_type)?;
        let mut bytes = fixed(bytes, shape, self.dtype)?;
        if self.dtype.is_float() && !self.warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{NAME}: differences of {} are rounded, so other values will be read back; \
                 temporal_xor is lossless",
                self.dtype.name()
            );
        }
        dispatch!(self.dtype, T => {
            with_elements_mut::<T, _>(bytes.to_mut(), kernel::encode);
        }, bool => ());
        if self.astype == self.dtype {
            return Ok(bytes.into());
        }
        // numcodecs, too, refuses a first element that does not fit; it wraps the differences, from
        // which not every sum comes back.
        let first = &bytes[..self.dtype.size()];
        let encoded = cast_bytes(first, self.dtype, self.astype, Overflow::Refuse)
            .and_then(|_| cast_bytes(&bytes, self.dtype, self.astype, Overflow::Wrap))
            .map_err(|error| {
                CodecError::Other(format!(
                    "{NAME}: {error} in the differences: nothing was stored; choose a wider astype"
                ))
            })?;
        if self.dtype.is_integer() && self.astype.is_integer() {
            self.check_restores(&encoded, bytes, fill_value)?;
        }
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
        check_width(NAME, "dtype", self.dtype, data_type)?;
        let mut bytes = fixed(bytes, shape, self.astype)?;
        let cast = |bytes: &[u8], from, to| match cast_bytes(bytes, from, to, Overflow::Wrap) {
            Ok(cast) => Ok(Cow::Owned(cast)),
            Err(error) => Err(CodecError::Other(format!(
                "{NAME}: cannot decode a chunk: {error} in the sums"
            ))),
        };
        let (_, sum_type, _) = self.types();
        if self.astype != sum_type {
            bytes = cast(&bytes, self.astype, sum_type)?;
        }
        dispatch!(sum_type, T => {
            with_elements_mut::<T, _>(bytes.to_mut(), kernel::decode);
        }, bool => ());
        if self.dtype != sum_type {
            bytes = cast(&bytes, sum_type, self.dtype)?;
        }
        Ok(bytes.into())
    }

    partial_coders!();
}

impl PartialCodec for DeltaCodec {
    /// Everything before the region's last element in C order, rounded up to whole rows.
    fn dependency(&self, region: &ArraySubset, shape: &[u64]) -> ArraySubset {
        let mut ranges = region.to_ranges();
        let mut whole = false;
        for (range, length) in ranges.iter_mut().zip(shape) {
            *range = 0..if whole { *length } else { range.end };
            whole |= range.end > 1;
        }
        ranges.into()
    }
}
