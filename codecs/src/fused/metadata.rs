//! Fused chains in the metadata of arrays, in memory.

use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::{Value, json};
use zarrs::array::codec::array_to_bytes::sharding::ShardingCodecConfigurationV1;
use zarrs::array::{Array, ArrayMetadata, CodecChain};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::v3::MetadataV3;

use super::chain::Unfused;
use super::codec::{FusedCodec, NAME};
use super::plan::Plan;
use crate::registry::hidden;
use crate::util::{self, configuration};

/// Whether an array's chunks are decoded in one pass, and how or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// In one pass: the steps, from stored bytes to values.
    Fused(String),
    /// Codec by codec: the reason.
    Unfused(String),
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fused(plan) => write!(f, "fused: {plan}"),
            Self::Unfused(reason) => write!(f, "codec by codec: {reason}"),
        }
    }
}

/// The metadata of an array with its innermost chain of codecs replaced by one that runs it in one
/// pass, if there is one; else the same metadata. At any level of sharding.
///
/// It is for opening the array (`Array::new_with_metadata`): only this crate knows the codec in it,
/// and [`store_metadata`](crate::store_metadata) puts the others back. Arrays of Zarr V2 stay as they
/// are; [`fuse_chain`] takes their codecs. [`register`](crate::register) must have been called.
#[must_use]
pub fn fuse(metadata: &ArrayMetadata) -> ArrayMetadata {
    let mut fused = metadata.clone();
    if let ArrayMetadata::V3(metadata) = &mut fused
        && let Ok(chunk) = Chunk::of(&ArrayMetadata::V3(metadata.clone()))
        && let Some(codecs) = chunk.fuse(&metadata.codecs)
    {
        metadata.codecs = codecs;
    }
    fused
}

/// `chain` as a chain of one codec that runs in one pass, for chunks of `shape` with elements of
/// `data_type`.
///
/// # Errors
/// Returns [`Unfused`] if it is no such chain.
pub fn fuse_chain(
    chain: &Arc<CodecChain>,
    shape: &[NonZeroU64],
    data_type: &DataType,
    fill_value: &FillValue,
) -> Result<CodecChain, Unfused> {
    let plan = Plan::new(chain, shape, data_type, fill_value)?;
    let codec = FusedCodec::with_plan(chain.clone(), plan, data_type.clone());
    Ok(CodecChain::new(vec![], Arc::new(codec), vec![]))
}

/// Whether the chunks of an array (the innermost, if it is sharded) are decoded in one pass: the
/// plan, or the reason why not.
#[must_use]
pub fn explain(metadata: &ArrayMetadata) -> Explanation {
    let plan = Chunk::of(metadata).and_then(|chunk| match metadata {
        ArrayMetadata::V3(metadata) => chunk.plan(&metadata.codecs),
        ArrayMetadata::V2(_) => chunk.plan_of(&chunk.chain),
    });
    match plan {
        Ok(plan) => Explanation::Fused(plan),
        Err(reason) => Explanation::Unfused(reason.to_string()),
    }
}

/// A chunk, or a subchunk, of an array.
struct Chunk {
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill_value: FillValue,
    chain: Arc<CodecChain>,
}

impl Chunk {
    fn of(metadata: &ArrayMetadata) -> Result<Self, Unfused> {
        let failed = |error: &dyn std::fmt::Display| Unfused(error.to_string());
        let array = Array::new_with_metadata(Arc::new(()), "/", metadata.clone())
            .map_err(|error| failed(&error))?;
        let first = vec![0; array.dimensionality()];
        Ok(Self {
            shape: array.chunk_shape(&first).map_err(|error| failed(&error))?,
            data_type: array.data_type().clone(),
            fill_value: array.fill_value().clone(),
            chain: array.codecs(),
        })
    }

    fn plan_of(&self, chain: &CodecChain) -> Result<String, Unfused> {
        let plan = Plan::new(chain, &self.shape, &self.data_type, &self.fill_value)?;
        Ok(plan.to_string())
    }

    /// The codecs with the innermost chain replaced.
    fn fuse(&self, codecs: &[MetadataV3]) -> Option<Vec<MetadataV3>> {
        if let Some((place, sharding)) = sharding(codecs) {
            // Filters before sharding may change the type and shape of what it stores.
            let inner = self.inside(&codecs[..place], &sharding).ok()?;
            let sharding = ShardingCodecConfigurationV1 {
                codecs: inner.fuse(&sharding.codecs)?,
                ..sharding
            };
            let mut codecs = codecs.to_vec();
            codecs[place] = MetadataV3::new_with_configuration(
                codecs[place].name().to_owned(),
                configuration(&sharding),
            );
            return Some(codecs);
        }
        self.plan_of(&CodecChain::from_metadata(codecs).ok()?)
            .ok()?;
        let Value::Object(configuration) = json!({ "codecs": codecs }) else {
            return None;
        };
        Some(vec![MetadataV3::new_with_configuration(
            hidden(NAME),
            configuration,
        )])
    }

    fn plan(&self, codecs: &[MetadataV3]) -> Result<String, Unfused> {
        if let Some((place, sharding)) = sharding(codecs) {
            let inner = self.inside(&codecs[..place], &sharding)?;
            return inner.plan(&sharding.codecs);
        }
        let chain = CodecChain::from_metadata(codecs);
        self.plan_of(&chain.map_err(|error| Unfused(error.to_string()))?)
    }

    /// A subchunk of the shards that filters leave.
    fn inside(
        &self,
        filters: &[MetadataV3],
        sharding: &ShardingCodecConfigurationV1,
    ) -> Result<Self, Unfused> {
        let mut chunk = (
            self.shape.clone(),
            self.data_type.clone(),
            self.fill_value.clone(),
        );
        let bytes = MetadataV3::new("bytes");
        let chain = CodecChain::from_metadata(&[filters, &[bytes]].concat())
            .map_err(|error| Unfused(error.to_string()))?;
        for codec in chain.array_to_array_codecs() {
            chunk = codec.encoded_representation(&chunk.0, &chunk.1, &chunk.2)?;
        }
        let (_, data_type, fill_value) = chunk;
        Ok(Self {
            shape: sharding.chunk_shape.clone(),
            data_type,
            fill_value,
            chain: Arc::new(chain),
        })
    }
}

/// The sharding among the codecs, and where it is.
fn sharding(codecs: &[MetadataV3]) -> Option<(usize, ShardingCodecConfigurationV1)> {
    let mut places = codecs.iter().enumerate();
    places.find_map(|(place, codec)| Some((place, util::sharding(codec)?)))
}
