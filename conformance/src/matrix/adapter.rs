//! An adapter of the matrix for zarrs, as it is in the program that includes this file; the protocol
//! is in `matrix/adapters/serve.py`.

use std::error::Error;
use std::io::{BufRead, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use zarrs::array::{Array, ArrayBytes, ArrayMetadata, ArraySubset};
use zarrs::storage::StorageError;
use zarrs_filesystem::FilesystemStore;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How a program reads all of an array.
pub type Read = fn(&Array<FilesystemStore>) -> Result<Vec<u8>>;

/// How a program stores the metadata of an array.
pub type Create = fn(&Array<FilesystemStore>) -> std::result::Result<(), StorageError>;

/// Answer requests until there are no more.
pub fn serve(versions: &Value, read: Read, create: Create) -> Result<()> {
    let mut answers = std::io::stdout().lock();
    writeln!(answers, "{}", json!({ "versions": versions }))?;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = answer(&request, read, create)
            .unwrap_or_else(|error| json!({"error": chain(error.as_ref())}));
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

/// What `error` says, and what is behind it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

fn answer(request: &Value, read: Read, create: Create) -> Result<Value> {
    if request.get("read").is_some() {
        let folder = Path::new(text(&request["read"])?);
        let array = Array::open(Arc::new(FilesystemStore::new(folder)?), "/")?;
        let dtype = dtype(&array)?;
        std::fs::write(text(&request["into"])?, read(&array)?)?;
        Ok(json!({"dtype": dtype, "shape": array.shape()}))
    } else {
        write(request, create)?;
        Ok(json!({}))
    }
}

/// The bytes of all elements, by the codecs as they are.
pub fn read_all(array: &Array<FilesystemStore>) -> Result<Vec<u8>> {
    let bytes: ArrayBytes = array.retrieve_array_subset(&array.subset_all())?;
    Ok(bytes.into_fixed()?.into_owned())
}

fn write(request: &Value, create: Create) -> Result<()> {
    let metadata: ArrayMetadata = serde_json::from_value(request["document"].clone())?;
    let store = Arc::new(FilesystemStore::new(text(&request["write"])?)?);
    let array = Array::new_with_metadata(store, "/", metadata)?;
    create(&array)?;
    let ranges: Vec<[u64; 2]> = serde_json::from_value(request["region"].clone())?;
    let ranges: Vec<Range<u64>> = ranges.iter().map(|&[start, end]| start..end).collect();
    let values = std::fs::read(text(&request["values"])?)?;
    let subset = ArraySubset::new_with_ranges(&ranges);
    Ok(array.store_array_subset(&subset, ArrayBytes::new_flen(values))?)
}

fn text(value: &Value) -> Result<&str> {
    Ok(value.as_str().ok_or("expected text")?)
}

/// The data type as numpy spells it; in memory zarrs has the machine's order of bytes.
fn dtype(array: &Array<FilesystemStore>) -> Result<String> {
    let metadata = serde_json::to_value(array.metadata())?;
    if let Some(dtype) = metadata["dtype"].as_str() {
        return Ok(dtype.replace('>', "<"));
    }
    let data_type = &metadata["data_type"];
    let name = data_type["name"].as_str().or(data_type.as_str());
    let name = name.ok_or("expected the name of a data type")?;
    let unit = data_type["configuration"]["unit"].as_str().unwrap_or("?");
    let size = array
        .data_type()
        .fixed_size()
        .ok_or("expected a fixed size")?;
    let kind = match name {
        "numpy.datetime64" => return Ok(format!("<M8[{unit}]")),
        "numpy.timedelta64" => return Ok(format!("<m8[{unit}]")),
        "bool" => "|b",
        "int8" => "|i",
        "uint8" => "|u",
        _ if name.starts_with("int") => "<i",
        _ if name.starts_with("uint") => "<u",
        _ if name.starts_with("float") => "<f",
        _ if name.starts_with("complex") => "<c",
        "fixed_length_utf32" => return Ok(format!("<U{}", size / 4)),
        _ => return Err(format!("adapter: no numpy data type for {name}").into()),
    };
    Ok(format!("{kind}{size}"))
}
