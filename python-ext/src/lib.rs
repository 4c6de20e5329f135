//! Python bindings of tempozarr: the module `tempozarr._core`.
//!
//! Borrow numpy memory, release the GIL, call zarrs. From the outside in:
//! - `array`: `Array`, an array; `rows`: rows of several of them; `verify`: all that is wrong with stored chunks; `append`: `Appender`, rows behind its last; `pipeline`: `ChunkPipeline`, zarr-python's chunks in files; `selected`: `Selected`, those in other stores;
//! - `selection`: which elements; `memory`: the caller's; `scatter`: between the two;
//! - `source`: one chunk, read; `chunk`: its codecs, and one written; `shard`: one that is cut further;
//!   `store`: its file; `beneath`: where it is written; `fetched`: its bytes in memory; `document`: the text of
//!   metadata; `metadata`: from there to zarrs;
//! - `objects`: object stores, their requests and retries; `transport`: HTTP below them; `fetch`: chunks that are
//!   read from them;
//! - `cache`: what is kept of chunks; `stats`: what was counted; `cast`: other types on the way out;
//!   `dtype`: numpy's names;
//! - `limits`: what metadata may ask for; `kernels`: filters on whole arrays, and aliases of codec names;
//! - `pool`: the threads; `errors`: the Python exceptions.

#![allow(
    clippy::cast_possible_truncation,
    reason = "addresses have 64 bits, which is asserted below"
)]

use pyo3::prelude::*;

mod append;
mod array;
mod beneath;
mod cache;
mod cast;
mod chunk;
mod document;
mod dtype;
mod errors;
mod fetch;
mod fetched;
mod kernels;
mod limits;
mod memory;
mod metadata;
mod objects;
mod pipeline;
mod pool;
mod rows;
mod scatter;
mod selected;
mod selection;
mod shard;
mod source;
mod stats;
mod store;
mod transport;
mod verify;

const _: () = assert!(usize::BITS == 64, "tempozarr runs on 64-bit machines");

#[pymodule]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::append::Appender;
    #[pymodule_export]
    use super::array::Array;
    #[pymodule_export]
    use super::beneath::{Beneath, exchange};
    #[pymodule_export]
    use super::cache::Cache;
    #[pymodule_export]
    use super::document::{document_text, read_document};
    #[pymodule_export]
    use super::kernels::{register_alias, xor_decode, xor_encode};
    #[pymodule_export]
    use super::limits::{get_limits, set_limits};
    #[pymodule_export]
    use super::objects::Objects;
    #[pymodule_export]
    use super::pipeline::ChunkPipeline;
    #[pymodule_export]
    use super::pool::set_threads;
    #[pymodule_export]
    use super::rows::read_rows;
    #[pymodule_export]
    use super::selected::Selected;
    #[pymodule_export]
    use super::verify::verify;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        tempozarr::register();
        module.add(
            "Unsupported",
            module.py().get_type::<super::errors::Unsupported>(),
        )?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
