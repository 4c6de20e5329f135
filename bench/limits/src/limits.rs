//! What no reader can beat: the compressor alone, and writing the result to memory.

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zstd_safe::{CCtx, CParameter, DCtx};

use crate::Result;
use crate::stored::{Compressor, Stored};

/// An array and all that its limits are measured with, kept from turn to turn.
pub struct Limits {
    stored: Stored,
    workers: Vec<Worker>,
    copy: Vec<u8>,
}

impl Limits {
    pub fn new(stored: Stored) -> Self {
        Self {
            stored,
            workers: Vec::new(),
            copy: Vec::new(),
        }
    }

    pub fn array(&self) -> &Path {
        &self.stored.array
    }

    /// Bytes of the whole array, decoded.
    pub fn decoded(&self) -> usize {
        self.stored.decoded
    }

    /// Decompress every inner chunk, or those of the numbers given.
    pub fn decompress(&mut self, threads: usize, numbers: Option<&[usize]>) -> Result<Duration> {
        self.hire(threads);
        let Stored {
            compressor,
            chunk_bytes,
            ..
        } = self.stored;
        let mut chunks = self.stored.chunks()?;
        if let Some(numbers) = numbers {
            let named = numbers.iter().map(|&i| chunks.get(i).copied());
            let named: Option<_> = named.collect();
            chunks = named.ok_or_else(|| format!("expected numbers below {}", chunks.len()))?;
        }
        race(&mut self.workers[..threads], &chunks, |worker, chunk| {
            worker.decompress(compressor, chunk, chunk_bytes)
        })
    }

    /// Compress with zstd, level 3, what the inner chunks decompress to.
    pub fn compress(&mut self, threads: usize) -> Result<Duration> {
        self.hire(threads);
        let Stored {
            compressor,
            chunk_bytes,
            ..
        } = self.stored;
        if !matches!(compressor, Compressor::Zstd) {
            return Err("expected an array that is compressed with zstd".into());
        }
        let mut plain = Vec::new();
        for chunk in self.stored.chunks()? {
            self.workers[0].decompress(compressor, chunk, chunk_bytes)?;
            plain.push(self.workers[0].buffer[..chunk_bytes].to_vec());
        }
        race(&mut self.workers[..threads], &plain, |worker, plain| {
            worker.compress(plain)
        })
    }

    /// Write as many bytes as the array has, from a source that stays in the cache.
    pub fn memcpy(&mut self, threads: usize) -> Duration {
        const SOURCE: usize = 1 << 20;
        self.copy.resize(self.stored.decoded, 1); // touched: by the first turn, which is not timed
        let source = vec![2_u8; SOURCE];
        let share = self.copy.len().div_ceil(threads).max(1);
        let start = Instant::now();
        thread::scope(|scope| {
            for piece in self.copy.chunks_mut(share) {
                scope.spawn(|| {
                    for block in piece.chunks_mut(SOURCE) {
                        block.copy_from_slice(&source[..block.len()]);
                    }
                    black_box(piece);
                });
            }
        });
        start.elapsed()
    }

    fn hire(&mut self, threads: usize) {
        while self.workers.len() < threads {
            self.workers.push(Worker {
                zstd: DCtx::create(),
                zstd_encoder: CCtx::create(),
                buffer: Vec::new(),
            });
        }
    }
}

/// What one thread works with, used again for every chunk.
struct Worker {
    zstd: DCtx<'static>,
    zstd_encoder: CCtx<'static>,
    buffer: Vec<u8>,
}

impl Worker {
    fn buffer(&mut self, length: usize) -> &mut [u8] {
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        &mut self.buffer[..length]
    }

    fn decompress(&mut self, compressor: Compressor, chunk: &[u8], length: usize) -> Result<()> {
        self.buffer(length);
        let buffer = &mut self.buffer[..length];
        let written = match compressor {
            Compressor::Zstd => self
                .zstd
                .decompress(buffer, chunk)
                .map_err(zstd_safe::get_error_name)?,
            Compressor::Lz4 => {
                let (_, block) = chunk.split_at_checked(4).ok_or("an empty LZ4 chunk")?;
                lz4::block::decompress_to_buffer(block, Some(length.try_into()?), buffer)?
            }
            Compressor::Blosc => blosc(chunk, buffer)?,
        };
        if written != length {
            return Err(format!("expected a chunk of {length} bytes, got {written}").into());
        }
        Ok(())
    }

    fn compress(&mut self, plain: &[u8]) -> Result<()> {
        self.buffer(zstd_safe::compress_bound(plain.len()));
        self.zstd_encoder
            .set_parameter(CParameter::CompressionLevel(3))
            .and_then(|_| self.zstd_encoder.compress2(&mut self.buffer[..], plain))
            .map_err(zstd_safe::get_error_name)?;
        Ok(())
    }
}

/// Decompress a Blosc chunk; the number of bytes.
fn blosc(chunk: &[u8], buffer: &mut [u8]) -> Result<usize> {
    let mut stated = 0;
    // SAFETY: reads at most the length given, which is that of `chunk`.
    let valid = unsafe {
        blosc_src::blosc_cbuffer_validate(chunk.as_ptr().cast(), chunk.len(), &raw mut stated)
    };
    if valid != 0 || stated > buffer.len() {
        return Err("a corrupt Blosc chunk".into());
    }
    // SAFETY: the chunk was validated above, and writes are bounded by the length of `buffer`.
    let written = unsafe {
        blosc_src::blosc_decompress_ctx(
            chunk.as_ptr().cast(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            1,
        )
    };
    Ok(usize::try_from(written)?)
}

/// The time in which `workers`, each on a thread of its own, do `job` for all `items`.
fn race<W: Send, T: Sync>(
    workers: &mut [W],
    items: &[T],
    job: impl Fn(&mut W, &T) -> Result<()> + Sync,
) -> Result<Duration> {
    let next = AtomicUsize::new(0);
    let work = |worker: &mut W| -> Result<()> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            job(worker, item)?;
        }
        Ok(())
    };
    let start = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| scope.spawn(|| work(worker)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a thread panicked".into()))
        })
    })?;
    Ok(start.elapsed())
}
