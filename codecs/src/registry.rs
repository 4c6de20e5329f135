//! Which name makes which codec: one run-time plugin answers for every codec of this crate.

use std::collections::HashMap;
use std::sync::{Once, PoisonError, RwLock};

use zarrs_codec::{Codec, CodecRuntimePluginV3, CodecTraitsV3, register_codec_v3};
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::{PluginCreateError, PluginUnsupportedError};

use crate::guard::{bytes, sharding};
use crate::{AsTypeCodec, DeltaCodec, Lz4Codec, ShuffleCodec, TemporalXorCodec, ZstdCodec};

type Create = fn(&MetadataV3) -> Result<Codec, PluginCreateError>;

/// The codecs of this crate by Zarr V3 name.
const CODECS: &[(&str, Create)] = &[
    ("temporal_xor", TemporalXorCodec::create),
    ("numcodecs.delta", DeltaCodec::create),
    ("numcodecs.astype", AsTypeCodec::create),
    ("numcodecs.shuffle", ShuffleCodec::create),
    ("numcodecs.lz4", Lz4Codec::create),
    ("zstd", ZstdCodec::create),
    ("numcodecs.zstd", ZstdCodec::create),
];

/// Codecs of zarrs that [`register`] puts a guard in front of.
const GUARDED: &[(&str, Create)] = &[
    ("blosc", bytes::blosc),
    ("crc32c", bytes::crc32c),
    ("gzip", bytes::gzip),
    ("numcodecs.adler32", bytes::adler32),
    ("numcodecs.bz2", bytes::bz2),
    ("numcodecs.fletcher32", bytes::fletcher32),
    ("numcodecs.zlib", bytes::zlib),
    ("sharding_indexed", sharding::create),
];

/// Alias to codec name.
static ALIASES: RwLock<Option<HashMap<String, String>>> = RwLock::new(None);

/// Install the codecs of this crate in zarrs, ahead of zarrs' own of the same names.
///
/// zarrs asks plugins that were registered at run time first, so this one call is all that a
/// program needs. It may be called many times and from many threads.
///
/// ```
/// tempozarr::register();
/// ```
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        register_codec_v3(CodecRuntimePluginV3::new(
            |name| find(name).is_some(),
            |metadata: &MetadataV3| {
                let name = metadata.name();
                let create = find(name)
                    .ok_or_else(|| PluginUnsupportedError::new(name.into(), "codec".into()))?;
                create(metadata)
            },
        ));
    });
}

/// The Zarr V3 names of the codecs of this crate.
#[must_use]
pub fn codec_names() -> Vec<&'static str> {
    CODECS.iter().map(|(name, _)| *name).collect()
}

/// Read `alias` as another name of the codec `name`, so that a store whose codec was registered
/// under another name opens unchanged.
///
/// # Errors
/// Returns [`PluginUnsupportedError`] if `name` is not one of [`codec_names`].
///
/// ```
/// tempozarr::register();
/// tempozarr::register_alias("in_house.xor", "temporal_xor")?;
/// # Ok::<(), zarrs_plugin::PluginUnsupportedError>(())
/// ```
pub fn register_alias(alias: &str, name: &str) -> Result<(), PluginUnsupportedError> {
    if !CODECS.iter().any(|(known, _)| *known == name) {
        return Err(PluginUnsupportedError::new(name.into(), "codec".into()));
    }
    ALIASES
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default()
        .insert(alias.into(), name.into());
    Ok(())
}

fn find(name: &str) -> Option<Create> {
    let aliases = ALIASES.read().unwrap_or_else(PoisonError::into_inner);
    let name = aliases
        .as_ref()
        .and_then(|aliases| aliases.get(name))
        .map_or(name, String::as_str);
    let mut codecs = CODECS.iter().chain(GUARDED);
    let (_, create) = codecs.find(|(known, _)| *known == name)?;
    Some(*create)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_documents_every_codec() {
        let documentation = include_str!("lib.rs");
        for name in codec_names() {
            assert!(documentation.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn an_alias_makes_the_codec_that_it_names() {
        register();
        let metadata = MetadataV3::new("in_house.xor");
        assert!(Codec::from_metadata(&metadata).is_err());
        register_alias("in_house.xor", "temporal_xor").unwrap();
        assert!(matches!(
            Codec::from_metadata(&metadata),
            Ok(Codec::ArrayToArray(_))
        ));
        let error = register_alias("mine", "no_such_codec").unwrap_err();
        assert!(error.to_string().contains("no_such_codec"), "{error}");
    }
}
