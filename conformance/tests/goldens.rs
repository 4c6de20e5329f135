//! Every golden, read and written again in every way that zarrs offers.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::cell::Cell;
use std::error::Error;
use std::sync::Arc;

use futures::executor::block_on;
use serde_json::{Value, json};
use tempozarr_conformance::{Elements, Golden, elements, goldens, select, store_key};
use zarrs::array::{Array, ArrayBytes, ArrayMetadata, ArraySubset};
use zarrs_codec::{CodecMetadataOptions, CodecOptions};
use zarrs_storage::store::{AsyncMemoryStore, MemoryStore};
use zarrs_storage::{AsyncWritableStorageTraits, ReadableStorageTraits};

type Outcome = Result<(), Box<dyn Error>>;

/// Check every golden that can be read, and report all that fail, not only the first.
fn for_each_golden(check: impl Fn(&Golden) -> Outcome) {
    let mut failures = vec![];
    for golden in goldens().iter().filter(|golden| golden.not_yet.is_none()) {
        if let Err(error) = check(golden) {
            failures.push(format!("{}: {error}", golden.name));
        }
    }
    assert!(
        failures.is_empty(),
        "{} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn expect(what: &str, got: &Elements, expected: &Elements) -> Outcome {
    if got == expected {
        return Ok(());
    }
    let at = got
        .iter()
        .zip(expected)
        .position(|(got, expected)| got != expected);
    Err(format!(
        "{what}: expected {} elements, got {}; first difference at {at:?}: expected {:x?}, got {:x?}",
        expected.len(),
        got.len(),
        at.map(|at| &expected[at]),
        at.map(|at| &got[at]),
    )
    .into())
}

fn read(array: &Array<MemoryStore>, subset: &ArraySubset) -> Result<Elements, Box<dyn Error>> {
    let bytes: ArrayBytes = array.retrieve_array_subset(subset)?;
    Ok(elements(bytes, array.data_type()))
}

/// Subsets that begin and end in, at and across the edges of chunks: every dimension takes each of
/// a few ranges in turn.
fn subsets(shape: &[u64]) -> Vec<ArraySubset> {
    (0..12)
        .map(|turn| {
            let ranges: Vec<_> = shape
                .iter()
                .enumerate()
                .map(|(dimension, &length)| match (turn + dimension * 5) % 6 {
                    0 => 0..length,
                    1 => 0..length.min(1),
                    2 => length.saturating_sub(1)..length,
                    3 => length / 2..length,
                    4 => length / 3..(length / 3 + 2).min(length),
                    _ => length.min(1)..length.saturating_sub(1).max(length.min(1)),
                })
                .collect();
            ArraySubset::new_with_ranges(&ranges)
        })
        .collect()
}

fn chunk_grid(array: &Array<MemoryStore>) -> Vec<Vec<u64>> {
    ArraySubset::new_with_shape(array.chunk_grid_shape().to_vec())
        .indices()
        .into_iter()
        .map(|indices| indices.to_vec())
        .collect()
}

#[test]
fn whole_arrays_read_bit_for_bit() {
    for_each_golden(|golden| {
        for array in golden.ways()? {
            if array.shape() != golden.shape {
                let (got, expected) = (array.shape(), &golden.shape);
                return Err(format!("shape {got:?}, expected {expected:?}").into());
            }
            let whole = read(&array, &array.subset_all())?;
            expect("whole", &whole, &golden.expected)?;
        }
        Ok(())
    });
}

#[test]
fn subsets_read_bit_for_bit() {
    for_each_golden(|golden| {
        for array in golden.ways()? {
            for subset in subsets(&golden.shape) {
                let what = format!("{subset}");
                expect(&what, &read(&array, &subset)?, &golden.expected_in(&subset))?;
            }
        }
        Ok(())
    });
}

#[test]
fn chunks_read_bit_for_bit() {
    for_each_golden(|golden| {
        let [array, fused] = golden.ways()?;
        for (array, chunk) in [&array, &fused].into_iter().flat_map(|array| {
            chunk_grid(array)
                .into_iter()
                .map(move |chunk| (array, chunk))
        }) {
            let place = array.chunk_subset(&chunk)?;
            let whole: ArrayBytes = array.retrieve_chunk(&chunk)?;
            let whole = elements(whole, array.data_type());
            let inside =
                ArraySubset::new_with_shape(array.chunk_subset_bounded(&chunk)?.shape().to_vec());
            let what = format!("chunk {chunk:?}");
            expect(
                &what,
                &select(&whole, place.shape(), &inside),
                &golden.expected_in(&place),
            )?;
            // Padding included, partial decoding agrees with full decoding.
            // (zarrs refuses an empty part of a shard.)
            for subset in subsets(place.shape())
                .into_iter()
                .filter(|part| !part.is_empty())
            {
                let part: ArrayBytes = array.retrieve_chunk_subset(&chunk, &subset)?;
                let part = elements(part, array.data_type());
                let what = format!("{subset} of chunk {chunk:?}");
                expect(&what, &part, &select(&whole, place.shape(), &subset))?;
            }
        }
        Ok(())
    });
}

#[test]
fn asynchronous_reads_agree() {
    for_each_golden(|golden| {
        tempozarr::register();
        block_on(async {
            let store = Arc::new(AsyncMemoryStore::new());
            for (key, value) in &golden.files {
                store.set(&store_key(key), value.clone().into()).await?;
            }
            let array = Array::async_open(store, "/").await?;
            for subset in [vec![array.subset_all()], subsets(&golden.shape)].concat() {
                let bytes: ArrayBytes = array.async_retrieve_array_subset(&subset).await?;
                let got = elements(bytes, array.data_type());
                expect(&format!("{subset}"), &got, &golden.expected_in(&subset))?;
            }
            Ok(())
        })
    });
}

/// Encode every chunk again with the golden's own codecs. Where the chain is lossless the values
/// come back; where it has no compressor either, the bytes are those that the other writer wrote.
#[test]
fn encoding_again_gives_the_same() {
    let compressors = [
        "zstd",
        "blosc",
        "gzip",
        "zlib",
        "bz2",
        "lz4",
        "lzma",
        "pcodec",
        "sharding_indexed",
    ];
    let byte_equal = Cell::new(0);
    for_each_golden(|golden| {
        let array = golden.open()?;
        let copy =
            Array::new_with_metadata(Arc::new(MemoryStore::new()), "/", array.metadata().clone())?;
        let chain = golden.metadata().to_string();
        let is_plain = golden.lossless && !compressors.iter().any(|name| chain.contains(name));
        for chunk in chunk_grid(&array) {
            let decoded: ArrayBytes = array.retrieve_chunk(&chunk)?;
            copy.store_chunk(&chunk, decoded)?;
            let key = array.chunk_key(&chunk);
            if is_plain && let Some(theirs) = array.storage().get(&key)? {
                if copy.storage().get(&key)?.as_ref() != Some(&theirs) {
                    return Err(format!("chunk {chunk:?}: encoded bytes differ").into());
                }
                byte_equal.set(byte_equal.get() + 1);
            }
        }
        let again = read(&copy, &copy.subset_all())?;
        if golden.lossless {
            expect("encoded again", &again, &golden.expected)?;
        }
        Ok(())
    });
    let byte_equal = byte_equal.get();
    assert!(
        byte_equal > 300,
        "only {byte_equal} chunks have no compressor"
    );
}

/// Write part by part, so that chunks are read, changed and encoded again; and with zarrs' partial
/// encoders.
#[test]
fn writing_parts_gives_the_same() {
    for_each_golden(|golden| {
        let array = golden.open()?;
        // A chunk of NaT, the fill value, has differences that the narrow type cannot hold.
        let is_refused = golden.name.ends_with("/delta-view-M8-narrow");
        if is_refused || !golden.lossless || array.data_type().fixed_size().is_none() {
            return Ok(());
        }
        for partial_encoding in [false, true] {
            let options =
                CodecOptions::default().with_experimental_partial_encoding(partial_encoding);
            let store = Arc::new(MemoryStore::new());
            let copy = Array::new_with_metadata(store, "/", array.metadata().clone())?;
            let rows = golden.shape.first().copied().unwrap_or(1);
            for row in (0..rows).rev() {
                let mut ranges: Vec<_> = golden.shape.iter().map(|&length| 0..length).collect();
                if let Some(first) = ranges.first_mut() {
                    *first = row..row + 1;
                }
                let subset = ArraySubset::new_with_ranges(&ranges);
                let bytes: ArrayBytes = golden.expected_in(&subset).concat().into();
                copy.store_array_subset_opt(&subset, bytes, &options)?;
            }
            let what = format!("written row by row, partial encoding {partial_encoding}");
            expect(&what, &read(&copy, &copy.subset_all())?, &golden.expected)?;
        }
        Ok(())
    });
}

/// Metadata that forgets nothing: what the codecs say of themselves makes codecs that say the same
/// and decode the same.
#[test]
fn metadata_survives_parsing_and_writing() {
    for_each_golden(|golden| {
        let array = golden.open()?;
        let stored = without_empty_configurations(serde_json::to_value(array.metadata())?);
        let parsed: ArrayMetadata = serde_json::from_value(stored.clone())?;
        if without_empty_configurations(serde_json::to_value(&parsed)?) != stored {
            return Err("array metadata changes when written and parsed".into());
        }
        let ArrayMetadata::V3(mut metadata) = parsed else {
            return Ok(());
        };
        let options = CodecMetadataOptions::default();
        metadata.codecs = array.codecs().create_metadatas(&options);
        let again = Array::new_with_metadata(golden.store(), "/", metadata.clone().into())?;
        let codecs = again.codecs().create_metadatas(&options);
        if codecs != metadata.codecs {
            return Err(format!("codecs {:?} become {codecs:?}", metadata.codecs).into());
        }
        expect(
            "with rewritten metadata",
            &read(&again, &again.subset_all())?,
            &golden.expected,
        )
    });
}

/// `{"name": "x", "configuration": {}}`, `{"name": "x"}` and `"x"` are one and the same.
fn without_empty_configurations(value: Value) -> Value {
    match value {
        Value::Object(mut map) => {
            if map.get("configuration") == Some(&json!({})) {
                map.remove("configuration");
            }
            if map.len() == 1
                && let Some(name) = map.get("name")
            {
                return name.clone();
            }
            Value::Object(
                map.into_iter()
                    .map(|(key, value)| (key, without_empty_configurations(value)))
                    .collect(),
            )
        }
        Value::Array(items) => items
            .into_iter()
            .map(without_empty_configurations)
            .collect(),
        value => value,
    }
}

/// A codec without a golden is a codec that nobody else has checked.
#[test]
fn every_registered_codec_has_a_golden() {
    let chains: Vec<String> = goldens()
        .iter()
        .filter(|golden| golden.not_yet.is_none())
        .map(|golden| golden.metadata().to_string())
        .collect();
    for name in tempozarr::codec_names() {
        let quoted = format!("\"{name}\"");
        assert!(
            chains.iter().any(|chain| chain.contains(&quoted)),
            "no golden uses {name}"
        );
    }
}

/// What is listed as not yet read must fail, and say why; so it leaves the list when support comes.
#[test]
fn what_is_not_read_yet_is_a_clear_error() {
    let mut wrong = vec![];
    for golden in goldens() {
        let Some(text) = &golden.not_yet else {
            continue;
        };
        let outcome = golden
            .open()
            .map_err(Into::into)
            .and_then(|array| read(&array, &array.subset_all()));
        match outcome {
            Ok(_) => wrong.push(format!(
                "{} is read now: take it off not_yet.json",
                golden.name
            )),
            Err(error) if error.to_string().contains(text) => {}
            Err(error) => wrong.push(format!("{}: expected {text:?}, got: {error}", golden.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
