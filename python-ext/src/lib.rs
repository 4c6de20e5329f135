//! Python bindings of tempozarr: the module `tempozarr._core`.
//!
//! Borrow numpy memory, release the GIL, call zarrs. From the outside in:
//! - `array`: `Array`, an array of a local store; `append`: `Appender`, rows behind its last; `pipeline`: `ChunkPipeline`, zarr-python's chunks;
//! - `selection`: which elements; `memory`: the caller's; `scatter`: between the two;
//! - `chunk`: one chunk, read and written; `shard`: one that is cut further; `store`: its file; `metadata`: from text to zarrs;
//!   `dtype`: numpy's names;
//! - `kernels`: filters on whole arrays, and aliases of codec names;
//! - `pool`: the threads; `errors`: the Python exceptions.

#![allow(
    clippy::cast_possible_truncation,
    reason = "addresses have 64 bits, which is asserted below"
)]

use pyo3::prelude::*;

mod append;
mod array;
mod chunk;
mod dtype;
mod errors;
mod kernels;
mod memory;
mod metadata;
mod pipeline;
mod pool;
mod scatter;
mod selection;
mod shard;
mod store;

const _: () = assert!(usize::BITS == 64, "tempozarr runs on 64-bit machines");

#[pymodule]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::append::Appender;
    #[pymodule_export]
    use super::array::Array;
    #[pymodule_export]
    use super::kernels::{register_alias, xor_decode, xor_encode};
    #[pymodule_export]
    use super::pipeline::ChunkPipeline;
    #[pymodule_export]
    use super::pool::set_threads;

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
