//! Bytes->bytes codecs of zarrs, with their output bounded by what the metadata says that a chunk
//! decodes to, and decoded whole, so that a partial read verifies checksums too.

use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;

use bzip2::read::MultiBzDecoder;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use zarrs::array::codec::{
    Adler32Codec, BloscCodec, Bz2Codec, Crc32cCodec, Fletcher32Codec, GzipCodec, ZlibCodec,
};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError, CodecOptions,
    RecommendedConcurrency,
};
use zarrs_plugin::{ExtensionName, PluginCreateError};

use super::{CreateFrom, delegate};

/// How a guarded codec decodes.
#[derive(Clone, Copy, Debug)]
enum Decode {
    /// Through a reader that stops when told.
    Stream(fn(&[u8], u64) -> std::io::Result<Vec<u8>>),
    /// By zarrs, after a check of the length that a Blosc header states.
    Blosc,
    /// By zarrs: the output is never larger than the input.
    Checksum,
    /// Here, and encoded here: zarrs leaves an odd last byte out of the checksum.
    Fletcher32,
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
    gzip: GzipCodec, Decode::Stream(|input, bound| read(MultiGzDecoder::new(input), bound));
    zlib: ZlibCodec, Decode::Stream(|input, bound| read(ZlibDecoder::new(input), bound));
    bz2: Bz2Codec, Decode::Stream(|input, bound| read(MultiBzDecoder::new(input), bound));
    blosc: BloscCodec, Decode::Blosc;
    crc32c: Crc32cCodec, Decode::Checksum;
    adler32: Adler32Codec, Decode::Checksum;
    fletcher32: Fletcher32Codec, Decode::Fletcher32;
}

fn guard(codec: Codec, decode: Decode) -> Result<Codec, PluginCreateError> {
    match codec {
        Codec::BytesToBytes(codec) => Ok(Codec::BytesToBytes(Arc::new(Guard { codec, decode }))),
        _ => Err("expected a bytes->bytes codec".into()),
    }
}

/// Read at most one byte more than `bound`, so that the caller sees an excess.
fn read(reader: impl Read, bound: u64) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(bound.saturating_add(1)).read_to_end(&mut out)?;
    Ok(out)
}

#[derive(Debug)]
struct Guard {
    codec: Arc<dyn BytesToBytesCodecTraits>,
    decode: Decode,
}

impl Guard {
    fn excess(&self, length: u64, bound: u64) -> Result<(), CodecError> {
        if length <= bound {
            return Ok(());
        }
        Err(CodecError::Other(format!(
            "{}: the chunk decodes to more than the {bound} bytes that its metadata allows; it is \
             corrupt",
            self.codec.name_v3().unwrap_or_default(),
        )))
    }
}

delegate!(Guard);

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
        if let Decode::Fletcher32 = self.decode {
            let checksum = fletcher32_of(&decoded_value).to_le_bytes();
            let mut encoded = decoded_value.into_owned();
            encoded.extend(checksum);
            return Ok(encoded.into());
        }
        self.codec.encode(decoded_value, options)
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        decoded_representation: &BytesRepresentation,
        options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let bound = decoded_representation.size().unwrap_or(u64::MAX);
        match self.decode {
            Decode::Stream(decode) => {
                let out = decode(&encoded_value, bound)?;
                self.excess(out.len() as u64, bound)?;
                return Ok(out.into());
            }
            Decode::Blosc => self.excess(blosc_length(&encoded_value)?, bound)?,
            Decode::Checksum => {}
            Decode::Fletcher32 => return check_fletcher32(encoded_value, options),
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

fn check_fletcher32<'a>(
    encoded: ArrayBytesRaw<'a>,
    options: &CodecOptions,
) -> Result<ArrayBytesRaw<'a>, CodecError> {
    let Some((data, checksum)) = encoded.split_last_chunk() else {
        return Err(CodecError::Other(format!(
            "numcodecs.fletcher32: {} bytes do not hold a checksum",
            encoded.len()
        )));
    };
    if options.validate_checksums() && fletcher32_of(data).to_le_bytes() != *checksum {
        return Err(CodecError::InvalidChecksum);
    }
    let length = data.len();
    Ok(match encoded {
        Cow::Borrowed(encoded) => encoded[..length].into(),
        Cow::Owned(mut encoded) => {
            encoded.truncate(length);
            encoded.into()
        }
    })
}

/// The Fletcher-32 checksum as HDF5 and numcodecs have it: sums modulo 65535 of big-endian words,
/// an odd last byte being the high one, where only an empty sum is zero.
fn fletcher32_of(data: &[u8]) -> u32 {
    let fold = |sum: u32| sum.checked_sub(1).map_or(0, |sum| sum % 0xffff + 1);
    let (mut sum, mut sums) = (0, 0);
    for word in data.chunks(2) {
        let word = [word[0], word.get(1).copied().unwrap_or(0)];
        sum = fold(sum + u32::from(u16::from_be_bytes(word)));
        sums = fold(sums + sum);
    }
    sums << 16 | sum
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
}
