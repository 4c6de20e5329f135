//! The filters themselves, on whole arrays: what `tempozarr.codecs` is made of.

use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tempozarr::temporal_xor::kernel;

use crate::errors::{Error, Result};
use crate::memory::Memory;
use crate::pool;

/// Read the codec name `name` as another name of `target`, a codec of this package.
///
/// `ValueError` if there is no codec `target`.
#[pyfunction]
#[pyo3(signature = (name, target, /))]
pub fn register_alias(name: &str, target: &str) -> Result<()> {
    tempozarr::register_alias(name, target).map_err(|_| {
        Error::Value(format!(
            "no codec is named {target:?}; expected one of {:?}",
            tempozarr::codec_names()
        ))
    })
}

/// XOR every slice along `axis` with the slice before it, bits with bits.
///
/// Any dtype of a fixed size; the result is a new C-ordered array of the same dtype and shape.
#[pyfunction]
pub fn xor_encode<'py>(data: &Bound<'py, PyAny>, axis: isize) -> PyResult<Bound<'py, PyAny>> {
    along(data, axis, |bytes, rows, row| {
        bytes.copy_from_slice(&kernel::encode(bytes, rows, row));
    })
}

/// Undo `xor_encode`.
#[pyfunction]
pub fn xor_decode<'py>(data: &Bound<'py, PyAny>, axis: isize) -> PyResult<Bound<'py, PyAny>> {
    along(data, axis, kernel::decode)
}

/// A C-ordered copy of `data` on which `kernel(bytes, rows, bytes of a row)` has worked.
fn along<'py>(
    data: &Bound<'py, PyAny>,
    axis: isize,
    kernel: impl FnOnce(&mut [u8], usize, usize) + Send,
) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    let array = data.cast::<PyUntypedArray>().map_err(|_| {
        Error::Type(format!(
            "expected a numpy.ndarray, got {}; convert it with numpy.asarray",
            data.get_type()
        ))
    })?;
    if array.dtype().has_object() {
        return Err(Error::Type(format!(
            "dtype {} holds Python objects; expected a dtype of a fixed size",
            array.dtype()
        ))
        .into());
    }
    let shape = array.shape();
    let ndim = shape.len().cast_signed();
    let axis = if axis < 0 { axis + ndim } else { axis };
    let Some(&rows) = usize::try_from(axis).ok().and_then(|axis| shape.get(axis)) else {
        return Err(Error::Value(format!(
            "axis {axis} is out of bounds for an array of {ndim} dimensions"
        ))
        .into());
    };
    // A copy, even of an array that is in C order already; subclasses stay behind.
    let options = PyDict::new(py);
    options.set_item("order", PyString::new(py, "C"))?;
    options.set_item("copy", true)?;
    let out = py
        .import("numpy")?
        .call_method("array", (data,), Some(&options))?;
    let memory = Memory::write(&out, &array.dtype())?;
    let row = memory.item
        * memory.shape[axis.cast_unsigned() + 1..]
            .iter()
            .product::<usize>();
    if memory.bytes() > 0 {
        pool::compute(py, || {
            // SAFETY: the array is new: contiguous, and nobody else's.
            let bytes = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.bytes()) };
            kernel(bytes, rows, row);
            Ok(())
        })?;
    }
    Ok(out)
}
