//! `Selected`: what a read or write selects of chunks whose bytes Python fetches and stores.
//!
//! Python asks which bytes are needed, fetches them side by side, and hands over what has come; the
//! values never pass through Python.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use numpy::PyArray1;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::chunk::{Update, size, whole};
use crate::errors::{Error, Result, caught};
use crate::fetched::{Fetched, fetched};
use crate::memory::Memory;
use crate::pipeline::{ChunkPipeline, disjoint};
use crate::pool;
use crate::selection::Transfer;
use crate::shard::{self, Sharding};
use crate::source::Source;
use crate::store::ChunkFile;

/// Selections of many chunks.
#[pyclass(frozen, module = "tempozarr._core")]
pub struct Selected {
    pipeline: Py<ChunkPipeline>,
    tasks: Vec<Task>,
    /// Shape of the array on the other side.
    shape: Vec<usize>,
}

/// What errors call a chunk, and the transfer to do.
struct Task {
    name: String,
    transfer: Transfer,
}

/// A chunk that Python fetched: its number, its bytes if it exists, and, if these are only the index
/// of a shard, pieces of the shard and where they begin.
type Chunk = (
    usize,
    Option<PyBuffer<u8>>,
    Option<Vec<(u64, PyBuffer<u8>)>>,
);

#[pymethods]
#[allow(
    clippy::needless_pass_by_value,
    reason = "arguments are extracted from Python objects"
)]
impl Selected {
    /// What to fetch of each chunk: its index alone, as `(is at the end, bytes)`, or None for all of
    /// it: because it is not sharded, most of it is needed, or it has no more than `gap` bytes.
    fn indexes(&self, py: Python<'_>, gap: u64) -> PyResult<Vec<Option<(bool, u64)>>> {
        caught(|| {
            let mut indexes = Vec::new();
            pool::alone(py, |_| {
                let tasks = self.tasks.iter();
                indexes = tasks
                    .map(|task| self.index(task, gap))
                    .collect::<Result<_>>()?;
                Ok(())
            })?;
            Ok(indexes)
        })
    }

    /// Which bytes of shard `i` to fetch, given its index; None for all of it.
    ///
    /// Ranges that lie up to `gap` bytes apart are made one, of up to `limit` bytes.
    fn ranges(
        &self,
        py: Python<'_>,
        i: usize,
        index: PyBuffer<u8>,
        gap: u64,
        limit: u64,
    ) -> PyResult<Option<Vec<(u64, u64)>>> {
        caught(|| {
            let Some((task, (sharding, grid))) = self.tasks.get(i).zip(self.sharding()) else {
                return Ok(None);
            };
            let index = Fetched::new(index)?;
            let mut encoded = vec![0; index.len()];
            index.copy(0, &mut encoded);
            let name = &task.name;
            let mut ranges = Some(Vec::new());
            pool::alone(py, |options| {
                let expected = sharding.index_len(name, &grid)?;
                if encoded.len() != expected {
                    return Err(Error::Codec(format!(
                        "chunk {name}: expected the {expected} bytes of its index, got {}",
                        encoded.len()
                    )));
                }
                let index = sharding.decode_index(name, &encoded, &grid, options)?;
                let size = sharding.size_limit(name, &grid, self.pipeline.get().spec.item)?;
                let mut wanted = Vec::new();
                for place in shard::places(sharding, &grid, std::slice::from_ref(&task.transfer))? {
                    let Ok(range) = shard::range_of(name, index[place], size) else {
                        // How long the shard is decides whether that is an error.
                        ranges = None;
                        return Ok(());
                    };
                    wanted.extend(range);
                }
                let merged = shard::coalesced(wanted, gap, limit);
                ranges = Some(
                    merged
                        .into_iter()
                        .map(|Range { start, end }| (start, end))
                        .collect(),
                );
                Ok(())
            })?;
            Ok(ranges)
        })
    }

    /// Read what is selected of chunks that were fetched into `out`.
    fn read(&self, py: Python<'_>, chunks: Vec<Chunk>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        caught(|| {
            let pipeline = self.pipeline.get();
            let out = Memory::write(out, pipeline.descr.bind(py))?;
            self.expect_shape(&out)?;
            let chunks = chunks
                .into_iter()
                .map(|(i, bytes, pieces)| Ok((self.task(i)?, self.file(i, bytes, pieces)?)))
                .collect::<PyResult<Vec<_>>>()?;
            let parallel = disjoint(chunks.iter().map(|(task, _)| &task.transfer), &out.shape);
            pool::run(py, chunks.len(), parallel, |i, options| {
                let (Task { name, transfer }, file) = &chunks[i];
                let source =
                    Source::new(&pipeline.spec, name.clone(), file.clone(), &pipeline.shape);
                // SAFETY: the selections of `out` are disjoint, or the tasks run one by one.
                unsafe { source.read(std::slice::from_ref(transfer), &out, options) }
            })?;
            Ok(())
        })
    }

    /// Whether a write to chunk `i` needs the bytes that are there; not if it `is_complete`.
    fn merges(&self, i: usize, is_complete: bool) -> PyResult<bool> {
        let covers = (self.task(i)?.transfer).covers(&whole(&self.pipeline.get().shape));
        Ok(!is_complete && !covers)
    }

    /// Encode chunks `(number, is complete, bytes before)`, with what is selected of `value`; None
    /// for one that is not to be stored.
    fn write<'py>(
        &self,
        py: Python<'py>,
        chunks: Vec<(usize, bool, Option<PyBuffer<u8>>)>,
        value: &Bound<'py, PyAny>,
        write_empty_chunks: bool,
    ) -> PyResult<Vec<Option<Bound<'py, PyArray1<u8>>>>> {
        caught(|| {
            let pipeline = self.pipeline.get();
            let value = Memory::read(value, pipeline.descr.bind(py))?;
            self.expect_shape(&value)?;
            let chunks = chunks
                .into_iter()
                .map(|(i, complete, bytes)| {
                    Ok(((self.task(i)?, complete), self.file(i, bytes, None)?))
                })
                .collect::<PyResult<Vec<_>>>()?;
            let encoded: Vec<_> = chunks.iter().map(|_| Mutex::new(None)).collect();
            pool::run(py, chunks.len(), true, |i, options| {
                let ((Task { name, transfer }, complete), file) = &chunks[i];
                let update = Update {
                    transfer,
                    complete: *complete,
                    value: &value,
                    write_empty_chunks,
                };
                let (spec, shape) = (&pipeline.spec, &pipeline.shape);
                let old = file.clone().filter(|_| !update.replaces(shape));
                let old = old.map(|old| Source::new(spec, name.clone(), Some(old), shape));
                let bytes = spec.updated(name, shape, old.as_ref(), &update, options)?;
                *encoded[i].lock().unwrap_or_else(PoisonError::into_inner) = bytes;
                Ok(())
            })?;
            let encoded = encoded.into_iter().map(Mutex::into_inner);
            Ok(encoded
                .map(|bytes| bytes.unwrap_or_else(PoisonError::into_inner))
                .map(|bytes| Some(PyArray1::from_vec(py, bytes?)))
                .collect())
        })
    }
}

impl Selected {
    /// Selections of an array of that shape, and of chunks, with their names.
    pub fn new(
        pipeline: Py<ChunkPipeline>,
        tasks: Vec<(String, Transfer)>,
        shape: Vec<usize>,
    ) -> Self {
        let tasks = tasks.into_iter();
        Self {
            pipeline,
            tasks: tasks
                .map(|(name, transfer)| Task { name, transfer })
                .collect(),
            shape,
        }
    }

    fn task(&self, i: usize) -> Result<&Task> {
        (self.tasks.get(i)).ok_or_else(|| Error::Value(format!("no chunk has number {i}")))
    }

    fn expect_shape(&self, memory: &Memory) -> Result<()> {
        let shape: Vec<_> = self.shape.iter().map(|&len| len as u64).collect();
        memory.expect_shape(&shape)
    }

    /// The sharding, and how many subchunks a shard has per dimension.
    fn sharding(&self) -> Option<(&Sharding, Vec<u64>)> {
        let pipeline = self.pipeline.get();
        let sharding = pipeline.spec.sharding()?;
        Some((sharding, sharding.grid(&pipeline.shape)?))
    }

    fn index(&self, Task { name, transfer }: &Task, gap: u64) -> Result<Option<(bool, u64)>> {
        let Some((sharding, grid)) = self.sharding() else {
            return Ok(None);
        };
        let pipeline = self.pipeline.get();
        let item = pipeline.spec.item;
        let bytes = size(&whole(&pipeline.shape), item).map_or(u64::MAX, |bytes| bytes as u64);
        let index = sharding.index_len(name, &grid)? as u64;
        let wanted = shard::places(sharding, &grid, std::slice::from_ref(transfer))?.len();
        let is_most = wanted > shard::encoded_len(&grid)? / 2;
        let has_limit = sharding.size_limit(name, &grid, item).is_ok();
        if is_most || bytes <= gap || bytes / 2 < index || !has_limit {
            return Ok(None);
        }
        Ok(Some((!sharding.index_first, index)))
    }

    /// The bytes of chunk `i` that were fetched. Let go of them where the GIL is held: others would
    /// wait for it.
    fn file(
        &self,
        i: usize,
        bytes: Option<PyBuffer<u8>>,
        pieces: Option<Vec<(u64, PyBuffer<u8>)>>,
    ) -> PyResult<Option<Arc<ChunkFile>>> {
        let Some(bytes) = fetched(bytes)? else {
            return Ok(None);
        };
        let Some(pieces) = pieces else {
            return Ok(Some(ChunkFile::fetched(bytes).into()));
        };
        let (sharding, grid) = (self.sharding())
            .ok_or_else(|| Error::Value("expected a whole chunk: it is not sharded".into()))?;
        let name = &self.task(i)?.name;
        let size = sharding.size_limit(name, &grid, self.pipeline.get().spec.item)?;
        // The size is not the true one, and the index is taken to be where it is for that size.
        let index = sharding.index_range(name, &grid, size)?.start;
        let pieces = pieces
            .into_iter()
            .map(|(start, piece)| Ok((start, Fetched::new(piece)?)))
            .chain([Ok((index, bytes))])
            .collect::<Result<_>>()?;
        Ok(Some(ChunkFile::pieces(pieces, size).into()))
    }
}
