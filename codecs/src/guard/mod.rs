//! Guards in front of codecs of zarrs that trust stored bytes too much.
//!
//! - [`bytes`]: decompressors that decode as much as a stream holds or claims, and checksums that a
//!   partial read does not check.
//! - [`array`]: headers that state more elements, or more bytes, than there are.
//! - [`sharding`]: an index whose entries overflow what zarrs computes with them.
//!
//! A guard takes the name of the codec that it guards and changes nothing that is stored.

use zarrs::array::ArrayMetadata;
use zarrs::convert::array_metadata_v2_to_v3;
use zarrs_codec::{Codec, CodecMetadataOptions, CodecTraitsV2, CodecTraitsV3};
use zarrs_metadata::v2::{ArrayMetadataV2, MetadataV2};
use zarrs_metadata::v3::{ArrayMetadataV3, MetadataV3};
use zarrs_plugin::{ExtensionName, PluginCreateError};

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

/// The metadata of an array so that all its codecs are those that [`register`](crate::register) puts in front of
/// zarrs' own: for opening an array from a stranger (`Array::new_with_metadata`).
///
/// zarrs makes the blosc compressor of Zarr V2 metadata itself, past every plugin. Parts of a chunk whose header states
/// another size of elements than the array has are wrong with it, or errors where the whole chunk is none. As Zarr V3
/// metadata, where zarrs can translate it, the array gets the guarded codec. All other metadata stay as they are.
///
/// ```
/// # tempozarr::register();
/// # let metadata = serde_json::from_str(r#"{
/// #     "zarr_format": 2, "shape": [9000], "chunks": [4096], "dtype": "<f4", "fill_value": 0, "order": "C",
/// #     "filters": null, "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}}"#)
/// #     .unwrap();
/// let guarded = tempozarr::guarded(metadata);
/// assert!(matches!(guarded, zarrs::array::ArrayMetadata::V3(_)));
/// ```
#[must_use]
pub fn guarded(metadata: ArrayMetadata) -> ArrayMetadata {
    let is_blosc = |codec: &MetadataV2| codec.id() == "blosc";
    if let ArrayMetadata::V2(metadata) = &metadata
        && metadata.compressor.as_ref().is_some_and(is_blosc)
        && let Some(translated) = translated(metadata)
    {
        return ArrayMetadata::V3(translated);
    }
    metadata
}

/// The array in Zarr V3 metadata, with the filters as this crate has them: zarrs would translate them through codecs
/// of its own, some of which forget what numbers they were given.
fn translated(metadata: &ArrayMetadataV2) -> Option<ArrayMetadataV3> {
    let filters = metadata.filters.iter().flatten();
    let filters: Option<Vec<_>> = filters
        .map(|filter| match Codec::from_metadata(filter).ok()? {
            Codec::ArrayToBytes(_) => None,
            codec => Some(MetadataV3::new_with_configuration(
                codec.name_v3()?,
                codec.configuration_v3(&CodecMetadataOptions::default())?,
            )),
        })
        .collect();
    let Some(filters) = filters else {
        return array_metadata_v2_to_v3(metadata).ok();
    };
    let mut unfiltered = metadata.clone();
    unfiltered.filters = None;
    let mut translated = array_metadata_v2_to_v3(&unfiltered).ok()?;
    let is_bytes = |codec: &MetadataV3| codec.name() == "bytes";
    let place = translated.codecs.iter().position(is_bytes)?;
    translated.codecs.splice(place..place, filters);
    Some(translated)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zarrs::array::{Array, ArrayBytes, ArraySubset};
    use zarrs_storage::WritableStorageTraits;
    use zarrs_storage::store::MemoryStore;

    use super::*;

    /// Any size of elements in the header, which nothing but the shuffle asks for: none is here.
    #[test]
    fn parts_of_blosc_chunks_of_zarr_v2_are_parts_of_the_whole() {
        crate::register();
        let metadata: ArrayMetadata = serde_json::from_str(
            r#"{"zarr_format": 2, "shape": [8], "chunks": [8], "dtype": "<i2", "fill_value": 0, "order": "C",
                "filters": null, "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}}"#,
        )
        .unwrap();
        let plain: Vec<u8> = (0..16).collect();
        for typesize in 1..=255 {
            let mut chunk = vec![2, 1, 2, typesize, 16, 0, 0, 0, 16, 0, 0, 0, 32, 0, 0, 0];
            chunk.extend(&plain);
            let store = Arc::new(MemoryStore::new());
            let array =
                Array::new_with_metadata(store.clone(), "/", guarded(metadata.clone())).unwrap();
            store.set(&array.chunk_key(&[0]), chunk.into()).unwrap();
            for (start, end) in [(0, 8), (1, 2), (3, 7), (4, 6)] {
                let part = ArraySubset::new_with_ranges(&[start..end]);
                let values: ArrayBytes = array.retrieve_array_subset(&part).unwrap();
                let bytes = plain[2 * start as usize..2 * end as usize].to_vec();
                assert_eq!(values, bytes.into(), "{typesize}");
            }
        }
    }
}
