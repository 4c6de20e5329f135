//! Proves that what tempozarr reads and writes is what others write and read.
//!
//! It is the ground on which its tests stand, the goldens (small stores that other programs wrote,
//! with what reading them must give) and the vectors (what numcodecs' codecs make of given bytes);
//! and it has the program through which public suites test tempozarr. See `README.md`.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use zarrs::array::{Array, ArrayBytes, ArrayCreateError, ArraySubset};
use zarrs_data_type::{DataType, FillValue};
use zarrs_storage::store::MemoryStore;
use zarrs_storage::{ReadableStorageTraits, StoreKey, WritableStorageTraits};

/// The elements of an array in C order, each as its bytes (little-endian, or UTF-8).
pub type Elements = Vec<Vec<u8>>;

/// A small store that one release of zarr-python wrote, and what reading it must give.
#[derive(Debug)]
pub struct Golden {
    /// Writer and case, for example `zarr-3.1.6/delta-i4`.
    pub name: String,
    /// What the error says if it cannot be read yet.
    pub not_yet: Option<String>,
    /// Whether decoding gives back what was encoded, so that encoding it again changes nothing.
    pub lossless: bool,
    /// The shape of the array.
    pub shape: Vec<u64>,
    /// What reading the whole array must give.
    pub expected: Elements,
    /// The files of the store.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Golden {
    /// A store in memory that holds the files.
    ///
    /// # Panics
    /// Panics if the golden holds a key that no store can have.
    #[must_use]
    pub fn store(&self) -> Arc<MemoryStore> {
        let store = MemoryStore::new();
        for (key, value) in &self.files {
            store
                .set(&store_key(key), value.clone().into())
                .expect("a memory store takes any value");
        }
        Arc::new(store)
    }

    /// The array.
    ///
    /// # Errors
    /// Returns what zarrs says if the metadata cannot be used.
    pub fn open(&self) -> Result<Array<MemoryStore>, ArrayCreateError> {
        tempozarr::register();
        Array::open(self.store(), "/")
    }

    /// The array, codec by codec and with its chain in one pass, where that can be.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn ways(&self) -> Result<[Array<MemoryStore>; 2], ArrayCreateError> {
        let array = self.open()?;
        let fused = tempozarr::fuse(array.metadata());
        let fused = Array::new_with_metadata(array.storage(), "/", fused)?;
        Ok([array, fused])
    }

    /// What reading `subset` must give; elements outside the array are left out.
    #[must_use]
    pub fn expected_in(&self, subset: &ArraySubset) -> Elements {
        select(&self.expected, &self.shape, subset)
    }

    /// The metadata of the array as it is stored.
    ///
    /// # Panics
    /// Panics if the golden holds no metadata.
    #[must_use]
    pub fn metadata(&self) -> Value {
        let (_, text) = self
            .files
            .iter()
            .find(|(key, _)| key == "zarr.json" || key == ".zarray")
            .expect("a golden holds metadata");
        serde_json::from_slice(text).expect("metadata is JSON")
    }

    /// The keys and values of the chunks.
    pub fn chunks(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .filter(|(key, _)| key != "zarr.json" && !key.starts_with(".z"))
            .map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

/// A key of a store.
///
/// # Panics
/// Panics if `key` is not one.
#[must_use]
pub fn store_key(key: &str) -> StoreKey {
    StoreKey::new(key).expect("a valid store key")
}

/// Every golden of every writer, in the order of their names.
///
/// # Panics
/// Panics if there is none, or if one is not as `goldens.py` writes it: a test that finds nothing
/// must not pass.
#[must_use]
pub fn goldens() -> Vec<Golden> {
    let files: Vec<PathBuf> = list(&folder("goldens"))
        .iter()
        .flat_map(|writer| list(writer))
        .collect();
    assert!(!files.is_empty(), "no goldens");
    let not_yet = &read_json(&folder("not_yet.json"))["rust"];
    files
        .iter()
        .map(|file| read_golden(file, not_yet))
        .collect()
}

/// A folder of this crate.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// What is in `folder`, sorted.
///
/// # Panics
/// Panics if it cannot be listed.
#[must_use]
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    paths
}

/// The JSON in `file`.
///
/// # Panics
/// Panics if it cannot be read.
#[must_use]
pub fn read_json(file: &Path) -> Value {
    let text = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn read_golden(file: &Path, not_yet: &Value) -> Golden {
    let golden = read_json(file);
    let writer = file.parent().and_then(Path::file_name);
    let name = [writer, file.file_stem()]
        .map(|part| part.expect("a file in a folder").to_string_lossy())
        .join("/");
    let case = golden["case"].as_str().expect("the name of a case");
    Golden {
        not_yet: not_yet
            .get(case)
            .map(|error| error.as_str().expect("text").into()),
        lossless: golden["lossless"].as_bool().expect("true or false"),
        shape: golden["expected"]["shape"]
            .as_array()
            .expect("a shape")
            .iter()
            .map(|length| length.as_u64().expect("a length"))
            .collect(),
        expected: expected(&golden["expected"]),
        files: golden["store"]
            .as_object()
            .expect("files by key")
            .iter()
            .map(|(key, value)| match value {
                Value::String(hex) => (key.clone(), unhex(hex)),
                metadata => (key.clone(), metadata.to_string().into_bytes()),
            })
            .collect(),
        name,
    }
}

fn expected(packed: &Value) -> Elements {
    if let Some(values) = packed["values"].as_array() {
        let is_text = packed["dtype"] == "T";
        let text = values.iter().map(|value| value.as_str().expect("text"));
        return text
            .map(|text| {
                if is_text {
                    text.as_bytes().to_vec()
                } else {
                    unhex(text)
                }
            })
            .collect();
    }
    let data = unhex(packed["data"].as_str().expect("hexadecimal data"));
    let count: usize = packed["shape"]
        .as_array()
        .expect("a shape")
        .iter()
        .map(|length| usize::try_from(length.as_u64().expect("a length")).expect("a small array"))
        .product();
    if count == 0 {
        return vec![];
    }
    data.chunks(data.len() / count)
        .map(<[u8]>::to_vec)
        .collect()
}

/// Bytes from hexadecimal digits.
///
/// # Panics
/// Panics if `digits` are not that.
#[must_use]
pub fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

/// The elements that zarrs decoded.
///
/// # Panics
/// Panics if `bytes` are not of the type that `data_type` says.
#[must_use]
pub fn elements(bytes: ArrayBytes<'_>, data_type: &DataType) -> Elements {
    match (bytes, data_type.fixed_size()) {
        (ArrayBytes::Fixed(bytes), Some(size)) => bytes.chunks(size).map(<[u8]>::to_vec).collect(),
        (ArrayBytes::Variable(values), None) => {
            let (bytes, offsets) = values.into_parts();
            offsets
                .windows(2)
                .map(|ends| bytes[ends[0]..ends[1]].to_vec())
                .collect()
        }
        (_, size) => panic!("expected elements of size {size:?}"),
    }
}

/// Write every element of `array` in C order, one to a line, as the JSON that a fill value of that
/// element has in Zarr V3 metadata. One row of chunks (or shards) is in memory at a time.
///
/// # Errors
/// Returns what zarrs says if a chunk cannot be read, and an error if an element has no such JSON
/// (text that is not UTF-8) or if `out` does not take it.
pub fn write_elements<S: ?Sized + ReadableStorageTraits + 'static>(
    array: &Array<S>,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    if array.shape().contains(&0) {
        return Ok(());
    }
    let mut first = vec![0; array.dimensionality()];
    for row in 0..array.chunk_grid_shape().first().copied().unwrap_or(1) {
        let mut ranges = array.subset_all().to_ranges();
        if let Some(range) = ranges.first_mut() {
            first[0] = row;
            *range = array.chunk_subset_bounded(&first)?.to_ranges()[0].clone();
        }
        let rows = array.retrieve_array_subset(&ArraySubset::new_with_ranges(&ranges))?;
        for element in elements(rows, array.data_type()) {
            let element = FillValue::from(element);
            writeln!(out, "{}", array.data_type().metadata_fill_value(&element)?)?;
        }
    }
    Ok(())
}

/// The elements in `subset` of an array of `shape`; those outside the array are left out.
///
/// # Panics
/// Panics if the dimensions differ.
#[must_use]
pub fn select(elements: &Elements, shape: &[u64], subset: &ArraySubset) -> Elements {
    subset
        .bound(shape)
        .expect("as many dimensions")
        .linearised_indices(shape)
        .expect("within the array")
        .into_iter()
        .map(|index| elements[usize::try_from(index).expect("a small array")].clone())
        .collect()
}
