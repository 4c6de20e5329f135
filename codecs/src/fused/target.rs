//! Where decoded elements go.

use std::marker::PhantomData;
use std::ops::Range;

use crate::stream;

/// Takes the elements of a chunk in the order in which they are stored.
pub(super) trait Sink {
    /// The memory of these stored elements, if it is in one piece.
    fn piece(&mut self, elements: Range<usize>) -> Option<&mut [u8]>;

    /// Whether to write memory once, and past the caches.
    fn streams(&self) -> bool {
        false
    }

    /// Take the stored elements from `start`.
    fn put(&mut self, start: usize, elements: &[u8]);
}

/// Memory for a box of elements, with any strides.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    base: *mut u8,
    pub(super) strides: Vec<isize>,
    pub(super) streams: bool,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Target<'a> {
    /// All of `memory`, as a C-ordered array of `shape` with elements of `size` bytes; `None` if it
    /// is not that long.
    #[must_use]
    pub fn new(memory: &'a mut [u8], shape: &[usize], size: usize) -> Option<Self> {
        let mut strides = vec![0; shape.len()];
        let mut stride = size;
        for (place, &length) in strides.iter_mut().zip(shape).rev() {
            *place = stride.cast_signed();
            stride = stride.checked_mul(length)?;
        }
        (stride == memory.len()).then(|| Self::from_raw(memory.as_mut_ptr(), strides))
    }

    /// The memory at `base` with `strides`, in bytes.
    #[must_use]
    pub fn from_raw(base: *mut u8, strides: Vec<isize>) -> Self {
        Self {
            base,
            strides,
            streams: false,
            memory: PhantomData,
        }
    }

    /// Write past the caches if `streams`: faster where the whole result is larger than they are
    /// and memory is what limits, slower where the result is read again at once.
    #[must_use]
    pub fn streaming(mut self, streams: bool) -> Self {
        self.streams = streams;
        self
    }
}

/// Runs of elements of a box of a chunk that are neighbours, stored and in memory.
pub(super) struct Rows<'a> {
    target: &'a Target<'a>,
    size: usize,
    /// The box, and its strides in memory.
    region: &'a [Range<usize>],
    strides: Vec<isize>,
    /// Elements between neighbours in a chunk.
    steps: Vec<usize>,
    /// The dimensions before this one tell runs apart.
    outer: usize,
    /// Elements of a row of the chunk, and which of these are a run.
    row: usize,
    run: Range<usize>,
}

impl<'a> Rows<'a> {
    /// # Safety
    /// `region` is not empty and lies in `shape`; with it, every element of `target` at `strides` is
    /// valid for writes of `size` bytes while `self` lives, and nobody else accesses it.
    pub(super) unsafe fn new(
        target: &'a Target<'a>,
        shape: &[usize],
        region: &'a [Range<usize>],
        strides: Vec<isize>,
        size: usize,
    ) -> Self {
        let mut steps = vec![1; shape.len()];
        for d in (1..shape.len()).rev() {
            steps[d - 1] = steps[d] * shape[d];
        }
        // Join dimensions to a run, from the last one, as long as a run fills all of the last.
        let mut outer = shape.len();
        let mut run = 0..1;
        while let Some(d) = outer.checked_sub(1)
            && run == (0..steps[d])
            && (region[d].len() == 1 || strides[d] == (steps[d] * size).cast_signed())
        {
            outer = d;
            run = region[d].start * steps[d]..region[d].end * steps[d];
        }
        let row = match outer.checked_sub(1) {
            Some(d) => steps[d],
            None => shape.iter().product(),
        };
        Self {
            target,
            size,
            region,
            strides,
            steps,
            outer,
            row,
            run,
        }
    }

    /// The stored elements from the first to the last one of the box.
    pub(super) fn wanted(&self) -> Range<usize> {
        let place = |index: fn(&Range<usize>) -> usize| -> usize {
            let dims = self.region.iter().zip(&self.steps);
            dims.map(|(range, step)| index(range) * step).sum()
        };
        place(|range| range.start)..place(|range| range.end - 1) + 1
    }

    /// For the stored element `at`: the elements of its row that are a run, and the offset of their
    /// first one in memory; `None` if its row is not in the box.
    fn run_of(&self, at: usize) -> Option<(Range<usize>, isize)> {
        let (mut rest, mut offset) = (at, 0);
        for d in 0..self.outer {
            let index = rest / self.steps[d];
            rest %= self.steps[d];
            if !self.region[d].contains(&index) {
                return None;
            }
            offset += (index - self.region[d].start).cast_signed() * self.strides[d];
        }
        let row = at - rest;
        Some((row + self.run.start..row + self.run.end, offset))
    }

    /// # Safety
    /// The elements are in the box, and neighbours in memory, from `offset` on.
    unsafe fn memory(&mut self, offset: isize, elements: usize) -> &mut [u8] {
        // SAFETY: forwarded; the box is valid for writes, and ours alone.
        unsafe {
            std::slice::from_raw_parts_mut(self.target.base.offset(offset), elements * self.size)
        }
    }
}

impl Sink for Rows<'_> {
    fn piece(&mut self, elements: Range<usize>) -> Option<&mut [u8]> {
        let (run, offset) = self.run_of(elements.start)?;
        if elements.start < run.start || elements.end > run.end {
            return None;
        }
        let offset = offset + ((elements.start - run.start) * self.size).cast_signed();
        // SAFETY: they are in one run, whose first element is at the offset before.
        Some(unsafe { self.memory(offset, elements.len()) })
    }

    fn streams(&self) -> bool {
        self.target.streams
    }

    fn put(&mut self, start: usize, elements: &[u8]) {
        // Where lines of memory are not written whole, writing past the caches does not pay.
        let streams = self.target.streams && self.run.len() * self.size >= 512;
        let end = start + elements.len() / self.size;
        let mut at = start;
        while at < end {
            let next = at - at % self.row + self.row;
            if let Some((run, offset)) = self.run_of(at) {
                let part = at.max(run.start)..end.min(run.end);
                if !part.is_empty() {
                    let offset = offset + ((part.start - run.start) * self.size).cast_signed();
                    let from =
                        &elements[(part.start - start) * self.size..(part.end - start) * self.size];
                    // SAFETY: they are in one run, whose first element is at the offset before.
                    let to = unsafe { self.memory(offset, part.len()) };
                    if streams {
                        stream::copy(from, to);
                    } else {
                        to.copy_from_slice(from);
                    }
                }
            }
            at = next;
        }
    }
}
