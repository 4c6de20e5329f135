//! Bytes that were fetched, by Python or from object stores, as memory that the pool's threads may
//! read.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::errors::{Error, Result};

/// Bytes that were fetched.
#[derive(Debug)]
pub enum Fetched {
    /// By Python.
    Buffer(PyBuffer<u8>),
    /// From an object store.
    Owned(Vec<u8>),
}

impl Fetched {
    /// The bytes of a buffer in one block.
    ///
    /// # Errors
    /// [`Error::Value`] for another one.
    pub fn new(buffer: PyBuffer<u8>) -> Result<Self> {
        if buffer.is_c_contiguous() {
            return Ok(Self::Buffer(buffer));
        }
        Err(Error::Value(
            "the fetched bytes are not one block; expected contiguous memory".into(),
        ))
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Buffer(buffer) => buffer.len_bytes(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// The bytes, if nobody may change them: decoders trust what they have checked.
    pub fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Self::Owned(bytes) => Some(bytes),
            _ if self.len() == 0 => Some(&[]),
            Self::Buffer(buffer) => buffer.readonly().then(|| {
                // SAFETY: the buffer is one block, is held for as long as `self`, and is read-only.
                unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), self.len()) }
            }),
        }
    }

    /// Copy bytes from `start` on, which must be there.
    pub fn copy(&self, start: usize, to: &mut [u8]) {
        assert!(
            start <= self.len() && to.len() <= self.len() - start,
            "the range lies in the buffer"
        );
        let buffer = match self {
            _ if to.is_empty() => return,
            Self::Owned(bytes) => return to.copy_from_slice(&bytes[start..start + to.len()]),
            Self::Buffer(buffer) => buffer,
        };
        let from = buffer.buf_ptr().cast::<u8>().cast_const();
        // SAFETY: the range lies in the buffer, which is held for as long as `self`. As in numpy,
        // threads that change it meanwhile get what they ask for: any bytes are bytes.
        unsafe { std::ptr::copy(from.add(start), to.as_mut_ptr(), to.len()) };
    }
}

/// Take over a buffer.
///
/// # Errors
/// As for [`Fetched::new`].
pub fn fetched(buffer: Option<PyBuffer<u8>>) -> PyResult<Option<Fetched>> {
    Ok(buffer.map(Fetched::new).transpose()?)
}
