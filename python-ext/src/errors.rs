//! One error type for the whole crate, and its Python classes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyNotImplementedError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use tempozarr::limits::LimitError;
use tempozarr::memory::OutOfMemory;
use zarrs_codec::CodecError;

pyo3::create_exception!(
    tempozarr._core,
    Unsupported,
    PyNotImplementedError,
    "A request that is valid but that this module does not do; nothing was changed."
);

/// What went wrong; each variant is one Python class.
#[derive(Debug)]
pub enum Error {
    /// `tempozarr.CodecError`: stored bytes that do not decode, or values that do not encode.
    Codec(String),
    /// `tempozarr.MetadataError`: metadata that cannot be used.
    Metadata(String),
    /// `tempozarr.LimitError`: metadata that ask for too much.
    Limit(String),
    /// `tempozarr.StoreError`: the file system.
    Store(String),
    /// `Unsupported`.
    Unsupported(String),
    /// `ValueError`.
    Value(String),
    /// `TypeError`.
    Type(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The error of a codec, with the chunk that it concerns.
    pub fn codec(chunk: &str, error: &CodecError) -> Self {
        let message = format!("chunk {chunk}: {error}");
        match error {
            CodecError::StorageError(_) => Self::Store(message),
            _ => Self::Codec(message),
        }
    }

    /// The error of a caught panic: a bug of ours or of a codec, never the caller's process.
    pub fn panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("panic");
        Self::Codec(format!("internal error: {text}; please report it"))
    }

    /// The text, without the class.
    pub fn message(self) -> String {
        match self {
            Self::Codec(message)
            | Self::Metadata(message)
            | Self::Limit(message)
            | Self::Store(message)
            | Self::Unsupported(message)
            | Self::Value(message)
            | Self::Type(message) => message,
        }
    }

    /// More memory was asked for than there is.
    pub fn memory(bytes: impl std::fmt::Display) -> Self {
        Self::Codec(format!("cannot allocate {bytes} bytes for a decoded chunk"))
    }
}

/// Run `job`; a panic becomes an [`Error::Codec`]. PyO3 would raise it as an exception that
/// `except Exception` does not catch.
pub fn caught<T, E: From<Error>>(job: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // Nothing of ours is left half-changed by an unwind: outputs belong to the caller, who gets an
    // error, and files are replaced whole.
    catch_unwind(AssertUnwindSafe(job))
        .unwrap_or_else(|payload| Err(Error::panic(payload.as_ref()).into()))
}

impl From<LimitError> for Error {
    fn from(error: LimitError) -> Self {
        match error.limit() {
            Some(_) => Self::Limit(error.to_string()),
            None => Self::Metadata(error.to_string()),
        }
    }
}

impl From<OutOfMemory> for Error {
    fn from(error: OutOfMemory) -> Self {
        Self::memory(error.bytes)
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Codec(message) => raise("CodecError", message),
            Error::Metadata(message) => raise("MetadataError", message),
            Error::Limit(message) => raise("LimitError", message),
            Error::Store(message) => raise("StoreError", message),
            Error::Unsupported(message) => Unsupported::new_err(message),
            Error::Value(message) => PyValueError::new_err(message),
            Error::Type(message) => PyTypeError::new_err(message),
        }
    }
}

/// An instance of a class of `tempozarr._errors`. The classes live in Python, so that users can
/// read them, and are looked up on first use, because that package imports this module.
fn raise(name: &'static str, message: String) -> PyErr {
    static CLASSES: [(&str, PyOnceLock<Py<PyType>>); 4] = [
        ("CodecError", PyOnceLock::new()),
        ("MetadataError", PyOnceLock::new()),
        ("LimitError", PyOnceLock::new()),
        ("StoreError", PyOnceLock::new()),
    ];
    Python::attach(|py| {
        for (class, cell) in &CLASSES {
            if *class == name {
                return match cell.import(py, "tempozarr._errors", name) {
                    Ok(class) => PyErr::from_type(class.clone(), message),
                    Err(error) => error,
                };
            }
        }
        PyValueError::new_err(message)
    })
}
