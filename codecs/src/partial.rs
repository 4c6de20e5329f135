//! Partial decoding and encoding, once for every array->array codec.
//!
//! A codec that carries state along an axis (XOR, delta) cannot decode a window alone: it needs
//! the elements that the window depends on. It says which ([`PartialCodec::dependency`]);
//! [`PartialCoder`] reads those, decodes them, and cuts the window out.

use std::num::NonZeroU64;
use std::sync::Arc;

use zarrs_chunk_grid::{ArraySubset, ArraySubsetTraits, Indexer, IndexerError};
use zarrs_codec::{
    ArrayBytes, ArrayPartialDecoderTraits, ArrayPartialEncoderTraits, ArrayToArrayCodecTraits,
    CodecError, CodecOptions, update_array_bytes,
};
#[cfg(feature = "async")]
use zarrs_codec::{AsyncArrayPartialDecoderTraits, AsyncArrayPartialEncoderTraits};
use zarrs_data_type::{DataType, FillValue};
use zarrs_storage::StorageError;

/// What [`PartialCoder`] must know of an array->array codec that keeps the chunk's shape, or always
/// depends on the whole of it.
pub(crate) trait PartialCodec: ArrayToArrayCodecTraits {
    /// The subset of a chunk of `shape` that must be decoded to know `region`.
    ///
    /// It contains `region`, decodes on its own, and starts at the origin if `region` does.
    fn dependency(&self, region: &ArraySubset, shape: &[u64]) -> ArraySubset;

    /// Whether an encoded chunk full of the encoded fill value decodes to the fill value, as the
    /// reader of a missing chunk hands it on.
    fn keeps_fill(&self, fill_value: &FillValue) -> bool {
        fill_value.as_ne_bytes().iter().all(|byte| *byte == 0)
    }
}

/// The partial decoder and encoder over the handle `H` of the encoded chunk.
pub(crate) struct PartialCoder<H: ?Sized, C> {
    handle: Arc<H>,
    codec: Arc<C>,
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill_value: FillValue,
}

/// How to serve an indexer: what to decode, and where the indexer's elements lie in it.
struct Window {
    block: ArraySubset,
    block_shape: Vec<NonZeroU64>,
    /// The window within the block, or `None` for an indexer that is valid in the block as it is.
    subset: Option<ArraySubset>,
}

impl<H: ?Sized, C: PartialCodec> PartialCoder<H, C> {
    pub(crate) fn new(
        handle: Arc<H>,
        codec: Arc<C>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
    ) -> Self {
        Self {
            handle,
            codec,
            shape: shape.to_vec(),
            data_type: data_type.clone(),
            fill_value: fill_value.clone(),
        }
    }

    fn shape_u64(&self) -> Vec<u64> {
        self.shape.iter().map(|length| length.get()).collect()
    }

    fn chunk(&self) -> ArraySubset {
        ArraySubset::new_with_shape(self.shape_u64())
    }

    /// `block`, as the codec encodes it, in the encoded chunk.
    fn encoded(&self, block: &ArraySubset) -> Result<ArraySubset, CodecError> {
        let shape = self.codec.encoded_shape(&self.shape)?;
        if shape == self.shape {
            return Ok(block.clone());
        }
        let shape = shape.iter().map(|length| length.get()).collect();
        Ok(ArraySubset::new_with_shape(shape))
    }

    fn fill(&self, elements: u64) -> Result<ArrayBytes<'static>, CodecError> {
        Ok(ArrayBytes::new_fill_value(
            &self.data_type,
            elements,
            &self.fill_value,
        )?)
    }

    /// `None` if the indexer selects nothing.
    fn window(&self, indexer: &dyn Indexer) -> Result<Option<Window>, CodecError> {
        let shape = self.shape_u64();
        if indexer.dimensionality() != shape.len() {
            return Err(IndexerError::new_incompatible_dimensionality(
                indexer.dimensionality(),
                shape.len(),
            )
            .into());
        }
        if indexer.is_empty() {
            return Ok(None);
        }
        let subset = indexer
            .as_array_subset()
            .map(ArraySubsetTraits::to_array_subset);
        // Any other indexer is served from the smallest block at the origin that holds it.
        let region = subset.clone().unwrap_or_else(|| {
            let mut end = vec![0; shape.len()];
            for indices in indexer.iter_indices() {
                for (end, index) in end.iter_mut().zip(indices) {
                    *end = (*end).max(index.saturating_add(1));
                }
            }
            ArraySubset::new_with_shape(end)
        });
        if !region.inbounds_shape(&shape) {
            return Err(IndexerError::new_oob(region.end_exc(), shape).into());
        }
        let block = self.codec.dependency(&region, &shape);
        let block_shape = block.chunk_shape().ok_or(CodecError::Other(
            "internal error: the dependency of a non-empty region is empty".into(),
        ))?;
        let subset = subset
            .map(|subset| subset.relative_to(block.start()))
            .transpose()?;
        Ok(Some(Window {
            block,
            block_shape,
            subset,
        }))
    }

    /// Decode the encoded block of `window` and cut `indexer` out of it.
    fn finish(
        &self,
        encoded: ArrayBytes<'_>,
        window: &Window,
        indexer: &dyn Indexer,
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'static>, CodecError> {
        let decoded = self.codec.decode(
            encoded,
            &window.block_shape,
            &self.data_type,
            &self.fill_value,
            options,
        )?;
        let block_shape = window.block.shape();
        let indexer: &dyn Indexer = match &window.subset {
            Some(subset) if subset.shape() == block_shape => return Ok(decoded.into_owned()),
            Some(subset) => subset,
            None => indexer,
        };
        Ok(decoded
            .extract_array_subset(indexer, block_shape, &self.data_type)?
            .into_owned())
    }

    fn decode_chunk<'a>(
        &self,
        encoded: ArrayBytes<'a>,
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.codec.decode(
            encoded,
            &self.shape,
            &self.data_type,
            &self.fill_value,
            options,
        )
    }

    /// The encoded chunk after `bytes` at `indexer`, or `None` if it is the fill value only.
    fn update(
        &self,
        decoded: ArrayBytes<'_>,
        indexer: &dyn Indexer,
        bytes: &ArrayBytes<'_>,
        options: &CodecOptions,
    ) -> Result<Option<ArrayBytes<'static>>, CodecError> {
        bytes.validate(indexer.len(), &self.data_type)?;
        let decoded = update_array_bytes(
            decoded,
            &self.shape_u64(),
            indexer,
            bytes,
            self.data_type.size(),
        )?;
        if !options.store_empty_chunks() && decoded.is_fill_value(&self.fill_value) {
            return Ok(None);
        }
        let encoded = self.codec.encode(
            decoded,
            &self.shape,
            &self.data_type,
            &self.fill_value,
            options,
        )?;
        Ok(Some(encoded.into_owned()))
    }
}

impl<H, C> ArrayPartialDecoderTraits for PartialCoder<H, C>
where
    H: ArrayPartialDecoderTraits + ?Sized,
    C: PartialCodec + 'static,
{
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
        let Some(window) = self.window(indexer)? else {
            return Ok(ArrayBytes::new_flen(vec![]));
        };
        if !self.codec.keeps_fill(&self.fill_value) && !self.handle.exists()? {
            return self.fill(indexer.len());
        }
        let block = self.encoded(&window.block)?;
        let encoded = self.handle.partial_decode(&block, options)?;
        self.finish(encoded, &window, indexer, options)
    }

    fn supports_partial_decode(&self) -> bool {
        self.handle.supports_partial_decode()
    }
}

impl<H, C> ArrayPartialEncoderTraits for PartialCoder<H, C>
where
    H: ArrayPartialEncoderTraits + ?Sized,
    C: PartialCodec + 'static,
{
    fn into_dyn_decoder(self: Arc<Self>) -> Arc<dyn ArrayPartialDecoderTraits> {
        self
    }

    fn erase(&self) -> Result<(), CodecError> {
        self.handle.erase()
    }

    fn partial_encode(
        &self,
        indexer: &dyn Indexer,
        bytes: &ArrayBytes<'_>,
        options: &CodecOptions,
    ) -> Result<(), CodecError> {
        let chunk = self.encoded(&self.chunk())?;
        let decoded = if self.handle.exists()? {
            self.decode_chunk(self.handle.partial_decode(&chunk, options)?, options)?
        } else {
            self.fill(self.chunk().num_elements())?
        };
        match self.update(decoded, indexer, bytes, options)? {
            Some(encoded) => self.handle.partial_encode(&chunk, &encoded, options),
            None => self.handle.erase(),
        }
    }

    fn supports_partial_encode(&self) -> bool {
        false
    }
}

#[cfg(feature = "async")]
#[async_trait::async_trait]
impl<H, C> AsyncArrayPartialDecoderTraits for PartialCoder<H, C>
where
    H: AsyncArrayPartialDecoderTraits + ?Sized,
    C: PartialCodec + 'static,
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
        let Some(window) = self.window(indexer)? else {
            return Ok(ArrayBytes::new_flen(vec![]));
        };
        if !self.codec.keeps_fill(&self.fill_value) && !self.handle.exists().await? {
            return self.fill(indexer.len());
        }
        let block = self.encoded(&window.block)?;
        let encoded = self.handle.partial_decode(&block, options).await?;
        self.finish(encoded, &window, indexer, options)
    }

    fn supports_partial_decode(&self) -> bool {
        self.handle.supports_partial_decode()
    }
}

#[cfg(feature = "async")]
#[async_trait::async_trait]
impl<H, C> AsyncArrayPartialEncoderTraits for PartialCoder<H, C>
where
    H: AsyncArrayPartialEncoderTraits + ?Sized,
    C: PartialCodec + 'static,
{
    fn into_dyn_decoder(self: Arc<Self>) -> Arc<dyn AsyncArrayPartialDecoderTraits> {
        self
    }

    async fn erase(&self) -> Result<(), CodecError> {
        self.handle.erase().await
    }

    async fn partial_encode(
        &self,
        indexer: &dyn Indexer,
        bytes: &ArrayBytes<'_>,
        options: &CodecOptions,
    ) -> Result<(), CodecError> {
        let chunk = self.encoded(&self.chunk())?;
        let decoded = if self.handle.exists().await? {
            let encoded = self.handle.partial_decode(&chunk, options).await?;
            self.decode_chunk(encoded, options)?
        } else {
            self.fill(self.chunk().num_elements())?
        };
        match self.update(decoded, indexer, bytes, options)? {
            Some(encoded) => self.handle.partial_encode(&chunk, &encoded, options).await,
            None => self.handle.erase().await,
        }
    }

    fn supports_partial_encode(&self) -> bool {
        false
    }
}

/// The four constructors that every array->array codec of this crate delegates to
/// [`PartialCoder`], for use inside its `ArrayToArrayCodecTraits` implementation.
macro_rules! partial_coders {
    () => {
        $crate::partial::partial_coders!(@sync partial_decoder, ArrayPartialDecoderTraits);
        $crate::partial::partial_coders!(@sync partial_encoder, ArrayPartialEncoderTraits);
        $crate::partial::partial_coders!(
            @async async_partial_decoder, AsyncArrayPartialDecoderTraits
        );
        $crate::partial::partial_coders!(
            @async async_partial_encoder, AsyncArrayPartialEncoderTraits
        );
    };
    (@sync $name:ident, $handle:ident) => {
        fn $name(
            self: std::sync::Arc<Self>,
            handle: std::sync::Arc<dyn zarrs_codec::$handle>,
            shape: &[std::num::NonZeroU64],
            data_type: &zarrs_data_type::DataType,
            fill_value: &zarrs_data_type::FillValue,
            _options: &zarrs_codec::CodecOptions,
        ) -> Result<std::sync::Arc<dyn zarrs_codec::$handle>, zarrs_codec::CodecError> {
            Ok(std::sync::Arc::new($crate::partial::PartialCoder::new(
                handle, self, shape, data_type, fill_value,
            )))
        }
    };
    // What `async_trait` makes of an `async fn`: it cannot see into a macro.
    (@async $name:ident, $handle:ident) => {
        #[cfg(feature = "async")]
        fn $name<'life0, 'life1, 'life2, 'life3, 'async_trait>(
            self: std::sync::Arc<Self>,
            handle: std::sync::Arc<dyn zarrs_codec::$handle>,
            shape: &'life0 [std::num::NonZeroU64],
            data_type: &'life1 zarrs_data_type::DataType,
            fill_value: &'life2 zarrs_data_type::FillValue,
            _options: &'life3 zarrs_codec::CodecOptions,
        ) -> std::pin::Pin<
            Box<
                dyn Future<
                        Output = Result<
                            std::sync::Arc<dyn zarrs_codec::$handle>,
                            zarrs_codec::CodecError,
                        >,
                    > + Send
                    + 'async_trait,
            >,
        >
        where
            'life0: 'async_trait,
            'life1: 'async_trait,
            'life2: 'async_trait,
            'life3: 'async_trait,
            Self: 'async_trait,
        {
            let coder: std::sync::Arc<dyn zarrs_codec::$handle> =
                std::sync::Arc::new($crate::partial::PartialCoder::new(
                    handle, self, shape, data_type, fill_value,
                ));
            Box::pin(std::future::ready(Ok(coder)))
        }
    };
}
pub(crate) use partial_coders;
