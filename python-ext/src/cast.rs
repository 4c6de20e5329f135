//! Elements that become another type on their way to the caller's memory.

use half::bf16;
use tempozarr::cast::{CastError, Overflow, cast_into};
use tempozarr::dtype::{NumericType, NumpyType};
use zarrs::array::DataType;

use crate::errors::{Error, Result};

/// A cast, element by element.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    from: NumericType,
    to: To,
}

#[derive(Clone, Copy, Debug)]
enum To {
    Numeric(NumericType),
    /// The upper half of a float32, rounded to nearest even; numpy has no such type.
    Brain,
}

impl Cast {
    /// Elements of `from` as `to`: a numpy data type, or `bfloat16`.
    ///
    /// # Errors
    /// [`Error::Type`] if one of them is no number.
    pub fn new(from: &DataType, to: &str) -> Result<Self> {
        let refuse = |what: &str| {
            Error::Type(format!(
                "expected a cast between numbers, got one {what}; leave dtype out"
            ))
        };
        Ok(Self {
            from: NumericType::of(from).ok_or_else(|| refuse("from another data type"))?,
            to: match NumpyType::parse(to) {
                Some(numpy) if !numpy.big_endian => To::Numeric(numpy.numeric),
                _ if to == "bfloat16" => To::Brain,
                _ => return Err(refuse(&format!("to {to:?}"))),
            },
        })
    }

    /// numpy's name for memory that takes the results: bits, where numpy has no such type.
    pub fn numpy(self) -> String {
        match self.to {
            To::Numeric(numeric) => numeric.numpy(),
            To::Brain => NumericType::UInt16.numpy(),
        }
    }

    /// Bytes of an element before.
    pub fn item(self) -> usize {
        self.from.size()
    }

    /// Cast the elements of `from` to as many in `to`.
    ///
    /// # Errors
    /// A [`CastError`] for the first one that the other type cannot hold.
    pub fn run(self, from: &[u8], to: &mut [u8]) -> Result<(), CastError> {
        match self.to {
            To::Numeric(numeric) => cast_into(from, self.from, numeric, Overflow::Refuse, to),
            To::Brain => self.brain(from, to),
        }
    }

    fn brain(self, from: &[u8], to: &mut [u8]) -> Result<(), CastError> {
        let mut singles = [0; 4 * 512];
        let blocks = from.chunks(512 * self.item()).zip(to.chunks_mut(512 * 2));
        for (from, to) in blocks {
            let singles = &mut singles[..to.len() * 2];
            cast_into(
                from,
                self.from,
                NumericType::Float32,
                Overflow::Refuse,
                singles,
            )?;
            let (singles, _) = singles.as_chunks();
            for (single, brain) in singles.iter().zip(to.as_chunks_mut().0) {
                *brain = bf16::from_f32(f32::from_ne_bytes(*single)).to_ne_bytes();
            }
        }
        Ok(())
    }
}
