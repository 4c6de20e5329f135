//! Proves that what tempozarr reads and writes is what others write and read.
