//! A caller's numpy array, as memory that the pool's threads may touch.

use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, npyffi};
use pyo3::prelude::*;
use unsafe_cell_slice::UnsafeCellSlice;

use crate::cast::Cast;
use crate::errors::{Error, Result};

/// The memory of a numpy array that the caller keeps alive during the call.
///
/// As in numpy itself, other threads that change the array meanwhile get what they ask for.
pub struct Memory {
    data: *mut u8,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes between neighbours, per dimension.
    pub strides: Vec<isize>,
    /// Bytes per element.
    pub item: usize,
    /// All of it, if it is one C-ordered block that may be written. Made once: threads that each
    /// made a `&mut` of the whole would alias, even if they write apart.
    cells: Option<UnsafeCellSlice<'static, u8>>,
    /// What the values become on their way in.
    cast: Option<Cast>,
}

// SAFETY: a pointer and plain numbers; who writes where is decided by the users of `data`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// The memory of `array`, to be read.
    ///
    /// # Errors
    /// [`Error::Type`] if it is no numpy array of type `dtype`.
    pub fn read(array: &Bound<'_, PyAny>, dtype: &Bound<'_, PyArrayDescr>) -> PyResult<Self> {
        let array = cast(array, dtype)?;
        Ok(Self::new(array))
    }

    /// The memory of `out`, to be written.
    ///
    /// # Errors
    /// [`Error::Type`] if it is no numpy array of type `dtype`; [`Error::Value`] if it is
    /// read-only or if two of its elements share memory.
    pub fn write(out: &Bound<'_, PyAny>, dtype: &Bound<'_, PyArrayDescr>) -> PyResult<Self> {
        let array = cast(out, dtype)?;
        // SAFETY: the pointer of a live array object.
        let flags = unsafe { (*array.as_array_ptr()).fields.flags };
        if flags & npyffi::NPY_ARRAY_WRITEABLE == 0 {
            return Err(Error::Value("out is read-only; expected a writable array".into()).into());
        }
        let mut memory = Self::new(array);
        if memory.overlaps_itself() {
            return Err(Error::Value(
                "two elements of out share memory; expected an array of its own, not a broadcast view"
                    .into(),
            )
            .into());
        }
        if array.is_c_contiguous() {
            // SAFETY: the bytes of a live, writable array in one block. They do not live forever,
            // but `cells` lends them for no longer than `self`.
            let bytes = unsafe { std::slice::from_raw_parts_mut(memory.data, memory.bytes()) };
            memory.cells = Some(UnsafeCellSlice::new(bytes));
        }
        Ok(memory)
    }

    fn new(array: &Bound<'_, PyUntypedArray>) -> Self {
        Self {
            // SAFETY: the pointer of a live array object.
            data: unsafe { (*array.as_array_ptr()).fields.data.cast() },
            shape: array.shape().to_vec(),
            strides: array.strides().to_vec(),
            item: array.dtype().itemsize(),
            cells: None,
            cast: None,
        }
    }

    /// The memory of `elements`, in one dimension.
    pub fn of<T: Copy>(elements: &mut [T]) -> Self {
        Self {
            data: elements.as_mut_ptr().cast(),
            shape: vec![elements.len()],
            strides: vec![size_of::<T>().cast_signed()],
            item: size_of::<T>(),
            cells: None,
            cast: None,
        }
    }

    /// The same memory, of values that went through `cast`.
    pub fn casting(self, cast: Option<Cast>) -> Self {
        Self { cast, ..self }
    }

    /// What the values become on their way in.
    pub fn cast(&self) -> Option<Cast> {
        self.cast
    }

    /// The same memory as a C-ordered array of another shape.
    pub fn reshaped(self, shape: Vec<usize>) -> Self {
        Self {
            strides: c_strides(&shape, self.item),
            shape,
            ..self
        }
    }

    /// Check the shape.
    ///
    /// # Errors
    /// [`Error::Value`] with both shapes.
    pub fn expect_shape(&self, expected: &[u64]) -> Result<()> {
        if std::iter::zip(&self.shape, expected).all(|(&a, &b)| a as u64 == b)
            && self.shape.len() == expected.len()
        {
            return Ok(());
        }
        Err(Error::Value(format!(
            "expected an array of shape {expected:?}, got {:?}",
            self.shape
        )))
    }

    /// Address of element 0; every element is valid while the array lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.data
    }

    /// All bytes, if the array is one C-ordered block that may be written.
    pub fn cells(&self) -> Option<UnsafeCellSlice<'_, u8>> {
        self.cells
    }

    /// Number of bytes of all elements.
    pub fn bytes(&self) -> usize {
        // It is the size of an array that exists.
        self.shape.iter().product::<usize>() * self.item
    }

    /// Whether to write past the caches: larger results are not read again before these have lost
    /// them.
    pub fn streams(&self) -> bool {
        const LARGE: usize = 8 << 20;
        self.bytes() >= LARGE
    }

    /// Whether two elements may share memory: sorted by stride, each dimension must step over
    /// all that the smaller ones cover. (A few exotic but disjoint layouts fail this; numpy's
    /// own slicing and transposing never makes them.)
    fn overlaps_itself(&self) -> bool {
        if self.shape.contains(&0) {
            return false;
        }
        let mut dims: Vec<_> = std::iter::zip(&self.strides, &self.shape)
            .filter(|&(_, &len)| len > 1)
            .map(|(stride, &len)| (stride.unsigned_abs(), len))
            .collect();
        dims.sort_unstable();
        let mut covered = self.item;
        for (stride, len) in dims {
            if stride < covered {
                return true;
            }
            covered = stride.saturating_mul(len - 1).saturating_add(covered);
        }
        false
    }
}

/// Strides of a C-ordered block.
pub fn c_strides(shape: &[usize], item: usize) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut stride = item.cast_signed();
    for (d, &len) in shape.iter().enumerate().rev() {
        strides[d] = stride;
        // The block exists or its size was checked; only an empty one can have wild strides.
        stride = stride.wrapping_mul(len.cast_signed());
    }
    strides
}

fn cast<'a, 'py>(
    array: &'a Bound<'py, PyAny>,
    dtype: &Bound<'py, PyArrayDescr>,
) -> PyResult<&'a Bound<'py, PyUntypedArray>> {
    let array = array.cast::<PyUntypedArray>().map_err(|_| {
        Error::Type(format!(
            "expected a numpy.ndarray of dtype {dtype}, got {}; convert it with numpy.asarray",
            array.get_type()
        ))
    })?;
    let got = array.dtype();
    if got.is_equiv_to(dtype) {
        return Ok(array);
    }
    Err(Error::Type(format!(
        "expected a numpy.ndarray of dtype {dtype}, got {got}; convert it with astype"
    ))
    .into())
}
