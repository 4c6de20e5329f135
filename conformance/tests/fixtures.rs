//! numcodecs' published fixtures: what its codecs make of given arrays, and back.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use serde_json::{Value, json};
use tempozarr_conformance::{folder, list, read_json};
use zarrs_codec::{BytesRepresentation, Codec, CodecOptions};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::v3::MetadataV3;

/// The type of an array in a `.npy` file, and its bytes in the order of memory: numcodecs encodes
/// an array in Fortran order as the flat array that lies in memory, and so it is read here.
fn read_npy(file: &Path) -> (String, Vec<u8>) {
    let content = fs::read(file).unwrap();
    assert_eq!(&content[..8], b"\x93NUMPY\x01\x00");
    let data_at = 10 + usize::from(u16::from_le_bytes([content[8], content[9]]));
    let header = std::str::from_utf8(&content[10..data_at]).unwrap();
    let (_, after) = header.split_once("'descr': '").unwrap();
    let (descr, _) = after.split_once('\'').unwrap();
    (descr.to_owned(), content[data_at..].to_vec())
}

fn data_type(descr: &str) -> DataType {
    let name = match &descr[1..] {
        "b1" => "bool",
        "u2" => "uint16",
        "i4" => "int32",
        "f4" => "float32",
        "f8" => "float64",
        other => panic!("no fixture has type {other}"),
    };
    DataType::from_metadata(&MetadataV3::new(name)).unwrap()
}

/// The codec of a fixture. zarrs knows some codecs by other names than numcodecs, and has blosc's
/// parameters as Zarr V3 names them.
fn codec(configuration: &Value) -> Codec {
    let mut configuration = configuration.clone();
    let id = configuration.as_object_mut().unwrap().remove("id").unwrap();
    let name = match id.as_str().unwrap() {
        "gzip" => "gzip".to_owned(),
        "blosc" => {
            configuration = json!({
                "cname": "zstd", "clevel": 1, "shuffle": "noshuffle", "blocksize": 0,
            });
            "blosc".to_owned()
        }
        id => format!("numcodecs.{id}"),
    };
    let metadata = json!({"name": name, "configuration": configuration});
    Codec::from_metadata(&serde_json::from_value::<MetadataV3>(metadata).unwrap()).unwrap()
}

/// Check one codec on one array: decoding gives the array, encoding gives `encoded` where the
/// format leaves no choice, and something that decodes where it does.
fn check(
    codec: &Codec,
    is_compressor: bool,
    descr: &str,
    array: &[u8],
    encoded: &[u8],
    what: &str,
) {
    let options = CodecOptions::default();
    let decode = |encoded: &[u8]| match codec {
        Codec::BytesToBytes(codec) => {
            let size = BytesRepresentation::FixedSize(array.len() as u64);
            codec
                .decode(encoded.into(), &size, &options)
                .unwrap()
                .into_owned()
        }
        Codec::ArrayToArray(codec) => {
            let (data_type, fill, shape) = spec(descr, array);
            let decoded = codec.decode(encoded.into(), &shape, &data_type, &fill, &options);
            decoded.unwrap().into_fixed().unwrap().into_owned()
        }
        Codec::ArrayToBytes(_) => panic!("no fixture of this kind"),
    };
    let encode = || match codec {
        Codec::BytesToBytes(codec) => codec.encode(array.into(), &options).unwrap().into_owned(),
        Codec::ArrayToArray(codec) => {
            let (data_type, fill, shape) = spec(descr, array);
            let encoded = codec.encode(array.into(), &shape, &data_type, &fill, &options);
            encoded.unwrap().into_fixed().unwrap().into_owned()
        }
        Codec::ArrayToBytes(_) => panic!("no fixture of this kind"),
    };
    if is_compressor {
        assert!(decode(&encode()) == array, "{what}: encoded and decoded");
    } else {
        assert!(encode() == encoded, "{what}: encoded");
    }
    // A cast to a narrower type is the one codec here that gives back other values.
    let decoded = decode(encoded);
    let is_lossy = what.contains("astype/f") || what.contains("delta/float");
    if is_lossy {
        assert!(close(&decoded, array, descr), "{what}: decoded");
    } else {
        assert!(decoded == array, "{what}: decoded");
    }
}

fn spec(descr: &str, array: &[u8]) -> (DataType, FillValue, [NonZeroU64; 1]) {
    let data_type = data_type(descr);
    let size = data_type.fixed_size().unwrap();
    let count = NonZeroU64::new((array.len() / size) as u64).unwrap();
    (data_type, FillValue::new(vec![0; size]), [count])
}

/// Equal as numcodecs' own tests of lossy codecs have it: to five decimals.
fn close(left: &[u8], right: &[u8], descr: &str) -> bool {
    let values = |bytes: &[u8]| -> Vec<f64> {
        if descr == "<f4" {
            let (words, _) = bytes.as_chunks::<4>();
            words
                .iter()
                .map(|word| f32::from_le_bytes(*word).into())
                .collect()
        } else {
            let (words, _) = bytes.as_chunks::<8>();
            words.iter().map(|word| f64::from_le_bytes(*word)).collect()
        }
    };
    let (left, right) = (values(left), values(right));
    left.len() == right.len()
        && left
            .iter()
            .zip(&right)
            .all(|(left, right)| (left - right).abs() < 1e-3 * right.abs().max(1.0))
}

/// Check the codecs in `folder` on the arrays beside them; returns the number of checks.
fn check_folder(folder: &Path) -> usize {
    let entries = list(folder);
    let names = |prefix: &'static str| {
        entries.iter().filter(move |path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(prefix)
        })
    };
    let mut checks = 0;
    for codec_folder in names("codec.") {
        let configuration = read_json(&codec_folder.join("config.json"));
        let is_compressor =
            !["delta", "astype", "shuffle"].contains(&configuration["id"].as_str().unwrap());
        if configuration["dtype"] == "|b1" {
            // numcodecs' delta of bool loses data; ours refuses it.
            assert!(refuses_bool(&configuration));
            checks += 1;
            continue;
        }
        let codec = codec(&configuration);
        for array_file in names("array.") {
            let number = array_file
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .split_once('.')
                .unwrap()
                .1;
            let encoded_file = codec_folder.join(format!("encoded.{number}.dat"));
            let (descr, array) = read_npy(array_file);
            let encoded = fs::read(&encoded_file).unwrap();
            let what = encoded_file.display().to_string();
            check(&codec, is_compressor, &descr, &array, &encoded, &what);
            checks += 1;
        }
    }
    checks
}

fn refuses_bool(configuration: &Value) -> bool {
    let metadata =
        json!({"name": "numcodecs.delta", "configuration": {"dtype": configuration["dtype"]}});
    Codec::from_metadata(&serde_json::from_value::<MetadataV3>(metadata).unwrap()).is_err()
}

fn check_codec(name: &str) -> usize {
    tempozarr::register();
    let root = folder("fixtures").join(name);
    let checks = check_folder(&root);
    let nested = list(&root);
    let nested = nested
        .iter()
        .filter(|path| path.is_dir() && !path.display().to_string().contains("codec."));
    checks + nested.map(|path| check_folder(path)).sum::<usize>()
}

#[test]
fn delta() {
    assert_eq!(check_codec("delta"), 5);
}

#[test]
fn astype() {
    assert_eq!(check_codec("astype"), 4);
}

#[test]
fn shuffle() {
    assert_eq!(check_codec("shuffle"), 12);
}

#[test]
fn lz4() {
    assert_eq!(check_codec("lz4"), 6);
}

#[test]
fn zstd() {
    assert_eq!(check_codec("zstd"), 9);
}

#[test]
fn codecs_of_zarrs() {
    let checks: usize = ["zlib", "gzip", "bz2", "blosc"]
        .iter()
        .map(|name| check_codec(name))
        .sum();
    assert_eq!(checks, 12);
}
