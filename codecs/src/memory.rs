//! Memory whose size comes from metadata or stored bytes: what there is not enough of is an error, where
//! `vec!` and `Vec::with_capacity` would end the process.

use std::fmt::Display;

use bytemuck::Zeroable;
use zarrs_codec::CodecError;

/// More memory was asked for than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub bytes: usize,
}

impl Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot allocate {} bytes for a chunk", self.bytes)
    }
}

impl std::error::Error for OutOfMemory {}

impl From<OutOfMemory> for CodecError {
    fn from(error: OutOfMemory) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<OutOfMemory> for String {
    fn from(error: OutOfMemory) -> Self {
        error.to_string()
    }
}

/// `count` zeros. The system gives large memory zeroed, so that nothing is written here.
///
/// # Errors
/// Returns [`OutOfMemory`].
pub fn zeros<T: Zeroable>(count: usize) -> Result<Vec<T>, OutOfMemory> {
    bytemuck::allocation::try_zeroed_slice_box(count)
        .map(<[T]>::into_vec)
        .map_err(|()| out_of_memory::<T>(count))
}

/// `count` times `value`.
///
/// # Errors
/// Returns [`OutOfMemory`].
pub fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut memory = Vec::new();
    reserve_exact(&mut memory, count)?;
    memory.resize(count, value);
    Ok(memory)
}

/// Make `memory` at least `length` long; if it grows, it may hold anything that was valid.
///
/// # Errors
/// Returns [`OutOfMemory`].
pub fn grow<T: Zeroable + Clone>(memory: &mut Vec<T>, length: usize) -> Result<(), OutOfMemory> {
    if memory.len() < length {
        memory.clear();
        reserve_exact(memory, length)?;
        memory.resize(length, T::zeroed());
    }
    Ok(())
}

/// Room for `additional` elements more.
///
/// # Errors
/// Returns [`OutOfMemory`].
pub fn reserve<T>(memory: &mut Vec<T>, additional: usize) -> Result<(), OutOfMemory> {
    (memory.try_reserve(additional)).map_err(|_| out_of_memory::<T>(additional))
}

/// Room for `additional` elements more, and nothing beyond.
///
/// # Errors
/// Returns [`OutOfMemory`].
pub fn reserve_exact<T>(memory: &mut Vec<T>, additional: usize) -> Result<(), OutOfMemory> {
    (memory.try_reserve_exact(additional)).map_err(|_| out_of_memory::<T>(additional))
}

fn out_of_memory<T>(count: usize) -> OutOfMemory {
    let bytes = count.saturating_mul(size_of::<T>());
    OutOfMemory { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_an_error() {
        let error = OutOfMemory { bytes: 1 << 60 };
        assert_eq!(zeros::<u8>(1 << 60), Err(error));
        assert_eq!(zeros::<u16>(1 << 59), Err(error));
        assert_eq!(filled([1_u8; 4], 1 << 58), Err(error));
        assert_eq!(grow(&mut vec![1_u8], 1 << 60), Err(error));
        assert_eq!(reserve(&mut vec![1_u8], 1 << 60), Err(error));
        assert!(zeros::<u64>(usize::MAX).is_err());
    }

    #[test]
    fn as_much_as_is_asked_for() {
        assert_eq!(zeros::<u32>(3), Ok(vec![0; 3]));
        assert_eq!(zeros::<u32>(0), Ok(Vec::new()));
        assert_eq!(filled(7, 2), Ok(vec![7, 7]));
        let mut memory = vec![1_u8, 2];
        grow(&mut memory, 1).unwrap();
        assert_eq!(memory, [1, 2]);
        grow(&mut memory, 5).unwrap();
        assert_eq!(memory.len(), 5);
    }
}
