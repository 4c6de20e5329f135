//! Array->bytes codecs of zarrs that decode whole chunks, without their trust in the lengths that a
//! chunk states.

use std::num::NonZeroU64;
use std::sync::Arc;

use bytemuck::Pod;
use pco::data_types::{Latent, Number};
use pco::errors::PcoError;
use pco::standalone::{DecompressorItem, FileDecompressor, guarantee};
use zarrs::array::codec::array_to_bytes::pcodec::PcodecCodecConfiguration;
use zarrs::array::codec::{
    PcodecCodec, VlenArrayCodec, VlenBytesCodec, VlenUtf8Codec, VlenV2Codec,
};
use zarrs_codec::{
    ArrayBytes, ArrayBytesRaw, ArrayCodecTraits, ArrayToBytesCodecTraits, BytesRepresentation,
    Codec, CodecError, CodecMetadataOptions, CodecOptions, RecommendedConcurrency,
};
use zarrs_data_type::codec_traits::pcodec::{PcodecDataTypeExt, PcodecElementType};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::{ChunkShape, Configuration};
use zarrs_plugin::{ExtensionName, PluginCreateError, ZarrVersion};

use super::{CreateFrom, delegate};
use crate::dtype::typed;
use crate::memory;
use crate::util::{CodecMetadata, product};

/// How a guarded codec decodes.
#[derive(Clone, Copy, Debug)]
enum Decode {
    /// By zarrs, after a check of the lengths in a chunk of that many elements.
    Checked(fn(&[u8], usize) -> Result<(), String>),
    /// By pco, as many numbers as the chunk has.
    Pcodec {
        /// The most numbers of a page.
        page: u64,
    },
}

macro_rules! guards {
    ($($create:ident: $codec:ty, $decode:expr;)*) => {$(
        pub(crate) fn $create<M>(metadata: &M) -> Result<Codec, PluginCreateError>
        where
            $codec: CreateFrom<M>,
        {
            guard(<$codec>::create_from(metadata)?, $decode, None)
        }
    )*};
}

guards! {
    vlen_bytes: VlenBytesCodec, Decode::Checked(check_vlen);
    vlen_utf8: VlenUtf8Codec, Decode::Checked(check_vlen);
    vlen_v2: VlenV2Codec, Decode::Checked(check_vlen);
    vlen_array: VlenArrayCodec, Decode::Checked(check_vlen);
}

/// zarrs' codec does not know the newer name of `delta_spec: "none"`, and states all defaults.
pub(crate) fn pcodec<M: CodecMetadata>(metadata: &M) -> Result<Codec, PluginCreateError> {
    let stated = metadata.fields();
    let mut fields = serde_json::Map::from(stated.clone());
    if let Some(spec) = fields.get_mut("delta_spec").filter(|spec| *spec == "no_op") {
        *spec = "none".into();
    }
    let parsed: PcodecCodecConfiguration = typed("numcodecs.pcodec", &fields.into())?;
    let page = match &parsed {
        PcodecCodecConfiguration::V1(parsed) => parsed.equal_pages_up_to as u64,
        _ => 0,
    };
    if page == 0 {
        return Err(PluginCreateError::Other(
            "numcodecs.pcodec: equal_pages_up_to 0 is out of range, expected at least 1".into(),
        ));
    }
    let codec = Arc::new(PcodecCodec::new_with_configuration(&parsed)?);
    guard(
        Codec::ArrayToBytes(codec),
        Decode::Pcodec { page },
        Some(stated),
    )
}

fn guard(
    codec: Codec,
    decode: Decode,
    stated: Option<Configuration>,
) -> Result<Codec, PluginCreateError> {
    match codec {
        Codec::ArrayToBytes(codec) => Ok(Codec::ArrayToBytes(Arc::new(Guard {
            codec,
            decode,
            stated,
        }))),
        _ => Err("expected an array->bytes codec".into()),
    }
}

/// Decode a pcodec chunk of that many elements.
fn decode_pcodec(
    encoded: &[u8],
    elements: usize,
    data_type: &DataType,
) -> Result<Vec<u8>, CodecError> {
    let numbers = data_type.codec_pcodec()?;
    // A complex number is two.
    let count = elements.saturating_mul(numbers.pcodec_elements_per_element());
    let decoded = match numbers.pcodec_element_type() {
        PcodecElementType::U16 => numbers_of::<u16>(encoded, count),
        PcodecElementType::U32 => numbers_of::<u32>(encoded, count),
        PcodecElementType::U64 => numbers_of::<u64>(encoded, count),
        PcodecElementType::I16 => numbers_of::<i16>(encoded, count),
        PcodecElementType::I32 => numbers_of::<i32>(encoded, count),
        PcodecElementType::I64 => numbers_of::<i64>(encoded, count),
        PcodecElementType::F16 => numbers_of::<half::f16>(encoded, count),
        PcodecElementType::F32 => numbers_of::<f32>(encoded, count),
        PcodecElementType::F64 => numbers_of::<f64>(encoded, count),
    };
    decoded.map_err(|fault| {
        CodecError::Other(format!("numcodecs.pcodec: {fault}; the chunk is corrupt"))
    })
}

/// As many numbers as were decoded are allocated, and one block: a chunk of few bytes may state any
/// length.
fn numbers_of<T: Number + Pod>(encoded: &[u8], count: usize) -> Result<Vec<u8>, String> {
    /// Numbers that are decoded at a time: whole batches of pco.
    const BLOCK: usize = 256 * pco::FULL_BATCH_N;
    let failed = |error: PcoError| error.to_string();
    let wrong = || format!("the chunk does not hold {count} numbers");
    let mut bytes = Vec::new();
    let mut block = memory::zeros::<T>(count.min(BLOCK))?;
    let (file, mut rest) = FileDecompressor::new(encoded).map_err(failed)?;
    while let DecompressorItem::Chunk(mut chunk) =
        file.chunk_decompressor::<T, _>(rest).map_err(failed)?
    {
        let mut left = chunk.n();
        if left > count - bytes.len() / size_of::<T>() {
            return Err(wrong());
        }
        while left > 0 {
            let length = left.min(BLOCK);
            let progress = chunk.read(&mut block[..length]).map_err(failed)?;
            if progress.n_processed != length {
                return Err(wrong());
            }
            memory::reserve(&mut bytes, length * size_of::<T>())?;
            bytes.extend_from_slice(bytemuck::cast_slice(&block[..length]));
            left -= length;
        }
        rest = chunk.into_src();
    }
    if bytes.len() == count * size_of::<T>() {
        Ok(bytes)
    } else {
        Err(wrong())
    }
}

/// The most bytes that pcodec makes of that many numbers, as `pco::standalone::guarantee::file_size`
/// has it, which makes a list of all pages for that.
fn pcodec_bound<L: Latent>(numbers: u64, page: u64) -> Option<u64> {
    let pages = numbers.div_ceil(page);
    let heads = pages.checked_mul(guarantee::chunk_size::<L>(0) as u64)?;
    let digits = numbers.checked_mul((L::BITS / 8).into())?;
    (guarantee::header_size() as u64 + 1)
        .checked_add(heads)?
        .checked_add(digits)
}

/// The number of elements, and of the bytes of each: little-endian, of four bytes.
fn check_vlen(encoded: &[u8], elements: usize) -> Result<(), String> {
    let split = |bytes| -> Option<(usize, &[u8])> {
        let (length, rest) = <[u8]>::split_first_chunk(bytes)?;
        Some((usize::try_from(u32::from_le_bytes(*length)).ok()?, rest))
    };
    let mut rest = match split(encoded) {
        Some((stated, rest)) if stated == elements => rest,
        _ => return Err(format!("the chunk does not state {elements} elements")),
    };
    for element in 0..elements {
        rest = split(rest)
            .and_then(|(length, rest)| rest.get(length..))
            .ok_or_else(|| format!("element {element} lies beyond the end"))?;
    }
    Ok(())
}

#[derive(Debug)]
struct Guard {
    codec: Arc<dyn ArrayToBytesCodecTraits>,
    decode: Decode,
    /// The configuration as it was parsed, if the codec does not keep it.
    stated: Option<Configuration>,
}

impl Guard {
    fn stated(&self, version: ZarrVersion, options: CodecMetadataOptions) -> Option<Configuration> {
        let own = || self.codec.configuration(version, &options);
        self.stated.clone().or_else(own)
    }
}

delegate!(Guard, parts_of_whole);

impl ArrayCodecTraits for Guard {
    fn recommended_concurrency(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
    ) -> Result<RecommendedConcurrency, CodecError> {
        self.codec.recommended_concurrency(shape, data_type)
    }

    fn partial_decode_granularity(&self, shape: &[NonZeroU64]) -> ChunkShape {
        self.codec.partial_decode_granularity(shape)
    }
}

impl ArrayToBytesCodecTraits for Guard {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToBytesCodecTraits> {
        self
    }

    fn encoded_representation(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
    ) -> Result<BytesRepresentation, CodecError> {
        let Decode::Pcodec { page } = self.decode else {
            return (self.codec).encoded_representation(shape, data_type, fill_value);
        };
        let numbers = data_type.codec_pcodec()?;
        let count = product(shape)?.saturating_mul(numbers.pcodec_elements_per_element()) as u64;
        let bound = match numbers.pcodec_element_type() {
            PcodecElementType::U16 | PcodecElementType::I16 | PcodecElementType::F16 => {
                pcodec_bound::<u16>(count, page)
            }
            PcodecElementType::U32 | PcodecElementType::I32 | PcodecElementType::F32 => {
                pcodec_bound::<u32>(count, page)
            }
            PcodecElementType::U64 | PcodecElementType::I64 | PcodecElementType::F64 => {
                pcodec_bound::<u64>(count, page)
            }
        };
        bound.map(BytesRepresentation::BoundedSize).ok_or_else(|| {
            CodecError::Other(format!(
                "numcodecs.pcodec: a chunk of shape {shape:?} is too large"
            ))
        })
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
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
        let elements = product(shape)?;
        match self.decode {
            Decode::Pcodec { .. } => return Ok(decode_pcodec(&bytes, elements, data_type)?.into()),
            Decode::Checked(check) => check(&bytes, elements).map_err(|fault| {
                let name = self.codec.name_v3().unwrap_or_default();
                CodecError::Other(format!("{name}: {fault}; the chunk is corrupt"))
            })?,
        }
        self.codec
            .decode(bytes, shape, data_type, fill_value, options)
    }
}

#[cfg(test)]
mod tests {
    use pco::PagingSpec;
    use serde_json::json;
    use zarrs_data_type::FillValue;

    use super::*;

    fn pcodec_of(pages: u64) -> Arc<dyn ArrayToBytesCodecTraits> {
        let metadata = json!({"name": "numcodecs.pcodec",
            "configuration": {"equal_pages_up_to": pages}});
        match crate::testing::codec(&metadata).unwrap() {
            Codec::ArrayToBytes(codec) => codec,
            _ => unreachable!(),
        }
    }

    fn shape(count: u64) -> [NonZeroU64; 1] {
        [NonZeroU64::new(count).unwrap()]
    }

    #[test]
    fn pcodec_of_any_pages_round_trips_within_its_bound() {
        let (data_type, fill) = (zarrs::array::data_type::uint32(), FillValue::from(0_u32));
        let options = CodecOptions::default();
        for count in [1_u32, 255, 256, 257, 1000, 70_000] {
            let plain: Vec<u8> = (0..count)
                .flat_map(|i| i.wrapping_mul(i).to_ne_bytes())
                .collect();
            for pages in [1, 100, 65_536, 1 << 18] {
                if count / pages > 1000 {
                    continue;
                }
                let (codec, shape) = (pcodec_of(pages.into()), shape(count.into()));
                let encoded = codec
                    .encode(plain.clone().into(), &shape, &data_type, &fill, &options)
                    .unwrap();
                let bound = codec.encoded_representation(&shape, &data_type, &fill);
                let expected = guarantee::file_size::<u32>(
                    count as usize,
                    &PagingSpec::EqualPagesUpTo(pages as usize),
                );
                assert_eq!(bound.unwrap().size(), Some(expected.unwrap() as u64));
                for (short, is_whole) in [(encoded.len(), true), (encoded.len() - 1, false)] {
                    let part = encoded[..short].to_vec();
                    let decoded = codec.decode(part.into(), &shape, &data_type, &fill, &options);
                    match decoded {
                        Ok(decoded) => assert!(is_whole && *decoded.into_fixed().unwrap() == plain),
                        Err(error) => assert!(!is_whole, "{error}"),
                    }
                }
            }
        }
    }

    /// Nothing is sized by the shape of the chunk.
    #[test]
    fn a_short_chunk_of_huge_shape_is_an_error() {
        let (data_type, fill) = (zarrs::array::data_type::uint32(), FillValue::from(0_u32));
        let options = CodecOptions::default();
        let codec = pcodec_of(1 << 18);
        let three = codec
            .encode(vec![1; 12].into(), &shape(3), &data_type, &fill, &options)
            .unwrap();
        for bytes in [vec![0; 20], three.into_owned()] {
            let huge = shape(1 << 50);
            let decoded = codec.decode(bytes.into(), &huge, &data_type, &fill, &options);
            let error = decoded.unwrap_err().to_string();
            assert!(error.contains("the chunk is corrupt"), "{error}");
        }
    }
}
