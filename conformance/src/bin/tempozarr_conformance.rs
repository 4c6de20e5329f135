//! `tempozarr_conformance --array_path PATH` prints the elements of an array, one to a line, as the
//! JSON of fill values: the command line that the public conformance suites ask of every
//! implementation, and that of `zarrs_conformance`.

use std::error::Error;
use std::ffi::OsString;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tempozarr_conformance::write_elements;
use zarrs::array::Array;
use zarrs_filesystem::FilesystemStore;

fn main() -> ExitCode {
    let Some(path) = array_path(std::env::args_os().skip(1)) else {
        eprintln!("usage: tempozarr_conformance --array_path PATH");
        return ExitCode::from(2);
    };
    match print(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// The path in `--array_path PATH` or `--array_path=PATH`, if these are all the arguments.
fn array_path(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let first = arguments.next()?;
    let path = if first == "--array_path" {
        arguments.next()?
    } else {
        first.to_str()?.strip_prefix("--array_path=")?.into()
    };
    arguments.next().is_none().then(|| path.into())
}

fn print(path: &PathBuf) -> Result<(), Box<dyn Error>> {
    tempozarr::register();
    let store = Arc::new(FilesystemStore::new(path)?);
    let array = Array::open(store.clone(), "/")?;
    let array = Array::new_with_metadata(store, "/", tempozarr::fuse(array.metadata()))?;
    let mut out = BufWriter::new(stdout().lock());
    write_elements(&array, &mut out)?;
    Ok(out.flush()?)
}
