//! Guards in front of codecs of zarrs that trust stored bytes too much.
//!
//! - [`bytes`]: decompressors that decode as much as a stream holds or claims, and checksums that a
//!   partial read does not check.
//! - [`array`]: headers that state more elements, or more bytes, than there are.
//! - [`sharding`]: an index whose entries overflow what zarrs computes with them.
//!
//! A guard takes the name of the codec that it guards and changes nothing that is stored.

use zarrs_codec::{Codec, CodecTraitsV2, CodecTraitsV3};
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::PluginCreateError;

pub(crate) mod array;
pub(crate) mod bytes;
pub(crate) mod sharding;

/// A codec that can be created from metadata of the version of `Metadata`.
pub(crate) trait CreateFrom<Metadata> {
    fn create_from(metadata: &Metadata) -> Result<Codec, PluginCreateError>;
}

impl<T: CodecTraitsV2> CreateFrom<MetadataV2> for T {
    fn create_from(metadata: &MetadataV2) -> Result<Codec, PluginCreateError> {
        T::create(metadata)
    }
}

impl<T: CodecTraitsV3> CreateFrom<MetadataV3> for T {
    fn create_from(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
        T::create(metadata)
    }
}

/// A guard `$guard` over `codec` that goes by its name, with the configuration that `stated` returns,
/// and decodes as `codec_traits` has it.
macro_rules! delegate {
    ($guard:ty, $decodes:ident) => {
        impl zarrs_plugin::ExtensionName for $guard {
            fn name(
                &self,
                version: zarrs_plugin::ZarrVersion,
            ) -> Option<std::borrow::Cow<'static, str>> {
                self.codec.name(version)
            }
        }

        impl zarrs_codec::CodecTraits for $guard {
            fn as_any(&self) -> &dyn std::any::Any {
                self.codec.as_any()
            }

            fn configuration(
                &self,
                version: zarrs_plugin::ZarrVersion,
                options: &zarrs_codec::CodecMetadataOptions,
            ) -> Option<zarrs_metadata::Configuration> {
                self.stated(version, *options)
            }

            $crate::util::codec_traits!($decodes);
        }
    };
}
use delegate;
