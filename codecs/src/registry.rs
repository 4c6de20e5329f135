//! Which name makes which codec: one run-time plugin for each version of the metadata answers for
//! every codec of this crate.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Once, PoisonError, RwLock};

use zarrs_codec::{
    Codec, CodecRuntimePluginV2, CodecRuntimePluginV3, CodecTraitsV2, CodecTraitsV3,
    register_codec_v2, register_codec_v3,
};
use zarrs_metadata::v2::MetadataV2;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::{PluginCreateError, PluginUnsupportedError};

use crate::encoding;
use crate::fused::{self, FusedCodec};
use crate::guard::{array, bytes, sharding};
use crate::{
    AsTypeCodec, BitRoundCodec, BloscCodec, CastValueCodec, DeltaCodec, FixedScaleOffsetCodec,
    Lz4Codec, LzmaCodec, PackBitsCodec, QuantizeCodec, ScaleOffsetCodec, ShuffleCodec,
    TemporalXorCodec, ZstdCodec, checksums, streams,
};

type Create<Metadata> = fn(&Metadata) -> Result<Codec, PluginCreateError>;

/// The codecs of this crate by Zarr V3 name.
const CODECS: &[(&str, Create<MetadataV3>)] = &[
    ("temporal_xor", <TemporalXorCodec as CodecTraitsV3>::create),
    ("numcodecs.delta", <DeltaCodec as CodecTraitsV3>::create),
    ("numcodecs.astype", <AsTypeCodec as CodecTraitsV3>::create),
    ("numcodecs.shuffle", <ShuffleCodec as CodecTraitsV3>::create),
    ("numcodecs.lz4", <Lz4Codec as CodecTraitsV3>::create),
    ("cast_value", <CastValueCodec as CodecTraitsV3>::create),
    ("scale_offset", <ScaleOffsetCodec as CodecTraitsV3>::create),
    ("zstd", <ZstdCodec as CodecTraitsV3>::create),
    ("numcodecs.zstd", <ZstdCodec as CodecTraitsV3>::create),
    ("numcodecs.adler32", checksums::adler32),
    (
        "numcodecs.bitround",
        <BitRoundCodec as CodecTraitsV3>::create,
    ),
    ("numcodecs.blosc", <BloscCodec as CodecTraitsV3>::create),
    ("numcodecs.bz2", streams::bz2),
    ("numcodecs.crc32", checksums::crc32),
    ("numcodecs.crc32c", checksums::crc32c),
    (
        "numcodecs.fixedscaleoffset",
        <FixedScaleOffsetCodec as CodecTraitsV3>::create,
    ),
    ("numcodecs.fletcher32", checksums::fletcher32),
    ("numcodecs.gzip", streams::gzip),
    ("numcodecs.jenkins_lookup3", checksums::jenkins_lookup3),
    ("numcodecs.lzma", <LzmaCodec as CodecTraitsV3>::create),
    (
        "numcodecs.packbits",
        <PackBitsCodec as CodecTraitsV3>::create,
    ),
    (
        "numcodecs.quantize",
        <QuantizeCodec as CodecTraitsV3>::create,
    ),
    ("numcodecs.zlib", streams::zlib),
];

/// Codecs of zarrs that [`register`] puts a guard in front of, by Zarr V3 name.
const GUARDED: &[(&str, Create<MetadataV3>)] = &[
    ("blosc", bytes::blosc),
    ("crc32c", bytes::crc32c),
    ("gzip", bytes::gzip),
    ("numcodecs.pcodec", array::pcodec),
    ("sharding_indexed", sharding::create),
    ("vlen-array", array::vlen_array),
    ("vlen-bytes", array::vlen_bytes),
    ("vlen-utf8", array::vlen_utf8),
    ("zarrs.vlen_v2", array::vlen_v2),
];

/// Codecs that this crate puts into metadata in memory, by what [`hidden`] makes a name of.
const HIDDEN: &[(&str, Create<MetadataV3>)] = &[
    (fused::NAME, <FusedCodec as CodecTraitsV3>::create),
    (encoding::NAME, encoding::create),
];

/// The codecs of this crate, and guarded ones of zarrs, by Zarr V2 id.
const CODECS_V2: &[(&str, Create<MetadataV2>)] = &[
    ("temporal_xor", <TemporalXorCodec as CodecTraitsV2>::create),
    ("delta", <DeltaCodec as CodecTraitsV2>::create),
    ("astype", <AsTypeCodec as CodecTraitsV2>::create),
    ("shuffle", <ShuffleCodec as CodecTraitsV2>::create),
    ("lz4", <Lz4Codec as CodecTraitsV2>::create),
    ("zstd", <ZstdCodec as CodecTraitsV2>::create),
    ("adler32", checksums::adler32),
    ("bitround", <BitRoundCodec as CodecTraitsV2>::create),
    ("blosc", <BloscCodec as CodecTraitsV2>::create),
    ("bz2", streams::bz2),
    ("crc32", checksums::crc32),
    ("crc32c", checksums::crc32c),
    (
        "fixedscaleoffset",
        <FixedScaleOffsetCodec as CodecTraitsV2>::create,
    ),
    ("fletcher32", checksums::fletcher32),
    ("gzip", streams::gzip),
    ("jenkins_lookup3", checksums::jenkins_lookup3),
    ("lzma", <LzmaCodec as CodecTraitsV2>::create),
    ("packbits", <PackBitsCodec as CodecTraitsV2>::create),
    ("pcodec", array::pcodec),
    ("quantize", <QuantizeCodec as CodecTraitsV2>::create),
    ("vlen-bytes", array::vlen_bytes),
    ("vlen-utf8", array::vlen_utf8),
    ("zlib", streams::zlib),
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
            |name| find_v3(name).is_some(),
            |metadata: &MetadataV3| create(find_v3, metadata.name(), metadata),
        ));
        register_codec_v2(CodecRuntimePluginV2::new(
            |id| find(&[CODECS_V2], id).is_some(),
            |metadata: &MetadataV2| create(|id| find(&[CODECS_V2], id), metadata.id(), metadata),
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

fn create<Metadata>(
    find: impl FnOnce(&str) -> Option<Create<Metadata>>,
    name: &str,
    metadata: &Metadata,
) -> Result<Codec, PluginCreateError> {
    match find(name) {
        Some(create) => create(metadata),
        None => Err(PluginUnsupportedError::new(name.into(), "codec".into()).into()),
    }
}

/// How the names of hidden codecs begin in this process. Stored metadata cannot know it: a codec that
/// only this crate has is an error there.
static PREFIX: LazyLock<String> =
    LazyLock::new(|| format!("tempozarr.{:016x}.", RandomState::new().hash_one(())));

/// A name for metadata in memory, of a codec that is never stored.
pub(crate) fn hidden(name: &str) -> String {
    format!("{}{name}", *PREFIX)
}

/// Whether the metadata are of the codec `name` of this crate, or of an alias of it.
pub(crate) fn is_named(metadata: &MetadataV3, name: &str) -> bool {
    aliased(metadata.name(), |known| known == name)
}

fn find_v3(name: &str) -> Option<Create<MetadataV3>> {
    match name.strip_prefix(&*PREFIX) {
        Some(name) => find(&[HIDDEN], name),
        None => aliased(name, |name| find(&[CODECS, GUARDED], name)),
    }
}

/// Call `act` with the name that `name` is an alias of, if it is one.
fn aliased<T>(name: &str, act: impl FnOnce(&str) -> T) -> T {
    let aliases = ALIASES.read().unwrap_or_else(PoisonError::into_inner);
    let target = aliases.as_ref().and_then(|aliases| aliases.get(name));
    act(target.map_or(name, String::as_str))
}

fn find<Metadata>(tables: &[&[(&str, Create<Metadata>)]], name: &str) -> Option<Create<Metadata>> {
    let mut codecs = tables.iter().copied().flatten();
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
    fn hidden_codecs_are_unknown_by_any_name_that_can_be_stored() {
        register();
        let lz4 = serde_json::json!({"encoding": {"lz4_level": 9, "zstd_fast_decode": false},
            "codec": {"name": "numcodecs.lz4"}});
        let codecs = serde_json::json!({"codecs": [{"name": "bytes"}]});
        for (name, configuration) in [(encoding::NAME, lz4), (fused::NAME, codecs)] {
            let metadata = |name: &str| {
                let document = serde_json::json!({"name": name, "configuration": configuration});
                serde_json::from_value::<MetadataV3>(document).unwrap()
            };
            assert!(Codec::from_metadata(&metadata(&hidden(name))).is_ok());
            for stored in [
                name.to_owned(),
                format!("tempozarr.{name}"),
                format!("tempozarr.0000000000000000.{name}"),
            ] {
                assert!(
                    Codec::from_metadata(&metadata(&stored)).is_err(),
                    "{stored}"
                );
            }
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
