//! Differences and running sums, in place.
//!
//! [`decode`] undoes [`encode`] exactly where [`Arithmetic`] is that of integers, which wrap; for
//! floats it is the strict left fold that numpy's `cumsum` is, never reassociated.

use crate::dtype::{floats, integers};
use crate::scan::{Sum, scan};

/// Numbers as numpy adds and subtracts them.
pub trait Arithmetic: Copy {
    /// The sum; integers wrap.
    #[must_use]
    fn plus(self, other: Self) -> Self;

    /// The difference; integers wrap.
    #[must_use]
    fn minus(self, other: Self) -> Self;

    /// Replace each value by the sum of `self` and the values up to and with it. Returns the last
    /// sum, or `self`.
    #[must_use]
    fn running_sum(self, values: &mut [Self]) -> Self {
        values.iter_mut().fold(self, |sum, value| {
            *value = sum.plus(*value);
            *value
        })
    }
}

/// Replace each value but the first by its difference to the value before.
pub fn encode<T: Arithmetic>(values: &mut [T]) {
    encode_from(None, values);
}

/// Replace each value by the sum of the values up to and with it.
pub fn decode<T: Arithmetic>(values: &mut [T]) {
    decode_from(None, values);
}

/// [`encode`] a piece of a chunk. `before` is the value before it, `None` at the start of the
/// chunk. Returns the last value, for the next piece.
pub fn encode_from<T: Arithmetic>(before: Option<T>, values: &mut [T]) -> Option<T> {
    let (before, values) = start(before, values)?;
    let last = values.iter_mut().fold(before, |before, value| {
        let difference = value.minus(before);
        std::mem::replace(value, difference)
    });
    Some(last)
}

/// [`decode`] a piece of a chunk. `before` is the decoded value before it, `None` at the start of
/// the chunk. Returns the last decoded value, for the next piece.
pub fn decode_from<T: Arithmetic>(before: Option<T>, values: &mut [T]) -> Option<T> {
    let (before, values) = start(before, values)?;
    Some(before.running_sum(values))
}

/// The value that the first of the others counts from: the first of a chunk stands for itself.
fn start<T: Copy>(before: Option<T>, values: &mut [T]) -> Option<(T, &mut [T])> {
    match before {
        Some(before) => Some((before, values)),
        None => values.split_first_mut().map(|(first, rest)| (*first, rest)),
    }
}

macro_rules! integer_arithmetic {
    ($($type:ty)*) => { $(
        impl Arithmetic for $type {
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            fn running_sum(self, values: &mut [Self]) -> Self {
                scan::<Self, Sum>(self, bytemuck::cast_slice_mut(values))
            }
        }
    )* };
}

macro_rules! float_arithmetic {
    ($($type:ty)*) => { $(
        impl Arithmetic for $type {
            fn plus(self, other: Self) -> Self {
                self + other
            }

            fn minus(self, other: Self) -> Self {
                self - other
            }
        }
    )* };
}

integers!(integer_arithmetic);
floats!(float_arithmetic);
