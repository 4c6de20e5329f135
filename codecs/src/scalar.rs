//! Arithmetic of an array and one number, in the types in which numpy does it.

use half::f16;
use serde_json::Number;

use crate::cast::{CastFrom, Overflow, cast_bytes};
use crate::dtype::{Bool, NumericType, dispatch, integers};
use crate::elements::with_elements_mut;

/// A number of JSON, which is one of Python.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    Integer(i128),
    Float(f64),
}

impl From<&Number> for Scalar {
    fn from(number: &Number) -> Self {
        match (number.as_i128(), number.as_f64()) {
            (Some(integer), _) => Self::Integer(integer),
            (None, float) => Self::Float(float.unwrap_or(f64::NAN)),
        }
    }
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(integer) => write!(f, "{integer}"),
            Self::Float(float) => write!(f, "{float:?}"),
        }
    }
}

/// What to do with each element, which stands on the left, and the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Plus,
    Minus,
    Times,
    Over,
}

/// The type that numpy computes in: a number of Python has no width of its own.
fn promoted(numeric: NumericType, operation: Operation, number: Scalar) -> NumericType {
    match number {
        _ if numeric.is_float() => numeric,
        Scalar::Float(_) => NumericType::Float64,
        Scalar::Integer(_) if operation == Operation::Over => NumericType::Float64,
        Scalar::Integer(_) if numeric == NumericType::Bool => NumericType::Int64,
        Scalar::Integer(_) => numeric,
    }
}

/// Do `operation` on the elements of `numeric` and `number`, in the type that it returns. Integers
/// wrap.
///
/// # Errors
/// Returns a message if `number` is not one of that type.
pub(crate) fn apply(
    mut bytes: Vec<u8>,
    numeric: NumericType,
    operation: Operation,
    number: Scalar,
) -> Result<(Vec<u8>, NumericType), String> {
    let computed = promoted(numeric, operation, number);
    if computed != numeric {
        bytes = cast_bytes(&bytes, numeric, computed, Overflow::Wrap)
            .map_err(|error| error.to_string())?;
    }
    let known = dispatch!(computed, T => {
        T::of(number).map(|number| with_elements_mut::<T, _>(&mut bytes, |elements| {
            for element in elements {
                *element = element.operate(operation, number);
            }
        }))
    });
    match known {
        Some(()) => Ok((bytes, computed)),
        None => Err(format!("{number} is not a value of {}", computed.name())),
    }
}

/// Round elements of `numeric` to integers, ties to even, if it is a float.
pub(crate) fn round(bytes: &mut [u8], numeric: NumericType) {
    dispatch!(numeric, T => with_elements_mut::<T, _>(bytes, |elements| {
        for element in elements {
            *element = element.rounded();
        }
    }));
}

trait Element: Copy {
    fn of(number: Scalar) -> Option<Self>;
    fn operate(self, operation: Operation, number: Self) -> Self;
    fn rounded(self) -> Self {
        self
    }
}

macro_rules! integer_elements {
    ($($type:ty)*) => { $(
        impl Element for $type {
            fn of(number: Scalar) -> Option<Self> {
                match number {
                    Scalar::Integer(integer) => integer.try_into().ok(),
                    Scalar::Float(_) => None,
                }
            }

            fn operate(self, operation: Operation, number: Self) -> Self {
                match operation {
                    Operation::Plus => self.wrapping_add(number),
                    Operation::Minus => self.wrapping_sub(number),
                    Operation::Times => self.wrapping_mul(number),
                    Operation::Over => self.checked_div(number).unwrap_or(0),
                }
            }
        }
    )* };
}

integers!(integer_elements);

/// bool is promoted to something else, whatever is done with it.
impl Element for Bool {
    fn of(_number: Scalar) -> Option<Self> {
        None
    }

    fn operate(self, _operation: Operation, _number: Self) -> Self {
        self
    }
}

macro_rules! float_elements {
    ($($type:ty)*) => { $(
        impl Element for $type {
            fn of(number: Scalar) -> Option<Self> {
                #[allow(clippy::cast_precision_loss, reason = "Python rounds, too")]
                Some(Self::cast(&match number {
                    Scalar::Integer(integer) => integer as f64,
                    Scalar::Float(float) => float,
                }))
            }

            fn operate(self, operation: Operation, number: Self) -> Self {
                match operation {
                    Operation::Plus => self + number,
                    Operation::Minus => self - number,
                    Operation::Times => self * number,
                    Operation::Over => self / number,
                }
            }

            fn rounded(self) -> Self {
                self.round_ties_even()
            }
        }
    )* };
}

float_elements!(f32 f64);

/// As numpy: by way of f32, whose rounding does no harm.
impl Element for f16 {
    fn of(number: Scalar) -> Option<Self> {
        f64::of(number).map(|number| Self::cast(&number))
    }

    fn operate(self, operation: Operation, number: Self) -> Self {
        Self::cast(&f32::cast(&self).operate(operation, f32::cast(&number)))
    }

    fn rounded(self) -> Self {
        Self::cast(&f32::cast(&self).rounded())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elements::elements;
    use crate::testing::raw;
    use Operation::{Minus, Over, Plus, Times};
    use Scalar::{Float, Integer};

    /// `np.array([1, 0, 1], numeric) operation number`, numpy 2.4.
    #[test]
    fn types_are_those_of_numpy() {
        use NumericType::{Bool, Float16, Float64, Int8, Int64, UInt8, UInt64};
        for (numeric, operation, number, expected) in [
            (UInt8, Minus, Integer(1), UInt8),
            (UInt8, Minus, Float(2.5), Float64),
            (UInt8, Over, Integer(1000), Float64),
            (Int8, Over, Integer(-300), Float64),
            (Bool, Times, Integer(2), Int64),
            (Bool, Over, Integer(2), Float64),
            (Bool, Plus, Float(2.5), Float64),
            (Float16, Times, Integer(100_000), Float16),
            (Float16, Plus, Float(0.1), Float16),
            (UInt64, Minus, Integer(1 << 63), UInt64),
        ] {
            let ones = cast_bytes(&[1, 0, 1], UInt8, numeric, Overflow::Wrap).unwrap();
            let (bytes, computed) = apply(ones, numeric, operation, number).unwrap();
            assert_eq!(computed, expected, "{numeric:?} {operation:?} {number}");
            assert_eq!(bytes.len(), 3 * expected.size());
        }
        for (numeric, number) in [(UInt8, 1000), (UInt8, -1), (Int8, -300), (Int64, 1 << 63)] {
            let error = apply(vec![0; 8], numeric, Minus, Integer(number)).unwrap_err();
            assert_eq!(
                error,
                format!("{number} is not a value of {}", numeric.name())
            );
        }
    }

    #[test]
    fn integers_wrap_and_floats_round() {
        let bytes = |result: Result<(Vec<u8>, NumericType), String>| result.unwrap().0;
        let three =
            |operation, number| bytes(apply(vec![3, 5], NumericType::UInt8, operation, number));
        assert_eq!(three(Minus, Integer(5)), [254, 0]);
        assert_eq!(three(Times, Integer(100)), [44, 244]);
        let halves = raw(&[0.5_f64, 1.5, -0.5, -2.5, f64::INFINITY]);
        let mut rounded = halves.clone();
        round(&mut rounded, NumericType::Float64);
        assert_eq!(rounded, raw(&[0.0, 2.0, -0.0, -2.0, f64::INFINITY]));
        // In f16 all the way: 0.1 is 0.0999755859375 there.
        let half = raw(&[f16::from_f32(1.0)]);
        let sum = bytes(apply(half, NumericType::Float16, Plus, Float(0.1)));
        assert_eq!(elements::<f16>(&sum)[0], f16::from_f32(1.1));
    }
}
