//! Guards in front of codecs of zarrs that trust stored bytes too much.
//!
//! - [`bytes`]: decompressors that decode as much as a stream holds or claims, and checksums that a
//!   partial read does not check.
//! - [`sharding`]: an index whose entries overflow what zarrs computes with them.
//!
//! A guard takes the name of the codec that it guards and changes nothing that is stored.

pub(crate) mod bytes;
pub(crate) mod sharding;
