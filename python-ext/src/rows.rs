//! Runs of rows of any number of arrays, read side by side: what windows are made of.

use std::sync::Arc;

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use zarrs_codec::CodecOptions;

use crate::array::Array;
use crate::cache::Held;
use crate::errors::{Error, Result, caught};
use crate::fetch;
use crate::memory::Memory;
use crate::objects::Client;
use crate::pool;
use crate::selection::{Axis, Parts};

/// `(array, rows, places, counts, step, out, cast)`, as [`read_rows`] takes it.
type PyJob<'py> = (
    Bound<'py, Array>,
    PyReadonlyArray1<'py, i64>,
    PyReadonlyArray1<'py, i64>,
    PyReadonlyArray1<'py, i64>,
    i64,
    Bound<'py, PyAny>,
    Option<String>,
);

/// Runs of rows of one array.
struct Job {
    array: Py<Array>,
    held: Arc<Held>,
    /// The rows of the array, and where they begin in the output.
    runs: Vec<(Axis, u64)>,
    out: Memory,
}

/// Read runs of rows of arrays. Run `i` of a job `(array, rows, places, counts, step, out, cast)`
/// are the `counts[i]` rows `rows[i]`, `rows[i] + step`, ... of `array`; they become the rows from
/// `places[i]` on of `out`, a C-ordered array of the data type `cast`, or of the array if that is
/// None.
///
/// `ValueError` if a run is out of bounds, or if two of them share rows of their outputs.
#[pyfunction]
pub fn read_rows(py: Python<'_>, jobs: Vec<PyJob<'_>>) -> PyResult<()> {
    caught(|| {
        let jobs = jobs
            .into_iter()
            .map(|job| Job::new(py, job))
            .collect::<PyResult<Vec<_>>>()?;
        expect_disjoint(&jobs)?;
        let clients = jobs
            .iter()
            .map(|job| job.array.get().client(py))
            .collect::<Result<Vec<_>>>()?;
        if clients.iter().any(Option::is_some) {
            return read_objects(py, &jobs, &clients);
        }
        if let [job] = &jobs[..]
            && let [run] = &job.runs[..]
            && job.array.get().is_in_one_chunk(&run.0)
        {
            return Ok(pool::alone(py, |options| {
                job.read(&job.array.get().cut_rows(&job.runs)?, 0, options)
            })?);
        }
        let tasks = pool::compute(py, || {
            let mut tasks = Vec::new();
            for job in &jobs {
                let parts = Arc::new(job.array.get().cut_rows(&job.runs)?);
                tasks.extend((0..parts.len()).map(|i| (job, Arc::clone(&parts), i)));
            }
            pool::spread(tasks.len(), &pool::options(), |i, options| {
                let (job, parts, i) = &tasks[i];
                job.read(parts, *i, options)
            })
        });
        Ok(tasks?)
    })
}

/// [`read_rows`] where arrays are in object stores, some of them or all.
fn read_objects(py: Python<'_>, jobs: &[Job], clients: &[Option<Arc<Client>>]) -> PyResult<()> {
    let tasks = pool::compute(py, || {
        let mut tasks = Vec::new();
        for (job, client) in std::iter::zip(jobs, clients) {
            let parts = Arc::new(job.array.get().cut_rows(&job.runs)?);
            tasks.extend((0..parts.len()).map(|i| (job, client, Arc::clone(&parts), i)));
        }
        Ok(tasks)
    })?;
    let task = |i: usize| {
        let (job, client, parts, i) = &tasks[i];
        Ok(fetch::Task {
            array: job.array.get(),
            client: client.as_ref(),
            held: &job.held,
            keeps_whole: true,
            chunk: parts.chunk(*i),
            transfers: parts.transfers(*i)?.into(),
        })
    };
    fetch::read(py, tasks.len(), &task, &|i, source, transfers, options| {
        // SAFETY: as in `Job::read`.
        unsafe { source.read(transfers, &tasks[i].0.out, options) }
    })
}

impl Job {
    fn new(py: Python<'_>, job: PyJob<'_>) -> PyResult<Self> {
        let (array, rows, places, counts, step, out, cast) = job;
        let memory = array.get().out_as(py, &out, cast.as_deref())?;
        let Some((&length, row)) = array.get().lengths().split_first() else {
            return Err(Error::Value("an array without dimensions has no rows".into()).into());
        };
        let places_in_out = memory.shape.first().copied().unwrap_or(0) as u64;
        memory.expect_shape(&[&[places_in_out], row].concat())?;
        if memory.cells().is_none() {
            return Err(Error::Value("expected a C-ordered array for rows".into()).into());
        }
        let (rows, places, counts) = (rows.as_array(), places.as_array(), counts.as_array());
        if rows.len() != places.len() || rows.len() != counts.len() {
            return Err(Error::Value(format!(
                "expected as many rows, places and counts, got {}, {} and {}",
                rows.len(),
                places.len(),
                counts.len()
            ))
            .into());
        }
        let mut runs = Vec::with_capacity(rows.len());
        for ((&row, &place), &count) in rows.iter().zip(places).zip(counts) {
            let run = Axis::range(row, count, step, length).ok_or_else(|| {
                Error::Value(format!(
                    "{count} rows from {row} in steps of {step} are not within {length} rows"
                ))
            })?;
            let place = u64::try_from(place)
                .ok()
                .filter(|place| {
                    let end = place.checked_add(run.len() as u64);
                    end.is_some_and(|end| end <= places_in_out)
                })
                .ok_or_else(|| {
                    Error::Value(format!(
                        "{count} rows do not fit at {place} of {places_in_out}"
                    ))
                })?;
            if run.len() > 0 && memory.bytes() > 0 {
                runs.push((run, place));
            }
        }
        Ok(Self {
            held: array.get().held(py),
            array: array.unbind(),
            runs,
            out: memory,
        })
    }

    /// Read the parts of chunk `i`.
    fn read(&self, parts: &Parts, i: usize, options: &CodecOptions) -> Result<()> {
        let transfers = parts.transfers(i)?;
        (self.array.get()).read_chunk(&self.held, &parts.chunk(i), true, |source| {
            // SAFETY: no two runs of any job share a row of an output, and the parts of a run name
            // each of its elements once.
            unsafe { source.read(&transfers, &self.out, options) }
        })
    }
}

/// Check that no two runs write to the same memory.
fn expect_disjoint(jobs: &[Job]) -> Result<()> {
    let mut targets: Vec<_> = jobs
        .iter()
        .flat_map(|job| {
            let rows = job.out.shape.first().copied().unwrap_or(0).max(1);
            let row = job.out.bytes() / rows;
            let address = move |place: u64| job.out.as_ptr().addr() + place as usize * row;
            let target = move |(run, place): &(Axis, u64)| {
                address(*place)..address(*place + run.len() as u64)
            };
            job.runs.iter().map(target)
        })
        .collect();
    targets.sort_unstable_by_key(|target| target.start);
    if targets.is_sorted_by(|a, b| a.end <= b.start) {
        return Ok(());
    }
    Err(Error::Value("two runs of rows have the same place".into()))
}
