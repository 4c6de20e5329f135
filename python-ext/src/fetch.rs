//! Reading chunks of object stores: what of each to fetch, many requests at a time, while the pool
//! decodes what has come.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use object_store::GetRange;
use pyo3::prelude::*;
use rayon::Scope;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use zarrs_codec::CodecOptions;

use crate::array::Array;
use crate::cache::Held;
use crate::chunk::{lengths, size, whole};
use crate::dtype::Kind;
use crate::errors::{Error, Result};
use crate::fetched::Fetched;
use crate::objects::{self, Client, Object, TICK};
use crate::pool;
use crate::selection::Transfer;
use crate::shard::{self, Sharding};
use crate::source::{Known, Source};
use crate::store::{ChunkFile, Stamp};

/// Encoded bytes that are awaited or wait for the pool, about; at least those of one chunk.
const BACKLOG: usize = 512 << 20;
/// A gap between two ranges that costs less than a request, and a request that is worth being cut in
/// two: zarr-python's own.
const GAP: u64 = 1 << 20;
const LIMIT: u64 = 16 << 20;
/// How often a shard that is replaced while it is read is read anew.
const ANEW: usize = 3;

/// Parts of a chunk to read.
pub struct Task<'a> {
    /// The array,
    pub array: &'a Array,
    /// and where its objects are, if it is not in files.
    pub client: Option<&'a Arc<Client>>,
    /// What is held of its chunks.
    pub held: &'a Arc<Held>,
    /// Whether to keep what is read as a whole, too.
    pub keeps_whole: bool,
    /// Indices of the chunk.
    pub chunk: Vec<u64>,
    /// Which elements to read.
    pub transfers: Cow<'a, [Transfer]>,
}

/// What to do with an opened chunk of a task.
pub type Read<'a> =
    dyn Fn(usize, &Source<'_>, &[Transfer], &CodecOptions) -> Result<()> + Sync + 'a;

/// What to ask for.
enum Step {
    /// The object.
    Whole,
    /// Where the index of a shard is.
    Index(GetRange),
    /// What is needed of a shard; nothing, if all of it is known.
    Pieces(Vec<Range<u64>>),
}

/// What has come; `None` where there is no object.
enum Came {
    /// The object, or the index of a shard.
    One(Option<Object>),
    /// Pieces of a shard.
    Pieces(Vec<Option<Object>>),
}

/// Which task's, what has come, and how long that took.
type Answer = (usize, Result<Came>, Duration);

/// Read `task(0..count)`: each chunk is opened, and given to `read` on the pool.
///
/// # Errors
/// The first error of a task, or that of the handler of a signal; nothing is under way then.
pub fn read<'a>(
    py: Python<'_>,
    count: usize,
    task: &(dyn Fn(usize) -> Result<Task<'a>> + Sync),
    read: &Read<'_>,
) -> PyResult<()> {
    let (workers, runtime) = (pool::pool(py)?, objects::runtime(py)?);
    py.detach(|| {
        let options = workers.install(pool::options);
        let share = options.concurrent_target().div_ceil(count.max(1));
        let decoding = Decoding {
            read,
            options: options.with_concurrent_target(share),
            backlog: AtomicUsize::new(0),
            failed: Mutex::default(),
            stopped: AtomicBool::new(false),
            news: Notify::new(),
        };
        let fetch = || {
            workers.in_place_scope(|scope| {
                let mut fetching = Fetching {
                    decoding: &decoding,
                    scope,
                    runtime: &runtime,
                    requests: JoinSet::new(),
                    flights: HashMap::new(),
                    most: 1,
                    largest: 0,
                };
                let result = fetching.run(count, task);
                decoding
                    .stopped
                    .fetch_or(result.is_err(), Ordering::Relaxed);
                result
            })
        };
        catch_unwind(AssertUnwindSafe(fetch))
            .unwrap_or_else(|payload| Err(Error::panic(payload.as_ref()).into()))?;
        let failed = decoding.failed.into_inner();
        match failed.unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    })
}

/// What the threads of the pool share.
struct Decoding<'r> {
    read: &'r Read<'r>,
    options: CodecOptions,
    /// Encoded bytes that are awaited or wait.
    backlog: AtomicUsize,
    failed: Mutex<Option<Error>>,
    /// Whether what is left is left.
    stopped: AtomicBool,
    /// A chunk was decoded, or failed.
    news: Notify,
}

impl Decoding<'_> {
    /// Run `job`, for which `bytes` were fetched.
    fn run(&self, bytes: usize, job: impl FnOnce(&CodecOptions) -> Result<()>) {
        if !self.stopped.load(Ordering::Relaxed) {
            let result = catch_unwind(AssertUnwindSafe(|| job(&self.options)))
                .unwrap_or_else(|payload| Err(Error::panic(payload.as_ref())));
            if let Err(error) = result {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
                self.stopped.store(true, Ordering::Relaxed);
            }
        }
        self.backlog.fetch_sub(bytes, Ordering::Relaxed);
        self.news.notify_one();
    }
}

/// An object of which something is on its way.
struct Flight<'a> {
    task: Task<'a>,
    client: &'a Arc<Client>,
    key: String,
    shape: Vec<NonZeroU64>,
    known: Known,
    /// Bytes that were counted as awaited.
    awaited: usize,
    /// How often the shard was replaced meanwhile.
    replaced: usize,
}

/// What the thread that reads does: it keeps requests on their way, and the pool at work.
struct Fetching<'a, 's, 'r> {
    decoding: &'s Decoding<'s>,
    scope: &'r Scope<'s>,
    runtime: &'r Runtime,
    /// Dropped when a read fails, which ends them.
    requests: JoinSet<Answer>,
    flights: HashMap<usize, Flight<'a>>,
    /// Objects on their way at a time.
    most: usize,
    /// Bytes of the largest object that has come whole.
    largest: usize,
}

impl<'a: 's, 's> Fetching<'a, 's, '_> {
    fn run(
        &mut self,
        count: usize,
        task: &(dyn Fn(usize) -> Result<Task<'a>> + Sync),
    ) -> PyResult<()> {
        let mut next = 0;
        let mut looked = Instant::now();
        while !self.decoding.stopped.load(Ordering::Relaxed) {
            while next < count && self.has_room() {
                self.start(next, task(next)?)?;
                next += 1;
            }
            if next == count && self.flights.is_empty() {
                break; // the pool has the rest
            }
            if let Some(came) = self.wait() {
                let (i, came, time) =
                    came.map_err(|error| Error::Store(format!("a request failed: {error}")))?;
                self.arrived(i, came, time)?;
            }
            if looked.elapsed() > TICK {
                objects::check_signals()?;
                looked = Instant::now();
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.flights.len() < self.most && self.decoding.backlog.load(Ordering::Relaxed) < BACKLOG
    }

    /// Wait a little for something that has come, or for the pool.
    fn wait(&mut self) -> Option<Result<Answer, JoinError>> {
        let requests = &mut self.requests;
        let either = async {
            tokio::select! {
                Some(came) = requests.join_next() => Some(came),
                () = self.decoding.news.notified() => None,
            }
        };
        (self.runtime)
            .block_on(async { timeout(TICK, either).await })
            .ok()
            .flatten()
    }

    fn start(&mut self, i: usize, task: Task<'a>) -> Result<()> {
        let Some(client) = task.client else {
            let decoding = self.decoding;
            self.scope.spawn(move |_| {
                decoding.run(0, |options| {
                    (task.array).read_chunk(task.held, &task.chunk, task.keeps_whole, |source| {
                        (decoding.read)(i, source, &task.transfers, options)
                    })
                });
            });
            return Ok(());
        };
        self.most = self.most.max(client.concurrency());
        let flight = Flight {
            client,
            key: task.array.chunk_key(&task.chunk),
            shape: task.array.chunk_shape(&task.chunk)?,
            known: Known::default(),
            awaited: 0,
            replaced: 0,
            task,
        };
        self.plan(i, flight)
    }

    /// Ask for what is not known.
    fn plan(&mut self, i: usize, mut flight: Flight<'a>) -> Result<()> {
        let step = flight.step()?;
        self.ask(i, flight, step)
    }

    fn ask(&mut self, i: usize, mut flight: Flight<'a>, step: Step) -> Result<()> {
        let limit = flight.limit();
        let (client, key) = (Arc::clone(flight.client), flight.key.clone());
        let range = match step {
            Step::Pieces(ranges) if ranges.is_empty() => {
                let stamp = flight.known.stamp;
                let file = ChunkFile::pieces(Vec::new(), stamp[0]).stamped(stamp);
                self.decode(i, flight, Some(file));
                return Ok(());
            }
            Step::Pieces(ranges) => {
                let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
                flight.awaited = bytes as usize;
                self.send(i, flight, async move {
                    let pieces = objects::get_ranges(client, key, ranges, limit).await?;
                    Ok(Came::Pieces(pieces))
                });
                return Ok(());
            }
            Step::Index(range) => Some(range),
            Step::Whole => {
                // Until one has come, it may have as many bytes as its values.
                flight.awaited = match self.largest {
                    0 => flight.decoded()?,
                    largest => largest,
                };
                None
            }
        };
        self.send(i, flight, async move {
            Ok(Came::One(client.get(&key, range, limit).await?))
        });
        Ok(())
    }

    fn send(
        &mut self,
        i: usize,
        flight: Flight<'a>,
        request: impl Future<Output = Result<Came>> + Send + 'static,
    ) {
        (self.decoding.backlog).fetch_add(flight.awaited, Ordering::Relaxed);
        self.flights.insert(i, flight);
        let timed = async move {
            let start = Instant::now();
            let came = request.await;
            (i, came, start.elapsed())
        };
        self.requests.spawn_on(timed, self.runtime.handle());
    }

    fn arrived(&mut self, i: usize, came: Result<Came>, time: Duration) -> Result<()> {
        let Some(mut flight) = self.flights.remove(&i) else {
            return Ok(());
        };
        let awaited = std::mem::take(&mut flight.awaited);
        (self.decoding.backlog).fetch_sub(awaited, Ordering::Relaxed);
        let stats = &flight.task.array.stats;
        stats
            .read
            .add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        match came? {
            Came::One(None) => self.decode(i, flight, None),
            Came::One(Some(object)) if object.is_whole() => {
                stats.bytes_read.add(object.size);
                self.largest = self.largest.max(object.bytes.len());
                // What was known may be of an object before.
                flight.known = Known::default();
                let file = ChunkFile::fetched(Fetched::Owned(object.bytes));
                self.decode(i, flight, Some(file.stamped(object.stamp)));
            }
            Came::One(Some(object)) => {
                stats.bytes_read.add(object.bytes.len() as u64);
                let step = flight.index_came(&object, &self.decoding.options)?;
                self.ask(i, flight, step)?;
            }
            Came::Pieces(pieces) => {
                let stamp = flight.known.stamp;
                let pieces: Option<Vec<_>> = pieces
                    .into_iter()
                    .map(|piece| {
                        let piece = piece.filter(|piece| piece.stamp == stamp)?;
                        stats.bytes_read.add(piece.bytes.len() as u64);
                        Some((piece.start, Fetched::Owned(piece.bytes)))
                    })
                    .collect();
                let Some(pieces) = pieces else {
                    return self.anew(i, flight);
                };
                let file = ChunkFile::pieces(pieces, stamp[0]).stamped(stamp);
                self.decode(i, flight, Some(file));
            }
        }
        Ok(())
    }

    /// Read a shard again that was replaced after its index was fetched.
    fn anew(&mut self, i: usize, mut flight: Flight<'a>) -> Result<()> {
        flight.replaced += 1;
        if flight.replaced > ANEW {
            return Err(Error::Store(format!(
                "chunk {}: it is replaced again and again while it is read; try later",
                flight.name()
            )));
        }
        self.plan(i, flight)
    }

    /// Have the pool read from a chunk whose bytes have come; without, it does not exist.
    fn decode(&self, i: usize, flight: Flight<'a>, file: Option<ChunkFile>) {
        let decoding = self.decoding;
        let bytes = file.as_ref().map_or(0, ChunkFile::held);
        decoding.backlog.fetch_add(bytes, Ordering::Relaxed);
        self.scope.spawn(move |_| {
            decoding.run(bytes, move |options| {
                let Flight {
                    task, shape, known, ..
                } = flight;
                let name = flight.client.name(&flight.key);
                let source = Source::new(&task.array.spec, name, file.map(Arc::new), &shape);
                let kept = task
                    .array
                    .kept(task.held, &task.chunk, task.keeps_whole, known);
                (decoding.read)(i, &source.keeping(kept), &task.transfers, options)
            });
        });
    }
}

impl Flight<'_> {
    /// URL, for people.
    fn name(&self) -> String {
        self.client.name(&self.key)
    }

    /// Bytes of the values of the chunk.
    fn decoded(&self) -> Result<usize> {
        size(&whole(&self.shape), self.task.array.spec.item)
    }

    /// What no object of the chunk has more bytes than.
    fn limit(&self) -> u64 {
        self.task.array.spec.encoded_limit(&self.shape)
    }

    /// The sharding, and how many subchunks a shard has per dimension, if parts of it can be read
    /// alone.
    fn sharding(&self) -> Option<(&Sharding, Vec<u64>)> {
        let spec = &self.task.array.spec;
        let sharding = spec
            .sharding()
            .filter(|_| matches!(spec.kind, Kind::Fixed(..)))?;
        Some((sharding, sharding.grid(&self.shape)?))
    }

    /// What to ask for first.
    fn step(&mut self) -> Result<Step> {
        let (task, spec) = (&self.task, &self.task.array.spec);
        let chunk = task.array.cached(&task.chunk);
        let Some((sharding, grid)) = self.sharding() else {
            let at_once =
                spec.decodes_at_once(&lengths(&self.shape)) || spec.is_one_unit(&self.shape);
            if at_once && let Some((stamp, block)) = task.held.latest_block(&chunk, 0) {
                self.known.stamp = stamp;
                self.known.pinned.insert(0, block);
                return Ok(Step::Pieces(Vec::new()));
            }
            return Ok(Step::Whole);
        };
        let name = self.name();
        let index_len = sharding.index_len(&name, &grid)? as u64;
        let decoded = self.decoded()? as u64;
        let most = shard::encoded_len(&grid)? / 2;
        let first = if sharding.index_first {
            GetRange::Bounded(0..index_len)
        } else {
            GetRange::Suffix(index_len)
        };
        let is_small = decoded <= GAP || decoded / 2 < index_len || self.client.ignores_ranges();
        let latest = (task.held.latest_index(&chunk)).filter(|_| self.replaced == 0);
        let places = shard::places(sharding, &grid, &task.transfers)?;
        if let Some((stamp, index)) = latest {
            let missing = self.pin(stamp, index, places);
            if missing.is_empty() || (!is_small && missing.len() <= most) {
                return self.pieces(&missing);
            }
        } else if places.len() <= most && !is_small {
            return Ok(Step::Index(first));
        }
        Ok(Step::Whole)
    }

    /// What to ask for when the index has come.
    fn index_came(&mut self, object: &Object, options: &CodecOptions) -> Result<Step> {
        let name = self.name();
        let Some((sharding, grid)) = self.sharding() else {
            return Ok(Step::Whole);
        };
        sharding.index_range(&name, &grid, object.size)?;
        let index = sharding.decode_index(&name, &object.bytes, &grid, options)?;
        let index: Arc<[_]> = index.into();
        let task = &self.task;
        let places = shard::places(sharding, &grid, &task.transfers)?;
        let chunk = task.array.cached(&task.chunk);
        (task.held).keep_index(&chunk, object.stamp, Arc::clone(&index));
        let missing = self.pin(object.stamp, index, places);
        self.pieces(&missing)
    }

    /// Take what the cache has of an object; which subchunks of `places` that leaves.
    fn pin(&mut self, stamp: Stamp, index: Arc<[[u64; 2]]>, mut places: Vec<usize>) -> Vec<usize> {
        let task = &self.task;
        let chunk = task.array.cached(&task.chunk);
        let mut pinned = HashMap::new();
        places.retain(|&place| {
            let block = task.held.block(&chunk, place, stamp);
            let is_missing = block.is_none();
            pinned.extend(block.map(|block| (place, block)));
            is_missing
        });
        self.known = Known {
            stamp,
            index: Some(index),
            pinned,
        };
        places
    }

    /// Ask for subchunks.
    fn pieces(&self, places: &[usize]) -> Result<Step> {
        let name = self.name();
        let index = self.known.index.as_deref().unwrap_or_default();
        let size = self.known.stamp[0];
        let mut ranges = Vec::with_capacity(places.len());
        for &place in places {
            ranges.extend(shard::range_of(&name, index[place], size)?);
        }
        Ok(Step::Pieces(shard::coalesced(ranges, GAP, LIMIT)))
    }
}
