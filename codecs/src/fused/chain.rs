//! From zarrs' codecs to a plan, or to the reason why there is none.

use std::num::NonZeroU64;

use serde_json::Value;
use zarrs::array::CodecChain;
use zarrs::array::codec::{BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec};
use zarrs_codec::{
    BytesToBytesCodecTraits, CodecError, CodecMetadataOptions, CodecOptions, CodecTraits,
};
use zarrs_data_type::{DataType, FillValue};

use super::compressor::Compressor;
use super::filters::{Filters, Stage};
use super::plan::Plan;
use crate::dtype::NumericType;
use crate::util::product;
use crate::{
    AsTypeCodec, BloscCodec, ChecksumCodec, DeltaCodec, Lz4Codec, ShuffleCodec, StreamCodec,
    TemporalXorCodec, ZstdCodec,
};

/// Why a chain is not fused: in words, for [`explain`](super::explain).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfused(pub(super) String);

impl std::fmt::Display for Unfused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfused {}

impl From<CodecError> for Unfused {
    fn from(error: CodecError) -> Self {
        Self(error.to_string())
    }
}

fn unfused<T>(reason: impl std::fmt::Display) -> Result<T, Unfused> {
    Err(Unfused(reason.to_string()))
}

fn name(codec: &(impl CodecTraits + ?Sized)) -> String {
    let name = codec.name_v3().or_else(|| codec.name_v2());
    name.unwrap_or("of no name".into()).into_owned()
}

/// A filter whose rows are not counted yet: a transpose after it moves its axis.
enum Filter {
    Stage(Stage),
    Xor { axis: usize, size: usize },
}

impl Plan {
    /// Recognise `chain`, for chunks of `shape` with elements of `data_type`.
    ///
    /// # Errors
    /// Returns [`Unfused`] if it is no chain that runs in one pass.
    pub fn new(
        chain: &CodecChain,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
    ) -> Result<Self, Unfused> {
        let size = |data_type: &DataType| match data_type.fixed_size() {
            Some(size) if size > 0 && !data_type.is_optional() => Ok(size),
            _ => unfused(format_args!("data type {data_type} has no fixed size")),
        };
        let decoded_size = size(data_type)?;
        let mut order: Vec<_> = (0..shape.len()).collect();
        let mut filters = Vec::new();
        let mut now = (shape.to_vec(), data_type.clone(), fill_value.clone());
        for codec in chain.array_to_array_codecs() {
            let (shape, data_type, fill_value) = &now;
            let next = codec.encoded_representation(shape, data_type, fill_value)?;
            let any = codec.as_any();
            if let Some(xor) = any.downcast_ref::<TemporalXorCodec>() {
                filters.push(Filter::Xor {
                    axis: xor.axis(shape.len())?,
                    size: size(data_type)?,
                });
            } else if let Some(delta) = any.downcast_ref::<DeltaCodec>() {
                let (dtype, sum, astype) = delta.types();
                filters.extend(cast(dtype, sum));
                filters.push(Filter::Stage(Stage::Delta(sum)));
                filters.extend(cast(sum, astype));
            } else if let Some(astype) = any.downcast_ref::<AsTypeCodec>() {
                let (decoded, encoded) = astype.types(data_type)?;
                filters.extend(cast(decoded, encoded));
            } else if any.is::<TransposeCodec>() {
                let permutation = permutation(&**codec, shape.len())?;
                transpose(&mut filters, &mut order, &permutation)?;
            } else {
                return unfused(format_args!(
                    "codec {} is not one that is fused",
                    name(&**codec)
                ));
            }
            now = next;
        }
        let (shape, data_type, _) = now;
        let shape = shape
            .iter()
            .map(|length| product(&[*length]))
            .collect::<Result<Vec<_>, _>>()?;
        let stages = filters.into_iter().map(|filter| match filter {
            Filter::Stage(stage) => stage,
            Filter::Xor { axis, size } => Stage::Xor {
                rows: shape[axis],
                row_bytes: shape[axis + 1..].iter().product::<usize>() * size,
            },
        });
        let stored_size = size(&data_type)?;
        let widest = decoded_size.max(stored_size).max(8);
        let elements = shape
            .iter()
            .try_fold(widest, |bytes, length| bytes.checked_mul(*length));
        if elements.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            return unfused(format_args!("chunks of shape {shape:?} are too large"));
        }
        let mut plan = Self {
            filters: Filters {
                decoded_size,
                stored_size,
                stages: stages.collect(),
                swap: swapped(chain, &data_type)?,
                shuffle: 1,
            },
            shape,
            order,
            inner_checksum: false,
            compressor: Compressor::None,
            outer_checksum: false,
        };
        for codec in chain.bytes_to_bytes_codecs() {
            plan.push(&**codec)?;
        }
        Ok(plan)
    }

    /// Let `codec` follow on what the plan stores so far.
    fn push(&mut self, codec: &dyn BytesToBytesCodecTraits) -> Result<(), Unfused> {
        let any = codec.as_any();
        let stream = any.downcast_ref::<StreamCodec>();
        let checksum = any.downcast_ref::<ChecksumCodec>();
        let compressed = !matches!(self.compressor, Compressor::None);
        let compressor = if let Some(zstd) = any.downcast_ref::<ZstdCodec>() {
            Compressor::Zstd(zstd.settings())
        } else if let Some(lz4) = any.downcast_ref::<Lz4Codec>() {
            Compressor::Lz4(lz4.mode())
        } else if any.is::<GzipCodec>() || stream.is_some_and(StreamCodec::is_gzip) {
            Compressor::Gzip
        } else if any.is::<zarrs::array::codec::BloscCodec>() || any.is::<BloscCodec>() {
            Compressor::Blosc
        } else if any.is::<Crc32cCodec>() || checksum.is_some_and(ChecksumCodec::is_crc32c_at_end) {
            // Its configuration does not tell where it puts the checksum.
            let encoded = codec.encode((&[0]).into(), &CodecOptions::default())?;
            if !encoded.starts_with(&[0]) {
                return unfused("crc32c puts its checksum first");
            }
            let place = if compressed {
                &mut self.outer_checksum
            } else {
                &mut self.inner_checksum
            };
            if std::mem::replace(place, true) {
                return unfused("there are two checksums of the same bytes");
            }
            return Ok(());
        } else if let Some(shuffle) = any.downcast_ref::<ShuffleCodec>() {
            let size = shuffle.element_size();
            if size <= 1 {
                return Ok(());
            }
            if compressed || self.inner_checksum || self.filters.shuffle > 1 {
                return unfused("a shuffle is not the first codec after bytes");
            }
            if !self.filters.stored_size.is_multiple_of(size) {
                return unfused(format_args!(
                    "shuffled parts of {size} bytes do not divide stored elements of {} bytes",
                    self.filters.stored_size
                ));
            }
            self.filters.shuffle = size;
            return Ok(());
        } else {
            return unfused(format_args!(
                "codec {} is not one that is fused",
                name(codec)
            ));
        };
        if compressed || self.outer_checksum {
            return unfused("there are two compressors");
        }
        self.compressor = compressor;
        Ok(())
    }
}

fn cast(from: NumericType, to: NumericType) -> Option<Filter> {
    (from != to).then_some(Filter::Stage(Stage::Cast { from, to }))
}

/// Transpose what came before: casts and rows do not mind.
fn transpose(
    filters: &mut [Filter],
    order: &mut Vec<usize>,
    permutation: &[usize],
) -> Result<(), Unfused> {
    for filter in filters {
        match filter {
            Filter::Stage(Stage::Delta(_)) => {
                return unfused("a transpose follows a delta, which depends on the order");
            }
            Filter::Stage(_) => {}
            Filter::Xor { axis, .. } => {
                let place = permutation.iter().position(|d| d == axis);
                *axis = place.unwrap_or(*axis);
            }
        }
    }
    *order = permutation.iter().map(|&d| order[d]).collect();
    Ok(())
}

/// The dimensions of the array in the order in which a transpose stores them.
fn permutation(codec: &dyn CodecTraits, dimensions: usize) -> Result<Vec<usize>, Unfused> {
    let configuration = codec.configuration_v3(&CodecMetadataOptions::default());
    let order: Option<Vec<usize>> = configuration
        .as_ref()
        .and_then(|configuration| configuration.get("order"))
        .and_then(|order| serde_json::from_value(order.clone()).ok());
    let is_permutation = |order: &Vec<usize>| {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..dimensions)
    };
    order
        .filter(is_permutation)
        .ok_or_else(|| Unfused("a transpose has no order that is a permutation".into()))
}

/// The size of what is stored in the other byte order than this machine's; 1 if nothing is.
fn swapped(chain: &CodecChain, data_type: &DataType) -> Result<usize, Unfused> {
    let codec = chain.array_to_bytes_codec();
    if !codec.as_any().is::<BytesCodec>() {
        return unfused(format_args!(
            "codec {} is not one that is fused",
            name(&**codec)
        ));
    }
    let configuration = codec.configuration_v3(&CodecMetadataOptions::default());
    let endian = configuration
        .as_ref()
        .and_then(|configuration| configuration.get("endian"))
        .and_then(Value::as_str);
    let native = if cfg!(target_endian = "little") {
        "little"
    } else {
        "big"
    };
    match (endian, NumericType::of(data_type)) {
        _ if data_type.fixed_size() == Some(1) => Ok(1),
        (None, Some(_)) => unfused("the bytes codec does not say its byte order"),
        (None, None) => Ok(1),
        (Some(endian), _) if endian == native => Ok(1),
        (Some(_), Some(numeric)) => Ok(numeric.size()),
        (Some(endian), None) => unfused(format_args!("data type {data_type} is {endian}-endian")),
    }
}
