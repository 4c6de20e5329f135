//! Which elements are meant: selectors, their projection on a chunk grid, and zarr-python's own
//! selection tuples.

use std::ops::Range;
use std::sync::Arc;

use numpy::{
    PyArrayDescr, PyArrayDescrMethods, PyReadonlyArray1, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PySlice, PyTuple};

use crate::errors::{Error, Result};
use crate::memory::c_strides;
use crate::scatter::{Dim, Offsets};

/// Indices of one dimension, in the order of the output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// `start + i * step`, never negative.
    Range {
        /// First index.
        start: u64,
        /// Number of indices.
        count: usize,
        /// Not 0.
        step: i64,
    },
    /// Any indices, repeats allowed.
    List(Arc<[u64]>),
}

impl Axis {
    /// All of a dimension.
    pub fn all(len: usize) -> Self {
        Self::Range {
            start: 0,
            count: len,
            step: 1,
        }
    }

    /// These indices.
    pub fn run(range: Range<u64>) -> Self {
        Self::Range {
            start: range.start,
            count: (range.end - range.start) as usize,
            step: 1,
        }
    }

    fn one(index: u64) -> Self {
        Self::Range {
            start: index,
            count: 1,
            step: 1,
        }
    }

    /// `indices`, as a range if they are neighbours in ascending order.
    pub fn list(indices: &[u64]) -> Self {
        if let Some(&start) = indices.first()
            && (start..).zip(indices).all(|(expected, &i)| expected == i)
        {
            return Self::Range {
                start,
                count: indices.len(),
                step: 1,
            };
        }
        Self::List(indices.into())
    }

    /// Number of indices.
    pub fn len(&self) -> usize {
        match self {
            Self::Range { count, .. } => *count,
            Self::List(indices) => indices.len(),
        }
    }

    /// Whether the indices may leave much out between them.
    pub fn is_sparse(&self) -> bool {
        !matches!(self, Self::Range { step: 1 | -1, .. })
    }

    /// Index `i`, for `i < len`.
    fn at(&self, i: usize) -> u64 {
        match self {
            Self::Range { start, step, .. } => {
                // Checked by `range`: the last index exists, and so do all before it.
                start.wrapping_add_signed(step.wrapping_mul(i.cast_signed() as i64))
            }
            Self::List(indices) => indices[i],
        }
    }

    /// Every index `more` further.
    pub fn moved(&self, more: u64) -> Self {
        match self {
            Self::Range { start, count, step } => Self::Range {
                start: start + more,
                count: *count,
                step: *step,
            },
            Self::List(indices) => Self::List(indices.iter().map(|i| i + more).collect()),
        }
    }

    /// The indices at these places of this axis.
    fn pick(&self, places: &Self) -> Self {
        match (self, places) {
            (
                Self::Range { step, .. },
                Self::Range {
                    start,
                    count,
                    step: 1,
                },
            ) => Self::Range {
                start: self.at(*start as usize),
                count: *count,
                step: if *count == 1 { 1 } else { *step },
            },
            _ => Self::list(
                &places
                    .iter()
                    .map(|i| self.at(i as usize))
                    .collect::<Vec<_>>(),
            ),
        }
    }

    /// The range `start, start + step, ...` of `count` indices below `len`, if it is one.
    pub fn range(start: i64, count: i64, step: i64, len: u64) -> Option<Self> {
        let n = usize::try_from(count).ok()?;
        if step == 0 {
            return None;
        }
        if n == 0 {
            return Some(Self::all(0));
        }
        let first = u64::try_from(start).ok()?;
        let last = u64::try_from(start.checked_add((count - 1).checked_mul(step)?)?).ok()?;
        (first < len && last < len).then_some(Self::Range {
            start: first,
            count: n,
            step: if n == 1 { 1 } else { step },
        })
    }

    /// The indices.
    fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.len()).map(|i| self.at(i))
    }

    /// The smallest range that holds every index; empty if there is none.
    pub fn bounds(&self) -> Range<u64> {
        match self {
            _ if self.len() == 0 => 0..0,
            Self::Range { count, .. } => {
                let (first, last) = (self.at(0), self.at(count - 1));
                first.min(last)..first.max(last) + 1
            }
            Self::List(indices) => {
                let (low, high) = indices
                    .iter()
                    .fold((u64::MAX, 0), |(low, high), &i| (low.min(i), high.max(i)));
                low..high + 1
            }
        }
    }

    /// The range, if the indices are neighbours in ascending order.
    pub fn as_run(&self) -> Option<Range<u64>> {
        match self {
            Self::Range { step: 1, .. } => Some(self.bounds()),
            _ => None,
        }
    }

    /// Byte offsets from `origin` in a dimension of that stride.
    fn offsets(&self, origin: u64, stride: isize) -> Offsets {
        // Indices of memory that exists: the products fit.
        let offset = |i: u64| (i - origin).cast_signed() as isize * stride;
        match self {
            Self::Range { start, step, .. } => Offsets::Step {
                start: offset(*start),
                stride: *step as isize * stride,
            },
            Self::List(indices) => Offsets::List(indices.iter().map(|&i| offset(i)).collect()),
        }
    }
}

/// Whether no index is in two of `axes`, or twice in one.
pub fn distinct<'a>(axes: impl Iterator<Item = &'a Axis>) -> bool {
    let axes: Vec<_> = axes.collect();
    if let Some(mut runs) = axes
        .iter()
        .map(|axis| axis.as_run())
        .collect::<Option<Vec<_>>>()
    {
        runs.sort_unstable_by_key(|run| run.start);
        return runs.is_sorted_by(|a, b| a.end <= b.start);
    }
    let mut indices: Vec<_> = axes.iter().flat_map(|axis| axis.iter()).collect();
    indices.sort_unstable();
    indices.is_sorted_by(|a, b| a < b)
}

/// Part of a chunk and where it goes in the caller's array (or comes from).
#[derive(Clone, Debug)]
pub enum Transfer {
    /// Per dimension of the chunk: indices in the chunk, and in the next dimension of the array
    /// (`None` for a dimension of one index that the array does not have).
    Grid(Vec<(Axis, Option<Axis>)>),
    /// Points: their coordinates per dimension of the chunk, and their places in a 1-D array.
    Points(Vec<Vec<u64>>, Axis),
}

impl Transfer {
    /// All of a chunk, and of an array of the same shape.
    pub fn all(shape: &[usize]) -> Self {
        let axis = |&len| (Axis::all(len), Some(Axis::all(len)));
        Self::Grid(shape.iter().map(axis).collect())
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Grid(dims) => dims.iter().any(|(chunk, _)| chunk.len() == 0),
            Self::Points(_, array) => array.len() == 0,
        }
    }

    /// The smallest box of the chunk that holds everything.
    pub fn region(&self) -> Vec<Range<u64>> {
        match self {
            Self::Grid(dims) => dims.iter().map(|(chunk, _)| chunk.bounds()).collect(),
            Self::Points(coordinates, _) => coordinates
                .iter()
                .map(|indices| {
                    let low = indices.iter().min().copied().unwrap_or(0);
                    let high = indices.iter().max().map_or(0, |high| high + 1);
                    low..high
                })
                .collect(),
        }
    }

    /// If both sides are plain boxes: the shape of the array with a dimension of 1 for each that
    /// it does not have (the same memory), and the box in it.
    pub fn as_boxes(&self, array_shape: &[usize]) -> Option<(Vec<u64>, Vec<Range<u64>>)> {
        let Self::Grid(dims) = self else { return None };
        let mut lengths = array_shape.iter();
        dims.iter()
            .map(|(chunk, array)| {
                chunk.as_run()?;
                match array {
                    Some(array) => Some((*lengths.next()? as u64, array.as_run()?)),
                    None => (chunk.len() == 1).then_some((1, 0..1)),
                }
            })
            .collect()
    }

    /// If both sides are plain boxes: the offset of the array's one, and the bytes between neighbours
    /// in each dimension of the chunk.
    pub fn place(&self, strides: &[isize]) -> Option<(isize, Vec<isize>)> {
        let Self::Grid(dims) = self else { return None };
        let mut strides = strides.iter();
        let mut offset = 0;
        let between = dims
            .iter()
            .map(|(chunk, array)| {
                chunk.as_run()?;
                let Some(array) = array else {
                    return (chunk.len() == 1).then_some(0);
                };
                let stride = *strides.next()?;
                // An index of memory that exists: the product fits.
                offset += array.as_run()?.start.cast_signed() as isize * stride;
                Some(stride)
            })
            .collect::<Option<_>>()?;
        Some((offset, between))
    }

    /// Cut where the chunk is cut into subchunks: the indices of each, and what to do in it.
    ///
    /// # Errors
    /// Those of [`project`], of which there are none here.
    pub fn cut(&self, subchunk: &[u64]) -> Result<Vec<(Vec<u64>, Self)>> {
        match self {
            Self::Grid(dims) => {
                let parts = std::iter::zip(dims, subchunk)
                    .map(|((chunk, _), &len)| {
                        project(chunk, |index| {
                            let origin = index - index % len;
                            Ok(Cell {
                                chunk: index / len,
                                origin,
                                range: origin..origin.saturating_add(len),
                            })
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                let pieces: Vec<Vec<_>> = parts
                    .iter()
                    .map(|parts| {
                        let pieces = |part: &'_ Part| {
                            let pieces = part.pieces.iter();
                            let chunk = part.chunk;
                            pieces
                                .map(|piece| (chunk, piece.clone()))
                                .collect::<Vec<_>>()
                        };
                        parts.iter().flat_map(pieces).collect()
                    })
                    .collect();
                let counts: Vec<_> = pieces.iter().map(Vec::len).collect();
                let cut = |i| {
                    std::iter::zip(dims, std::iter::zip(&pieces, unravel(i, &counts)))
                        .map(|((_, array), (pieces, i))| {
                            let (chunk, (inside, places)) = &pieces[i];
                            let array = array.as_ref().map(|array| array.pick(places));
                            (*chunk, (inside.clone(), array))
                        })
                        .unzip()
                };
                Ok((0..counts.iter().product())
                    .map(cut)
                    .map(|(chunk, dims)| (chunk, Self::Grid(dims)))
                    .collect())
            }
            Self::Points(coordinates, array) => {
                let of = |i: u64| {
                    std::iter::zip(coordinates, subchunk)
                        .map(|(indices, len)| indices[i as usize] / len)
                        .collect::<Vec<_>>()
                };
                let mut order: Vec<_> = (0..array.len() as u64).map(|i| (of(i), i)).collect();
                order.sort_unstable();
                Ok(order
                    .chunk_by(|a, b| a.0 == b.0)
                    .map(|points| {
                        let inside = std::iter::zip(coordinates, subchunk)
                            .map(|(indices, len)| {
                                points
                                    .iter()
                                    .map(|(_, i)| indices[*i as usize] % len)
                                    .collect()
                            })
                            .collect();
                        let places: Vec<_> = points.iter().map(|(_, i)| *i).collect();
                        (
                            points[0].0.clone(),
                            Self::Points(inside, array.pick(&Axis::list(&places))),
                        )
                    })
                    .collect())
            }
        }
    }

    /// Whether every element of that box of the chunk is named.
    pub fn covers(&self, region: &[Range<u64>]) -> bool {
        let Self::Grid(dims) = self else { return false };
        std::iter::zip(dims, region).all(|((chunk, _), range)| match chunk {
            Axis::Range { .. } => {
                chunk.bounds() == *range && chunk.len() as u64 == range.end - range.start
            }
            Axis::List(_) => false,
        })
    }

    /// The copy from a block that holds `region` in C order to an array of these strides.
    /// An array without dimensions is one value for all.
    pub fn dims(&self, region: &[Range<u64>], strides: &[isize], item: usize) -> Vec<Dim> {
        let shape: Vec<_> = region
            .iter()
            .map(|range| (range.end - range.start) as usize)
            .collect();
        let block = c_strides(&shape, item);
        match self {
            Self::Grid(dims) => {
                let mut strides = strides.iter();
                let mut to = |axis: &Option<Axis>| match axis {
                    Some(axis) => strides
                        .next()
                        .map_or(Offsets::FIXED, |&stride| axis.offsets(0, stride)),
                    None => Offsets::FIXED,
                };
                std::iter::zip(dims, std::iter::zip(region, block))
                    .map(|((chunk, array), (range, stride))| Dim {
                        len: chunk.len(),
                        from: chunk.offsets(range.start, stride),
                        to: to(array),
                    })
                    .collect()
            }
            Self::Points(coordinates, array) => {
                let offsets = (0..array.len()).map(|i| {
                    std::iter::zip(coordinates, std::iter::zip(region, &block))
                        .map(|(indices, (range, stride))| {
                            (indices[i] - range.start).cast_signed() as isize * stride
                        })
                        .sum()
                });
                vec![Dim {
                    len: array.len(),
                    from: Offsets::List(offsets.collect()),
                    to: strides
                        .first()
                        .map_or(Offsets::FIXED, |&stride| array.offsets(0, stride)),
                }]
            }
        }
    }

    /// The axes of the array's side.
    pub fn array_axes(&self) -> Vec<&Axis> {
        match self {
            Self::Grid(dims) => dims
                .iter()
                .filter_map(|(_, array)| array.as_ref())
                .collect(),
            Self::Points(_, array) => vec![array],
        }
    }
}

/// Where an index of one dimension lies: the chunk, where the chunk starts, and the part of the
/// dimension around the index that one read serves.
#[derive(Debug)]
pub struct Cell {
    /// Chunk of this dimension.
    pub chunk: u64,
    /// First index of the chunk.
    pub origin: u64,
    /// The part: the chunk, or one of its subchunks.
    pub range: Range<u64>,
}

/// What a selection takes from one row of chunks, in one dimension.
#[derive(Debug)]
pub struct Part {
    /// Chunk of this dimension.
    pub chunk: u64,
    /// Indices in the chunk and in the output; several if subchunks are read apart.
    pub pieces: Vec<(Axis, Axis)>,
}

/// Cut `axis` where `locate` says that another cell begins.
pub fn project(axis: &Axis, mut locate: impl FnMut(u64) -> Result<Cell>) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    let mut push = |chunk, piece| match parts.last_mut() {
        Some(last) if last.chunk == chunk => last.pieces.push(piece),
        _ => parts.push(Part {
            chunk,
            pieces: vec![piece],
        }),
    };
    match axis {
        Axis::Range { count, step, .. } => {
            let mut done = 0;
            while done < *count {
                let index = axis.at(done);
                let cell = locate(index)?;
                let room = if *step > 0 {
                    cell.range.end - 1 - index
                } else {
                    index - cell.range.start
                };
                let n = usize::try_from(room / step.unsigned_abs())
                    .unwrap_or(usize::MAX)
                    .saturating_add(1)
                    .min(count - done);
                push(
                    cell.chunk,
                    (
                        Axis::Range {
                            start: index - cell.origin,
                            count: n,
                            step: if n == 1 { 1 } else { *step },
                        },
                        Axis::Range {
                            start: done as u64,
                            count: n,
                            step: 1,
                        },
                    ),
                );
                done += n;
            }
        }
        Axis::List(indices) => {
            // Visit the indices in ascending order, and remember where each one goes.
            let mut order: Vec<u64> = (0..indices.len() as u64).collect();
            if !indices.is_sorted() {
                order.sort_by_key(|&i| indices[i as usize]);
            }
            let index = |i: u64| indices[i as usize];
            let mut rest = order.as_slice();
            while let Some(&first) = rest.first() {
                let cell = locate(index(first))?;
                let n = rest.partition_point(|&i| index(i) < cell.range.end);
                let (now, later) = rest.split_at(n.max(1));
                let inside: Vec<u64> = now.iter().map(|&i| index(i) - cell.origin).collect();
                push(cell.chunk, (Axis::list(&inside), Axis::list(now)));
                rest = later;
            }
        }
    }
    Ok(parts)
}

/// What a selection takes from the chunks of a grid: the product of what it takes in each dimension.
pub struct Parts {
    dims: Vec<Vec<Part>>,
    counts: Vec<usize>,
    len: usize,
}

impl Parts {
    /// Of the parts of each dimension.
    ///
    /// # Errors
    /// [`Error::Value`] if there are more than can be counted.
    pub fn new(dims: Vec<Vec<Part>>) -> Result<Self> {
        let counts: Vec<_> = dims.iter().map(Vec::len).collect();
        Ok(Self {
            len: product(&counts)?,
            dims,
            counts,
        })
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.len
    }

    fn parts(&self, i: usize) -> Vec<&Part> {
        std::iter::zip(&self.dims, unravel(i, &self.counts))
            .map(|(parts, i)| &parts[i])
            .collect()
    }

    /// The indices of chunk `i` of them.
    pub fn chunk(&self, i: usize) -> Vec<u64> {
        self.parts(i).iter().map(|part| part.chunk).collect()
    }

    /// What to take from chunk `i` of them.
    ///
    /// # Errors
    /// [`Error::Value`] if that is more than can be counted.
    pub fn transfers(&self, i: usize) -> Result<Vec<Transfer>> {
        let parts = self.parts(i);
        let counts: Vec<_> = parts.iter().map(|part| part.pieces.len()).collect();
        let transfer = |i| {
            let pieces = std::iter::zip(&parts, unravel(i, &counts)).map(|(part, i)| {
                let (chunk, out) = &part.pieces[i];
                (chunk.clone(), Some(out.clone()))
            });
            Transfer::Grid(pieces.collect())
        };
        Ok((0..product(&counts)?).map(transfer).collect())
    }
}

fn product(counts: &[usize]) -> Result<usize> {
    counts
        .iter()
        .try_fold(1_usize, |product, &count| product.checked_mul(count))
        .ok_or_else(|| Error::Value("the selection meets more than 2^64 chunks".into()))
}

/// Item `i` of the product of that many items per dimension, the last dimension fastest.
pub fn unravel(mut i: usize, counts: &[usize]) -> Vec<usize> {
    let mut indices = vec![0; counts.len()];
    for (index, count) in std::iter::zip(&mut indices, counts).rev() {
        *index = i % count;
        i /= count;
    }
    indices
}

/// Parse one entry per dimension: `(start, count, step)` or a 1-D int64 array.
///
/// # Errors
/// [`Error::Value`] if there are not as many entries as dimensions, or an index is out of bounds.
pub fn orthogonal(selection: &Bound<'_, PyTuple>, shape: &[u64]) -> PyResult<Vec<Axis>> {
    expect_entries(selection.len(), shape)?;
    std::iter::zip(selection, shape)
        .map(|(entry, &len)| {
            if let Ok((start, count, step)) = entry.extract::<(i64, i64, i64)>() {
                return Axis::range(start, count, step, len).ok_or_else(|| {
                    Error::Value(format!(
                        "(start, count, step) = ({start}, {count}, {step}) is no range of indices below {len}"
                    ))
                    .into()
                });
            }
            Ok(Axis::list(&indices(&entry, len)?))
        })
        .collect()
}

/// Parse coordinate arrays of one length, one per dimension.
///
/// # Errors
/// As for [`orthogonal`], or if the lengths differ.
pub fn coordinates(selection: &Bound<'_, PyTuple>, shape: &[u64]) -> PyResult<Vec<Vec<u64>>> {
    expect_entries(selection.len(), shape)?;
    let coordinates = std::iter::zip(selection, shape)
        .map(|(entry, &len)| indices(&entry, len))
        .collect::<PyResult<Vec<_>>>()?;
    if coordinates
        .windows(2)
        .any(|pair| pair[0].len() != pair[1].len())
    {
        return Err(Error::Value("coordinate arrays must have one length".into()).into());
    }
    Ok(coordinates)
}

fn expect_entries(entries: usize, shape: &[u64]) -> Result<()> {
    if entries == shape.len() {
        return Ok(());
    }
    Err(Error::Value(format!(
        "expected one selector per dimension, {} in all, got {entries}",
        shape.len()
    )))
}

fn indices(entry: &Bound<'_, PyAny>, len: u64) -> PyResult<Vec<u64>> {
    let array: PyReadonlyArray1<'_, i64> = entry.extract().map_err(|_| {
        Error::Type(format!(
            "expected (start, count, step) or a 1-D numpy.ndarray of int64, got {}",
            entry.get_type()
        ))
    })?;
    Ok(checked(array.as_array().iter(), len)?)
}

/// Indices below `len`.
fn checked<'a>(indices: impl Iterator<Item = &'a i64>, len: u64) -> Result<Vec<u64>> {
    indices
        .map(|&i| {
            u64::try_from(i)
                .ok()
                .filter(|&i| i < len)
                .ok_or_else(|| Error::Value(format!("index {i} is not in 0..{len}")))
        })
        .collect()
}

/// A numpy index of zarr-python's making, on an array of known shape.
#[derive(Debug)]
enum Numpy {
    /// One axis per dimension, and whether the result keeps the dimension.
    Grid(Vec<(Axis, bool)>),
    /// Coordinates of points.
    Points(Vec<Vec<u64>>),
}

/// The transfer between `chunk_selection` of a chunk and `array_selection` of an array, in
/// numpy's meaning of `array[array_selection] = chunk[chunk_selection].squeeze(drop_axes)`.
///
/// # Errors
/// [`Error::Unsupported`] for selections that zarr-python does not make today.
pub fn transfer(
    chunk_selection: &Bound<'_, PyAny>,
    chunk_shape: &[u64],
    array_selection: &Bound<'_, PyAny>,
    array_shape: &[u64],
    drop_axes: &[usize],
) -> PyResult<Transfer> {
    let chunk = parse(chunk_selection, chunk_shape)?;
    // A value without dimensions goes everywhere, whatever the selection of it says.
    if array_shape.is_empty() {
        return Ok(match chunk {
            Numpy::Grid(dims) => {
                Transfer::Grid(dims.into_iter().map(|(axis, _)| (axis, None)).collect())
            }
            Numpy::Points(points) => {
                let n = points.first().map_or(0, Vec::len);
                Transfer::Points(points, Axis::all(n))
            }
        });
    }
    let Numpy::Grid(array) = parse(array_selection, array_shape)? else {
        return Err(unsupported(
            "points in the array's selection",
            array_selection,
        ));
    };
    let mut array = array
        .into_iter()
        .filter_map(|(axis, kept)| kept.then_some(axis));
    let mismatch = || unsupported("selections of different shapes", chunk_selection);
    let transfer = match chunk {
        Numpy::Grid(dims) => Transfer::Grid(
            dims.into_iter()
                .enumerate()
                .map(|(d, (axis, kept))| {
                    if !kept || (drop_axes.contains(&d) && axis.len() == 1) {
                        return Ok((axis, None));
                    }
                    let other = array.next().ok_or_else(mismatch)?;
                    if other.len() != axis.len() {
                        return Err(mismatch());
                    }
                    Ok((axis, Some(other)))
                })
                .collect::<PyResult<_>>()?,
        ),
        Numpy::Points(points) => {
            let other = array.next().ok_or_else(mismatch)?;
            if points.iter().any(|indices| indices.len() != other.len()) {
                return Err(mismatch());
            }
            Transfer::Points(points, other)
        }
    };
    if array.next().is_some() {
        return Err(mismatch());
    }
    Ok(transfer)
}

fn unsupported(what: &str, selection: &Bound<'_, PyAny>) -> PyErr {
    Error::Unsupported(format!("{what}: {selection}")).into()
}

/// `array` as int64, if it holds integers.
fn int64<'py>(
    array: &Bound<'py, PyAny>,
    dtype: &Bound<'py, PyArrayDescr>,
) -> PyResult<Bound<'py, PyAny>> {
    match dtype.kind() {
        // An index beyond int64 becomes negative, which is out of bounds as well.
        b'i' | b'u' => array.call_method1("astype", ("int64",)),
        _ => Err(Error::Type(format!("{dtype} is no integer type")).into()),
    }
}

fn parse(selection: &Bound<'_, PyAny>, shape: &[u64]) -> PyResult<Numpy> {
    let entries: Vec<Bound<'_, PyAny>> = match selection.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().collect(),
        Err(_) => vec![selection.clone()],
    };
    if entries.len() > shape.len() {
        return Err(unsupported("more selectors than dimensions", selection));
    }
    let mut dims = Vec::with_capacity(shape.len());
    let mut arrays = Vec::new();
    for (d, entry) in entries.iter().enumerate() {
        let len = shape[d];
        if let Ok(slice) = entry.cast::<PySlice>() {
            let range = slice.indices(
                isize::try_from(len).map_err(|_| Error::Value(format!("dimension of {len}")))?,
            )?;
            let axis = Axis::range(
                range.start as i64,
                range.slicelength.cast_signed() as i64,
                range.step as i64,
                len,
            )
            .ok_or_else(|| unsupported("slice", selection))?;
            dims.push((axis, true));
        } else if let Ok(array) = entry.cast::<PyUntypedArray>()
            && array.ndim() > 0
        {
            let array = entry
                .extract::<PyReadonlyArrayDyn<'_, i64>>()
                .or_else(|_| int64(entry, &array.dtype())?.extract())
                .map_err(|_| unsupported("index array that does not hold integers", selection))?;
            let indices = checked(array.as_array().iter(), len)
                .map_err(|_| unsupported("index out of bounds", selection))?;
            dims.push((Axis::list(&indices), true));
            arrays.push((d, array.shape().to_vec(), indices));
        } else if !entry.is_instance_of::<PyBool>()
            && let Ok(index) = entry.extract::<i64>()
        {
            let index = checked(std::iter::once(&index), len)
                .map_err(|_| unsupported("index out of bounds", selection))?;
            dims.push((Axis::one(index[0]), false));
        } else {
            return Err(unsupported("selector", selection));
        }
    }
    // What numpy means by several arrays depends on their shapes.
    let is_mesh = || {
        arrays.iter().all(|(d, array, _)| {
            array.len() == shape.len() && array.iter().enumerate().all(|(i, &n)| i == *d || n == 1)
        })
    };
    let alone = arrays.len() == 1 && arrays[0].1.len() == 1 && dims.iter().all(|(_, kept)| *kept);
    if arrays.is_empty() || alone || (arrays.len() == shape.len() && is_mesh()) {
        dims.extend(
            shape[dims.len()..]
                .iter()
                .map(|&len| (Axis::all(len as usize), true)),
        );
        return Ok(Numpy::Grid(dims));
    }
    let length = arrays[0].2.len();
    if arrays.len() == shape.len() && arrays.iter().all(|(_, array, _)| *array == [length]) {
        return Ok(Numpy::Points(
            arrays.into_iter().map(|(_, _, indices)| indices).collect(),
        ));
    }
    Err(unsupported("combination of selectors", selection))
}
