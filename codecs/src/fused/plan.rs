//! A recognised chain, compiled for chunks of one shape.

use std::cell::RefCell;
use std::ops::Range;

use super::compressor::Compressor;
use super::filters::{Filters, State};
use super::target::{Rows, Sink, Target};
use crate::memory::{self, OutOfMemory};
use crate::stream;

/// A chain of codecs that runs in one pass, for chunks of one shape and data type.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Lengths of the chunk's dimensions in the order in which its elements are stored.
    pub(super) shape: Vec<usize>,
    /// Stored dimension `d` is dimension `order[d]` of the chunk.
    pub(super) order: Vec<usize>,
    pub(super) filters: Filters,
    /// A checksum ends what the compressor compresses.
    pub(super) inner_checksum: bool,
    pub(super) compressor: Compressor,
    /// A checksum ends the stored bytes.
    pub(super) outer_checksum: bool,
}

/// A chunk that does not decode, or values that do not encode.
///
/// Short and without names: a [`FusedCodec`](super::FusedCodec) then asks the chain of codecs that
/// it stands for, whose errors say more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub(super) String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<OutOfMemory> for Error {
    fn from(error: OutOfMemory) -> Self {
        Self(error.to_string())
    }
}

pub(super) fn error<T>(message: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error(message.to_string()))
}

/// Bytes of a CRC-32C checksum.
const CHECKSUM: usize = 4;

/// What a thread keeps from chunk to chunk.
#[derive(Default)]
struct Buffers {
    /// The filtered bytes of a chunk: what the compressor takes and gives.
    filtered: Vec<u8>,
    state: State,
}

impl Buffers {
    /// Larger buffers go back to the system after use.
    const KEEP: usize = 32 << 20;

    fn filtered(&mut self, length: usize) -> Result<(&mut [u8], &mut State), Error> {
        memory::grow(&mut self.filtered, length)?;
        Ok((&mut self.filtered[..length], &mut self.state))
    }

    fn release(&mut self) {
        if self.filtered.capacity() > Self::KEEP {
            self.filtered = Vec::new();
        }
    }
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

impl Plan {
    /// Bytes of a decoded chunk.
    #[must_use]
    pub fn decoded_len(&self) -> usize {
        self.elements() * self.filters.decoded_size
    }

    /// The shape of a decoded chunk.
    #[must_use]
    pub fn decoded_shape(&self) -> Vec<usize> {
        let mut shape = vec![0; self.shape.len()];
        for (&d, &length) in self.order.iter().zip(&self.shape) {
            shape[d] = length;
        }
        shape
    }

    /// Whether elements are stored in C order.
    pub(super) fn keeps_order(&self) -> bool {
        self.order.is_sorted()
    }

    /// Whether a part of a chunk can be read and decoded without the rest.
    #[must_use]
    pub fn reads_parts(&self) -> bool {
        matches!(self.compressor, Compressor::None)
            && !(self.inner_checksum || self.outer_checksum || self.filters.shuffle > 1)
    }

    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Decode a chunk into `decoded`, in C order.
    ///
    /// # Errors
    /// Returns an [`Error`] if `encoded` is not such a chunk or `decoded` not as long as one. What
    /// `decoded` holds is then unspecified.
    pub fn decode(&self, encoded: &[u8], decoded: &mut [u8]) -> Result<(), Error> {
        let region: Vec<_> = self.decoded_shape().iter().map(|&len| 0..len).collect();
        self.decode_region(encoded, &region, decoded)
    }

    /// Decode a box of a chunk, `region`, into `decoded`, in C order: no more of the chunk than up
    /// to the last element of the box.
    ///
    /// # Errors
    /// Returns an [`Error`] if `encoded` is not such a chunk (as far as it was decoded), `region` is
    /// not in it or `decoded` not as long as the region. What `decoded` holds is then unspecified.
    pub fn decode_region(
        &self,
        encoded: &[u8],
        region: &[Range<usize>],
        decoded: &mut [u8],
    ) -> Result<(), Error> {
        let shape: Vec<_> = region.iter().map(ExactSizeIterator::len).collect();
        let size = self.filters.decoded_size;
        let target = Target::new(decoded, &shape, size);
        let Some(target) = target else {
            return error(format_args!(
                "expected memory for {shape:?} elements of {size} bytes, got {} bytes",
                decoded.len()
            ));
        };
        // SAFETY: the target is all of `decoded`, which is borrowed for this call.
        unsafe { self.decode_box(encoded, region, &target) }
    }

    /// [`decode_region`](Self::decode_region), into memory of its own.
    pub(super) fn decode_region_to_vec(
        &self,
        encoded: &[u8],
        region: &[Range<usize>],
    ) -> Result<Vec<u8>, Error> {
        let length = region
            .iter()
            .try_fold(self.filters.decoded_size, |length, range| {
                length.checked_mul(range.len())
            })
            .filter(|&length| length <= self.decoded_len());
        let mut decoded = memory::zeros(length.unwrap_or(0))?;
        self.decode_region(encoded, region, &mut decoded)?;
        Ok(decoded)
    }

    /// Decode a box of a chunk, `region`, into memory of any strides.
    ///
    /// # Safety
    /// Every element of `target`, whose shape is that of `region`, is valid for writes of an
    /// element, and nobody else accesses it during the call.
    ///
    /// # Errors
    /// As [`decode_region`](Self::decode_region).
    pub unsafe fn decode_box(
        &self,
        encoded: &[u8],
        region: &[Range<usize>],
        target: &Target,
    ) -> Result<(), Error> {
        let inside = |(range, length): (&Range<usize>, usize)| {
            range.start < range.end && range.end <= length
        };
        if region.len() != self.shape.len() || !region.iter().zip(self.decoded_shape()).all(inside)
        {
            return error(format_args!(
                "expected a region in a chunk of shape {:?}, got {region:?}",
                self.decoded_shape()
            ));
        }
        let region: Vec<_> = self.order.iter().map(|&d| region[d].clone()).collect();
        let strides: Vec<_> = self.order.iter().map(|&d| target.strides[d]).collect();
        // SAFETY: forwarded; permuting dimensions names the same elements.
        let mut sink = unsafe {
            Rows::new(
                target,
                &self.shape,
                &region,
                strides,
                self.filters.decoded_size,
            )
        };
        let result = self.decode_to(encoded, sink.wanted(), &mut sink);
        if target.streams {
            stream::fence();
        }
        result
    }

    /// Decode the stored elements `wanted` to `sink`.
    pub(super) fn decode_to(
        &self,
        encoded: &[u8],
        wanted: Range<usize>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let encoded = if self.outer_checksum {
            verified(encoded)?
        } else {
            encoded
        };
        let filtered_len = self.elements() * self.filters.stored_size;
        let checksum = if self.inner_checksum { CHECKSUM } else { 0 };
        let length = filtered_len + checksum;
        if matches!(self.compressor, Compressor::None) {
            if encoded.len() != length {
                return error(format_args!(
                    "expected {length} bytes, got {}",
                    encoded.len()
                ));
            }
            let filtered = if self.inner_checksum {
                verified(encoded)?
            } else {
                encoded
            };
            return BUFFERS.with_borrow_mut(|buffers| {
                self.filters
                    .undo(filtered, wanted, sink, &mut buffers.state)
            });
        }
        if self.filters.is_empty()
            && !self.inner_checksum
            && wanted == (0..self.elements())
            && let Some(decoded) = sink.piece(wanted.clone())
        {
            return self.compressor.decode(encoded, decoded);
        }
        // A checksum covers everything, and a byte plane starts where the one before ends.
        let needed = if self.inner_checksum || self.filters.shuffle > 1 {
            length
        } else {
            wanted.end * self.filters.stored_size
        };
        BUFFERS.with_borrow_mut(|buffers| {
            let (filtered, state) = buffers.filtered(length)?;
            self.compressor.decode_prefix(encoded, filtered, needed)?;
            let filtered = if self.inner_checksum {
                verified(filtered)?
            } else {
                filtered
            };
            let result = self.filters.undo(filtered, wanted, sink, state);
            buffers.release();
            result
        })
    }

    /// Why this plan does not encode, if so: such chains are encoded codec by codec.
    pub(super) fn unencodable(&self) -> Option<&'static str> {
        if !self.keeps_order() {
            return Some("a transpose");
        }
        self.filters.unencodable().or(self.compressor.unencodable())
    }

    /// Encode a chunk of C-ordered elements, appending the bytes to `encoded`: those that the chain
    /// of codecs makes.
    ///
    /// # Errors
    /// Returns an [`Error`] if a value has no counterpart in the stored type, if `decoded` is not a
    /// chunk, or if the chain is one that is only decoded in one pass. `encoded` is then as it was.
    pub fn encode(&self, decoded: &[u8], encoded: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(reason) = self.unencodable() {
            return error(format_args!("{reason} is encoded codec by codec"));
        }
        if decoded.len() != self.decoded_len() {
            return error(format_args!(
                "expected a chunk of {} bytes, got {}",
                self.decoded_len(),
                decoded.len()
            ));
        }
        let start = encoded.len();
        if self.filters.is_empty() && !self.inner_checksum {
            self.compressor.encode(decoded, encoded)?;
        } else {
            BUFFERS.with_borrow_mut(|buffers| {
                let length = self.elements() * self.filters.stored_size;
                let checksum = if self.inner_checksum { CHECKSUM } else { 0 };
                let (filtered, state) = buffers.filtered(length + checksum)?;
                self.filters
                    .apply(decoded, &mut filtered[..length], state)?;
                if self.inner_checksum {
                    let checksum = crc32c::crc32c(&filtered[..length]).to_le_bytes();
                    filtered[length..].copy_from_slice(&checksum);
                }
                let result = self.compressor.encode(filtered, encoded);
                buffers.release();
                result
            })?;
        }
        if self.outer_checksum {
            let checksum = crc32c::crc32c(&encoded[start..]);
            encoded.extend(checksum.to_le_bytes());
        }
        Ok(())
    }
}

/// The bytes before a checksum, which is theirs.
fn verified(bytes: &[u8]) -> Result<&[u8], Error> {
    match bytes.split_last_chunk::<CHECKSUM>() {
        Some((data, checksum)) if crc32c::crc32c(data).to_le_bytes() == *checksum => Ok(data),
        Some(_) => error("the checksum is not that of the chunk; it is corrupt"),
        None => error(format_args!("{} bytes do not hold a checksum", bytes.len())),
    }
}

/// In words, from stored bytes to values: `zstd, unshuffle 2, undo XOR (…), float16 to float32`.
impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut steps = Vec::new();
        let checksum = || "check CRC-32C".to_owned();
        steps.extend(self.outer_checksum.then(checksum));
        steps.extend(self.compressor.name().map(str::to_owned));
        steps.extend(self.inner_checksum.then(checksum));
        steps.extend(self.filters.steps());
        if !self.keeps_order() {
            steps.push(format!("transpose (stored order {:?})", self.order));
        }
        if steps.is_empty() {
            steps.push("copy".into());
        }
        f.write_str(&steps.join(", "))?;
        match self.unencodable() {
            Some(reason) => write!(f, " (encoded codec by codec: {reason})"),
            None => Ok(()),
        }
    }
}
