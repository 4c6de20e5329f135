//! `Array`: one array of a store, opened once and read from any thread.

use std::borrow::Cow;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use numpy::PyArrayDescr;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use serde_json::{Map, Value};
use tempozarr::fused::Explanation;
use tempozarr::{Encoding, memory};
use zarrs::array::ChunkGrid;
use zarrs::plugin::{ExtensionName, ZarrVersion};
use zarrs_codec::CodecOptions;

use crate::cache::{Cache, Chunk, Held};
use crate::cast::Cast;
use crate::chunk::{Spec, lengths};
use crate::document;
use crate::dtype::Kind;
use crate::errors::{Error, Result, caught};
use crate::fetch;
use crate::memory::Memory;
use crate::metadata;
use crate::objects::{Client, Objects};
use crate::pool;
use crate::selection::{self, Axis, Cell, Part, Parts, Transfer};
use crate::source::{Blocks, Handle, Kept, Known, Source};
use crate::stats::{Counter, Stats};

/// One array of a store. It never changes; threads share it freely.
#[pyclass(frozen, module = "tempozarr._core")]
pub struct Array {
    stored: zarrs::array::Array<()>,
    root: Root,
    /// Which folder it was in when it was opened.
    folder: Identity,
    /// How its elements are stored.
    pub spec: Spec,
    grid: Grid,
    metadata: String,
    /// numpy's dtype, for elements of a fixed size.
    descr: Option<Py<PyArrayDescr>>,
    cache: Py<Cache>,
    /// What tells its chunks from those of other arrays in the cache.
    number: u64,
    /// What reading it has cost.
    pub stats: Stats,
}

/// Where a store is.
enum Root {
    Folder(PathBuf),
    Objects(Py<Objects>),
}

/// [`Root`], as Python has it.
#[derive(FromPyObject)]
enum PyRoot<'py> {
    Objects(Bound<'py, Objects>),
    Folder(PathBuf),
}

#[pymethods]
impl Array {
    /// Open the array at `path` of the store `root`, a folder or in an object store; decoded chunks
    /// are kept in `cache`. The metadata of one in a folder is read, unless it is given.
    ///
    /// `StoreError` if there is none, `MetadataError` if its metadata cannot be used.
    #[new]
    #[pyo3(signature = (root, path, cache=None, metadata=None))]
    fn new(
        py: Python<'_>,
        root: PyRoot<'_>,
        path: &str,
        cache: Option<Py<Cache>>,
        metadata: Option<String>,
    ) -> PyResult<Self> {
        static ARRAYS: AtomicU64 = AtomicU64::new(0);
        let root = match root {
            PyRoot::Folder(folder) => Root::Folder(folder),
            PyRoot::Objects(objects) => Root::Objects(objects.unbind()),
        };
        // Before its metadata are read: what is read then is not older.
        let folder = match &root {
            Root::Folder(folder) => Identity::of(&folder.join(path.trim_start_matches('/'))),
            Root::Objects(_) => Identity::default(),
        };
        let (array, spec, grid, metadata) = pool::compute(py, || {
            let (array, kind, metadata) = match (&root, metadata) {
                (Root::Folder(folder), None) => open(folder, path, Encoding::default()),
                (Root::Folder(folder), Some(metadata)) => create(
                    &folder.display().to_string(),
                    path,
                    metadata,
                    Encoding::default(),
                ),
                (Root::Objects(objects), Some(metadata)) => {
                    create(objects.get().name(), path, metadata, Encoding::default())
                }
                (Root::Objects(_), None) => Err(Error::Value("expected metadata, got none".into())),
            }?;
            let spec = Spec::new(&array, kind);
            let grid = Grid::new(array.chunk_grid(), &spec);
            Ok((array, spec, grid, metadata))
        })?;
        let descr = spec.kind.descr(py)?;
        Ok(Self {
            grid,
            stored: array,
            root,
            folder,
            spec,
            metadata,
            descr,
            cache: cache.map_or_else(|| Py::new(py, Cache::new(0)), Ok)?,
            number: ARRAYS.fetch_add(1, Ordering::Relaxed),
            stats: Stats::default(),
        })
    }

    /// Length of each dimension.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.stored.shape())
    }

    /// Shape of a subchunk where the array is sharded, else of a chunk (of the first one, if they
    /// differ).
    #[getter]
    fn chunks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self.spec.subchunk() {
            Some(shape) => PyTuple::new(py, shape),
            None => PyTuple::new(py, self.grid.first_chunk()),
        }
    }

    /// Shape of a shard, or None.
    #[getter]
    fn shards<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.spec
            .subchunk()
            .map(|_| PyTuple::new(py, self.grid.first_chunk()))
            .transpose()
    }

    /// Number of chunks, or shards, in each dimension.
    #[getter]
    fn grid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.stored.chunk_grid_shape())
    }

    /// The numpy dtype string of what `read` fills; "T" for text, "O" for bytes.
    #[getter]
    fn dtype(&self) -> &str {
        self.spec.kind.dtype()
    }

    /// The metadata document as stored; for Zarr 2 with the attributes merged in.
    #[getter]
    fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Whether chunks are decoded in one pass; and the steps, or the reason why not.
    fn explain(&self, py: Python<'_>) -> PyResult<(bool, String)> {
        let explanation = pool::compute(py, || metadata::explanation(&self.metadata))?;
        Ok(match explanation {
            Explanation::Fused(plan) => (true, plan),
            Explanation::Unfused(reason) => (false, reason),
        })
    }

    /// Read an orthogonal selection into `out`: per dimension `(start, count, step)` or a 1-D
    /// int64 array of indices.
    fn read(
        &self,
        py: Python<'_>,
        selection: &Bound<'_, PyTuple>,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        caught(|| {
            let out = self.out(py, out)?;
            let axes = selection::orthogonal(selection, self.stored.shape())?;
            let counts: Vec<_> = axes.iter().map(|axis| axis.len() as u64).collect();
            out.expect_shape(&counts)?;
            self.read_axes(py, &axes, &|source, transfers, options| {
                // SAFETY: `read_axes` names each element of `out` once.
                unsafe { source.read(transfers, &out, options) }
            })
        })
    }

    /// What reading has cost so far: `hits`, `misses`, `bytes_read`, `bytes_decoded`, and the
    /// nanoseconds of all threads: reading, decoding and copying.
    fn stats(&self) -> [u64; 7] {
        let stats = &self.stats;
        [
            &stats.hits,
            &stats.misses,
            &stats.bytes_read,
            &stats.bytes_decoded,
            &stats.read,
            &stats.decode,
            &stats.copy,
        ]
        .map(Counter::get)
    }

    /// Read points into the 1-D array `out`: one int64 array of coordinates per dimension.
    fn read_points(
        &self,
        py: Python<'_>,
        coords: &Bound<'_, PyTuple>,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        caught(|| {
            let out = self.out(py, out)?;
            let points = selection::coordinates(coords, self.stored.shape())?;
            out.expect_shape(&[points.first().map_or(1, Vec::len) as u64])?;
            let groups = self.grid.group(&points)?;
            let chunk = |i: usize| Ok((groups[i].chunk.clone(), Cow::from(&groups[i].transfers)));
            self.read_chunks(py, groups.len(), &chunk, &|source, transfers, options| {
                // SAFETY: the groups name each element of `out` once.
                unsafe { source.read(transfers, &out, options) }
            })
        })
    }

    /// Read an orthogonal selection of elements of variable length: a flat list in C order.
    fn read_objects<'py>(
        &self,
        py: Python<'py>,
        selection: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyList>> {
        caught(|| {
            if self.descr.is_some() {
                return Err(Error::Type(format!(
                    "elements of dtype {} have a fixed size; use read",
                    self.dtype()
                ))
                .into());
            }
            let axes = selection::orthogonal(selection, self.stored.shape())?;
            let shape: Vec<_> = axes.iter().map(Axis::len).collect();
            let count = shape
                .iter()
                .try_fold(1_usize, |count, &len| count.checked_mul(len))
                .ok_or_else(|| Error::memory("more than 2^63"))?;
            let mut handles: Vec<Handle> = memory::zeros(count).map_err(Error::from)?;
            let out = Memory::of(&mut handles).reshaped(shape);
            let blocks = Blocks::default();
            self.read_axes(py, &axes, &|source, transfers, options| {
                pool::spread(transfers.len(), options, |i, options| {
                    // SAFETY: `read_axes` names each element of `out` once.
                    unsafe { source.read_objects(&transfers[i], &out, &blocks, options) }
                })
            })?;
            let blocks = blocks.into_inner().unwrap_or_else(PoisonError::into_inner);
            let list = PyList::empty(py);
            for [block, i] in handles {
                let (block, i) = (&blocks[block as usize], i as usize);
                let bytes = &block.bytes()[block.offsets()[i]..block.offsets()[i + 1]];
                if self.spec.kind == Kind::Bytes {
                    list.append(PyBytes::new(py, bytes))?;
                } else {
                    let text = std::str::from_utf8(bytes).map_err(|error| {
                        Error::Codec(format!("an element is not text: {error}"))
                    })?;
                    list.append(PyString::new(py, text))?;
                }
            }
            Ok(list)
        })
    }
}

/// What to do with parts of a chunk.
type Read<'a> = dyn Fn(&Source<'_>, &[Transfer], &CodecOptions) -> Result<()> + Sync + 'a;

/// The indices of a chunk, and what to read of it.
type ChunkOf<'a> = dyn Fn(usize) -> Result<(Vec<u64>, Cow<'a, [Transfer]>)> + Sync + 'a;

impl Array {
    fn out(&self, py: Python<'_>, out: &Bound<'_, PyAny>) -> PyResult<Memory> {
        Memory::write(out, self.descr(py)?)
    }

    /// numpy's dtype.
    ///
    /// # Errors
    /// [`Error::Type`] if the elements are of variable length.
    fn descr<'py>(&self, py: Python<'py>) -> Result<&Bound<'py, PyArrayDescr>> {
        self.descr
            .as_ref()
            .map(|descr| descr.bind(py))
            .ok_or_else(|| {
                Error::Type(
                    "elements of variable length do not fill an array; use read_objects".into(),
                )
            })
    }

    /// The memory of `out`, whose data type is that of the elements after a cast to `cast`.
    pub fn out_as(
        &self,
        py: Python<'_>,
        out: &Bound<'_, PyAny>,
        cast: Option<&str>,
    ) -> PyResult<Memory> {
        let Some(cast) = cast else {
            return self.out(py, out);
        };
        self.descr(py)?;
        let cast = Cast::new(&self.spec.data_type, cast)?;
        let descr = PyArrayDescr::new(py, cast.numpy())?;
        Ok(Memory::write(out, &descr)?.casting(Some(cast)))
    }

    /// Length of each dimension.
    pub fn lengths(&self) -> &[u64] {
        self.stored.shape()
    }

    /// The index of the first element of a chunk.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such chunk.
    pub fn origin(&self, chunk: &[u64]) -> Result<Vec<u64>> {
        let grid = self.stored.chunk_grid_shape();
        let inside = grid.len() == chunk.len() && std::iter::zip(chunk, grid).all(|(i, n)| i < n);
        let origin = self.stored.chunk_origin(chunk);
        origin.ok().filter(|_| inside).ok_or_else(|| {
            Error::Value(format!(
                "expected a chunk of a grid of {grid:?}, got {chunk:?}"
            ))
        })
    }

    /// What is held of its chunks.
    pub fn held(&self, py: Python<'_>) -> Arc<Held> {
        self.cache.get().held(py)
    }

    /// Cut runs of indices of the first dimension, each with its place in the output, and all of the
    /// other dimensions, at chunks and subchunks.
    pub fn cut_rows(&self, runs: &[(Axis, u64)]) -> Result<Parts> {
        let mut pieces = Vec::with_capacity(runs.len());
        for (run, place) in runs {
            for part in selection::project(run, |index| self.grid.locate(0, index, true))? {
                let moved = part
                    .pieces
                    .into_iter()
                    .map(|(inside, to)| (inside, to.moved(*place)));
                pieces.push((part.chunk, moved.collect()));
            }
        }
        pieces.sort_by_key(|(chunk, _)| *chunk);
        let rows = pieces.chunk_by(|a, b| a.0 == b.0).map(|same| Part {
            chunk: same[0].0,
            pieces: same
                .iter()
                .flat_map(|(_, pieces): &(_, Vec<_>)| pieces.clone())
                .collect(),
        });
        let mut dims = vec![rows.collect()];
        for (d, &len) in self.lengths().iter().enumerate().skip(1) {
            let all = Axis::all(usize::try_from(len).map_err(|_| Error::memory(len))?);
            dims.push(selection::project(&all, |index| {
                self.grid.locate(d, index, false)
            })?);
        }
        Parts::new(dims)
    }

    /// Call `read` for the parts of every chunk that `axes` meet, on all threads. The parts name
    /// each element of the output once.
    fn read_axes(&self, py: Python<'_>, axes: &[Axis], read: &Read<'_>) -> PyResult<()> {
        if axes.iter().any(|axis| axis.len() == 0) {
            return Ok(());
        }
        let parts = axes
            .iter()
            .enumerate()
            .map(|(d, axis)| {
                let fine = axis.is_sparse();
                selection::project(axis, |index| self.grid.locate(d, index, fine))
            })
            .collect::<Result<_>>()?;
        let parts = Parts::new(parts)?;
        if self.is_little(axes) && matches!(self.root, Root::Folder(_)) {
            let held = self.held(py);
            return Ok(pool::alone(py, |options| {
                self.read_chunk(&held, &parts.chunk(0), false, |source| {
                    read(source, &parts.transfers(0)?, options)
                })
            })?);
        }
        let chunk = |i| Ok((parts.chunk(i), parts.transfers(i)?.into()));
        self.read_chunks(py, parts.len(), &chunk, read)
    }

    /// Call `read` for chunks `0..count`, on all threads.
    fn read_chunks(
        &self,
        py: Python<'_>,
        count: usize,
        chunk: &ChunkOf<'_>,
        read: &Read<'_>,
    ) -> PyResult<()> {
        let (held, client) = (self.held(py), self.client(py)?);
        if client.is_none() {
            return Ok(pool::run(py, count, true, |i, options| {
                let (chunk, transfers) = chunk(i)?;
                self.read_chunk(&held, &chunk, false, |source| {
                    read(source, &transfers, options)
                })
            })?);
        }
        let task = |i| {
            let (chunk, transfers) = chunk(i)?;
            Ok(fetch::Task {
                array: self,
                client: client.as_ref(),
                held: &held,
                keeps_whole: false,
                chunk,
                transfers,
            })
        };
        fetch::read(py, count, &task, &|_, source, transfers, options| {
            read(source, transfers, options)
        })
    }

    /// What fetches its objects, if it is not in files.
    ///
    /// The GIL must be held, as for [`Objects::client`].
    pub fn client(&self, py: Python<'_>) -> Result<Option<Arc<Client>>> {
        match &self.root {
            Root::Folder(_) => Ok(None),
            Root::Objects(objects) => objects.get().client(py).map(Some),
        }
    }

    /// Whether a run of rows lies in one (inner) chunk, which is decoded in one pass.
    pub fn is_in_one_chunk(&self, rows: &Axis) -> bool {
        let rest = self.lengths().iter().skip(1);
        let all = rest.map(|&len| Axis::all(len as usize));
        self.is_little(&std::iter::once(rows.clone()).chain(all).collect::<Vec<_>>())
    }

    /// Whether `axes` lie in one (inner) chunk, which is decoded in one pass.
    fn is_little(&self, axes: &[Axis]) -> bool {
        let Some(unit) = self.grid.granule.as_ref().or(self.grid.regular.as_ref()) else {
            return false;
        };
        self.spec.decodes_at_once(unit)
            && std::iter::zip(axes, unit).all(|(axis, len)| {
                let bounds = axis.bounds();
                bounds.start / len == (bounds.end - 1) / len
            })
    }

    /// Open a chunk, and read from it; with `keeps_whole`, keep what is read as a whole, too.
    ///
    /// # Errors
    /// [`Error::Store`] if that fails, and those of `read`.
    pub fn read_chunk(
        &self,
        held: &Arc<Held>,
        chunk: &[u64],
        keeps_whole: bool,
        read: impl FnOnce(&Source<'_>) -> Result<()>,
    ) -> Result<()> {
        let shape = self.chunk_shape(chunk)?;
        let Root::Folder(root) = &self.root else {
            return Err(Error::Store("expected an array in files".into()));
        };
        let path = root.join(self.chunk_key(chunk));
        let kept = self.kept(held, chunk, keeps_whole, Known::default());
        let source = Source::open(&self.spec, &path, &shape)?.keeping(kept);
        if !source.exists() {
            self.expect_same_folder(root)?;
        }
        let result = read(&source);
        source.count_bytes();
        result
    }

    /// Refuse fill values for the chunks of an array that is no longer there: after it was removed,
    /// or replaced by another one.
    fn expect_same_folder(&self, root: &Path) -> Result<()> {
        let folder = root.join(self.stored.path().as_str().trim_start_matches('/'));
        if Identity::of(&folder) == self.folder {
            return Ok(());
        }
        Err(Error::Store(format!(
            "{} is no longer the array that was opened: it was replaced or removed meanwhile. Open \
             it again",
            folder.display()
        )))
    }

    /// Shape of a chunk.
    ///
    /// # Errors
    /// [`Error::Metadata`] if there is no such chunk.
    pub fn chunk_shape(&self, chunk: &[u64]) -> Result<Vec<NonZeroU64>> {
        (self.stored.chunk_shape(chunk)).map_err(|error| Error::Metadata(error.to_string()))
    }

    /// Key of a chunk in the store.
    pub fn chunk_key(&self, chunk: &[u64]) -> String {
        self.stored.chunk_key(chunk).as_str().into()
    }

    /// What the cache calls a chunk.
    pub fn cached(&self, chunk: &[u64]) -> Chunk {
        (self.number, chunk.into())
    }

    /// What is kept and counted when a chunk is read.
    pub fn kept<'a>(
        &'a self,
        held: &'a Arc<Held>,
        chunk: &[u64],
        keeps_whole: bool,
        known: Known,
    ) -> Kept<'a> {
        Kept {
            held,
            chunk: self.cached(chunk),
            stats: &self.stats,
            keeps_whole,
            known,
        }
    }
}

/// What tells a folder from one that takes its place: device, number, and when it was made, as
/// numbers are used again. None of it if there is no folder.
#[derive(Default, PartialEq)]
struct Identity(Option<(u64, u64, Option<SystemTime>)>);

impl Identity {
    fn of(folder: &Path) -> Self {
        Self(fs::metadata(folder).ok().map(|found| {
            #[cfg(unix)]
            let (device, number) = {
                use std::os::unix::fs::MetadataExt;
                (found.dev(), found.ino())
            };
            #[cfg(not(unix))]
            let (device, number) = (0, 0);
            (device, number, found.created().ok())
        }))
    }
}

/// How an array is cut into chunks, one dimension at a time.
struct Grid {
    chunks: ChunkGrid,
    /// The shape of every chunk, unless they differ.
    regular: Option<Vec<u64>>,
    /// What one read serves in a chunk, if that is less than the chunk.
    granule: Option<Vec<u64>>,
}

/// Points of one chunk.
struct Group {
    chunk: Vec<u64>,
    transfers: Vec<Transfer>,
}

impl Grid {
    fn new(grid: &ChunkGrid, spec: &Spec) -> Self {
        let first: Option<Vec<NonZeroU64>> = grid
            .chunk_shape(&vec![0; grid.dimensionality()])
            .ok()
            .flatten();
        let regular = grid.name(ZarrVersion::V3).as_deref() == Some("regular");
        Self {
            regular: first.as_deref().map(lengths).filter(|_| regular),
            granule: first
                .map(|shape| (spec.granule(&shape), lengths(&shape)))
                .filter(|(granule, shape)| granule != shape)
                .map(|(granule, _)| granule),
            chunks: grid.clone(),
        }
    }

    fn first_chunk(&self) -> Vec<u64> {
        self.regular.clone().unwrap_or_else(|| {
            let origin = vec![0; self.chunks.dimensionality()];
            let shape = self.chunks.chunk_shape(&origin).ok().flatten();
            shape.as_deref().map(lengths).unwrap_or_default()
        })
    }

    /// Where `index` of dimension `d` lies; with `fine`, in which subchunk.
    fn locate(&self, d: usize, index: u64, fine: bool) -> Result<Cell> {
        let (chunk, origin, len) = match &self.regular {
            Some(shape) => (index / shape[d], index - index % shape[d], shape[d]),
            None => self
                .irregular(d, index)
                .ok_or_else(|| Error::Metadata(format!("no chunk holds index {index}")))?,
        };
        let mut range = origin..origin.saturating_add(len);
        if fine && let Some(granule) = &self.granule {
            let start = index - (index - origin) % granule[d];
            range = start..range.end.min(start.saturating_add(granule[d]));
        }
        Ok(Cell {
            chunk,
            origin,
            range,
        })
    }

    fn irregular(&self, d: usize, index: u64) -> Option<(u64, u64, u64)> {
        let at = |i| {
            let mut indices = vec![0; self.chunks.dimensionality()];
            indices[d] = i;
            indices
        };
        let chunk = self.chunks.chunk_indices(&at(index)).ok()??[d];
        let origin = self.chunks.chunk_origin(&at(chunk)).ok()??[d];
        let len = self.chunks.chunk_shape(&at(chunk)).ok()??[d];
        Some((chunk, origin, len.get()))
    }

    /// Sort points by chunk and subchunk; each goes to the place that it has in the list.
    fn group(&self, points: &[Vec<u64>]) -> Result<Vec<Group>> {
        let count = points.first().map_or(1, Vec::len);
        let mut cells = (0..count)
            .map(|i| {
                let cells = points
                    .iter()
                    .enumerate()
                    .map(|(d, indices)| self.locate(d, indices[i], true))
                    .collect::<Result<Vec<_>>>()?;
                let chunk: Vec<_> = cells.iter().map(|cell| cell.chunk).collect();
                let start: Vec<_> = cells.iter().map(|cell| cell.range.start).collect();
                let origin: Vec<_> = cells.iter().map(|cell| cell.origin).collect();
                Ok((chunk, start, origin, i))
            })
            .collect::<Result<Vec<_>>>()?;
        cells.sort_unstable();
        Ok(cells
            .chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| Group {
                chunk: chunk[0].0.clone(),
                transfers: chunk
                    .chunk_by(|a, b| a.1 == b.1)
                    .map(|cell| {
                        let inside = |(d, indices): (usize, &Vec<u64>)| {
                            let origin = cell[0].2[d];
                            cell.iter().map(|(.., i)| indices[*i] - origin).collect()
                        };
                        let places: Vec<_> = cell.iter().map(|(.., i)| *i as u64).collect();
                        Transfer::Points(
                            points.iter().enumerate().map(inside).collect(),
                            Axis::list(&places),
                        )
                    })
                    .collect(),
            })
            .collect())
    }
}

/// An array, what its elements are in Python, and its metadata as it is stored.
pub type Opened = (zarrs::array::Array<()>, Kind, String);

/// The array at `path` of the store in the folder `root`, which encodes with `encoding`.
///
/// # Errors
/// [`Error::Store`] if there is none, [`Error::Metadata`] if it cannot be used.
pub fn open(root: &Path, path: &str, encoding: Encoding) -> Result<Opened> {
    let path = path.trim_matches('/');
    expect_inside(path)?;
    let folder = root.join(path);
    let text = |name: &str| document::read(&folder.join(name));
    let metadata = match text("zarr.json")? {
        Some(metadata) => metadata,
        None => match (text(".zarray")?, text(".zattrs")?) {
            (Some(array), Some(attributes)) => merge(&array, &attributes)?,
            (Some(array), None) => array,
            (None, _) => {
                return Err(Error::Store(format!(
                    "no array at {}: neither zarr.json nor .zarray is there",
                    folder.display()
                )));
            }
        },
    };
    create(&root.display().to_string(), path, metadata, encoding)
}

/// The array at `path` of the store `root`, of that metadata.
///
/// # Errors
/// [`Error::Metadata`], with its place, if it cannot be used.
fn create(root: &str, path: &str, metadata: String, encoding: Encoding) -> Result<Opened> {
    let path = path.trim_matches('/');
    let node = format!("/{path}");
    let placed = |message: &str| {
        let place = format!("{root}/{path}");
        format!("{}: {message}", place.trim_end_matches('/'))
    };
    let (array, kind) =
        metadata::create(().into(), &node, &metadata, encoding).map_err(|error| match error {
            Error::Metadata(message) => Error::Metadata(placed(&message)),
            Error::Limit(message) => Error::Limit(placed(&message)),
            error => error,
        })?;
    // All keys of an array are spelt alike.
    expect_inside(array.chunk_key(&vec![0; array.dimensionality()]).as_str())?;
    Ok((array, kind, metadata))
}

/// Check that a path, or the key of a chunk, leads to no place outside of the store.
///
/// # Errors
/// [`Error::Store`].
fn expect_inside(path: &str) -> Result<()> {
    let is_inside = |part| matches!(part, Component::Normal(_));
    if Path::new(path).components().all(is_inside) {
        return Ok(());
    }
    Err(Error::Store(format!(
        "expected a path within the store, got {path:?}"
    )))
}

/// A Zarr 2 array document with its attributes as a member, as they are spelt.
fn merge(array: &str, attributes: &str) -> Result<String> {
    for document in [array, attributes] {
        serde_json::from_str::<Map<String, Value>>(&metadata::strict_json(document))
            .map_err(|error| Error::Metadata(format!("metadata: {error}")))?;
    }
    // Behind them, as of two members with one name the last one counts.
    let members = array.trim_end().strip_suffix('}').unwrap_or_default();
    let comma = if members.trim() == "{" { "" } else { "," };
    Ok(format!(r#"{members}{comma}"attributes":{attributes}}}"#))
}
