//! A guard in front of zarrs' `sharding_indexed`. zarrs computes with the shapes of shards, and with the
//! offsets and lengths that their indexes state, as if they could be trusted: they are checked here first.
//!
//! The index is checked by a codec in front of the index codecs, which leaves no trace in the metadata.

use std::any::Any;
use std::borrow::Cow;
#[cfg(feature = "async")]
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::Poll;

use zarrs::array::CodecChain;
use zarrs::array::codec::array_to_bytes::sharding::{
    ShardingCodec, ShardingCodecConfigurationV1, ShardingCodecOptions,
};
use zarrs::array::data_type;
use zarrs_codec::{
    ArrayBytes, ArrayBytesDecodeIntoTarget, ArrayBytesRaw, ArrayCodecTraits,
    ArrayPartialDecoderTraits, ArrayPartialEncoderTraits, ArrayToArrayCodecTraits,
    ArrayToBytesCodecTraits, BytesPartialDecoderTraits, BytesPartialEncoderTraits,
    BytesRepresentation, Codec, CodecError, CodecMetadataOptions, CodecOptions,
    CodecSpecificOptions, CodecTraits, PartialDecoderCapability, PartialEncoderCapability,
    RecommendedConcurrency,
};
#[cfg(feature = "async")]
use zarrs_codec::{AsyncArrayPartialDecoderTraits, AsyncBytesPartialDecoderTraits};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::v3::MetadataV3;
use zarrs_metadata::{ChunkShape, Configuration};
use zarrs_plugin::{ExtensionName, PluginCreateError, ZarrVersion};

use crate::limits::limits;
use crate::util::{array_on_one_thread, codec_traits, product, sharding};

/// Create zarrs' sharding codec with checked shapes and indexes.
pub(crate) fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
    let configuration: ShardingCodecConfigurationV1 = metadata.to_typed_configuration()?;
    let inner_codecs = CodecChain::from_metadata(&configuration.codecs)?;
    let index_codecs = CodecChain::from_metadata(&configuration.index_codecs)?;
    let least = least(&configuration);
    let mut array_to_array: Vec<Arc<dyn ArrayToArrayCodecTraits>> =
        vec![Arc::new(CheckedIndex { least })];
    array_to_array.extend_from_slice(index_codecs.array_to_array_codecs());
    let index_codecs = CodecChain::new(
        array_to_array,
        index_codecs.array_to_bytes_codec().clone(),
        index_codecs.bytes_to_bytes_codecs().to_vec(),
    );
    Ok(Codec::ArrayToBytes(Arc::new(Guard {
        subchunk: configuration.chunk_shape.clone(),
        codec: Arc::new(ShardingCodec::new(
            configuration.chunk_shape,
            Arc::new(inner_codecs),
            Arc::new(index_codecs),
            configuration.index_location,
        )),
    })))
}

/// The least bytes of a subchunk: of one that is a shard, those of its index.
fn least(shard: &ShardingCodecConfigurationV1) -> u64 {
    let [codec] = shard.codecs.as_slice() else {
        return 0;
    };
    let index = sharding(codec).and_then(|inner| {
        let grid = grid(&shard.chunk_shape, &inner.chunk_shape).ok()?;
        let codecs = CodecChain::from_metadata(&inner.index_codecs).ok()?;
        let fill_value = FillValue::from(u64::MAX);
        let size = codecs.encoded_representation(&grid, &data_type::uint64(), &fill_value);
        size.ok()?.size()
    });
    index.unwrap_or(0)
}

/// The shape of the index of a shard of `shape`.
fn grid(shape: &[NonZeroU64], subchunk: &[NonZeroU64]) -> Result<Vec<NonZeroU64>, CodecError> {
    let failed = |message| Err(CodecError::Other(format!("sharding_indexed: {message}")));
    if shape.len() != subchunk.len() {
        return failed(format!(
            "subchunks of {} dimensions in a shard of {}, expected as many",
            subchunk.len(),
            shape.len()
        ));
    }
    product(shape)?;
    let mut grid = Vec::new();
    let mut subchunks = 1_u64;
    for (length, part) in std::iter::zip(shape, subchunk) {
        match NonZeroU64::new(length.get() / part.get()) {
            Some(count) if length.get() % part.get() == 0 => {
                subchunks = subchunks.saturating_mul(count.get());
                grid.push(count);
            }
            _ => {
                return failed(format!(
                    "subchunks of shape {subchunk:?}, expected one that divides {shape:?}"
                ));
            }
        }
    }
    if subchunks > limits().subchunks {
        return failed(format!(
            "a shard has {subchunks} subchunks, expected at most {}. If you trust this store, raise \
             the limit `subchunks`",
            limits().subchunks
        ));
    }
    grid.push(const { NonZeroU64::new(2).unwrap() });
    Ok(grid)
}

/// What `read` returns, which reads an index from a store.
///
/// An index at the end is a range of so many last bytes. Of a value with fewer bytes, zarrs' `ByteRange::start`
/// overflows, and its `MemoryStore` panics. No codec knows how many bytes a value has, unless it asks the store, which
/// would be one more request for each shard.
fn caught<T>(read: impl FnOnce() -> T) -> Result<T, CodecError> {
    // After a panic nothing is left of what `read` made.
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| {
        CodecError::Other(
            "sharding_indexed: the store panicked when the index of a shard was read, as zarrs' MemoryStore does when \
             a shard is shorter than its index; the shard is corrupt"
                .into(),
        )
    })
}

/// zarrs' codec, asked only what it can answer.
#[derive(Debug)]
struct Guard {
    subchunk: ChunkShape,
    codec: Arc<ShardingCodec>,
}

impl Guard {
    fn check(&self, shape: &[NonZeroU64], data_type: &DataType) -> Result<(), CodecError> {
        grid(shape, &self.subchunk)?;
        let size = data_type.fixed_size().unwrap_or(1);
        match product(shape)?.checked_mul(size) {
            Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
            _ => Err(CodecError::Other(format!(
                "sharding_indexed: a shard of shape {shape:?} is too large"
            ))),
        }
    }
}

impl ExtensionName for Guard {
    fn name(&self, version: ZarrVersion) -> Option<Cow<'static, str>> {
        self.codec.name(version)
    }
}

impl CodecTraits for Guard {
    fn as_any(&self) -> &dyn Any {
        self.codec.as_any()
    }

    fn configuration(
        &self,
        version: ZarrVersion,
        options: &CodecMetadataOptions,
    ) -> Option<Configuration> {
        self.codec.configuration(version, options)
    }

    fn partial_decoder_capability(&self) -> PartialDecoderCapability {
        self.codec.partial_decoder_capability()
    }

    fn partial_encoder_capability(&self) -> PartialEncoderCapability {
        self.codec.partial_encoder_capability()
    }
}

impl ArrayCodecTraits for Guard {
    fn recommended_concurrency(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
    ) -> Result<RecommendedConcurrency, CodecError> {
        self.check(shape, data_type)?;
        self.codec.recommended_concurrency(shape, data_type)
    }

    fn partial_decode_granularity(&self, shape: &[NonZeroU64]) -> ChunkShape {
        self.codec.partial_decode_granularity(shape)
    }
}

#[cfg_attr(feature = "async", async_trait::async_trait)]
impl ArrayToBytesCodecTraits for Guard {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToBytesCodecTraits> {
        self
    }

    fn with_codec_specific_options(
        self: Arc<Self>,
        options: &CodecSpecificOptions,
    ) -> Arc<dyn ArrayToBytesCodecTraits> {
        match options.get_option::<ShardingCodecOptions>() {
            Some(options) => Arc::new(Self {
                subchunk: self.subchunk.clone(),
                codec: Arc::new((*self.codec).clone().with_options(options.clone())),
            }),
            None => self,
        }
    }

    fn encoded_representation(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
    ) -> Result<BytesRepresentation, CodecError> {
        self.check(shape, data_type)?;
        self.codec
            .encoded_representation(shape, data_type, fill_value)
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        self.check(shape, data_type)?;
        self.codec
            .encode(bytes, shape, data_type, fill_value, options)
    }

    fn decode<'a>(
        &self,
        bytes: ArrayBytesRaw<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.check(shape, data_type)?;
        self.codec
            .decode(bytes, shape, data_type, fill_value, options)
    }

    fn compact<'a>(
        &self,
        bytes: ArrayBytesRaw<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        options: &CodecOptions,
    ) -> Result<Option<ArrayBytesRaw<'a>>, CodecError> {
        self.check(shape, data_type)?;
        self.codec
            .compact(bytes, shape, data_type, fill_value, options)
    }

    fn decode_into(
        &self,
        bytes: ArrayBytesRaw<'_>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        output_target: ArrayBytesDecodeIntoTarget<'_>,
        options: &CodecOptions,
    ) -> Result<(), CodecError> {
        self.check(shape, data_type)?;
        self.codec
            .decode_into(bytes, shape, data_type, fill_value, output_target, options)
    }

    fn partial_decoder(
        self: Arc<Self>,
        input_handle: Arc<dyn BytesPartialDecoderTraits>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        options: &CodecOptions,
    ) -> Result<Arc<dyn ArrayPartialDecoderTraits>, CodecError> {
        self.check(shape, data_type)?;
        caught(|| {
            self.codec
                .clone()
                .partial_decoder(input_handle, shape, data_type, fill_value, options)
        })?
    }

    fn partial_encoder(
        self: Arc<Self>,
        input_output_handle: Arc<dyn BytesPartialEncoderTraits>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        options: &CodecOptions,
    ) -> Result<Arc<dyn ArrayPartialEncoderTraits>, CodecError> {
        self.check(shape, data_type)?;
        caught(|| {
            self.codec.clone().partial_encoder(
                input_output_handle,
                shape,
                data_type,
                fill_value,
                options,
            )
        })?
    }

    #[cfg(feature = "async")]
    async fn async_partial_decoder(
        self: Arc<Self>,
        input_handle: Arc<dyn AsyncBytesPartialDecoderTraits>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        options: &CodecOptions,
    ) -> Result<Arc<dyn AsyncArrayPartialDecoderTraits>, CodecError> {
        self.check(shape, data_type)?;
        let codec = self.codec.clone();
        let mut read =
            codec.async_partial_decoder(input_handle, shape, data_type, fill_value, options);
        poll_fn(|context| match caught(|| read.as_mut().poll(context)) {
            Ok(polled) => polled,
            Err(error) => Poll::Ready(Err(error)),
        })
        .await
    }
}

/// A codec that changes nothing and lets no index through that zarrs would fall over.
#[derive(Debug)]
struct CheckedIndex {
    /// The least bytes of a subchunk that is stored.
    least: u64,
}

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
            let end = offset.checked_add(length);
            let fits = end.is_some_and(|end| i64::try_from(end).is_ok()) && length >= self.least;
            if !missing && !fits {
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
    use zarrs::array::ArraySubset;
    #[cfg(feature = "async")]
    use zarrs_codec::AsyncStoragePartialDecoder;
    use zarrs_codec::{StoragePartialDecoder, StoragePartialEncoder};
    #[cfg(feature = "async")]
    use zarrs_storage::storage_adapter::sync_to_async::{
        SyncToAsyncSpawnBlocking, SyncToAsyncStorageAdapter,
    };
    use zarrs_storage::store::MemoryStore;
    use zarrs_storage::{ReadableWritableStorage, StoreKey};

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

    /// Of a shard in a shard, an entry of fewer bytes than the index inside has.
    #[test]
    fn a_nested_shard_without_room_for_its_index_is_an_error() {
        let json = r#"{"name":"sharding_indexed","configuration":{
            "chunk_shape":[2],
            "codecs":[{"name":"sharding_indexed","configuration":{
                "chunk_shape":[1],
                "codecs":[{"name":"bytes"}],
                "index_codecs":[{"name":"bytes","configuration":{"endian":"little"}}]}}],
            "index_codecs":[{"name":"bytes","configuration":{"endian":"little"}}]}}"#;
        crate::register();
        let Codec::ArrayToBytes(codec) = create(&serde_json::from_str(json).unwrap()).unwrap()
        else {
            unreachable!()
        };
        let (shape, data_type) = ([NonZeroU64::new(4).unwrap()], data_type::uint8());
        let (fill, options) = (FillValue::from(0_u8), CodecOptions::default());
        for length in [0_u64, 1, 31] {
            let mut shard = vec![0; 31];
            for _ in 0..2 {
                shard.extend([0_u64, length].map(u64::to_le_bytes).as_flattened());
            }
            let whole = codec.decode((&shard).into(), &shape, &data_type, &fill, &options);
            let decoder = codec.clone().partial_decoder(
                Arc::new(shard.clone()),
                &shape,
                &data_type,
                &fill,
                &options,
            );
            for error in [whole.map(drop), decoder.map(drop)] {
                let error = error.unwrap_err().to_string();
                assert!(error.contains("the shard index is corrupt"), "{error}");
            }
        }
    }

    #[test]
    fn shapes_that_do_not_go_together_are_errors() {
        let codec = codec("end");
        let (data_type, fill) = (data_type::uint16(), FillValue::from(0_u16));
        let options = CodecOptions::default();
        for (shape, message) in [
            (vec![4, 4], "subchunks of 1 dimensions in a shard of 2"),
            (vec![], "subchunks of 1 dimensions in a shard of 0"),
            (vec![3], "expected one that divides"),
            (vec![1], "expected one that divides"),
            (vec![1 << 40], "a shard has 549755813888 subchunks"),
        ] {
            let shape: Vec<_> = shape.into_iter().filter_map(NonZeroU64::new).collect();
            let bytes = vec![0; 100];
            for error in [
                codec
                    .decode((&bytes).into(), &shape, &data_type, &fill, &options)
                    .map(drop),
                codec
                    .encode(bytes.clone().into(), &shape, &data_type, &fill, &options)
                    .map(drop),
                codec
                    .encoded_representation(&shape, &data_type, &fill)
                    .map(drop),
                codec
                    .clone()
                    .partial_decoder(Arc::new(bytes.clone()), &shape, &data_type, &fill, &options)
                    .map(drop),
            ] {
                let error = error.unwrap_err().to_string();
                assert!(error.contains(message), "{error}");
            }
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

    #[cfg(feature = "async")]
    struct Inline;

    #[cfg(feature = "async")]
    impl SyncToAsyncSpawnBlocking for Inline {
        async fn spawn_blocking<F, R>(&self, f: F) -> R
        where
            F: FnOnce() -> R + Send + 'static,
            R: Send + 'static,
        {
            f()
        }
    }

    /// A store may panic where it is asked for more last bytes than a value has.
    #[test]
    fn a_shard_in_memory_that_is_shorter_than_its_index_is_an_error() {
        let (shape, data_type) = ([NonZeroU64::new(4).unwrap()], data_type::uint16());
        let (fill, options) = (FillValue::from(0_u16), CodecOptions::default());
        let key = StoreKey::new("c/0").unwrap();
        for location in ["start", "end"] {
            let codec = codec(location);
            for length in 0..32 {
                let store: ReadableWritableStorage = Arc::new(MemoryStore::new());
                store.set(&key, vec![0; length].into()).unwrap();
                let decoder = StoragePartialDecoder::new(store.clone().readable(), key.clone());
                let encoder = StoragePartialEncoder::new(store.clone(), key.clone());
                #[cfg(feature = "async")]
                {
                    let store = Arc::new(SyncToAsyncStorageAdapter::new(store.clone(), Inline));
                    let decoder = Arc::new(AsyncStoragePartialDecoder::new(store, key.clone()));
                    let read = (codec.clone())
                        .async_partial_decoder(decoder, &shape, &data_type, &fill, &options);
                    assert!(
                        futures::executor::block_on(read).is_err(),
                        "{location} {length}"
                    );
                }
                for error in [
                    (codec.clone())
                        .partial_decoder(Arc::new(decoder), &shape, &data_type, &fill, &options)
                        .map(drop),
                    (codec.clone())
                        .partial_encoder(Arc::new(encoder), &shape, &data_type, &fill, &options)
                        .map(drop),
                ] {
                    assert!(error.is_err(), "{location} {length}");
                }
            }
        }
    }
}
