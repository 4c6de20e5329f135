use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError,
    CodecMetadataOptions, CodecOptions, CodecPluginV2, CodecTraits, CodecTraitsV2, CodecTraitsV3,
};
use zarrs_metadata::Configuration;
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use super::kernel;
use crate::memory;
use crate::util::{bytes_on_one_thread, codec_traits, configuration};

/// The configuration of [`ShuffleCodec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShuffleConfiguration {
    /// Bytes per element; 1 and less leave the bytes as they are. 4 if missing, in Zarr V2; it must
    /// not be missing in Zarr V3.
    #[serde(default = "default_element_size")]
    pub elementsize: i64,
}

const fn default_element_size() -> i64 {
    4
}

/// The `shuffle` codec.
#[derive(Clone, Debug)]
pub struct ShuffleCodec {
    configuration: ShuffleConfiguration,
}

zarrs_plugin::impl_extension_aliases!(ShuffleCodec, v3: "numcodecs.shuffle", v2: "shuffle");

inventory::submit! {
    CodecPluginV2::new::<ShuffleCodec>()
}

impl CodecTraitsV3 for ShuffleCodec {
    fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
        let configuration = metadata.configuration();
        if configuration.is_none_or(|fields| !fields.contains_key("elementsize")) {
            return Err(PluginCreateError::Other(
                "numcodecs.shuffle: elementsize is missing, expected the bytes per element; \
                 zarr-python fills it in from one data type or another by version"
                    .into(),
            ));
        }
        let configuration = metadata.to_typed_configuration()?;
        Ok(Codec::BytesToBytes(Arc::new(Self { configuration })))
    }
}

impl CodecTraitsV2 for ShuffleCodec {
    fn create(metadata: &MetadataV2) -> Result<Codec, PluginCreateError> {
        let configuration = metadata.to_typed_configuration()?;
        Ok(Codec::BytesToBytes(Arc::new(Self { configuration })))
    }
}

impl ShuffleCodec {
    /// Shuffle elements of `element_size` bytes.
    #[must_use]
    pub fn new(element_size: i64) -> Self {
        Self {
            configuration: ShuffleConfiguration {
                elementsize: element_size,
            },
        }
    }

    /// Bytes per element; at least 1.
    pub(crate) fn element_size(&self) -> usize {
        usize::try_from(self.configuration.elementsize.max(1)).unwrap_or(usize::MAX)
    }

    fn run<'a>(
        &self,
        bytes: ArrayBytesRaw<'a>,
        kernel: fn(&[u8], &mut [u8], usize),
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let element_size = self.element_size();
        if element_size == 1 {
            return Ok(bytes);
        }
        if !bytes.len().is_multiple_of(element_size) {
            return Err(CodecError::Other(format!(
                "shuffle: {} bytes are not a whole number of elements of {element_size} bytes; \
                 the chunk is corrupt or `elementsize` is wrong",
                bytes.len(),
            )));
        }
        let mut out = memory::zeros(bytes.len())?;
        kernel(&bytes, &mut out, element_size);
        Ok(out.into())
    }
}

impl CodecTraits for ShuffleCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(configuration(&self.configuration))
    }

    codec_traits!(whole);
}

impl BytesToBytesCodecTraits for ShuffleCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn BytesToBytesCodecTraits> {
        self
    }

    bytes_on_one_thread!();

    fn encoded_representation(
        &self,
        decoded_representation: &BytesRepresentation,
    ) -> BytesRepresentation {
        *decoded_representation
    }

    fn encode<'a>(
        &self,
        decoded_value: ArrayBytesRaw<'a>,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        self.run(decoded_value, kernel::shuffle)
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        _decoded_representation: &BytesRepresentation,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        self.run(encoded_value, kernel::unshuffle)
    }
}
