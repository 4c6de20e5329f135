//! A plan as an array->bytes codec of zarrs, hidden from what is stored.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use zarrs::array::CodecChain;
use zarrs_chunk_grid::{ArraySubset, Indexer};
use zarrs_codec::{
    ArrayBytes, ArrayBytesDecodeIntoTarget, ArrayBytesFixedDisjointView, ArrayBytesRaw,
    ArrayPartialDecoderTraits, ArrayToBytesCodecTraits, BytesPartialDecoderTraits,
    BytesRepresentation, Codec, CodecError, CodecMetadataOptions, CodecOptions, CodecTraits,
    CodecTraitsV3, decode_into_array_bytes_target,
};
#[cfg(feature = "async")]
use zarrs_codec::{AsyncArrayPartialDecoderTraits, AsyncBytesPartialDecoderTraits};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::Configuration;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::{PluginCreateError, ZarrVersion};
use zarrs_storage::StorageError;

use super::plan::{Error, Plan};
use super::target::Sink;
use crate::memory::{self, OutOfMemory};
use crate::util::{array_on_one_thread, codec_traits, configuration};

/// The name of the codec in the metadata that [`fuse`](super::fuse) makes.
pub(crate) const NAME: &str = "fused";

/// A chain of codecs that runs in one pass, where it can.
///
/// What does not decode or encode is handed to the chain that it stands for, codec by codec: for its
/// error, which says more.
#[derive(Debug)]
pub struct FusedCodec {
    chain: Arc<CodecChain>,
    /// For the chunks that were met first; an array seldom has others.
    plan: OnceLock<(DataType, Plan)>,
}

#[derive(serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FusedConfiguration {
    codecs: Vec<MetadataV3>,
}

zarrs_plugin::impl_extension_aliases!(FusedCodec, v3: "tempozarr.fused");

impl CodecTraitsV3 for FusedCodec {
    fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
        let configuration: FusedConfiguration = metadata.to_typed_configuration()?;
        Ok(Codec::ArrayToBytes(Arc::new(Self {
            chain: Arc::new(CodecChain::from_metadata(&configuration.codecs)?),
            plan: OnceLock::new(),
        })))
    }
}

impl FusedCodec {
    pub(super) fn with_plan(chain: Arc<CodecChain>, plan: Plan, data_type: DataType) -> Self {
        Self {
            chain,
            plan: OnceLock::from((data_type, plan)),
        }
    }

    /// The fused codec that is all of `chain`, if it is one.
    #[must_use]
    pub fn of(chain: &CodecChain) -> Option<&Self> {
        let alone =
            chain.array_to_array_codecs().is_empty() && chain.bytes_to_bytes_codecs().is_empty();
        let codec = chain.array_to_bytes_codec().as_any().downcast_ref();
        codec.filter(|_| alone)
    }

    fn partial<H: ?Sized>(
        self: Arc<Self>,
        handle: Arc<H>,
        plan: Plan,
        (shape, data_type, fill_value): (&[NonZeroU64], &DataType, &FillValue),
    ) -> Partial<H> {
        Partial {
            handle,
            codec: self,
            plan,
            shape: shape.to_vec(),
            data_type: data_type.clone(),
            fill_value: fill_value.clone(),
        }
    }

    /// The chain that it stands for.
    #[must_use]
    pub fn chain(&self) -> &Arc<CodecChain> {
        &self.chain
    }

    /// The plan for chunks of `shape` with elements of `data_type`.
    ///
    /// # Errors
    /// Returns a [`CodecError`] if these are not such that the chain can be fused.
    pub fn plan(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
    ) -> Result<Cow<'_, Plan>, CodecError> {
        let fits = |known: &DataType, plan: &Plan| {
            let lengths = shape.iter().map(|length| length.get());
            known == data_type && lengths.eq(plan.decoded_shape().iter().map(|&n| n as u64))
        };
        if let Some((known, plan)) = self.plan.get()
            && fits(known, plan)
        {
            return Ok(Cow::Borrowed(plan));
        }
        let plan = Plan::new(&self.chain, shape, data_type, fill_value)
            .map_err(|reason| CodecError::Other(reason.to_string()))?;
        // Another thread may have been first, or it may be another shape.
        let _ = self.plan.set((data_type.clone(), plan.clone()));
        Ok(Cow::Owned(plan))
    }
}

impl CodecTraits for FusedCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(
        &self,
        _: ZarrVersion,
        options: &CodecMetadataOptions,
    ) -> Option<Configuration> {
        Some(configuration(&FusedConfiguration {
            codecs: self.chain.create_metadatas(options),
        }))
    }

    codec_traits!(parts);
}

array_on_one_thread!(FusedCodec);

#[cfg_attr(feature = "async", async_trait::async_trait)]
impl ArrayToBytesCodecTraits for FusedCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToBytesCodecTraits> {
        self
    }

    fn encoded_representation(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
    ) -> Result<BytesRepresentation, CodecError> {
        self.chain
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
        let plan = self.plan(shape, data_type, fill_value)?;
        if let ArrayBytes::Fixed(decoded) = &bytes {
            let mut encoded = Vec::new();
            if plan.encode(decoded, &mut encoded).is_ok() {
                return Ok(encoded.into());
            }
        }
        self.chain
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
        let plan = self.plan(shape, data_type, fill_value)?;
        let mut decoded = memory::zeros(plan.decoded_len())?;
        match plan.decode(&bytes, &mut decoded) {
            Ok(()) => Ok(decoded.into()),
            Err(_) => self
                .chain
                .decode(bytes, shape, data_type, fill_value, options),
        }
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
        let plan = self.plan(shape, data_type, fill_value)?;
        let lengths: &[u64] = bytemuck::must_cast_slice(shape);
        if let ArrayBytesDecodeIntoTarget::Fixed(view) = output_target {
            if plan.keeps_order() && view.subset().shape() == lengths {
                let mut slabs = Slabs::new(view, &plan)?;
                let result = plan.decode_to(&bytes, 0..plan.elements(), &mut slabs);
                if result.is_ok() && slabs.finish().is_ok() {
                    return Ok(());
                }
            }
            let decoded = self.decode(bytes, shape, data_type, fill_value, options)?;
            return decode_into_array_bytes_target(
                &decoded,
                ArrayBytesDecodeIntoTarget::Fixed(view),
            );
        }
        let decoded = self.decode(bytes, shape, data_type, fill_value, options)?;
        decode_into_array_bytes_target(&decoded, output_target)
    }

    fn partial_decoder(
        self: Arc<Self>,
        input_handle: Arc<dyn BytesPartialDecoderTraits>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        options: &CodecOptions,
    ) -> Result<Arc<dyn ArrayPartialDecoderTraits>, CodecError> {
        let plan = self.plan(shape, data_type, fill_value)?.into_owned();
        if plan.reads_parts() {
            let chain = self.chain.clone();
            return chain.partial_decoder(input_handle, shape, data_type, fill_value, options);
        }
        Ok(Arc::new(self.partial(
            input_handle,
            plan,
            (shape, data_type, fill_value),
        )))
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
        let plan = self.plan(shape, data_type, fill_value)?.into_owned();
        if plan.reads_parts() {
            let chain = self.chain.clone();
            return chain
                .async_partial_decoder(input_handle, shape, data_type, fill_value, options)
                .await;
        }
        Ok(Arc::new(self.partial(
            input_handle,
            plan,
            (shape, data_type, fill_value),
        )))
    }
}

/// Rows of the first dimension on their way into a view, which costs more to make than a row to copy.
struct Slabs<'a, 'b> {
    view: &'a mut ArrayBytesFixedDisjointView<'b>,
    /// Bytes of a row, and rows that went.
    row: usize,
    done: u64,
    slab: Vec<u8>,
    result: Result<(), CodecError>,
}

impl<'a, 'b> Slabs<'a, 'b> {
    const BYTES: usize = 64 << 10;

    fn new(
        view: &'a mut ArrayBytesFixedDisjointView<'b>,
        plan: &Plan,
    ) -> Result<Self, OutOfMemory> {
        let rows = plan.decoded_shape().first().copied().unwrap_or(1);
        let row = plan.decoded_len() / rows;
        let mut slab = Vec::new();
        memory::reserve_exact(&mut slab, row.max(Self::BYTES.min(plan.decoded_len())))?;
        Ok(Self {
            view,
            row,
            done: 0,
            slab,
            result: Ok(()),
        })
    }

    /// Copy whole rows out of the slab.
    fn flush(&mut self) -> Result<(), CodecError> {
        let rows = self.slab.len() / self.row;
        let mut ranges = self.view.subset().to_ranges();
        if let Some(first) = ranges.first_mut() {
            first.start += self.done;
            first.end = first.start + rows as u64;
        }
        // SAFETY: a part of the view, which is borrowed exclusively; it is dropped here.
        let mut part = unsafe { self.view.subdivide(ranges.into()) }?;
        let bytes = rows * self.row;
        part.copy_from_slice(&self.slab[..bytes])?;
        self.slab.drain(..bytes);
        self.done += rows as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<(), CodecError> {
        if self.result.is_ok() && !self.slab.is_empty() {
            self.result = self.flush();
        }
        self.result
    }
}

impl Sink for Slabs<'_, '_> {
    fn piece(&mut self, _elements: Range<usize>) -> Option<&mut [u8]> {
        None
    }

    fn put(&mut self, _start: usize, elements: &[u8]) {
        let room = self.slab.capacity() - self.slab.len();
        if elements.len() > room && self.slab.len() >= self.row && self.result.is_ok() {
            self.result = self.flush();
        }
        self.slab.extend_from_slice(elements);
    }
}

/// A decoder of boxes of the chunk that the handle `H` reads: no more than up to their last element.
struct Partial<H: ?Sized> {
    handle: Arc<H>,
    codec: Arc<FusedCodec>,
    plan: Plan,
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill_value: FillValue,
}

impl<H: ?Sized> Partial<H> {
    fn decode(
        &self,
        encoded: Option<ArrayBytesRaw<'_>>,
        indexer: &dyn Indexer,
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'static>, CodecError> {
        let Some(encoded) = encoded else {
            let (data_type, fill_value) = (&self.data_type, &self.fill_value);
            return Ok(ArrayBytes::new_fill_value(
                data_type,
                indexer.len(),
                fill_value,
            )?);
        };
        if let Some(subset) = indexer.as_array_subset()
            && let Ok(decoded) = self.decode_subset(&encoded, &subset.to_array_subset())
        {
            return Ok(decoded.into());
        }
        let lengths: &[u64] = bytemuck::must_cast_slice(&self.shape);
        let chunk = self.codec.decode(
            encoded,
            &self.shape,
            &self.data_type,
            &self.fill_value,
            options,
        )?;
        Ok(chunk
            .extract_array_subset(indexer, lengths, &self.data_type)?
            .into_owned())
    }

    fn decode_subset(&self, encoded: &[u8], subset: &ArraySubset) -> Result<Vec<u8>, Error> {
        let bound = |bound: u64| usize::try_from(bound).unwrap_or(usize::MAX);
        let ranges = subset.to_ranges();
        let region: Vec<_> = ranges
            .iter()
            .map(|range| bound(range.start)..bound(range.end))
            .collect();
        self.plan.decode_region_to_vec(encoded, &region)
    }
}

impl<H: BytesPartialDecoderTraits + ?Sized + 'static> ArrayPartialDecoderTraits for Partial<H> {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }

    fn exists(&self) -> Result<bool, StorageError> {
        self.handle.exists()
    }

    fn size_held(&self) -> usize {
        self.handle.size_held()
    }

    fn partial_decode(
        &self,
        indexer: &dyn Indexer,
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'_>, CodecError> {
        self.decode(self.handle.decode(options)?, indexer, options)
    }

    fn supports_partial_decode(&self) -> bool {
        false
    }
}

#[cfg(feature = "async")]
#[async_trait::async_trait]
impl<H: AsyncBytesPartialDecoderTraits + ?Sized + 'static> AsyncArrayPartialDecoderTraits
    for Partial<H>
{
    fn data_type(&self) -> &DataType {
        &self.data_type
    }

    async fn exists(&self) -> Result<bool, StorageError> {
        self.handle.exists().await
    }

    fn size_held(&self) -> usize {
        self.handle.size_held()
    }

    async fn partial_decode<'a>(
        &'a self,
        indexer: &dyn Indexer,
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.decode(self.handle.decode(options).await?, indexer, options)
    }

    fn supports_partial_decode(&self) -> bool {
        false
    }
}
