//! What arrays keep of what they have read: decoded chunks up to a number of bytes, and the
//! indexes of shards.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use lru::LruCache;
use pyo3::prelude::*;
use tempozarr::memory;

use crate::errors::Result;
use crate::store::Stamp;

/// A cache that arrays share.
#[pyclass(frozen, module = "tempozarr._core")]
pub struct Cache {
    limit: usize,
    /// The process that filled it, too.
    held: Mutex<(u32, Arc<Held>)>,
}

#[pymethods]
impl Cache {
    /// Keep up to `limit` bytes of decoded chunks, those that were used last.
    #[new]
    #[pyo3(signature = (limit, /))]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            held: Mutex::new((std::process::id(), Held::new(limit))),
        }
    }

    /// Bytes of decoded chunks that it keeps now.
    #[getter]
    fn nbytes(&self, py: Python<'_>) -> usize {
        self.held(py).blocks.lock().bytes
    }
}

impl Cache {
    /// What is held. A process that was forked starts with nothing: a thread that does not exist
    /// here may have held the locks.
    ///
    /// The GIL must be held: `os.fork` holds it too, so the outer lock is free in every child.
    pub fn held(&self, _py: Python<'_>) -> Arc<Held> {
        let process = std::process::id();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 != process {
            let inherited = std::mem::replace(&mut *held, (process, Held::new(self.limit)));
            std::mem::forget(inherited);
        }
        Arc::clone(&held.1)
    }
}

/// The decoded bytes of a chunk, or a subchunk, in C order.
pub struct Block {
    bytes: Vec<u8>,
    home: Weak<Held>,
}

impl Block {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be decoded into.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Block {
    /// Keep the memory: fresh pages are what decoding into a new block costs most.
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.spare.lock().keep(std::mem::take(&mut self.bytes));
        }
    }
}

/// A chunk of an array: the number of the array, and the indices of the chunk.
pub type Chunk = (u64, Box<[u64]>);

/// What a process keeps.
pub struct Held {
    /// By chunk, and the place of the subchunk in it.
    blocks: Lock<Recent<(Chunk, usize), Arc<Block>>>,
    indexes: Lock<Recent<Chunk, Arc<[[u64; 2]]>>>,
    spare: Lock<Spare>,
    limit: usize,
}

impl Held {
    /// Bytes of shard indexes that are kept.
    const INDEXES: usize = 8 << 20;

    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            blocks: Lock::new(Recent::new(limit)),
            indexes: Lock::new(Recent::new(Self::INDEXES)),
            spare: Lock::new(Spare {
                blocks: Vec::new(),
                bytes: 0,
                limit: (limit / 8).min(32 << 20),
            }),
            limit,
        })
    }

    /// Whether blocks of that many bytes are kept.
    pub fn keeps(&self, bytes: usize) -> bool {
        0 < bytes && bytes <= self.limit
    }

    /// The block of a subchunk of a chunk whose file is still the one of that stamp.
    pub fn block(&self, chunk: &Chunk, place: usize, stamp: Stamp) -> Option<Arc<Block>> {
        self.blocks.lock().get(&(chunk.clone(), place), stamp)
    }

    /// Memory for a block; what it holds does not matter.
    ///
    /// # Errors
    /// [`Error::Codec`](crate::errors::Error::Codec) if there is no memory for it.
    pub fn empty(self: &Arc<Self>, bytes: usize) -> Result<Block> {
        let spare = self.spare.lock().take(bytes);
        Ok(Block {
            bytes: spare.map_or_else(|| memory::zeros(bytes), Ok)?,
            home: Arc::downgrade(self),
        })
    }

    /// Keep a block.
    pub fn keep(&self, chunk: &Chunk, place: usize, stamp: Stamp, block: Arc<Block>) {
        let bytes = block.bytes.len();
        // Dropped behind the lock.
        let _evicted = (self.blocks.lock()).put((chunk.clone(), place), stamp, block, bytes);
    }

    /// The block of an object as it was last seen, and its stamp.
    pub fn latest_block(&self, chunk: &Chunk, place: usize) -> Option<(Stamp, Arc<Block>)> {
        self.blocks.lock().latest(&(chunk.clone(), place))
    }

    /// Where the subchunks of a shard are, if its file is still the one of that stamp.
    pub fn index(&self, chunk: &Chunk, stamp: Stamp) -> Option<Arc<[[u64; 2]]>> {
        self.indexes.lock().get(chunk, stamp)
    }

    /// Where the subchunks of a shard are, in an object as it was last seen, and its stamp.
    pub fn latest_index(&self, chunk: &Chunk) -> Option<(Stamp, Arc<[[u64; 2]]>)> {
        self.indexes.lock().latest(chunk)
    }

    /// Keep the index of a shard.
    pub fn keep_index(&self, chunk: &Chunk, stamp: Stamp, index: Arc<[[u64; 2]]>) {
        let bytes = size_of_val(&*index);
        let _evicted = (self.indexes.lock()).put(chunk.clone(), stamp, index, bytes);
    }
}

/// A lock that does not mind a panic: what it guards is whole between calls.
struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Values that were used last, up to a number of bytes.
struct Recent<K: Hash + Eq, V> {
    entries: LruCache<K, (Stamp, V, usize)>,
    bytes: usize,
    limit: usize,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    fn new(limit: usize) -> Self {
        Self {
            entries: LruCache::unbounded(),
            bytes: 0,
            limit,
        }
    }

    fn get(&mut self, key: &K, stamp: Stamp) -> Option<V> {
        let (of, value) = self.latest(key)?;
        (of == stamp).then_some(value)
    }

    fn latest(&mut self, key: &K) -> Option<(Stamp, V)> {
        let (of, value, _) = self.entries.get(key)?;
        Some((*of, value.clone()))
    }

    /// Give back what makes room for it, and what it replaces; or itself, if it is too large.
    fn put(&mut self, key: K, stamp: Stamp, value: V, bytes: usize) -> Vec<V> {
        if bytes > self.limit {
            return vec![value];
        }
        self.bytes += bytes;
        let replaced = self.entries.put(key, (stamp, value, bytes));
        let mut evicted = Vec::new();
        let mut leave = |(_, value, bytes)| {
            self.bytes -= bytes;
            evicted.push(value);
        };
        if let Some(entry) = replaced {
            leave(entry);
        }
        while self.bytes > self.limit
            && let Some((_, (_, value, bytes))) = self.entries.pop_lru()
        {
            self.bytes -= bytes;
            evicted.push(value);
        }
        evicted
    }
}

/// Memory of former blocks.
struct Spare {
    blocks: Vec<Vec<u8>>,
    bytes: usize,
    limit: usize,
}

impl Spare {
    fn keep(&mut self, block: Vec<u8>) {
        if self.bytes + block.len() <= self.limit {
            self.bytes += block.len();
            self.blocks.push(block);
        }
    }

    /// Only of the same length: blocks of an array have one length, so that is common.
    fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let found = self.blocks.iter().rposition(|block| block.len() == bytes)?;
        self.bytes -= bytes;
        Some(self.blocks.swap_remove(found))
    }
}
