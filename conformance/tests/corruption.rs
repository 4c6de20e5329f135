//! Hostile bytes. What a store holds is not to be trusted: every bit may be flipped and every end
//! cut off, and lengths and offsets may say anything. Decoding then gives values or an error. It
//! never panics, never aborts, and never allocates more than the chunk's metadata allows for.
//!
//! Goldens are the seeds, so every chain that has a golden is tried. The allocator of this test
//! binary counts (memory that C libraries take for themselves is not seen by it).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use tempozarr_conformance::{Golden, goldens, store_key};
use zarrs::array::{Array, ArrayBytes, ArraySubset};
use zarrs_storage::WritableStorageTraits;
use zarrs_storage::store::MemoryStore;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static CURRENT: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static JUDGING: AtomicBool = AtomicBool::new(false);

/// The system's allocator, with a count of what is held now and of the most that was.
struct Counting;

// SAFETY: every call is passed on to `System` unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = CURRENT.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are `System`'s conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let now = CURRENT.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as above; this keeps large zeroed requests lazy, as they are without counting.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CURRENT.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// One test at a time: the count is the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static QUIET: Once = Once::new();
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    QUIET.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // While judging, a panic is an outcome, and there may be thousands.
            if !JUDGING.load(Ordering::Relaxed) {
                report(panic);
            }
        }));
    });
    guard
}

/// What came of decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Values,
    Error,
    /// With its message.
    Panic(String),
    /// More than the bound was allocated, whatever came of it: so many bytes.
    Allocation(usize),
}

/// Run `decode`, which may allocate up to `bound` bytes.
fn judge(bound: usize, decode: impl FnOnce() -> bool) -> Outcome {
    let before = CURRENT.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    JUDGING.store(true, Ordering::Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(decode));
    JUDGING.store(false, Ordering::Relaxed);
    let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    match outcome {
        _ if peak > bound => Outcome::Allocation(peak),
        Ok(true) => Outcome::Values,
        Ok(false) => Outcome::Error,
        Err(message) => Outcome::Panic(
            message
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| message.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_default(),
        ),
    }
}

/// What zarrs does on hostile input that a guard would have to be put in front of: a golden (by a
/// part of its name or metadata), and a part of the fault. Each is described in `README.md`.
const KNOWN: &[(&str, &str)] = &[
    // zarrs makes this codec itself, past every plugin.
    ("v2-blosc", "allocates"),
    // pco believes the length of a dictionary, and of a window.
    ("numcodecs.pcodec", "allocates"),
];

/// What went wrong: fault, golden, how often.
#[derive(Debug, Default)]
struct Faults(BTreeMap<(String, String), usize>);

impl Faults {
    fn add(&mut self, name: &str, outcome: &Outcome) {
        let fault = match outcome {
            Outcome::Values | Outcome::Error => return,
            Outcome::Panic(message) => format!("panic: {}", without_numbers(message)),
            Outcome::Allocation(size) if *size >> 20 == 0 => "allocates less than a MiB".into(),
            Outcome::Allocation(_) => "allocates MiBs".into(),
        };
        *self.0.entry((fault, name.into())).or_default() += 1;
    }

    /// Panic unless the faults are those that are known, and all that are known.
    fn assert_known(&self, seeds: &BTreeMap<String, Golden>) {
        let mut seen = BTreeSet::new();
        let mut news = vec![];
        for ((fault, name), count) in &self.0 {
            let golden = format!("{name} {}", seeds[name].metadata());
            let known = KNOWN
                .iter()
                .position(|(of, what)| golden.contains(of) && fault.contains(what));
            match known {
                Some(known) => _ = seen.insert(known),
                None => news.push(format!("{name}: {fault} ({count} times)")),
            }
        }
        let gone: Vec<_> = (0..KNOWN.len())
            .filter(|known| !seen.contains(known))
            .map(|known| KNOWN[known])
            .collect();
        assert!(
            news.is_empty(),
            "{} new faults:\n{}",
            news.len(),
            news.join("\n")
        );
        assert!(gone.is_empty(), "gone, so take them off the list: {gone:?}");
    }
}

/// The text with every number as one `#`: numbers differ from one input to the next.
fn without_numbers(text: &str) -> String {
    let mut out = text.replace(|c: char| c.is_ascii_digit(), "#");
    while out.contains("##") {
        out = out.replace("##", "#");
    }
    out
}

/// A golden whose chunk `key` can be replaced.
struct Victim {
    /// Codec by codec, and in one pass.
    array: Array<MemoryStore>,
    fused: Array<MemoryStore>,
    store: Arc<MemoryStore>,
    key: String,
    chunk: Vec<u64>,
    encoded: Vec<u8>,
    bound: usize,
}

impl Victim {
    /// The first chunk of `golden`, if it has any.
    fn new(golden: &Golden) -> Option<Self> {
        tempozarr::register();
        let store = golden.store();
        let array = Array::open(store.clone(), "/").ok()?;
        let fused = tempozarr::fuse(array.metadata());
        let fused = Array::new_with_metadata(store.clone(), "/", fused).ok()?;
        let grid = ArraySubset::new_with_shape(array.chunk_grid_shape().to_vec());
        let (chunk, key, encoded) = grid.indices().into_iter().find_map(|chunk| {
            let key = array.chunk_key(&chunk).to_string();
            let (_, encoded) = golden.chunks().find(|(name, _)| *name == key)?;
            Some((chunk.to_vec(), key, encoded.to_vec()))
        })?;
        let elements: u64 = array.chunk_subset(&chunk).unwrap().shape().iter().product();
        let size = array.data_type().fixed_size().unwrap_or(64);
        let decoded = usize::try_from(elements).unwrap() * size;
        let bound = bound(&golden.metadata().to_string(), decoded, encoded.len());
        Some(Self {
            array,
            fused,
            store,
            key,
            chunk,
            encoded,
            bound,
        })
    }

    /// Decode the chunk whole and in part, with `bytes` in its place.
    fn decode(&self, bytes: &[u8]) -> [Outcome; 4] {
        self.decode_within(bytes, self.bound)
    }

    fn decode_within(&self, bytes: &[u8], bound: usize) -> [Outcome; 4] {
        self.store
            .set(&store_key(&self.key), bytes.to_vec().into())
            .unwrap();
        let shape = self
            .array
            .chunk_subset(&self.chunk)
            .unwrap()
            .shape()
            .to_vec();
        let part: Vec<_> = shape.iter().map(|&length| length / 2..length).collect();
        let part = ArraySubset::new_with_ranges(&part);
        let whole = |array: &Array<MemoryStore>| {
            judge(bound, || {
                array.retrieve_chunk::<ArrayBytes>(&self.chunk).is_ok()
            })
        };
        let part = |array: &Array<MemoryStore>| {
            judge(bound, || {
                array
                    .retrieve_chunk_subset::<ArrayBytes>(&self.chunk, &part)
                    .is_ok()
            })
        };
        let (array, fused) = (&self.array, &self.fused);
        [whole(array), part(array), whole(fused), part(fused)]
    }
}

/// What decoding a chunk may allocate: a few copies of what goes in and comes out, something for
/// zarrs' bookkeeping and the blocks that a thread filters in, and the working memory that some formats ask for whatever the chunk's size.
fn bound(metadata: &str, decoded: usize, encoded: usize) -> usize {
    let working: usize = [
        ("bz2", 4 << 20),
        ("gzip", 1 << 17),
        ("zlib", 1 << 17),
        ("blosc", 1 << 17),
        ("pcodec", 1 << 20),
        ("vlen", 1 << 19),
        ("\"id\":\"zstd\"", 1 << 18),
    ]
    .iter()
    .filter(|(name, _)| metadata.contains(name))
    .map(|(_, working)| working)
    .sum();
    (64 << 10) + 16 * (decoded + encoded) + working
}

/// One golden for each data type and chain.
fn seeds() -> BTreeMap<String, Golden> {
    let mut seen = BTreeSet::new();
    goldens()
        .into_iter()
        .filter(|golden| golden.not_yet.is_none())
        .filter(|golden| {
            let metadata = golden.metadata();
            let chain = ["data_type", "dtype", "codecs", "filters", "compressor"];
            seen.insert(chain.map(|field| metadata[field].to_string()).concat())
        })
        .map(|golden| (golden.name.clone(), golden))
        .collect()
}

#[test]
fn flipped_bits_and_truncations() {
    let _alone = alone();
    let mut faults = Faults::default();
    let (mut tried, mut errors) = (0, 0);
    let seeds = seeds();
    for (name, golden) in &seeds {
        let Some(victim) = Victim::new(golden) else {
            continue;
        };
        for outcome in victim.decode(&victim.encoded) {
            assert_eq!(outcome, Outcome::Values, "{name}: the sound chunk");
        }
        let length = victim.encoded.len();
        let flips = (0..8 * length.min(400)).map(|bit| {
            let mut bytes = victim.encoded.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        });
        let truncations = (0..length).map(|end| victim.encoded[..end].to_vec());
        let longer =
            [&[0][..], &[0xff; 100], &victim.encoded].map(|more| [&victim.encoded, more].concat());
        for bytes in flips.chain(truncations).chain(longer) {
            for outcome in victim.decode(&bytes) {
                tried += 1;
                errors += usize::from(outcome == Outcome::Error);
                faults.add(name, &outcome);
            }
        }
    }
    println!("{tried} decoded, {errors} errors");
    assert!(
        tried > 100_000 && errors > tried / 5,
        "{tried} decoded, {errors} errors"
    );
    faults.assert_known(&seeds);
}

/// A zstd frame (RFC 8878) with one byte of header, whatever follows it, and `blocks`.
fn zstd_frame(header: &[u8], blocks: &[u8]) -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd], header, blocks].concat()
}

/// `count` blocks of 128 KiB that take four bytes each: one byte, to be repeated.
fn zstd_bomb(count: usize) -> Vec<u8> {
    let blocks: Vec<u8> = (1..=count)
        .flat_map(|block| {
            let header = (128_u32 << 10 << 3) | (1 << 1) | u32::from(block == count);
            let [a, b, c, _] = header.to_le_bytes();
            [a, b, c, 0]
        })
        .collect();
    zstd_frame(&[0x00, 0x58], &blocks)
}

/// Streams that claim, or hold, more than any chunk could: an error, within the bound.
#[test]
fn lying_streams() {
    let _alone = alone();
    let empty_block = [1, 0, 0];
    let eight_tebibytes = (1_u64 << 43).to_le_bytes();
    let claims_tebibytes = zstd_frame(&[&[0xe0], &eight_tebibytes[..]].concat(), &empty_block);
    let claims_a_window_of_tebibytes = zstd_frame(&[0x00, 0xf8], &empty_block);
    let claims_all = zstd_frame(&[&[0xe0], &[0xff; 8][..]].concat(), &empty_block);
    let lz4 = |length: u32, block: &[u8]| [&length.to_le_bytes(), block].concat();
    // A literal and a match that goes on for 255 x 1000 bytes.
    let lz4_match = [
        &[0x1f, 0, 1, 0][..],
        &[0xff; 1000],
        &[0, 0x50, 1, 2, 3, 4, 5],
    ]
    .concat();
    let blosc = |nbytes: u32, blocksize: u32| {
        let head = [2, 1, 0x21, 4];
        let rest = [nbytes, blocksize, 40].map(u32::to_le_bytes).concat();
        [&head[..], &rest, &[0; 24]].concat()
    };
    let mut inputs: Vec<(&str, &str, Vec<u8>)> = vec![
        ("lz4-i4", "claims 4 GiB", lz4(u32::MAX, &[0x00])),
        ("lz4-i4", "claims 2 GiB", lz4(i32::MAX as u32, &[0x00])),
        ("lz4-i4", "claims nothing", lz4(0, &[0x00])),
        ("lz4-i4", "holds more than it claims", lz4(32, &lz4_match)),
        (
            "lz4-i4",
            "claims what it holds, which is too much",
            lz4(255_020, &lz4_match),
        ),
        ("v2-lz4", "claims 4 GiB", lz4(u32::MAX, &[0x00])),
        ("blosc-lz4-shuffle", "claims 4 GiB", blosc(u32::MAX, 256)),
        (
            "blosc-lz4-shuffle",
            "claims a block of 4 GiB",
            blosc(256, u32::MAX),
        ),
        (
            "blosc-zstd-shuffle",
            "claims a block of nothing",
            blosc(256, 0),
        ),
    ];
    for case in ["zstd-f4", "numcodecs-zstd", "v2-zstd"] {
        inputs.extend([
            (case, "claims 8 TiB", claims_tebibytes.clone()),
            (case, "claims 16 EiB", claims_all.clone()),
            (
                case,
                "claims a window of 3 TiB",
                claims_a_window_of_tebibytes.clone(),
            ),
            (case, "holds 1 GiB in 32 KiB", zstd_bomb(8 << 10)),
        ]);
    }
    let seeds: BTreeMap<_, _> = goldens()
        .into_iter()
        .map(|golden| (golden.name.clone(), golden))
        .collect();
    let mut wrong = vec![];
    for (case, what, bytes) in inputs {
        let victim = Victim::new(&seeds[&format!("zarr-3.4.2/{case}")]).unwrap();
        let allowed = victim.bound + 16 * bytes.len();
        for outcome in victim.decode_within(&bytes, allowed) {
            if outcome != Outcome::Error {
                wrong.push(format!("{case} {what}: {outcome:?}, expected an error"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Any two words in any entry of a shard index that has no checksum.
#[test]
fn lying_shard_indexes() {
    let _alone = alone();
    let all = goldens();
    let golden = all
        .iter()
        .find(|golden| golden.name == "zarr-3.4.2/shard-index-big-endian-unchecked");
    let victim = Victim::new(golden.unwrap()).unwrap();
    let length = victim.encoded.len();
    let words = [
        0,
        1,
        7,
        length as u64,
        length as u64 - 1,
        1 << 31,
        1 << 32,
        1 << 62,
        1 << 63,
    ];
    let words: Vec<u64> = words
        .into_iter()
        .chain([u64::MAX, u64::MAX - 1, u64::MAX - 16])
        .collect();
    let mut errors = 0;
    for entry in (length - 4 * 16..length).step_by(16) {
        for offset in &words {
            for size in &words {
                let mut bytes = victim.encoded.clone();
                bytes[entry..entry + 8].copy_from_slice(&offset.to_be_bytes());
                bytes[entry + 8..entry + 16].copy_from_slice(&size.to_be_bytes());
                for outcome in victim.decode(&bytes) {
                    assert!(
                        matches!(outcome, Outcome::Values | Outcome::Error),
                        "offset {offset}, size {size}: {outcome:?}"
                    );
                    errors += usize::from(outcome == Outcome::Error);
                }
            }
        }
    }
    assert!(errors > 500, "{errors}");
}
