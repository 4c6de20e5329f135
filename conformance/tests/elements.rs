//! `tempozarr_conformance` and what it prints.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempozarr_conformance::{Golden, folder, goldens, read_json, write_elements};
use zarrs_metadata::FillValueMetadata;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tempozarr_conformance"))
        .args(arguments)
        .output()
        .unwrap()
}

fn lines(text: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(text).unwrap().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn unpack(golden: &Golden, folder: &Path) {
    for (key, value) in &golden.files {
        let file = folder.join(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, value).unwrap();
    }
}

/// Whether `printed` says what zarr-python does, which spells every NaN alike, and `NaT` as a number.
fn agrees(printed: &Value, zarr_python: &Value) -> bool {
    match (printed, zarr_python) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| agrees(l, r))
        }
        (Value::String(bits), right) if bits.starts_with("0x") => right == "NaN",
        (Value::String(text), right) if text == "NaT" => *right == json!(i64::MIN),
        (Value::Number(left), Value::Number(right)) => {
            // -0.0 == 0.0, so bits
            left == right && left.as_f64().map(f64::to_bits) == right.as_f64().map(f64::to_bits)
        }
        (left, right) => left == right,
    }
}

#[test]
fn the_program_prints_what_zarr_python_says() {
    let wanted = read_json(&folder("fill_values.json"));
    let wanted = wanted.as_object().unwrap();
    let mut compared = 0;
    for golden in goldens() {
        let Some(wanted) = wanted.get(&golden.name) else {
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        unpack(&golden, folder.path());
        let output = run(&["--array_path", folder.path().to_str().unwrap()]);
        if let Some(reason) = golden.not_yet {
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(error.contains(&reason), "{}: {error}", golden.name);
            assert!(!output.status.success() && output.stdout.is_empty());
        } else {
            assert!(output.status.success(), "{}: {output:?}", golden.name);
            let printed = Value::Array(lines(&output.stdout));
            assert!(agrees(&printed, wanted), "{}: {printed}", golden.name);
        }
        compared += 1;
    }
    assert_eq!(compared, wanted.len());
}

#[test]
fn what_is_printed_is_the_fill_value_of_every_element() {
    for golden in goldens().iter().filter(|golden| golden.not_yet.is_none()) {
        for array in golden.ways().unwrap() {
            let mut text = vec![];
            write_elements(&array, &mut text).unwrap();
            let read: Vec<_> = lines(&text)
                .into_iter()
                .map(|line| {
                    let line: FillValueMetadata = serde_json::from_value(line).unwrap();
                    let data_type = array.data_type();
                    let version = zarrs_plugin::ZarrVersion::V3;
                    let element = data_type.fill_value(&line, version).unwrap();
                    element.as_ne_bytes().to_vec()
                })
                .collect();
            assert!(read == golden.expected, "{}", golden.name);
        }
    }
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for (arguments, status, says) in [
        (vec![], 2, "usage: tempozarr_conformance --array_path PATH"),
        (vec!["--array_path"], 2, "usage"),
        (vec!["--array_path", path, "more"], 2, "usage"),
        (vec!["--array_path", path], 1, "array metadata is missing"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(output.stdout.is_empty());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(says), "{error}");
    }
}
