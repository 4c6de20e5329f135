//! The half of the benchmarks that is Rust. `bench/run.py` starts it once and sends it a request a
//! line, so that its turns are in the same run as everybody else's:
//!
//! ```json
//! {"what": "decompress", "array": "/path/of/an/array", "threads": 2}
//! {"seconds": 0.08, "decoded": 600000000, "crc32": null}
//! ```
//!
//! `seconds` is only what the request is about; preparations are not in it. `decoded` are the bytes of
//! the array in memory, `crc32` is of what was read, if that is the array. A request that cannot be
//! answered gets `{"error": "..."}`.

mod limits;
mod read;
mod stored;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::stored::Stored;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Deserialize)]
struct Request {
    what: What,
    array: PathBuf,
    threads: usize,
    /// The inner chunks to decompress, by their number, as often as they are named; all if none.
    chunks: Option<Vec<usize>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    /// Only the decompressor, from memory into a buffer that stays in the cache.
    Decompress,
    /// Only the compressor, of what the chunks decompress to.
    Compress,
    /// The array's bytes, written to memory that is there already.
    Memcpy,
    /// The whole array by zarrs, with the codecs of tempozarr.
    Zarrs,
    /// The same, with the codecs in one pass.
    Fused,
}

#[derive(Serialize)]
struct Answer {
    seconds: f64,
    decoded: usize,
    crc32: Option<u32>,
}

fn main() -> Result<()> {
    tempozarr::register();
    let (mut limits, mut pools) = (None, HashMap::new());
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match answer(&line?, &mut limits, &mut pools) {
            Ok(answer) => serde_json::to_value(answer)?,
            Err(error) => serde_json::json!({ "error": error.to_string() }),
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

/// Answer a request; `limits` are kept as long as requests are about the same array, and `pools` of
/// threads, by their number, for good.
fn answer(
    line: &str,
    limits: &mut Option<Limits>,
    pools: &mut HashMap<usize, ThreadPool>,
) -> Result<Answer> {
    let Request {
        what,
        array,
        threads,
        chunks,
    } = serde_json::from_str(line)?;
    let kept = limits.take().filter(|kept| kept.array() == array);
    let limits = limits.insert(match kept {
        Some(kept) => kept,
        None => Limits::new(Stored::open(&array)?),
    });
    let (time, read): (Duration, Option<Vec<u8>>) = match what {
        What::Decompress => (limits.decompress(threads, chunks.as_deref())?, None),
        What::Compress => (limits.compress(threads)?, None),
        What::Memcpy => (limits.memcpy(threads), None),
        What::Zarrs | What::Fused => {
            let pool = match pools.entry(threads) {
                Entry::Occupied(pool) => pool.into_mut(),
                Entry::Vacant(none) => {
                    none.insert(ThreadPoolBuilder::new().num_threads(threads).build()?)
                }
            };
            let (time, read) = read::zarrs(&array, pool, matches!(what, What::Fused))?;
            (time, Some(read))
        }
    };
    Ok(Answer {
        seconds: time.as_secs_f64(),
        decoded: limits.decoded(),
        crc32: read.map(|bytes| {
            let mut crc = flate2::Crc::new();
            crc.update(&bytes);
            crc.sum()
        }),
    })
}
