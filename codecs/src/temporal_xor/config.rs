use serde::{Deserialize, Serialize};

/// The configuration of [`TemporalXorCodec`](super::TemporalXorCodec).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemporalXorConfiguration {
    /// The axis of the chunk to XOR along; a negative one counts from the end.
    #[serde(default)]
    pub axis: i64,
    /// Written by the in-house codec that `temporal_xor` grew from, which knew one transform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
}

/// The transforms that [`TemporalXorConfiguration::transform`] may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    /// XOR with the slice before: all that there is.
    Xor,
}
