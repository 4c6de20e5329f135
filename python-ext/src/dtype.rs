//! numpy's names for zarrs' data types.

use numpy::{PyArrayDescr, PyArrayDescrMethods};
use pyo3::prelude::*;
use zarrs::array::{DataType, DataTypeSize};
use zarrs::plugin::{ExtensionName, ZarrVersion};

use crate::errors::{Error, Result};

/// Byte order of this machine, in numpy's letters.
pub const NATIVE: char = if cfg!(target_endian = "little") {
    '<'
} else {
    '>'
};

/// What an element becomes in Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An element of a numpy array of this dtype, of that many bytes.
    Fixed(String, usize),
    /// `str`.
    Text,
    /// `bytes`.
    Bytes,
}

impl Kind {
    /// The kind of `data_type`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if numpy has no such type.
    pub fn new(data_type: &DataType) -> Result<Self> {
        let name = data_type
            .name(ZarrVersion::V3)
            .or_else(|| data_type.name(ZarrVersion::V2))
            .unwrap_or_default();
        let fixed = match data_type.size() {
            DataTypeSize::Fixed(size) if !data_type.is_optional() => size,
            DataTypeSize::Variable if name == "string" => return Ok(Self::Text),
            DataTypeSize::Variable if name == "bytes" => return Ok(Self::Bytes),
            _ => return Err(unknown(&name)),
        };
        let dtype = match name.as_ref() {
            "bool" => "|b1".into(),
            "int8" => "|i1".into(),
            "uint8" => "|u1".into(),
            "int16" | "int32" | "int64" => format!("{NATIVE}i{fixed}"),
            "uint16" | "uint32" | "uint64" => format!("{NATIVE}u{fixed}"),
            "float16" | "float32" | "float64" => format!("{NATIVE}f{fixed}"),
            "complex64" | "complex128" => format!("{NATIVE}c{fixed}"),
            "numpy.datetime64" => format!("{NATIVE}M8{}", unit(data_type)?),
            "numpy.timedelta64" => format!("{NATIVE}m8{}", unit(data_type)?),
            "fixed_length_utf32" => format!("{NATIVE}U{}", fixed / 4),
            name if name.starts_with('r') && name[1..].parse::<usize>().is_ok() => {
                format!("|V{fixed}")
            }
            _ => return Err(unknown(&name)),
        };
        Ok(Self::Fixed(dtype, fixed))
    }

    /// numpy's dtype; `None` for elements of variable length.
    ///
    /// # Errors
    /// [`Error::Metadata`] if numpy has no such type, or another one of that name.
    pub fn descr(&self, py: Python<'_>) -> Result<Option<Py<PyArrayDescr>>> {
        let Self::Fixed(dtype, size) = self else {
            return Ok(None);
        };
        match PyArrayDescr::new(py, dtype) {
            // "<M8,i4" has two fields.
            Ok(descr) if descr.itemsize() == *size && !descr.has_fields() => {
                Ok(Some(descr.unbind()))
            }
            _ => Err(unknown(dtype)),
        }
    }

    /// The dtype string: numpy's, `"T"` for text or `"O"` for bytes.
    pub fn dtype(&self) -> &str {
        match self {
            Self::Fixed(dtype, _) => dtype,
            Self::Text => "T",
            Self::Bytes => "O",
        }
    }
}

/// The unit of a datetime64 or timedelta64: `"[10us]"`, or nothing if it has none.
fn unit(data_type: &DataType) -> Result<String> {
    let configuration = data_type.configuration(ZarrVersion::V3);
    let unit = configuration.get("unit").and_then(|unit| unit.as_str());
    let scale = configuration
        .get("scale_factor")
        .and_then(serde_json::Value::as_u64);
    match (unit, scale) {
        (Some("generic"), _) => Ok(String::new()),
        (Some(unit), Some(1) | None) => Ok(format!("[{unit}]")),
        (Some(unit), Some(scale)) => Ok(format!("[{scale}{unit}]")),
        (None, _) => Err(Error::Metadata("datetime64 without a unit".into())),
    }
}

fn unknown(name: &str) -> Error {
    Error::Metadata(format!(
        "data type {name}: numpy has no such type, so it cannot be read into an array"
    ))
}
