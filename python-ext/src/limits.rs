//! What metadata may ask for: `tempozarr::limits`, for Python.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tempozarr::limits::{self, Limits};

use crate::errors::Error;

/// A limit of that name.
fn limit<'a>(limits: &'a mut Limits, name: &str) -> Option<&'a mut u64> {
    Some(match name {
        "dimensions" => &mut limits.dimensions,
        "codecs" => &mut limits.codecs,
        "nesting" => &mut limits.nesting,
        "element_bytes" => &mut limits.element_bytes,
        "chunk_bytes" => &mut limits.chunk_bytes,
        "subchunks" => &mut limits.subchunks,
        _ => return None,
    })
}

/// The limits of this process, by name.
#[pyfunction(name = "limits")]
pub fn get_limits(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let limits = PyDict::new(py);
    let Limits {
        dimensions,
        codecs,
        nesting,
        element_bytes,
        chunk_bytes,
        subchunks,
    } = limits::limits();
    limits.set_item("dimensions", dimensions)?;
    limits.set_item("codecs", codecs)?;
    limits.set_item("nesting", nesting)?;
    limits.set_item("element_bytes", element_bytes)?;
    limits.set_item("chunk_bytes", chunk_bytes)?;
    limits.set_item("subchunks", subchunks)?;
    Ok(limits)
}

/// Set limits of this process, by name; `ValueError` if there is no such one.
#[pyfunction]
#[pyo3(signature = (**values))]
pub fn set_limits(values: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    let mut limits = limits::limits();
    for (name, value) in values.into_iter().flatten() {
        let name: String = name.extract()?;
        let limit = limit(&mut limits, &name)
            .ok_or_else(|| Error::Value(format!("there is no limit {name:?}")))?;
        *limit = value.extract()?;
    }
    limits::set_limits(limits);
    Ok(())
}
