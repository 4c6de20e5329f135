//! Small helpers that more than one codec needs.

use std::num::NonZeroU64;

use serde::Serialize;
use zarrs::array::codec::array_to_bytes::sharding::ShardingCodecConfigurationV1;
use zarrs_codec::CodecError;
use zarrs_metadata::Configuration;
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;

/// A configuration as zarrs wants it.
pub(crate) fn configuration(configuration: &impl Serialize) -> Configuration {
    match serde_json::to_value(configuration) {
        Ok(serde_json::Value::Object(map)) => map.into(),
        _ => Configuration::default(),
    }
}

/// The configuration of a codec, if it is sharding.
pub(crate) fn sharding(codec: &MetadataV3) -> Option<ShardingCodecConfigurationV1> {
    let is_sharding = codec.name() == "sharding_indexed";
    is_sharding.then(|| codec.to_typed_configuration().ok())?
}

/// Metadata of a codec, of either version of Zarr.
pub(crate) trait CodecMetadata {
    /// Its configuration, which may be empty.
    fn fields(&self) -> Configuration;
}

impl CodecMetadata for MetadataV3 {
    fn fields(&self) -> Configuration {
        self.configuration().cloned().unwrap_or_default()
    }
}

impl CodecMetadata for MetadataV2 {
    fn fields(&self) -> Configuration {
        self.configuration().clone()
    }
}

/// The number of elements of a chunk of `shape`.
pub(crate) fn product(shape: &[NonZeroU64]) -> Result<usize, CodecError> {
    shape
        .iter()
        .try_fold(1_usize, |product, length| {
            product.checked_mul(usize::try_from(length.get()).ok()?)
        })
        .ok_or_else(|| CodecError::Other(format!("a chunk of shape {shape:?} is too large")))
}

/// The names of a codec of `$kind`, and its creation from the metadata of either version by
/// `$codec::from_metadata(ZarrVersion, Configuration)`.
macro_rules! named {
    ($codec:ident: $kind:ident, v3: $v3:literal, v2: $v2:literal) => {
        zarrs_plugin::impl_extension_aliases!($codec, v3: $v3, v2: $v2);
        $crate::util::named!(@v3 $codec: $kind);

        inventory::submit! {
            zarrs_codec::CodecPluginV2::new::<$codec>()
        }

        impl zarrs_codec::CodecTraitsV2 for $codec {
            fn create(
                metadata: &zarrs_metadata::v2::MetadataV2,
            ) -> Result<zarrs_codec::Codec, zarrs_plugin::PluginCreateError> {
                let configuration = $crate::util::CodecMetadata::fields(metadata);
                let codec = Self::from_metadata(zarrs_plugin::ZarrVersion::V2, configuration)?;
                Ok(zarrs_codec::Codec::$kind(std::sync::Arc::new(codec)))
            }
        }
    };
    ($codec:ident: $kind:ident, v3: $v3:literal) => {
        zarrs_plugin::impl_extension_aliases!($codec, v3: $v3);
        $crate::util::named!(@v3 $codec: $kind);
    };
    (@v3 $codec:ident: $kind:ident) => {
        impl zarrs_codec::CodecTraitsV3 for $codec {
            fn create(
                metadata: &zarrs_metadata::v3::MetadataV3,
            ) -> Result<zarrs_codec::Codec, zarrs_plugin::PluginCreateError> {
                let configuration = $crate::util::CodecMetadata::fields(metadata);
                let codec = Self::from_metadata(zarrs_plugin::ZarrVersion::V3, configuration)?;
                Ok(zarrs_codec::Codec::$kind(std::sync::Arc::new(codec)))
            }
        }
    };
}

/// What every codec of this crate answers alike, for use inside its `CodecTraits` implementation:
/// it decodes the `whole` of a chunk or `parts` of it, and encodes the whole.
///
/// Where the `whole` is decoded, a chain of zarrs keeps that for the next part. Of arrays, it takes it
/// for one as the next codec decodes it, of another shape or data type: codecs that make arrays
/// must not have it kept. `parts_of_whole` has the chain keep the bytes instead.
macro_rules! codec_traits {
    (whole) => {
        $crate::util::codec_traits!(false, false);
    };
    (parts_of_whole) => {
        $crate::util::codec_traits!(false, true);
    };
    (parts) => {
        $crate::util::codec_traits!(true, true);
    };
    ($reads_parts:literal, $decodes_parts:literal) => {
        fn partial_decoder_capability(&self) -> zarrs_codec::PartialDecoderCapability {
            zarrs_codec::PartialDecoderCapability {
                partial_read: $reads_parts,
                partial_decode: $decodes_parts,
            }
        }

        fn partial_encoder_capability(&self) -> zarrs_codec::PartialEncoderCapability {
            zarrs_codec::PartialEncoderCapability {
                partial_encode: false,
            }
        }
    };
}

/// A codec that works on one thread: `array_on_one_thread!(Codec)` implements `ArrayCodecTraits`,
/// `bytes_on_one_thread!()` is for use inside `BytesToBytesCodecTraits`.
macro_rules! array_on_one_thread {
    ($codec:ty) => {
        impl zarrs_codec::ArrayCodecTraits for $codec {
            fn recommended_concurrency(
                &self,
                _shape: &[std::num::NonZeroU64],
                _data_type: &zarrs_data_type::DataType,
            ) -> Result<zarrs_codec::RecommendedConcurrency, zarrs_codec::CodecError> {
                Ok(zarrs_codec::RecommendedConcurrency::new_maximum(1))
            }
        }
    };
}

macro_rules! bytes_on_one_thread {
    () => {
        fn recommended_concurrency(
            &self,
            _decoded_representation: &zarrs_codec::BytesRepresentation,
        ) -> Result<zarrs_codec::RecommendedConcurrency, zarrs_codec::CodecError> {
            Ok(zarrs_codec::RecommendedConcurrency::new_maximum(1))
        }
    };
}
pub(crate) use {array_on_one_thread, bytes_on_one_thread, codec_traits, named};
