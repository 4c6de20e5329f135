//! Documents of metadata as texts: of regular files, and neither long nor deeply nested without end.

use std::io::{Error as IoError, Read, Result as IoResult};
use std::path::Path;

use pyo3::prelude::*;

use crate::errors::{Error, Result};
use crate::store::open_regular;

/// No document is longer. That of a root holds those of everything below it, if it is consolidated.
const LONGEST: u64 = 64 << 20;

/// No document is nested more deeply; `serde_json` does not parse what is.
const DEEPEST: usize = 127;

/// The document in the file at `path`; `None` if there is none.
///
/// # Errors
/// [`Error::Store`] if there is no regular file, or it cannot be read; as for [`text`].
pub fn read(path: &Path) -> Result<Option<String>> {
    let name = path.display();
    let bytes =
        read_up_to(path, LONGEST + 1).map_err(|error| Error::Store(format!("{name}: {error}")))?;
    let text = |bytes| text(bytes).map_err(|error| Error::Metadata(format!("{name}: {error}")));
    bytes.map(text).transpose()
}

/// At most `most` bytes of the file at `path`; `None` if there is none.
fn read_up_to(path: &Path, most: u64) -> IoResult<Option<Vec<u8>>> {
    let Some((file, metadata)) = open_regular(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let size = usize::try_from(metadata.len().min(most)).map_err(IoError::other)?;
    bytes.try_reserve_exact(size)?;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The text of a document.
///
/// # Errors
/// What is wrong, if it is too long, too deeply nested, or no UTF-8.
fn text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > LONGEST {
        return Err(format!(
            "expected metadata of at most {} MiB, found more",
            LONGEST >> 20
        ));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| format!("expected JSON in UTF-8: {}", error.utf8_error()))?;
    if depth(text.as_bytes()) > DEEPEST {
        return Err(format!(
            "expected JSON nested at most {DEEPEST} deep, found more"
        ));
    }
    Ok(text)
}

/// How many lists and objects of a JSON text are within each other, at most.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => depth += 1,
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The document in a file, None if there is none.
///
/// `StoreError` if what is there is no regular file, or cannot be read; `MetadataError` if it has
/// more than 64 MiB, is nested too deeply, or is no UTF-8.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "pyfunctions own what they are given"
)]
pub fn read_document(py: Python<'_>, path: std::path::PathBuf) -> PyResult<Option<String>> {
    Ok(py.detach(|| read(&path))?)
}

/// The text of a document that was fetched from `place`; errors as for [`read_document`].
#[pyfunction]
pub fn document_text(bytes: Vec<u8>, place: &str) -> PyResult<String> {
    Ok(text(bytes).map_err(|error| Error::Metadata(format!("{place}: {error}")))?)
}
