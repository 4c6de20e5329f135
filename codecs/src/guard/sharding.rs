//! A guard in front of zarrs' `sharding_indexed`: it checks a decoded shard index before zarrs
//! computes with its offsets and lengths, where a corrupt entry would overflow and panic.
//!
//! The check is a codec in front of the index codecs that leaves no trace in the metadata, so the
//! codec that zarrs sees is its own.

use std::num::NonZeroU64;
use std::sync::Arc;

use zarrs::array::CodecChain;
use zarrs::array::codec::array_to_bytes::sharding::{ShardingCodec, ShardingCodecConfigurationV1};
use zarrs_codec::{
    ArrayBytes, ArrayToArrayCodecTraits, Codec, CodecError, CodecMetadataOptions, CodecOptions,
    CodecTraits,
};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::Configuration;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::util::{array_on_one_thread, codec_traits};

/// Create zarrs' sharding codec with checked indexes.
pub(crate) fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
    let configuration: ShardingCodecConfigurationV1 = metadata.to_typed_configuration()?;
    let inner_codecs = CodecChain::from_metadata(&configuration.codecs)?;
    let index_codecs = CodecChain::from_metadata(&configuration.index_codecs)?;
    let mut array_to_array: Vec<Arc<dyn ArrayToArrayCodecTraits>> = vec![Arc::new(CheckedIndex)];
    array_to_array.extend_from_slice(index_codecs.array_to_array_codecs());
    let index_codecs = CodecChain::new(
        array_to_array,
        index_codecs.array_to_bytes_codec().clone(),
        index_codecs.bytes_to_bytes_codecs().to_vec(),
    );
    Ok(Codec::ArrayToBytes(Arc::new(ShardingCodec::new(
        configuration.chunk_shape,
        Arc::new(inner_codecs),
        Arc::new(index_codecs),
        configuration.index_location,
    ))))
}

/// A codec that changes nothing and lets no index through that zarrs would fall over.
#[derive(Debug)]
struct CheckedIndex;

zarrs_plugin::impl_extension_aliases!(CheckedIndex, v3: "tempozarr.checked_index");

impl CodecTraits for CheckedIndex {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    /// Hidden from the metadata.
    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        None
    }

    codec_traits!(whole);
}

array_on_one_thread!(CheckedIndex);

impl ArrayToArrayCodecTraits for CheckedIndex {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        Ok(decoded_data_type.clone())
    }

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
        _shape: &[NonZeroU64],
        _data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        Ok(bytes)
    }

    fn decode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        _shape: &[NonZeroU64],
        _data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let bytes = bytes.into_fixed()?;
        for (chunk, [offset, length]) in entries(&bytes).enumerate() {
            let missing = offset == u64::MAX && length == u64::MAX;
            if !missing
                && offset
                    .checked_add(length)
                    .and_then(|end| i64::try_from(end).ok())
                    .is_none()
            {
                return Err(CodecError::Other(format!(
                    "sharding_indexed: the shard index is corrupt: entry {chunk} states offset \
                     {offset} and length {length}"
                )));
            }
        }
        Ok(bytes.into())
    }
}

/// The (offset, length) pairs of a decoded index.
fn entries(index: &[u8]) -> impl Iterator<Item = [u64; 2]> {
    let (words, _) = index.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().map(|pair| pair.map(u64::from_ne_bytes))
}

#[cfg(test)]
mod tests {
    use zarrs::array::{ArraySubset, data_type};
    use zarrs_codec::ArrayToBytesCodecTraits;

    use super::*;

    fn codec(index_location: &str) -> Arc<dyn ArrayToBytesCodecTraits> {
        let json = format!(
            r#"{{"name":"sharding_indexed","configuration":{{
                "chunk_shape":[2],
                "codecs":[{{"name":"bytes","configuration":{{"endian":"little"}}}}],
                "index_codecs":[{{"name":"bytes","configuration":{{"endian":"little"}}}}],
                "index_location":"{index_location}"}}}}"#
        );
        match create(&serde_json::from_str(&json).unwrap()).unwrap() {
            Codec::ArrayToBytes(codec) => codec,
            _ => unreachable!(),
        }
    }

    #[test]
    fn leaves_no_trace_in_the_metadata() {
        let configuration = codec("end")
            .configuration_v3(&CodecMetadataOptions::default())
            .unwrap();
        let index_codecs = serde_json::to_value(&configuration).unwrap()["index_codecs"].clone();
        assert_eq!(index_codecs.as_array().unwrap().len(), 1);
    }

    /// Any two words in any entry of the index: an error, or the bytes that they point to.
    #[test]
    fn no_index_makes_zarrs_panic() {
        let (shape, data_type) = ([NonZeroU64::new(4).unwrap()], data_type::uint16());
        let (fill, options) = (FillValue::from(0_u16), CodecOptions::default());
        let values: Vec<u8> = (1..=8).collect();
        let hostile = [
            0,
            1,
            4,
            5,
            40,
            41,
            1 << 31,
            1 << 62,
            1 << 63,
            u64::MAX - 4,
            u64::MAX - 1,
            u64::MAX,
        ];
        for (location, index_at) in [("start", 0), ("end", 8)] {
            let codec = codec(location);
            let shard = codec
                .encode(values.clone().into(), &shape, &data_type, &fill, &options)
                .unwrap()
                .into_owned();
            assert_eq!(shard.len(), 40);
            let mut errors = 0;
            for entry in 0..2 {
                for offset in hostile {
                    for length in hostile {
                        let mut shard = shard.clone();
                        let at = index_at + entry * 16;
                        shard[at..at + 8].copy_from_slice(&offset.to_le_bytes());
                        shard[at + 8..at + 16].copy_from_slice(&length.to_le_bytes());
                        let whole =
                            codec.decode((&shard).into(), &shape, &data_type, &fill, &options);
                        let window = codec
                            .clone()
                            .partial_decoder(
                                Arc::new(shard.clone()),
                                &shape,
                                &data_type,
                                &fill,
                                &options,
                            )
                            .and_then(|decoder| {
                                let window = ArraySubset::new_with_ranges(&[1..3]);
                                Ok(decoder.partial_decode(&window, &options)?.into_owned())
                            });
                        errors += usize::from(whole.is_err()) + usize::from(window.is_err());
                    }
                }
            }
            assert!(errors > 200, "{errors}");
        }
    }

    #[test]
    fn no_truncation_makes_zarrs_panic() {
        let (shape, data_type) = ([NonZeroU64::new(4).unwrap()], data_type::uint16());
        let (fill, options) = (FillValue::from(0_u16), CodecOptions::default());
        for location in ["start", "end"] {
            let codec = codec(location);
            let values: Vec<u8> = (1..=8).collect();
            let shard = codec
                .encode(values.into(), &shape, &data_type, &fill, &options)
                .unwrap()
                .into_owned();
            for length in 0..shard.len() {
                let shard = shard[..length].to_vec();
                let whole = codec.decode((&shard).into(), &shape, &data_type, &fill, &options);
                assert!(whole.is_err(), "{location} {length}");
                let decoder = codec.clone().partial_decoder(
                    Arc::new(shard),
                    &shape,
                    &data_type,
                    &fill,
                    &options,
                );
                if let Ok(decoder) = decoder {
                    let window = ArraySubset::new_with_ranges(&[0..4]);
                    assert!(decoder.partial_decode(&window, &options).is_err());
                }
            }
        }
    }
}
