//! The thread pool, and the one way to run work on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pyo3::prelude::*;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use zarrs_codec::CodecOptions;

use crate::errors::{Error, Result, caught};

/// Threads asked for; 0 means one per core.
static THREADS: AtomicUsize = AtomicUsize::new(0);
static POOL: Mutex<Option<Pool>> = Mutex::new(None);

struct Pool {
    process: u32,
    threads: usize,
    workers: Arc<ThreadPool>,
}

/// Set the number of threads that read and write; 0 means one per core.
///
/// Work that is under way keeps the threads it has.
#[pyfunction]
#[pyo3(signature = (n, /))]
pub fn set_threads(n: usize) {
    THREADS.store(n, Ordering::Relaxed);
}

/// The pool of this process. Rayon's global pool is never used: it does not survive a fork, and
/// its size belongs to whoever starts it first.
///
/// The GIL must be held: `os.fork` holds it too, so the lock is free in every child.
pub fn pool(_py: Python<'_>) -> Result<Arc<ThreadPool>> {
    let threads = match THREADS.load(Ordering::Relaxed) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let process = std::process::id();
    let mut current = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = current.as_ref() {
        if found.process == process && found.threads == threads {
            return Ok(Arc::clone(&found.workers));
        }
        if found.process != process {
            // After a fork its threads do not exist here, and dropping it would wait for them.
            std::mem::forget(current.take());
        }
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("tempozarr-{i}"))
        .build()
        .map_err(|error| Error::Store(format!("cannot start {threads} threads: {error}")))?;
    let pool = Arc::new(pool);
    *current = Some(Pool {
        process,
        threads,
        workers: Arc::clone(&pool),
    });
    Ok(pool)
}

/// Run `task(0..count)` on the pool with the GIL released, in order if not `parallel`; the options
/// share the threads between the tasks and the codecs inside each.
///
/// # Errors
/// The first error of a task; a panic becomes a [`Error::Codec`].
pub fn run<F>(py: Python<'_>, count: usize, parallel: bool, task: F) -> Result<()>
where
    F: Fn(usize, &CodecOptions) -> Result<()> + Sync,
{
    let task = &task;
    if count == 0 {
        return Ok(());
    }
    compute(py, || {
        if parallel {
            spread(count, &options(), task)
        } else {
            (0..count).try_for_each(|i| task(i, &options()))
        }
    })
}

/// Run `task` with the GIL released, on this thread: for work that is too little to wake another one
/// for, and that does not ask zarrs for threads.
///
/// # Errors
/// As for [`run`].
pub fn alone<F>(py: Python<'_>, task: F) -> Result<()>
where
    F: FnOnce(&CodecOptions) -> Result<()> + Send,
{
    // They would start the threads of rayon's global pool, if they were made here.
    static OPTIONS: OnceLock<CodecOptions> = OnceLock::new();
    let options = if let Some(options) = OPTIONS.get() {
        options
    } else {
        let made = compute(py, || Ok(options().with_concurrent_target(1)))?;
        OPTIONS.get_or_init(|| made)
    };
    py.detach(|| caught(|| task(options)))
}

/// Run `task(0..count)` side by side, within the share of the threads that `options` gives.
///
/// # Errors
/// The first error of a task.
pub fn spread<F>(count: usize, options: &CodecOptions, task: F) -> Result<()>
where
    F: Fn(usize, &CodecOptions) -> Result<()> + Sync,
{
    let target = options.concurrent_target();
    if count <= 1 || target == 1 {
        return (0..count).try_for_each(|i| task(i, options));
    }
    let inner = options.with_concurrent_target(target.div_ceil(count));
    (0..count)
        .into_par_iter()
        .with_max_len(1)
        .try_for_each(|i| task(i, &inner))
}

/// Run the small `task(0..count)` on this thread, and on those of the pool that have nothing else to
/// do.
///
/// # Errors
/// The first error of a task.
pub fn share<F>(count: usize, task: F) -> Result<()>
where
    F: Fn(usize) -> Result<()> + Sync + Send,
{
    if count == 1 {
        return task(0);
    }
    (0..count).into_par_iter().try_for_each(task)
}

/// Run `job` on the pool with the GIL released.
///
/// # Errors
/// Those of `job`; a panic becomes a [`Error::Codec`].
pub fn compute<T: Send>(py: Python<'_>, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = pool(py)?;
    py.detach(|| caught(|| pool.install(job)))
}

/// Options for codecs that have all threads; call it on the pool, whose size it asks for.
pub fn options() -> CodecOptions {
    CodecOptions::default()
}
