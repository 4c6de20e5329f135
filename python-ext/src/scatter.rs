//! The kernels that move elements between two blocks of memory of any strides.

use std::convert::Infallible;

use tempozarr::cast::CastError;
use tempozarr::stream;

use crate::cast::Cast;

/// Byte offsets along one dimension of one side.
#[derive(Debug)]
pub enum Offsets {
    /// `start + i * stride`.
    Step {
        /// Offset of element 0.
        start: isize,
        /// Distance of neighbours; may be negative or 0.
        stride: isize,
    },
    /// Any offsets.
    List(Vec<isize>),
}

impl Offsets {
    /// The same offset for every element.
    pub const FIXED: Self = Self::Step {
        start: 0,
        stride: 0,
    };

    fn at(&self, i: usize) -> isize {
        match self {
            // The caller of `copy` promises that every offset lies in memory that exists.
            Self::Step { start, stride } => start + i.cast_signed() * stride,
            Self::List(offsets) => offsets[i],
        }
    }

    fn stride(&self) -> Option<isize> {
        match self {
            Self::Step { stride, .. } => Some(*stride),
            Self::List(_) => None,
        }
    }
}

/// One dimension of a copy: `len` elements, and where they are on both sides.
#[derive(Debug)]
pub struct Dim {
    /// Number of elements.
    pub len: usize,
    /// Where they are read.
    pub from: Offsets,
    /// Where they are written.
    pub to: Offsets,
}

impl Dim {
    /// The same dimension copied the other way.
    pub fn reversed(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            ..self
        }
    }
}

/// Copy the elements of `item` bytes that `dims` names, from `from` to `to`.
///
/// # Safety
/// For every combination of indices, the sum of the offsets of `from` (of `to`) plus `item` lies
/// in one allocation that is valid for reads (for writes, by this thread alone), and no byte
/// read is written.
pub unsafe fn copy(from: *const u8, to: *mut u8, dims: Vec<Dim>, item: usize) {
    if item > 0 {
        let Ok(()) = each(from, to, dims, |from, to, dim| {
            // SAFETY: forwarded.
            unsafe { row(from, to, dim, item) };
            Ok::<_, Infallible>(())
        });
    }
}

/// [`copy`] past the caches what is in long runs: for a result that is larger than they are.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn stream(from: *const u8, to: *mut u8, dims: Vec<Dim>, item: usize) {
    const LONG: usize = 4096;
    let run = Some(item.cast_signed());
    if item > 0 {
        let Ok(()) = each(from, to, dims, |from, to, dim| {
            let bytes = dim.len * item;
            if bytes >= LONG && dim.from.stride() == run && dim.to.stride() == run {
                // SAFETY: forwarded: that many bytes are one run on both sides.
                let (from, to) = unsafe {
                    (
                        std::slice::from_raw_parts(from.offset(dim.from.at(0)), bytes),
                        std::slice::from_raw_parts_mut(to.offset(dim.to.at(0)), bytes),
                    )
                };
                stream::copy(from, to);
            } else {
                // SAFETY: forwarded.
                unsafe { row(from, to, dim, item) };
            }
            Ok::<_, Infallible>(())
        });
        stream::fence();
    }
}

/// Cast the elements that `dims` names, from `from` to elements of `item` bytes at `to`.
///
/// # Safety
/// As for [`copy`], with the bytes of an element on each side.
///
/// # Errors
/// Those of the cast.
pub unsafe fn cast(
    from: *const u8,
    to: *mut u8,
    dims: Vec<Dim>,
    cast: Cast,
    item: usize,
) -> Result<(), CastError> {
    let sizes = (cast.item(), item);
    let run = |from: *const u8, to: *mut u8, len| {
        // SAFETY: forwarded: that many elements are neighbours on both sides.
        let (from, to) = unsafe {
            (
                std::slice::from_raw_parts(from, len * sizes.0),
                std::slice::from_raw_parts_mut(to, len * sizes.1),
            )
        };
        cast.run(from, to)
    };
    each(from, to, dims, |from, to, dim| {
        let strides = (dim.from.stride(), dim.to.stride());
        let (len, count) = if strides == (Some(sizes.0.cast_signed()), Some(sizes.1.cast_signed()))
        {
            (dim.len, 1)
        } else {
            (1, dim.len)
        };
        (0..count).try_for_each(|i| {
            // SAFETY: forwarded.
            let (from, to) = unsafe { (from.offset(dim.from.at(i)), to.offset(dim.to.at(i))) };
            run(from, to, len)
        })
    })
}

/// Call `row` for each innermost dimension of `dims`, with the addresses that its offsets start at.
fn each<E>(
    mut from: *const u8,
    mut to: *mut u8,
    mut dims: Vec<Dim>,
    mut row: impl FnMut(*const u8, *mut u8, &Dim) -> Result<(), E>,
) -> Result<(), E> {
    if dims.iter().any(|dim| dim.len == 0) {
        return Ok(());
    }
    dims.retain_mut(|dim| {
        if dim.len > 1 {
            return true;
        }
        from = from.wrapping_offset(dim.from.at(0));
        to = to.wrapping_offset(dim.to.at(0));
        false
    });
    merge(&mut dims);
    let inner = dims.pop().unwrap_or(Dim {
        len: 1,
        from: Offsets::FIXED,
        to: Offsets::FIXED,
    });
    let mut index = vec![0; dims.len()];
    loop {
        let (mut read, mut write) = (from, to);
        for (dim, &i) in dims.iter().zip(&index) {
            read = read.wrapping_offset(dim.from.at(i));
            write = write.wrapping_offset(dim.to.at(i));
        }
        row(read, write, &inner)?;
        // Next outer index, last dimension fastest.
        let Some(d) = (0..dims.len()).rev().find(|&d| index[d] + 1 < dims[d].len) else {
            return Ok(());
        };
        index[d] += 1;
        index[d + 1..].fill(0);
    }
}

/// Join neighbouring dimensions that are one run of elements on both sides.
fn merge(dims: &mut Vec<Dim>) {
    let joins = |outer: &Offsets, inner: &Offsets, len: usize| {
        matches!(
            (outer.stride(), inner.stride()),
            (Some(outer), Some(inner)) if inner.checked_mul(len.cast_signed()) == Some(outer)
        )
    };
    let start = |offsets: &mut Offsets, more: isize| {
        if let Offsets::Step { start, .. } = offsets {
            *start += more;
        }
    };
    for d in (1..dims.len()).rev() {
        let (outer, inner) = (&dims[d - 1], &dims[d]);
        if joins(&outer.from, &inner.from, inner.len) && joins(&outer.to, &inner.to, inner.len) {
            let (from, to, len) = (outer.from.at(0), outer.to.at(0), outer.len);
            let mut inner = dims.remove(d);
            start(&mut inner.from, from);
            start(&mut inner.to, to);
            inner.len *= len;
            dims[d - 1] = inner;
        }
    }
}

/// One innermost dimension.
///
/// # Safety
/// As for [`copy`].
unsafe fn row(from: *const u8, to: *mut u8, dim: &Dim, item: usize) {
    let step = Some(item.cast_signed());
    if dim.from.stride() == step && dim.to.stride() == step {
        // SAFETY: forwarded; both sides are runs of `len * item` bytes.
        unsafe {
            from.offset(dim.from.at(0))
                .copy_to_nonoverlapping(to.offset(dim.to.at(0)), dim.len * item);
        }
        return;
    }
    // SAFETY: forwarded.
    unsafe {
        match item {
            1 => elements::<1>(from, to, dim),
            2 => elements::<2>(from, to, dim),
            4 => elements::<4>(from, to, dim),
            8 => elements::<8>(from, to, dim),
            16 => elements::<16>(from, to, dim),
            _ => {
                for i in 0..dim.len {
                    from.offset(dim.from.at(i))
                        .copy_to_nonoverlapping(to.offset(dim.to.at(i)), item);
                }
            }
        }
    }
}

/// One innermost dimension of elements of `N` bytes: a size known here is one load and one store.
///
/// # Safety
/// As for [`copy`].
unsafe fn elements<const N: usize>(from: *const u8, to: *mut u8, dim: &Dim) {
    if let (
        Offsets::Step { start, stride },
        Offsets::Step {
            start: to_start,
            stride: to_stride,
        },
    ) = (&dim.from, &dim.to)
    {
        for i in 0..dim.len.cast_signed() {
            // SAFETY: forwarded.
            unsafe {
                from.offset(start + i * stride)
                    .copy_to_nonoverlapping(to.offset(to_start + i * to_stride), N);
            }
        }
        return;
    }
    for i in 0..dim.len {
        // SAFETY: forwarded.
        unsafe {
            from.offset(dim.from.at(i))
                .copy_to_nonoverlapping(to.offset(dim.to.at(i)), N);
        }
    }
}
