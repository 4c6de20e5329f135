//! `Appender`: rows encoded into chunk files that are staged beside the store, never in it.
//!
//! Python moves the staged files into the store, all of them at once as far as a reader or a crash
//! can tell. A file of sharded rows that replaces another one keeps what a reader of that one may be
//! about to read: a reader takes the index first and the subchunks later.

use std::io::Write;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use numpy::PyArrayDescr;
use pyo3::prelude::*;
use rayon::prelude::*;
use tempozarr::limits::limits;
use tempozarr::{Encoding, memory};
use zarrs::plugin::{ExtensionName, ZarrVersion};

use crate::array;
use crate::beneath::Beneath;
use crate::chunk::{Merge, Spec, Update, lengths, store_error};
use crate::errors::{Error, Result};
use crate::memory::Memory;
use crate::pool;
use crate::selection::{Axis, Transfer, unravel};
use crate::shard::{self, MISSING};
use crate::source::Source;

/// Encodes rows for the end of one array.
#[pyclass(frozen, module = "tempozarr._core")]
pub struct Appender {
    stored: zarrs::array::Array<()>,
    beneath: Py<Beneath>,
    spec: Spec,
    descr: Py<PyArrayDescr>,
    /// Shape of a chunk, of a shard where there are any.
    chunk: Vec<NonZeroU64>,
    /// Units per dimension of a chunk.
    grid: Vec<u64>,
    /// Chunks per dimension after the first.
    columns: Vec<usize>,
    /// Where to stage files, and what their names start with.
    staging: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The chunks of the last row of chunks.
    files: Vec<Chunk>,
    /// Which one that is.
    band: Option<u64>,
    staged: Vec<Move>,
    /// Files staged since the beginning.
    count: u64,
}

/// A staged file and its place in the store, both beneath the root.
type Move = (PathBuf, PathBuf);

/// A chunk in memory, encoded.
struct Chunk {
    path: PathBuf,
    /// Whether the store has a file there.
    exists: bool,
    changed: bool,
    /// The file, but for an index at its end.
    bytes: Vec<u8>,
    /// Offset and length of each subchunk in `bytes`; of one that is all, without sharding.
    index: Vec<[u64; 2]>,
    /// What holes may be filled behind: before it, nobody knows what readers read.
    frozen: u64,
    /// What readers of former files may still be reading.
    retired: Vec<(Instant, [u64; 2])>,
}

/// What to encode: which subchunk of which chunk, from which rows.
struct Job {
    band: u64,
    column: usize,
    entry: usize,
    part: Transfer,
}

#[pymethods]
impl Appender {
    /// Append to the array at `path` of the store in the folder `beneath`, whose first `rows` rows are
    /// kept. Files are staged there as `staging`-0, `staging`-1, ... Both settings are of [`Encoding`].
    #[new]
    #[pyo3(signature = (beneath, path, rows, staging, lz4_level=None, zstd_fast_decode=false))]
    fn new(
        py: Python<'_>,
        beneath: Py<Beneath>,
        path: &str,
        rows: u64,
        staging: PathBuf,
        lz4_level: Option<i32>,
        zstd_fast_decode: bool,
    ) -> PyResult<Self> {
        let encoding = Encoding {
            lz4_level,
            zstd_fast_decode,
        };
        let root = beneath.get().path();
        let (stored, spec) = pool::compute(py, || {
            let (stored, kind, _) = array::open(root, path, encoding)?;
            let spec = Spec::new(&stored, kind);
            Ok((stored, spec))
        })?;
        let Some(descr) = spec.kind.descr(py)? else {
            return Err(Error::Metadata(format!(
                "{path}: elements of variable length cannot be appended"
            ))
            .into());
        };
        let regular = stored.chunk_grid().name(ZarrVersion::V3);
        if regular.as_deref() != Some("regular") || stored.dimensionality() == 0 {
            return Err(Error::Metadata(format!(
                "{path}: expected one dimension or more and chunks of one shape to append to"
            ))
            .into());
        }
        let chunk = stored.chunk_shape(&vec![0; stored.dimensionality()]);
        let chunk = chunk.map_err(|error| Error::Metadata(error.to_string()))?;
        let columns = std::iter::zip(stored.shape(), &chunk).skip(1);
        let columns = columns.map(|(&len, chunk)| len.div_ceil(chunk.get()) as usize);
        let grid = match spec.sharding() {
            Some(sharding) => sharding.grid(&chunk),
            None => Some(vec![1; chunk.len()]),
        };
        let grid = grid.ok_or_else(|| {
            Error::Metadata(format!("{path}: expected subchunks that divide the shards"))
        })?;
        let columns: Vec<usize> = columns.collect();
        // What is kept of each chunk and subchunk of a row of chunks.
        let entries = (columns
            .iter()
            .map(|&n| n as u64)
            .chain(grid.iter().copied()))
        .try_fold(1_u64, u64::checked_mul)
        .filter(|&entries| entries <= limits().subchunks);
        if entries.is_none() {
            return Err(Error::Limit(format!(
                "{path}: too many subchunks side by side to append to, expected at most {}. If you \
                 trust this store, raise the limit `subchunks`",
                limits().subchunks
            ))
            .into());
        }
        let appender = Self {
            spec,
            grid,
            columns,
            stored,
            beneath,
            descr,
            chunk,
            staging,
            state: Mutex::default(),
        };
        let len = appender.chunk[0];
        if !rows.is_multiple_of(len.get()) {
            pool::compute(py, || {
                let band = rows / len.get();
                let mut state = appender.state();
                state.files = appender.files(band, |path| appender.kept(path, rows % len.get()))?;
                state.band = Some(band);
                Ok(())
            })?;
        }
        Ok(appender)
    }

    /// Rows that are encoded at once: those of a subchunk, or of a chunk that has none.
    #[getter]
    fn unit_rows(&self) -> u64 {
        self.unit()[0].get()
    }

    /// Encode `rows`, which are rows `start..` of the array: in the place of what was put there
    /// before, and with fill values behind the last one if that is not the last of a subchunk.
    ///
    /// `start` is the first row of a subchunk. After an error nothing has changed, but for files of
    /// chunks before.
    fn put(&self, py: Python<'_>, start: u64, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = Memory::read(rows, self.descr.bind(py))?;
        let mut expected = self.stored.shape().to_vec();
        if let (Some(len), Some(&count)) = (expected.first_mut(), value.shape.first()) {
            *len = count as u64;
        }
        value.expect_shape(&expected)?;
        if !start.is_multiple_of(self.unit_rows()) {
            return Err(Error::Value(format!(
                "expected a multiple of {} as the first row, got {start}",
                self.unit_rows()
            ))
            .into());
        }
        let end = start.checked_add(expected[0]);
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Error::Value(format!(
                "expected fewer than 2^63 rows, got {start} and more"
            ))
            .into());
        }
        if value.bytes() == 0 {
            return Ok(());
        }
        Ok(pool::compute(py, || self.encode(start, &value))?)
    }

    /// Write every chunk that has changed; give all files staged since the last call, synced if
    /// `sync`, each with its place in the store. They are taken to be moved there.
    fn stage(&self, py: Python<'_>, sync: bool) -> PyResult<Vec<(String, String)>> {
        Ok(pool::compute(py, || {
            let mut state = self.state();
            self.write(&mut state)?;
            let moves = std::mem::take(&mut state.staged);
            drop(state);
            if sync {
                moves.par_iter().try_for_each(|(staged, _)| {
                    (self.beneath.get().sync(staged))
                        .map_err(|error| store_error(&self.name(staged), &error))
                })?;
            }
            let text = |path: PathBuf| path.display().to_string();
            let moves = moves.into_iter();
            Ok(moves
                .map(|(staged, place)| (text(staged), text(place)))
                .collect())
        })?)
    }
}

impl Appender {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unit(&self) -> &[NonZeroU64] {
        self.spec.unit(&self.chunk).1
    }

    fn encode(&self, start: u64, value: &Memory) -> Result<()> {
        let options = pool::options();
        let (codecs, unit) = self.spec.unit(&self.chunk);
        let inside: Vec<_> = unit.iter().map(|len| 0..len.get()).collect();
        let jobs = self.jobs(start, value)?;
        let encoded: Vec<_> = jobs
            .par_iter()
            .with_max_len(1)
            .map(|job| {
                let merge = Merge {
                    region: inside.clone(),
                    transfer: Some(&job.part),
                    old: None,
                };
                let path = self.place(&self.path(job.band, job.column));
                let name = path.display().to_string();
                let update = Update {
                    transfer: &job.part,
                    complete: true,
                    value,
                    // A file that is there has to be replaced; a shard has an index to say it.
                    write_empty_chunks: self.spec.sharding().is_none() && path.exists(),
                };
                self.spec
                    .merged(&name, &merge, &update, &options, |unit_values| {
                        self.spec.encode(codecs, &name, unit_values, unit, &options)
                    })
            })
            .collect::<Result<_>>()?;
        let mut state = self.state();
        for (job, bytes) in std::iter::zip(jobs, encoded) {
            if state.band != Some(job.band) {
                self.write(&mut state)?;
                state.files = self.files(job.band, |path| self.fresh(path))?;
                state.band = Some(job.band);
            }
            let file = &mut state.files[job.column];
            if self.spec.sharding().is_some() {
                file.put(job.entry, bytes)?;
            } else {
                file.replace(bytes);
            }
        }
        Ok(())
    }

    /// The subchunks that rows `start..` meet, in the order of their chunks.
    fn jobs(&self, start: u64, value: &Memory) -> Result<Vec<Job>> {
        let len = self.chunk[0].get();
        let end = start + value.shape[0] as u64;
        let unit = lengths(self.unit());
        let mut jobs = Vec::new();
        for band in start / len..end.div_ceil(len) {
            let rows = start.max(band * len)..end.min((band + 1) * len);
            for column in 0..self.columns.iter().product() {
                let mut dims = vec![shared(rows.clone(), band * len, start)];
                for (d, i) in (1..).zip(unravel(column, &self.columns)) {
                    let len = self.chunk[d].get();
                    let origin = i as u64 * len;
                    let end = self.stored.shape()[d].min(origin + len);
                    dims.push(shared(origin..end, origin, 0));
                }
                for (indices, part) in Transfer::Grid(dims).cut(&unit)? {
                    jobs.push(Job {
                        band,
                        column,
                        entry: shard::place(&indices, &self.grid),
                        part,
                    });
                }
            }
        }
        Ok(jobs)
    }

    fn path(&self, band: u64, column: usize) -> PathBuf {
        let mut chunk = vec![band];
        chunk.extend(unravel(column, &self.columns).iter().map(|&i| i as u64));
        PathBuf::from(self.stored.chunk_key(&chunk).as_str())
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.beneath.get().path().join(path)
    }

    fn name(&self, path: &Path) -> String {
        self.place(path).display().to_string()
    }

    /// The files of `band`, made by `file`.
    fn files(&self, band: u64, file: impl Fn(PathBuf) -> Result<Chunk>) -> Result<Vec<Chunk>> {
        let columns = 0..self.columns.iter().product();
        columns
            .map(|column| file(self.path(band, column)))
            .collect()
    }

    /// A chunk without any rows, whatever the store has there.
    fn fresh(&self, path: PathBuf) -> Result<Chunk> {
        let name = self.name(&path);
        let bytes = match self.spec.sharding() {
            Some(sharding) => sharding.head(&name, &self.grid)?,
            None => Vec::new(),
        };
        Ok(Chunk {
            exists: self.place(&path).exists(),
            path,
            changed: false,
            frozen: bytes.len() as u64,
            bytes,
            index: memory::filled(MISSING, shard::encoded_len(&self.grid)?)?,
            retired: Vec::new(),
        })
    }

    /// A chunk with the first `rows` rows that the store has.
    fn kept(&self, path: PathBuf, rows: u64) -> Result<Chunk> {
        let mut file = self.fresh(path)?;
        let Some(sharding) = self.spec.sharding().filter(|_| file.exists) else {
            return Ok(file); // its one subchunk is encoded anew
        };
        let stored = Source::open(&self.spec, &self.place(&file.path), &self.chunk)?;
        (file.bytes, file.index) = sharding.parse(&stored, &self.grid, &pool::options())?;
        // A row of subchunks lies together, the first dimension being the slowest.
        let width: u64 = self.grid.iter().skip(1).product();
        let kept = rows.div_ceil(self.unit_rows()) * width;
        file.index[kept as usize..].fill(MISSING);
        file.frozen = file.bytes.len() as u64;
        Ok(file)
    }

    /// Stage the chunks that have changed.
    fn write(&self, state: &mut State) -> Result<()> {
        for file in &mut state.files {
            let stored = file.index.iter().any(|entry| *entry != MISSING);
            // What is only fill value is not stored, unless to replace something.
            if !file.changed || !(stored || file.exists) {
                continue;
            }
            let mut staged = self.staging.clone().into_os_string();
            staged.push(format!("-{}", state.count));
            let staged = PathBuf::from(staged);
            let tail = self.finish(file)?;
            let write = || {
                let mut out = self.beneath.get().create_new(&staged)?;
                out.write_all(&file.bytes)?;
                out.write_all(&tail)
            };
            write().map_err(|error| store_error(&self.name(&staged), &error))?;
            state.count += 1;
            state.staged.push((staged, file.path.clone()));
            file.changed = false;
            file.exists = true;
        }
        Ok(())
    }

    /// Put the index into the bytes of `file`, or give it if it belongs behind them.
    fn finish(&self, file: &mut Chunk) -> Result<Vec<u8>> {
        let Some(sharding) = self.spec.sharding() else {
            return Ok(Vec::new());
        };
        let name = self.name(&file.path);
        let index = sharding.encode_index(&name, &file.index, &self.grid, &pool::options())?;
        if !sharding.index_first {
            return Ok(index);
        }
        file.bytes[..index.len()].copy_from_slice(&index);
        Ok(Vec::new())
    }
}

impl Chunk {
    /// How long a reader may take between a shard's index and its subchunks.
    const READERS: Duration = Duration::from_secs(10);
    /// More are not kept for them.
    const RETIRED: usize = 32;

    /// Replace all of a chunk.
    fn replace(&mut self, bytes: Option<Vec<u8>>) {
        self.changed = true;
        self.index[0] = bytes
            .as_ref()
            .map_or(MISSING, |bytes| [0, bytes.len() as u64]);
        self.bytes = bytes.unwrap_or_default();
    }

    /// Put a subchunk into the shard; if it was there before, in a hole if there is one.
    fn put(&mut self, entry: usize, bytes: Option<Vec<u8>>) -> Result<()> {
        self.changed = true;
        let before = std::mem::replace(&mut self.index[entry], MISSING);
        if before != MISSING {
            self.retire(before);
        }
        let Some(bytes) = bytes else { return Ok(()) };
        let len = bytes.len() as u64;
        let at = if before == MISSING {
            self.bytes.len() as u64
        } else {
            self.hole(len)
        };
        let (start, end) = (at as usize, (at + len) as usize);
        if let Some(more) = end.checked_sub(self.bytes.len()) {
            memory::reserve(&mut self.bytes, more)?;
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(&bytes);
        self.index[entry] = [at, len];
        Ok(())
    }

    fn retire(&mut self, entry: [u64; 2]) {
        let retired = &mut self.retired;
        retired.push((Instant::now(), entry));
        retired.retain(|(since, _)| since.elapsed() < Self::READERS);
        retired.drain(..retired.len().saturating_sub(Self::RETIRED));
    }

    /// The first place for `len` bytes.
    fn hole(&self, len: u64) -> u64 {
        let live = self.index.iter().filter(|entry| **entry != MISSING);
        let mut taken: Vec<_> = live
            .chain(self.retired.iter().map(|(_, entry)| entry))
            .collect();
        taken.sort_unstable();
        let mut at = self.frozen;
        for [offset, length] in taken {
            if at + len <= *offset {
                break;
            }
            at = at.max(offset + length);
        }
        at
    }
}

/// One dimension of a transfer: indices `range`, of a chunk that starts at `origin` and of values
/// that start at `start`.
fn shared(range: Range<u64>, origin: u64, start: u64) -> (Axis, Option<Axis>) {
    let behind = |origin| Axis::run(range.start - origin..range.end - origin);
    (behind(origin), Some(behind(start)))
}
