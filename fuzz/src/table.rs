//! What the first bytes of an input choose among.

/// A configuration of each codec that is registered, and those of zarrs that chunks of ours meet, as metadata of
/// Zarr V3. Appending keeps what older inputs mean.
pub(crate) const CODECS: &[&str] = &[
    r#"{"name":"temporal_xor"}"#,
    r#"{"name":"numcodecs.delta","configuration":{"dtype":"<i4"}}"#,
    r#"{"name":"numcodecs.delta","configuration":{"dtype":"<f4","astype":"<f8"}}"#,
    r#"{"name":"numcodecs.astype","configuration":{"encode_dtype":"<f2","decode_dtype":"<f4"}}"#,
    r#"{"name":"numcodecs.astype","configuration":{"encode_dtype":"<f8","decode_dtype":"|u1"}}"#,
    r#"{"name":"numcodecs.bitround","configuration":{"keepbits":3}}"#,
    r#"{"name":"numcodecs.quantize","configuration":{"digits":2,"dtype":"<f4"}}"#,
    r#"{"name":"numcodecs.fixedscaleoffset","configuration":{"offset":1,"scale":10,"dtype":"<f4","astype":"|u1"}}"#,
    r#"{"name":"numcodecs.packbits"}"#,
    r#"{"name":"scale_offset","configuration":{"offset":1,"scale":3}}"#,
    r#"{"name":"cast_value","configuration":{"data_type":"int16","rounding":"nearest-even","out_of_range":"clamp"}}"#,
    r#"{"name":"numcodecs.shuffle","configuration":{"elementsize":4}}"#,
    r#"{"name":"numcodecs.shuffle","configuration":{"elementsize":3}}"#,
    r#"{"name":"numcodecs.lz4","configuration":{"acceleration":1}}"#,
    r#"{"name":"zstd","configuration":{"level":3,"checksum":false}}"#,
    r#"{"name":"numcodecs.zstd","configuration":{"level":3,"checksum":true}}"#,
    r#"{"name":"numcodecs.blosc","configuration":{"cname":"lz4","clevel":5,"shuffle":1,"blocksize":0,"typesize":4}}"#,
    r#"{"name":"numcodecs.blosc","configuration":{"cname":"zstd","clevel":9,"shuffle":2,"blocksize":256,"typesize":2}}"#,
    r#"{"name":"blosc","configuration":{"cname":"blosclz","clevel":5,"shuffle":"bitshuffle","typesize":8,"blocksize":0}}"#,
    r#"{"name":"blosc","configuration":{"cname":"zlib","clevel":1,"shuffle":"noshuffle","typesize":1,"blocksize":0}}"#,
    r#"{"name":"numcodecs.bz2","configuration":{"level":1}}"#,
    r#"{"name":"numcodecs.gzip","configuration":{"level":1}}"#,
    r#"{"name":"gzip","configuration":{"level":1}}"#,
    r#"{"name":"numcodecs.zlib","configuration":{"level":1}}"#,
    r#"{"name":"numcodecs.lzma","configuration":{"format":1,"check":1,"preset":1}}"#,
    r#"{"name":"numcodecs.lzma","configuration":{"format":2,"preset":0}}"#,
    r#"{"name":"numcodecs.lzma","configuration":{"format":3,"filters":[{"id":3,"dist":4},{"id":33,"preset":1}]}}"#,
    r#"{"name":"numcodecs.lzma","configuration":{"format":3,"filters":[{"id":4},{"id":33,"dict_size":4096}]}}"#,
    r#"{"name":"numcodecs.crc32","configuration":{}}"#,
    r#"{"name":"numcodecs.crc32c","configuration":{}}"#,
    r#"{"name":"crc32c"}"#,
    r#"{"name":"numcodecs.adler32","configuration":{"location":"end"}}"#,
    r#"{"name":"numcodecs.fletcher32"}"#,
    r#"{"name":"numcodecs.jenkins_lookup3","configuration":{"initval":0}}"#,
    r#"{"name":"bytes","configuration":{"endian":"big"}}"#,
    r#"{"name":"transpose","configuration":{"order":[1,0]}}"#,
    r#"{"name":"numcodecs.pcodec","configuration":{"level":8,"mode_spec":"auto","delta_spec":"auto"}}"#,
    r#"{"name":"vlen-utf8"}"#,
    r#"{"name":"vlen-bytes"}"#,
    r#"{"name":"sharding_indexed","configuration":{"chunk_shape":[1,5],"codecs":[{"name":"bytes","configuration":{"endian":"little"}},{"name":"numcodecs.lz4"}],"index_codecs":[{"name":"bytes","configuration":{"endian":"little"}}]}}"#,
    r#"{"name":"sharding_indexed","configuration":{"chunk_shape":[8],"codecs":[{"name":"bytes","configuration":{"endian":"little"}}],"index_codecs":[{"name":"bytes","configuration":{"endian":"little"}},{"name":"crc32c"}],"index_location":"start"}}"#,
];

/// Data types of Zarr V3, as JSON.
pub(crate) const DATA_TYPES: &[&str] = &[
    r#""float32""#,
    r#""int32""#,
    r#""bool""#,
    r#""int8""#,
    r#""int16""#,
    r#""int64""#,
    r#""uint8""#,
    r#""uint16""#,
    r#""uint32""#,
    r#""uint64""#,
    r#""float16""#,
    r#""float64""#,
    r#""bfloat16""#,
    r#""complex64""#,
    r#""complex128""#,
    r#""string""#,
    r#""bytes""#,
    r#""r24""#,
    r#"{"name":"numpy.datetime64","configuration":{"unit":"ns","scale_factor":1}}"#,
    r#"{"name":"numpy.timedelta64","configuration":{"unit":"s","scale_factor":1}}"#,
];

/// Shapes of chunks.
pub(crate) const SHAPES: &[&[u64]] = &[
    &[16],
    &[],
    &[1],
    &[7],
    &[13, 5],
    &[3, 4, 2],
    &[1000],
    &[64, 16],
    &[2, 1, 3, 1],
];

/// Lengths that a chunk of bytes is decoded to at most.
pub(crate) const LENGTHS: &[u64] = &[0, 1, 64, 65, 1000, 1 << 16];

/// How the names of codecs end that may decode to other values than they were given.
pub(crate) const ROUND: &[&str] = &[
    "delta",
    "astype",
    "bitround",
    "quantize",
    "fixedscaleoffset",
    "scale_offset",
    "cast_value",
    "packbits",
];

/// A codec that is registered and not in the table would not be fuzzed.
pub(crate) fn check() {
    for name in tempozarr::codec_names() {
        let start = format!(r#"{{"name":"{name}""#);
        assert!(
            CODECS.iter().any(|codec| codec.starts_with(&start)),
            "fuzz/src/table.rs has no {name}"
        );
    }
    for codec in CODECS {
        let metadata = serde_json::from_str(codec).expect("the table is JSON");
        assert!(crate::codec(metadata).is_some(), "{codec}");
    }
}
