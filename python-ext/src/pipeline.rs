//! `ChunkPipeline`: codecs and a chunk shape, for zarr-python's own arrays. It reads and writes files;
//! what other stores hold goes through `Selected`.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use numpy::PyArrayDescr;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tempozarr::Encoding;

use crate::beneath::Beneath;
use crate::chunk::{Spec, Update, lengths};
use crate::errors::{Error, caught};
use crate::memory::Memory;
use crate::metadata;
use crate::pool;
use crate::selected::Selected;
use crate::selection::{self, Axis, Transfer};
use crate::shard::SubchunkOrder;
use crate::source::Source;

/// The codecs of a chunk: reads and writes selections of many chunks at once.
#[pyclass(frozen, module = "tempozarr._core")]
pub struct ChunkPipeline {
    /// How chunks are stored.
    pub spec: Spec,
    /// Their shape.
    pub shape: Vec<NonZeroU64>,
    /// The type of their elements.
    pub descr: Py<PyArrayDescr>,
}

/// A chunk's file and the transfer to do.
struct Task {
    path: PathBuf,
    transfer: Transfer,
}

#[pymethods]
#[allow(
    clippy::needless_pass_by_value,
    reason = "arguments are extracted from Python objects"
)]
impl ChunkPipeline {
    #[new]
    #[pyo3(signature = (
        metadata, subchunk_order = "lexicographic", lz4_level = None, zstd_fast_decode = false
    ))]
    fn new(
        py: Python<'_>,
        metadata: &str,
        subchunk_order: &str,
        lz4_level: Option<i32>,
        zstd_fast_decode: bool,
    ) -> PyResult<Self> {
        let encoding = Encoding {
            lz4_level,
            zstd_fast_decode,
        };
        let order = SubchunkOrder::by_name(subchunk_order).ok_or_else(|| {
            Error::Value(format!(
                "expected lexicographic, colexicographic, morton or unordered subchunks, got \
                 {subchunk_order}"
            ))
        })?;
        let (array, kind) =
            pool::compute(py, || metadata::create(().into(), "/", metadata, encoding))?;
        let Some(descr) = kind.descr(py)? else {
            return Err(Error::Metadata(format!(
                "data type {}: elements of variable length are not written here",
                array.data_type()
            ))
            .into());
        };
        let (mut spec, shape) = pool::compute(py, || {
            let shape = array.chunk_shape(&vec![0; array.dimensionality()]);
            let shape = shape.map_err(|error| Error::Metadata(error.to_string()))?;
            Ok((Spec::new(&array, kind), shape))
        })?;
        if let Some(sharding) = &mut spec.sharding {
            sharding.order = order;
        }
        Ok(Self { spec, shape, descr })
    }

    /// The numpy dtype string of `out` and `value`.
    #[getter]
    fn dtype(&self) -> &str {
        self.spec.kind.dtype()
    }

    /// Read `(path, chunk selection, out selection)` of many chunks into `out`; returns which
    /// chunks exist.
    fn read(
        &self,
        py: Python<'_>,
        chunks: Vec<(PathBuf, Bound<'_, PyAny>, Bound<'_, PyAny>)>,
        out: &Bound<'_, PyAny>,
        drop_axes: Vec<usize>,
    ) -> PyResult<Vec<bool>> {
        caught(|| {
            let out = Memory::write(out, self.descr.bind(py))?;
            let tasks = chunks
                .into_iter()
                .map(|(path, chunk, array)| {
                    let transfer = self.transfer(&chunk, &array, &out.shape, &drop_axes)?;
                    Ok(Task { path, transfer })
                })
                .collect::<PyResult<Vec<_>>>()?;
            let exists: Vec<_> = tasks.iter().map(|_| AtomicBool::new(false)).collect();
            let parallel = disjoint(tasks.iter().map(|task| &task.transfer), &out.shape);
            pool::run(py, tasks.len(), parallel, |i, options| {
                let task = &tasks[i];
                let source = Source::open(&self.spec, &task.path, &self.shape)?;
                exists[i].store(source.exists(), Ordering::Relaxed);
                // SAFETY: the selections of `out` are disjoint, or the tasks run one by one.
                unsafe { source.read(std::slice::from_ref(&task.transfer), &out, options) }
            })?;
            Ok(exists.into_iter().map(AtomicBool::into_inner).collect())
        })
    }

    /// Write `(key, chunk selection, value selection, is complete)` of many chunks beneath a folder.
    fn write(
        &self,
        py: Python<'_>,
        beneath: &Beneath,
        chunks: Vec<(PathBuf, Bound<'_, PyAny>, Bound<'_, PyAny>, bool)>,
        value: &Bound<'_, PyAny>,
        drop_axes: Vec<usize>,
        write_empty_chunks: bool,
    ) -> PyResult<()> {
        caught(|| {
            let value = Memory::read(value, self.descr.bind(py))?;
            let tasks = chunks
                .into_iter()
                .map(|(path, chunk, array, complete)| {
                    let transfer = self.transfer(&chunk, &array, &value.shape, &drop_axes)?;
                    Ok((Task { path, transfer }, complete))
                })
                .collect::<PyResult<Vec<_>>>()?;
            // Two updates of one file must follow each other.
            let mut paths = HashSet::new();
            let parallel = tasks.iter().all(|(task, _)| paths.insert(&task.path));
            pool::run(py, tasks.len(), parallel, |i, options| {
                let (Task { path, transfer }, complete) = &tasks[i];
                let update = Update {
                    transfer,
                    complete: *complete,
                    value: &value,
                    write_empty_chunks,
                };
                self.spec
                    .write(beneath, path, &self.shape, &update, options)
            })?;
            Ok(())
        })
    }

    /// What `(name, chunk selection, selection of an array of that shape)` of many chunks mean, to
    /// read or write bytes that Python gets from a store and puts there.
    fn select(
        slf: Py<Self>,
        chunks: Vec<(String, Bound<'_, PyAny>, Bound<'_, PyAny>)>,
        shape: Vec<usize>,
        drop_axes: Vec<usize>,
    ) -> PyResult<Selected> {
        caught(|| {
            let tasks = chunks
                .into_iter()
                .map(|(name, chunk, array)| {
                    let transfer = slf.get().transfer(&chunk, &array, &shape, &drop_axes)?;
                    Ok((name, transfer))
                })
                .collect::<PyResult<_>>()?;
            Ok(Selected::new(slf, tasks, shape))
        })
    }

    /// Decode a whole chunk: a new array of the chunk's shape, in C order.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        caught(|| {
            let copied;
            let data: &[u8] = if let Ok(bytes) = data.cast::<PyBytes>() {
                bytes.as_bytes()
            } else {
                copied = PyBuffer::<u8>::get(data)?.to_vec(py)?;
                &copied
            };
            let shape = lengths(&self.shape);
            let array = py
                .import("numpy")?
                .call_method1("empty", (shape.clone(), self.descr.bind(py)))?;
            let out = Memory::write(&array, self.descr.bind(py))?;
            pool::compute(py, || {
                // SAFETY: the array is new, and nobody else's.
                unsafe {
                    self.spec
                        .decode_all("in memory", data, &self.shape, &out, &pool::options())
                }
            })?;
            Ok(array)
        })
    }

    /// Encode a whole chunk.
    fn encode<'py>(
        &self,
        py: Python<'py>,
        chunk: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        caught(|| {
            let value = Memory::read(chunk, self.descr.bind(py))?;
            let shape = lengths(&self.shape);
            value.expect_shape(&shape)?;
            let encoded = pool::compute(py, || {
                let update = Update {
                    transfer: &Transfer::all(&value.shape),
                    complete: true,
                    value: &value,
                    write_empty_chunks: true,
                };
                self.spec
                    .updated("in memory", &self.shape, None, &update, &pool::options())
            })?;
            Ok(PyBytes::new(py, &encoded.unwrap_or_default()))
        })
    }
}

impl ChunkPipeline {
    fn transfer(
        &self,
        chunk: &Bound<'_, PyAny>,
        array: &Bound<'_, PyAny>,
        shape: &[usize],
        drop_axes: &[usize],
    ) -> PyResult<Transfer> {
        let shape: Vec<u64> = shape.iter().map(|&len| len as u64).collect();
        selection::transfer(chunk, &lengths(&self.shape), array, &shape, drop_axes)
    }
}

/// Whether no element of an array of that shape is named by two transfers.
///
/// The selections of zarr-python form a grid. That is what is checked: in each dimension the
/// different selections share no index, and no two transfers combine the same ones.
pub fn disjoint<'a>(transfers: impl Iterator<Item = &'a Transfer>, shape: &[usize]) -> bool {
    let axes: Vec<_> = transfers.map(Transfer::array_axes).collect();
    if axes.iter().any(|axes| axes.len() != shape.len()) {
        return axes.len() < 2;
    }
    let mut tuples = vec![Vec::with_capacity(shape.len()); axes.len()];
    for d in 0..shape.len() {
        let mut numbers: HashMap<&Axis, usize> = HashMap::new();
        for (tuple, axes) in tuples.iter_mut().zip(&axes) {
            let next = numbers.len();
            tuple.push(*numbers.entry(axes[d]).or_insert(next));
        }
        if !selection::distinct(numbers.into_keys()) {
            return false;
        }
    }
    let mut seen = HashSet::new();
    tuples.into_iter().all(|tuple| seen.insert(tuple))
}
