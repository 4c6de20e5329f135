use std::num::NonZeroU64;
use std::sync::Arc;

use zarrs_chunk_grid::ArraySubset;
use zarrs_codec::{
    ArrayBytes, ArrayToArrayCodecTraits, Codec, CodecError, CodecMetadataOptions, CodecOptions,
    CodecPluginV2, CodecTraits, CodecTraitsV2, CodecTraitsV3,
};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;
use zarrs_metadata::{ChunkShape, Configuration};
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use super::{TemporalXorConfiguration, kernel};
use crate::partial::{PartialCodec, partial_coders};
use crate::util::{array_on_one_thread, codec_traits, configuration, product};

/// The `temporal_xor` codec.
#[derive(Clone, Debug, Default)]
pub struct TemporalXorCodec {
    configuration: TemporalXorConfiguration,
}

zarrs_plugin::impl_extension_aliases!(
    TemporalXorCodec, v3: "temporal_xor", v2: "temporal_xor"
);

inventory::submit! {
    CodecPluginV2::new::<TemporalXorCodec>()
}

impl CodecTraitsV3 for TemporalXorCodec {
    fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
        let configuration = metadata.to_typed_configuration()?;
        Ok(Codec::ArrayToArray(Arc::new(Self { configuration })))
    }
}

impl CodecTraitsV2 for TemporalXorCodec {
    fn create(metadata: &MetadataV2) -> Result<Codec, PluginCreateError> {
        let configuration = metadata.to_typed_configuration()?;
        Ok(Codec::ArrayToArray(Arc::new(Self { configuration })))
    }
}

impl TemporalXorCodec {
    /// XOR along `axis`; a negative one counts from the end.
    #[must_use]
    pub fn new(axis: i64) -> Self {
        Self {
            configuration: TemporalXorConfiguration {
                axis,
                transform: None,
            },
        }
    }

    /// The axis as an index into a shape of `dimensionality`.
    pub(crate) fn axis(&self, dimensionality: usize) -> Result<usize, CodecError> {
        let axis = self.configuration.axis;
        let from_start = match usize::try_from(axis.unsigned_abs()) {
            Ok(axis) if self.configuration.axis >= 0 => Some(axis),
            Ok(axis) => dimensionality.checked_sub(axis),
            Err(_) => None,
        };
        from_start
            .filter(|axis| *axis < dimensionality)
            .ok_or_else(|| {
                CodecError::Other(format!(
                    "temporal_xor: axis {axis} is out of range for a chunk of {dimensionality} \
                 dimensions, expected -{dimensionality} <= axis < {dimensionality}"
                ))
            })
    }

    /// The rows and bytes per row of a chunk, as [`kernel`] wants them.
    fn rows(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
        bytes: usize,
    ) -> Result<(usize, usize), CodecError> {
        let axis = self.axis(shape.len())?;
        let element_size = element_size(data_type)?;
        let rows = product(&shape[axis..=axis])?;
        let row_bytes = product(&shape[axis + 1..])?.saturating_mul(element_size);
        let expected = product(shape)?.saturating_mul(element_size);
        if bytes != expected {
            return Err(zarrs_codec::InvalidBytesLengthError::new(bytes, expected).into());
        }
        Ok((rows, row_bytes))
    }
}

/// XOR works on the bytes of any type of fixed size.
fn element_size(data_type: &DataType) -> Result<usize, CodecError> {
    data_type
        .fixed_size()
        .filter(|size| *size > 0 && !data_type.is_optional())
        .ok_or_else(|| CodecError::UnsupportedDataType(data_type.clone(), "temporal_xor".into()))
}

impl CodecTraits for TemporalXorCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(configuration(&self.configuration))
    }

    codec_traits!(parts);
}

array_on_one_thread!(TemporalXorCodec);

impl ArrayToArrayCodecTraits for TemporalXorCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        element_size(decoded_data_type)?;
        Ok(decoded_data_type.clone())
    }

    fn encoded_fill_value(
        &self,
        _decoded_data_type: &DataType,
        decoded_fill_value: &FillValue,
    ) -> Result<FillValue, CodecError> {
        Ok(decoded_fill_value.clone())
    }

    fn encoded_shape(&self, decoded_shape: &[NonZeroU64]) -> Result<ChunkShape, CodecError> {
        self.axis(decoded_shape.len())?;
        Ok(decoded_shape.to_vec())
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let bytes = bytes.into_fixed()?;
        let (rows, row_bytes) = self.rows(shape, data_type, bytes.len())?;
        Ok(kernel::encode(&bytes, rows, row_bytes).into())
    }

    fn decode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let mut bytes = bytes.into_fixed()?;
        let (rows, row_bytes) = self.rows(shape, data_type, bytes.len())?;
        kernel::decode(bytes.to_mut(), rows, row_bytes);
        Ok(bytes.into())
    }

    partial_coders!();
}

impl PartialCodec for TemporalXorCodec {
    /// Everything before the region along the axis.
    fn dependency(&self, region: &ArraySubset, shape: &[u64]) -> ArraySubset {
        let mut ranges = region.to_ranges();
        if let Ok(axis) = self.axis(shape.len()) {
            ranges[axis].start = 0;
        }
        ranges.into()
    }
}
