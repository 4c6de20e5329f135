//! numcodecs' checksum bytes->bytes codecs: a chunk and four bytes of checksum, little-endian,
//! before or after it.
//!
//! ### Compatible implementations
//! `numcodecs.CRC32`, `CRC32C`, `Adler32`, `Fletcher32` and `JenkinsLookup3`, also by way of
//! `zarr.codecs.numcodecs`, byte for byte.
//! - `location` is `start` or `end`. If it is missing, CRC-32 and Adler-32 stand at the start, CRC-32C at
//!   the end. Fletcher-32 and lookup3 have none, and always stand at the end.
//! - `initval` of lookup3 is where its hash starts; 0 if it is missing. Its `prefix` can only be
//!   null: numcodecs takes bytes, which no metadata can hold.
//!
//! ### Codec names
//! - Zarr V3 `name`: `numcodecs.crc32`, `numcodecs.crc32c`, `numcodecs.adler32`,
//!   `numcodecs.fletcher32`, `numcodecs.jenkins_lookup3`
//! - Zarr V2 `id`: the same without `numcodecs.`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! { "location": "end" }
//! # "#;
//! # serde_json::from_str::<tempozarr::ChecksumConfiguration>(configuration).unwrap();
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError,
    CodecMetadataOptions, CodecOptions, CodecTraits,
};
use zarrs_metadata::Configuration;
use zarrs_plugin::{ExtensionName, PluginCreateError, ZarrVersion};

use crate::dtype::typed;
use crate::util::{CodecMetadata, bytes_on_one_thread, codec_traits};

/// The configuration of the [`ChecksumCodec`]s that have a choice of place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChecksumConfiguration {
    /// Where the checksum stands; missing or null, where the algorithm's does by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<ChecksumLocation>,
}

/// Where a checksum stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumLocation {
    /// Before the chunk.
    Start,
    /// After the chunk.
    End,
}

use ChecksumLocation::{End, Start};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JenkinsConfiguration {
    #[serde(default)]
    initval: u32,
    /// Null, if anything.
    #[serde(default, rename = "prefix")]
    _prefix: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoConfiguration {}

/// Where a checksum stands, and what its algorithm starts with.
type Parsed = Result<(ChecksumLocation, u32), PluginCreateError>;

/// What tells one checksum from another.
#[derive(Debug)]
struct Algorithm {
    name: &'static str,
    id: &'static str,
    /// Of the bytes, and where it starts.
    checksum: fn(&[u8], u32) -> u32,
    parse: fn(&Configuration, &'static str) -> Parsed,
}

/// The place that a configuration chooses.
fn place(configuration: &Configuration, name: &'static str, default: ChecksumLocation) -> Parsed {
    let ChecksumConfiguration { location } = typed(name, configuration)?;
    Ok((location.unwrap_or(default), 0))
}

macro_rules! algorithms {
    ($($create:ident $algorithm:ident $id:literal, $checksum:expr, $parse:expr;)*) => { $(
        static $algorithm: Algorithm = Algorithm {
            name: concat!("numcodecs.", $id),
            id: $id,
            checksum: $checksum,
            parse: $parse,
        };

        pub(crate) fn $create<M: CodecMetadata>(metadata: &M) -> Result<Codec, PluginCreateError> {
            create(&$algorithm, metadata)
        }
    )* };
}

algorithms! {
    crc32 CRC32 "crc32", |data, _| crc32fast::hash(data), |fields, name| place(fields, name, Start);
    crc32c CRC32C "crc32c", |data, _| crc32c::crc32c(data), |fields, name| place(fields, name, End);
    adler32 ADLER32 "adler32", |data, _| simd_adler32::adler32(&data), |fields, name| {
        place(fields, name, Start)
    };
    fletcher32 FLETCHER32 "fletcher32", |data, _| fletcher32_of(data), |fields, name| {
        typed::<NoConfiguration>(name, fields).map(|_| (End, 0))
    };
    jenkins_lookup3 LOOKUP3 "jenkins_lookup3", lookup3_of, |fields, name| {
        typed::<JenkinsConfiguration>(name, fields).map(|parsed| (End, parsed.initval))
    };
}

fn create(
    algorithm: &'static Algorithm,
    metadata: &impl CodecMetadata,
) -> Result<Codec, PluginCreateError> {
    let configuration = metadata.fields();
    let (location, start) = (algorithm.parse)(&configuration, algorithm.name)?;
    Ok(Codec::BytesToBytes(Arc::new(ChecksumCodec {
        algorithm,
        configuration,
        location,
        start,
    })))
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

/// The hash `hashlittle` of Bob Jenkins' `lookup3`, which starts at `start`: three words of state
/// take in twelve bytes at a time, as little-endian words, and are mixed between them.
fn lookup3_of(data: &[u8], start: u32) -> u32 {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the length counts modulo 2^32"
    )]
    let first = 0xdead_beef_u32
        .wrapping_add(data.len() as u32)
        .wrapping_add(start);
    let mut state = [first; 3];
    // The last block, of one to twelve bytes, is finished instead of mixed.
    let (blocks, last) = data.split_at(data.len().saturating_sub(1) / 12 * 12);
    for block in blocks.chunks_exact(12) {
        take_in(&mut state, block);
        // Step `i` turns word `i % 3` about with the word before it, and adds the word behind it
        // to that.
        for (i, rotation) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
            let (word, after, before) = (i % 3, (i + 1) % 3, (i + 2) % 3);
            state[word] = state[word].wrapping_sub(state[before]);
            state[word] ^= state[before].rotate_left(rotation);
            state[before] = state[before].wrapping_add(state[after]);
        }
    }
    if last.is_empty() {
        return first;
    }
    take_in(&mut state, last);
    for (i, rotation) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (word, before) = ((i + 2) % 3, (i + 1) % 3);
        state[word] ^= state[before];
        state[word] = state[word].wrapping_sub(state[before].rotate_left(rotation));
    }
    state[2]
}

fn take_in(state: &mut [u32; 3], block: &[u8]) {
    for (word, bytes) in state.iter_mut().zip(block.chunks(4)) {
        let mut padded = [0; 4];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = word.wrapping_add(u32::from_le_bytes(padded));
    }
}

/// A codec that adds a checksum.
#[derive(Clone, Debug)]
pub struct ChecksumCodec {
    algorithm: &'static Algorithm,
    configuration: Configuration,
    location: ChecksumLocation,
    start: u32,
}

impl ChecksumCodec {
    /// Whether it is the `crc32c` of Zarr V3 by another name.
    pub(crate) fn is_crc32c_at_end(&self) -> bool {
        std::ptr::eq(self.algorithm, &raw const CRC32C) && self.location == End
    }

    fn checksum(&self, data: &[u8]) -> [u8; 4] {
        (self.algorithm.checksum)(data, self.start).to_le_bytes()
    }
}

impl ExtensionName for ChecksumCodec {
    fn name(&self, version: ZarrVersion) -> Option<Cow<'static, str>> {
        Some(match version {
            ZarrVersion::V2 => self.algorithm.id.into(),
            ZarrVersion::V3 => self.algorithm.name.into(),
        })
    }
}

impl CodecTraits for ChecksumCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(self.configuration.clone())
    }

    codec_traits!(whole);
}

impl BytesToBytesCodecTraits for ChecksumCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn BytesToBytesCodecTraits> {
        self
    }

    bytes_on_one_thread!();

    fn encoded_representation(
        &self,
        decoded_representation: &BytesRepresentation,
    ) -> BytesRepresentation {
        let longer = |size: u64| size.saturating_add(4);
        match *decoded_representation {
            BytesRepresentation::FixedSize(size) => BytesRepresentation::FixedSize(longer(size)),
            BytesRepresentation::BoundedSize(size) => {
                BytesRepresentation::BoundedSize(longer(size))
            }
            BytesRepresentation::UnboundedSize => BytesRepresentation::UnboundedSize,
        }
    }

    fn encode<'a>(
        &self,
        decoded_value: ArrayBytesRaw<'a>,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let checksum = self.checksum(&decoded_value);
        let encoded: Vec<u8> = match self.location {
            Start => [&checksum, &*decoded_value].concat(),
            End => [&*decoded_value, &checksum].concat(),
        };
        Ok(encoded.into())
    }

    fn decode<'a>(
        &self,
        encoded_value: ArrayBytesRaw<'a>,
        _decoded_representation: &BytesRepresentation,
        options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let name = self.algorithm.name;
        let parts = match self.location {
            Start => encoded_value.split_first_chunk(),
            End => encoded_value
                .split_last_chunk()
                .map(|(data, sum)| (sum, data)),
        };
        let Some((stored, data)) = parts else {
            return Err(CodecError::Other(format!(
                "{name}: {} bytes do not hold a checksum; the chunk is corrupt",
                encoded_value.len()
            )));
        };
        if options.validate_checksums() && self.checksum(data) != *stored {
            return Err(CodecError::Other(format!(
                "{name}: the checksum is not that of the chunk; it is corrupt"
            )));
        }
        Ok(data.to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{bytes_codec, corrupted};

    /// Of `bytes(range(length))`, as numcodecs 0.16.6 has them.
    #[test]
    fn checksums_are_those_of_numcodecs() {
        let data: Vec<u8> = (0..64).collect();
        let lengths = [0, 1, 5, 8, 11, 12, 13, 24, 25, 64];
        for (algorithm, expected) in [
            (
                &CRC32,
                [
                    0x0000_0000,
                    0xd202_ef8d,
                    0x515a_d3cc,
                    0x88aa_689f,
                    0xad2d_8ee1,
                    0x9270_c965,
                    0xe6fe_46b8,
                    0x8295_a696,
                    0xd880_d40c,
                    0x100e_ce8c,
                ],
            ),
            (
                &CRC32C,
                [
                    0x0000_0000,
                    0x527d_5351,
                    0x2425_b106,
                    0x8a2c_bc3b,
                    0xfb15_9dfa,
                    0x5383_aaba,
                    0xc69a_45da,
                    0x29bc_8795,
                    0x6f8a_987d,
                    0xfb6d_36eb,
                ],
            ),
            (
                &ADLER32,
                [
                    0x0000_0001,
                    0x0001_0001,
                    0x0019_000b,
                    0x005c_001d,
                    0x00e7_0038,
                    0x012a_0043,
                    0x0179_004f,
                    0x0914_0115,
                    0x0a41_012d,
                    0xaae0_07e1,
                ],
            ),
            (
                &FLETCHER32,
                [
                    0x0000_0000,
                    0x0000_0000,
                    0x0809_0604,
                    0x141e_0c10,
                    0x4650_1e19,
                    0x465b_1e24,
                    0x707f_2a24,
                    0x3e8c_8490,
                    0xdb1c_9c90,
                    0xccda_e403,
                ],
            ),
            (
                &LOOKUP3,
                [
                    0xdead_beef,
                    0x8ba9_414b,
                    0x1d48_33cc,
                    0xd4cc_b93c,
                    0x2ca6_817a,
                    0x5e4a_a593,
                    0xbc9d_6816,
                    0x9c0a_dd53,
                    0x3a88_2244,
                    0x9ff0_36cc,
                ],
            ),
        ] {
            let got = lengths.map(|length| (algorithm.checksum)(&data[..length], 0));
            assert_eq!(got, expected, "{}", algorithm.name);
        }
        assert_eq!(
            lookup3_of(b"Four score and seven years ago", 0),
            0x1777_0551
        );
        assert_eq!(
            lookup3_of(b"Four score and seven years ago", 1),
            0xcd62_8161
        );
    }

    #[test]
    fn a_checksum_stands_where_it_is_told_to() {
        let options = CodecOptions::default();
        for (metadata, encoded) in [
            (
                json!({"name": "numcodecs.crc32"}),
                [&[146, 66, 204, 182][..], &[1, 2]],
            ),
            (
                json!({"id": "crc32", "location": "end"}),
                [&[1, 2][..], &[146, 66, 204, 182]],
            ),
            (
                json!({"id": "adler32", "location": null}),
                [&[4, 0, 6, 0][..], &[1, 2]],
            ),
        ] {
            let codec = bytes_codec(&metadata);
            let got = codec.encode((&[1, 2]).into(), &options).unwrap();
            assert_eq!(*got, encoded.concat(), "{metadata}");
            let decoded = codec.decode(got, &BytesRepresentation::FixedSize(2), &options);
            assert_eq!(*decoded.unwrap(), [1, 2]);
        }
    }

    #[test]
    fn what_is_corrupt_is_found() {
        let size = BytesRepresentation::FixedSize(9);
        for name in [
            "crc32",
            "crc32c",
            "adler32",
            "fletcher32",
            "jenkins_lookup3",
        ] {
            let codec = bytes_codec(&json!({"id": name}));
            let encoded = codec
                .encode(
                    (&[0, 1, 2, 3, 4, 5, 6, 7, 8]).into(),
                    &CodecOptions::default(),
                )
                .unwrap();
            for bytes in corrupted(&encoded) {
                let decoded = codec.decode(bytes.into(), &size, &CodecOptions::default());
                let error = decoded.unwrap_err().to_string();
                assert!(error.starts_with(&format!("numcodecs.{name}: ")), "{error}");
            }
            let trusting = CodecOptions::default().with_validate_checksums(false);
            let mut bytes = encoded.into_owned();
            bytes[6] ^= 1;
            assert_eq!(
                codec.decode(bytes.into(), &size, &trusting).unwrap().len(),
                9
            );
        }
    }

    #[test]
    fn configurations_that_cannot_be_used_say_why() {
        for (id, field, value, message) in [
            (
                "crc32",
                "location",
                json!("middle"),
                "unknown variant `middle`",
            ),
            (
                "fletcher32",
                "location",
                json!("end"),
                "unknown field `location`",
            ),
            ("jenkins_lookup3", "initval", json!(-1), "expected u32"),
            ("jenkins_lookup3", "prefix", json!("abc"), "expected unit"),
        ] {
            let error = crate::testing::codec(&json!({"id": id, field: value})).unwrap_err();
            let named = error.starts_with(&format!("numcodecs.{id}: "));
            assert!(named && error.contains(message), "{error}");
        }
    }
}
