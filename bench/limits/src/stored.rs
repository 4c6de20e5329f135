//! The stored bytes of an array, chunk by chunk, in memory.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempozarr::dtype::{NumericType, NumpyType};

use crate::Result;

/// What the chain of an array ends in.
#[derive(Clone, Copy)]
pub enum Compressor {
    Zstd,
    Lz4,
    Blosc,
}

/// An array in memory, as it is stored.
pub struct Stored {
    pub array: PathBuf,
    pub compressor: Compressor,
    /// Bytes of the whole array, decoded.
    pub decoded: usize,
    /// Bytes of one inner chunk, decompressed.
    pub chunk_bytes: usize,
    files: Vec<Vec<u8>>,
    /// The inner chunks, in the order of their rows: the file and the place in it.
    chunks: Vec<(usize, Range<usize>)>,
}

impl Stored {
    /// Read all of an array. Supported is what the cases of the benchmarks are: numbers, chunks of
    /// whole rows, shards with the index at their end, and a compressor at the end of the chain.
    pub fn open(array: &Path) -> Result<Self> {
        let metadata: Value = serde_json::from_slice(&std::fs::read(array.join("zarr.json"))?)?;
        let stored_type = number(&metadata["data_type"])?;
        let chunk = &metadata["chunk_grid"]["configuration"]["chunk_shape"];
        let outer = elements(chunk)?;
        let (inner, chain) = match &metadata["codecs"][0] {
            codec if codec["name"] == "sharding_indexed" => {
                let sharding = &codec["configuration"];
                if sharding["index_location"] != "end" {
                    return Err("expected shards with the index at their end".into());
                }
                (elements(&sharding["chunk_shape"])?, &sharding["codecs"])
            }
            _ => (outer, &metadata["codecs"]),
        };
        let chain = chain.as_array().ok_or("expected a list of codecs")?;
        // Filters before the bytes may change the data type; nothing after them changes the length.
        let filtered_type = chain.iter().try_fold(stored_type, |before, codec| {
            match &codec["configuration"]["encode_dtype"] {
                Value::Null => Ok(before),
                encoded => number(encoded),
            }
        })?;
        let compressor = match chain.last().and_then(|codec| codec["name"].as_str()) {
            Some("zstd" | "numcodecs.zstd") => Compressor::Zstd,
            Some("numcodecs.lz4") => Compressor::Lz4,
            Some("blosc") => Compressor::Blosc,
            other => return Err(format!("expected a compressor at the end, got {other:?}").into()),
        };

        let mut files = Vec::new();
        read_files(&array.join("c"), &mut files)?;
        let mut chunks = Vec::new();
        for (i, file) in files.iter().enumerate() {
            if outer == inner {
                chunks.push((i, 0..file.len()));
            } else {
                chunks.extend(index(file, outer / inner)?.map(|chunk| (i, chunk)));
            }
        }
        let whole = elements(&metadata["shape"])?;
        if chunks.len() * inner < whole {
            return Err("expected an array without missing chunks".into());
        }
        Ok(Self {
            array: array.into(),
            compressor,
            decoded: whole * stored_type.size(),
            chunk_bytes: inner * filtered_type.size(),
            files,
            chunks,
        })
    }

    /// The bytes of each inner chunk.
    pub fn chunks(&self) -> Result<Vec<&[u8]>> {
        let bytes = |(file, range): &(usize, Range<usize>)| self.files[*file].get(range.clone());
        let chunks: Option<_> = self.chunks.iter().map(bytes).collect();
        chunks.ok_or_else(|| "a shard's index points out of it".into())
    }
}

fn number(name: &Value) -> Result<NumericType> {
    match name.as_str().and_then(NumpyType::parse) {
        Some(parsed) => Ok(parsed.numeric),
        None => Err(format!("expected a data type of numbers, got {name}").into()),
    }
}

/// How many elements a shape has.
fn elements(shape: &Value) -> Result<usize> {
    let shape: Vec<usize> = serde_json::from_value(shape.clone())?;
    Ok(shape.iter().product())
}

/// Read the files of a folder of chunks, in the order of the chunks' places.
fn read_files(folder: &Path, files: &mut Vec<Vec<u8>>) -> Result<()> {
    let entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = entries.collect::<std::io::Result<_>>()?;
    // Names are numbers without leading zeros: 9 is before 10.
    paths.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    for path in paths {
        if path.is_dir() {
            read_files(&path, files)?;
        } else {
            files.push(std::fs::read(path)?);
        }
    }
    Ok(())
}

/// The places of the chunks that a shard has: pairs of offset and length, then a checksum.
fn index(shard: &[u8], chunks: usize) -> Result<impl Iterator<Item = Range<usize>>> {
    const CHECKSUM: usize = 4;
    let start = shard.len().checked_sub(chunks * 16 + CHECKSUM);
    let start = start.ok_or("a shard is shorter than its index")?;
    let words = shard[start..].as_chunks::<8>().0.as_chunks::<2>().0;
    Ok(words.iter().filter_map(|&[offset, length]| {
        let offset = usize::try_from(u64::from_le_bytes(offset)).ok()?;
        let length = usize::try_from(u64::from_le_bytes(length)).ok()?;
        Some(offset..offset.checked_add(length)?) // none: the chunk is missing
    }))
}
