//! What reading an array has cost so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counters that threads add to.
#[derive(Debug, Default)]
pub struct Stats {
    /// Chunks (or subchunks) that were found decoded in the cache.
    pub hits: Counter,
    /// Those that had to be decoded.
    pub misses: Counter,
    /// Stored bytes that were read.
    pub bytes_read: Counter,
    /// Bytes of the chunks that were decoded, each as a whole.
    pub bytes_decoded: Counter,
    /// Nanoseconds of all threads: reading files,
    pub read: Counter,
    /// decoding,
    pub decode: Counter,
    /// and copying from decoded chunks.
    pub copy: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Count `amount` more.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Count the nanoseconds that `job` takes.
    pub fn time<T>(&self, job: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = job();
        self.add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        result
    }
}
