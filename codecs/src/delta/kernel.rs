//! Differences and running sums, in place.
//!
//! [`decode`] undoes [`encode`] exactly where [`Arithmetic`] is that of integers, which wrap; for
//! floats it is the strict left fold that numpy's `cumsum` is, never reassociated.

use crate::dtype::{floats, integers};

/// Numbers as numpy adds and subtracts them.
pub trait Arithmetic: Copy {
    /// The sum; integers wrap.
    #[must_use]
    fn plus(self, other: Self) -> Self;

    /// The difference; integers wrap.
    #[must_use]
    fn minus(self, other: Self) -> Self;
}

/// Replace each value but the first by its difference to the value before.
pub fn encode<T: Arithmetic>(values: &mut [T]) {
    let Some((first, rest)) = values.split_first_mut() else {
        return;
    };
    let mut before = *first;
    for value in rest {
        let difference = value.minus(before);
        before = std::mem::replace(value, difference);
    }
}

/// Replace each value by the sum of the values up to and with it.
pub fn decode<T: Arithmetic>(values: &mut [T]) {
    let Some((first, rest)) = values.split_first_mut() else {
        return;
    };
    let mut sum = *first;
    for value in rest {
        sum = sum.plus(*value);
        *value = sum;
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
