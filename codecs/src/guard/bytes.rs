//! Bytes->bytes codecs of zarrs, with their output bounded by what the metadata says that a chunk
//! decodes to, and decoded whole, so that a partial read verifies checksums too.

use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use zarrs::array::codec::{BloscCodec, Crc32cCodec, GzipCodec};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError,
    CodecMetadataOptions, CodecOptions, RecommendedConcurrency,
};
use zarrs_metadata::Configuration;
use zarrs_metadata::v3::MetadataV3;
use zarrs_plugin::{ExtensionName, PluginCreateError, ZarrVersion};

use super::{CreateFrom, delegate};
use crate::bounded;
use crate::util::CodecMetadata;

/// How a guarded codec decodes.
#[derive(Clone, Copy, Debug)]
enum Decode {
    /// Through a reader that stops when told.
    Gzip,
    /// By zarrs, after a check of the length that a Blosc header states.
    Blosc,
    /// By zarrs: the output is never larger than the input.
    Checksum,
}

macro_rules! guards {
    ($($create:ident: $codec:ty, $decode:expr;)*) => {$(
        pub(crate) fn $create<M>(metadata: &M) -> Result<Codec, PluginCreateError>
        where
            $codec: CreateFrom<M>,
        {
            guard(<$codec>::create_from(metadata)?, $decode)
        }
    )*};
}

guards! {
    gzip: GzipCodec, Decode::Gzip;
    crc32c: Crc32cCodec, Decode::Checksum;
}

/// zarrs hands `typesize` to Blosc as it is, which makes a C int of it.
pub(crate) fn blosc(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
    let fields = metadata.fields();
    for (field, least) in [("typesize", 1), ("blocksize", 0)] {
        let value = fields.get(field).and_then(serde_json::Value::as_u64);
        // Without a shuffle, zarrs ignores a typesize of 0.
        if let Some(value) = value
            && value >= 1 << 31
        {
            return Err(PluginCreateError::Other(format!(
                "blosc: {field} {value} is out of range, expected {least} <= {field} < 2^31"
            )));
        }
    }
    guard(BloscCodec::create_from(metadata)?, Decode::Blosc)
}

fn guard(codec: Codec, decode: Decode) -> Result<Codec, PluginCreateError> {
    match codec {
        Codec::BytesToBytes(codec) => Ok(Codec::BytesToBytes(Arc::new(Guard { codec, decode }))),
        _ => Err("expected a bytes->bytes codec".into()),
    }
}

#[derive(Debug)]
struct Guard {
    codec: Arc<dyn BytesToBytesCodecTraits>,
    decode: Decode,
}

impl Guard {
    fn stated(&self, version: ZarrVersion, options: CodecMetadataOptions) -> Option<Configuration> {
        self.codec.configuration(version, &options)
    }
}

delegate!(Guard, whole);

impl BytesToBytesCodecTraits for Guard {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn BytesToBytesCodecTraits> {
        self
    }

    fn recommended_concurrency(
        &self,
        decoded_representation: &BytesRepresentation,
    ) -> Result<RecommendedConcurrency, CodecError> {
        self.codec.recommended_concurrency(decoded_representation)
    }

    fn encoded_representation(
        &self,
        decoded_representation: &BytesRepresentation,
    ) -> BytesRepresentation {
        self.codec.encoded_representation(decoded_representation)
    }

    fn encode<'a>(
        &self,
        decoded_value: ArrayBytesRaw<'a>,
        options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        self.codec.encode(decoded_value, options)
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        decoded_representation: &BytesRepresentation,
        options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let name = self.codec.name_v3().unwrap_or_default();
        match self.decode {
            Decode::Gzip => {
                let reader = MultiGzDecoder::new(&*encoded_value);
                return Ok(bounded::read(&name, reader, decoded_representation)?.into());
            }
            Decode::Blosc => {
                let length = blosc_length(&encoded_value)?;
                bounded::check(&name, length, decoded_representation)?;
                // Of nothing Blosc decodes 0 bytes, which zarrs takes for a failure.
                if length == 0 {
                    return Ok(vec![].into());
                }
            }
            Decode::Checksum => {}
        }
        self.codec
            .decode(encoded_value, decoded_representation, options)
    }
}

/// The decoded length that a
/// [Blosc header](https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst) states.
fn blosc_length(encoded: &[u8]) -> Result<u64, CodecError> {
    const HEADER: usize = 16;
    let length = encoded
        .first_chunk::<HEADER>()
        .and_then(|header| header[4..].first_chunk())
        .ok_or_else(|| {
            CodecError::Other(format!(
                "blosc: {} bytes do not hold a header of {HEADER} bytes",
                encoded.len()
            ))
        })?;
    Ok(u32::from_le_bytes(*length).into())
}

#[cfg(test)]
mod tests {
    use zarrs_metadata::v3::MetadataV3;

    use super::*;

    /// A million zeros, in every codec that can shrink them.
    #[test]
    fn a_bomb_stops_at_the_bound() {
        let options = CodecOptions::default();
        for (name, configuration) in [
            ("gzip", r#"{"level":9}"#),
            ("numcodecs.zlib", r#"{"level":9}"#),
            ("numcodecs.bz2", r#"{"level":9}"#),
            (
                "blosc",
                r#"{"cname":"zstd","clevel":9,"shuffle":"noshuffle","typesize":1,"blocksize":0}"#,
            ),
        ] {
            crate::register();
            let json = format!(r#"{{"name":"{name}","configuration":{configuration}}}"#);
            let metadata: MetadataV3 = serde_json::from_str(&json).unwrap();
            let Codec::BytesToBytes(codec) = Codec::from_metadata(&metadata).unwrap() else {
                unreachable!()
            };
            let bomb = codec.encode(vec![0; 1_000_000].into(), &options).unwrap();
            assert!(bomb.len() < 10_000);
            let decode = |size| codec.decode(bomb.clone(), &size, &options);
            let error = decode(BytesRepresentation::FixedSize(1000))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(name) && error.contains("1000 bytes"),
                "{error}"
            );
            for size in [
                BytesRepresentation::FixedSize(1_000_000),
                BytesRepresentation::BoundedSize(1_000_001),
                BytesRepresentation::UnboundedSize,
            ] {
                assert_eq!(decode(size).unwrap().len(), 1_000_000, "{name}");
            }
        }
    }

    /// By every codec that makes bytes of bytes.
    #[test]
    fn no_bytes_round_trip() {
        crate::register();
        let options = CodecOptions::default();
        for (name, configuration) in [
            (
                "blosc",
                r#"{"cname":"lz4","clevel":5,"shuffle":"bitshuffle","typesize":8,"blocksize":0}"#,
            ),
            ("crc32c", "{}"),
            ("gzip", r#"{"level":1}"#),
            ("numcodecs.blosc", "{}"),
            ("numcodecs.bz2", r#"{"level":1}"#),
            ("numcodecs.fletcher32", "{}"),
            ("numcodecs.lz4", "{}"),
            ("numcodecs.lzma", "{}"),
            ("numcodecs.shuffle", r#"{"elementsize":4}"#),
            ("numcodecs.zlib", r#"{"level":1}"#),
            ("zstd", r#"{"level":1,"checksum":false}"#),
        ] {
            let json = format!(r#"{{"name":"{name}","configuration":{configuration}}}"#);
            let metadata: MetadataV3 = serde_json::from_str(&json).unwrap();
            let Codec::BytesToBytes(codec) = Codec::from_metadata(&metadata).unwrap() else {
                unreachable!()
            };
            let encoded = codec.encode(vec![].into(), &options).unwrap();
            let size = BytesRepresentation::FixedSize(0);
            let decoded = codec.decode(encoded, &size, &options).unwrap();
            assert!(decoded.is_empty(), "{name}");
        }
    }
}
