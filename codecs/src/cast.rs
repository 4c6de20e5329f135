//! numpy's `astype` between numeric types, over slices.
//!
//! Equal to numpy bit for bit wherever numpy's answer is defined. Where it is not (NaN or a value
//! out of range into an integer), and on request where it is but loses the value (an integer that
//! wraps), the cast stops at the first such element.

#![allow(
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "`as` is numpy's cast, and what it loses is checked"
)]

#[cfg(target_arch = "x86_64")]
mod halves;
#[cfg(test)]
mod tests;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::dtype::{Bool, NumericType, dispatch, floats, integers};
use crate::elements::{elements, with_elements_mut};

/// What a cast does with a value that the target type does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Refuse it.
    Refuse,
    /// Keep the low bits of an integer, as numpy does; refuse a float, of which numpy makes
    /// whatever the processor does.
    Wrap,
    /// Refuse nothing: of a float keep the nearest bound, and zero for NaN.
    Clamp,
}

/// Elements per block of a cast: small enough that a block and its copy stay in L1 from pass to pass.
pub const BLOCK: usize = 512;

/// Cast `from` to `to`, of the same length, element by element.
///
/// # Errors
/// Returns the index of the first element that the target type cannot hold. The elements of `to`
/// are then unspecified.
///
/// # Panics
/// Panics if the lengths differ.
pub fn cast<S, D: CastFrom<S>>(from: &[S], to: &mut [D], overflow: Overflow) -> Result<(), usize> {
    assert_eq!(from.len(), to.len(), "cast: the lengths differ");
    let blocks = from.chunks(BLOCK).zip(to.chunks_mut(BLOCK));
    for (index, (from, to)) in blocks.enumerate() {
        if !D::holds_all(from, overflow) {
            let first = from.iter().position(|value| !D::holds(value, overflow));
            return Err(index * BLOCK + first.unwrap_or(0));
        }
        D::cast_block(from, to);
    }
    Ok(())
}

/// A value that a cast met and its target type does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastError {
    /// The flat index of the first such element.
    pub index: usize,
    /// The element, in words.
    pub value: String,
    /// The target type.
    pub target: NumericType,
}

impl std::fmt::Display for CastError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            index,
            value,
            target,
        } = self;
        write!(
            f,
            "element {index} ({value}) has no value as {}",
            target.name()
        )
    }
}

impl std::error::Error for CastError {}

/// [`cast_into`] bytes of their own.
///
/// # Errors
/// Returns a [`CastError`] for the first element that `to` cannot hold.
pub(crate) fn cast_bytes(
    bytes: &[u8],
    from: NumericType,
    to: NumericType,
    overflow: Overflow,
) -> Result<Vec<u8>, CastError> {
    // Memory: as many elements as there are already.
    let mut result = vec![0; bytes.len() / from.size() * to.size()];
    cast_into(bytes, from, to, overflow, &mut result)?;
    Ok(result)
}

/// [`cast`] between the native-endian bytes of elements of two types: whole elements in `bytes`, as
/// many in `result`, which are unspecified after an error.
///
/// # Errors
/// Returns a [`CastError`] for the first element that `to` cannot hold.
///
/// # Panics
/// Panics if the numbers of elements differ.
pub fn cast_into(
    bytes: &[u8],
    from: NumericType,
    to: NumericType,
    overflow: Overflow,
    result: &mut [u8],
) -> Result<(), CastError> {
    dispatch!(from, S => dispatch!(to, D => {
        let values = elements::<S>(bytes);
        with_elements_mut::<D, _>(result, |result| cast(&values, result, overflow))
            .map_err(|index| CastError {
                index,
                value: format!("{:?}", values[index]),
                target: to,
            })
    }))
}

/// [`cast_into`] past the caches, as [`stream::copy`](crate::stream::copy), if there is a way: from
/// halves to singles. Returns whether there is; if not, nothing was done.
pub(crate) fn stream(bytes: &[u8], from: NumericType, to: NumericType, result: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if (from, to) == (NumericType::Float16, NumericType::Float32)
        && halves::detected()
        && let (Ok(from), Ok(to)) = (
            bytemuck::try_cast_slice::<_, f16>(bytes),
            bytemuck::try_cast_slice_mut::<_, f32>(result),
        )
        && from.len() == to.len()
    {
        // SAFETY: detected.
        if unsafe { halves::stream_singles(from, to) } {
            patch_signalling(from, to);
        }
        return true;
    }
    let _ = (bytes, from, to, result);
    false
}

/// A type that numpy casts `S` to.
pub trait CastFrom<S>: Copy {
    /// numpy's value, or any value where [`holds`](Self::holds) is false.
    fn cast(value: &S) -> Self;

    /// Whether the cast is defined and not refused.
    fn holds(_value: &S, _overflow: Overflow) -> bool {
        true
    }

    /// Whether all of at most [`BLOCK`] values are held; without a branch, for vector code.
    fn holds_all(values: &[S], overflow: Overflow) -> bool {
        values
            .iter()
            .fold(true, |all, value| all & Self::holds(value, overflow))
    }

    /// [`cast`](Self::cast) of at most [`BLOCK`] values.
    fn cast_block(from: &[S], to: &mut [Self]) {
        for (to, value) in to.iter_mut().zip(from) {
            *to = Self::cast(value);
        }
    }
}

/// `as` is numpy's cast; only integers into integers can fail to hold a value.
macro_rules! from_integer {
    ($to:ty; $($from:ty)*) => { $(
        impl CastFrom<$from> for $to {
            fn cast(value: &$from) -> Self {
                *value as Self
            }

            fn holds(value: &$from, overflow: Overflow) -> bool {
                Self::try_from(*value).is_ok() | (overflow != Overflow::Refuse)
            }
        }
    )* };
}

macro_rules! into_integers {
    ($($to:ty)*) => { $(
        integers!(from_integer $to;);

        impl_float_to_integer!($to, f32);
        impl_float_to_integer!($to, f64);

        impl CastFrom<Bool> for $to {
            fn cast(value: &Bool) -> Self {
                Self::from(value.0 != 0)
            }
        }

        impl CastFrom<$to> for Bool {
            fn cast(value: &$to) -> Self {
                Self((*value != 0).into())
            }
        }

        impl CastFrom<$to> for f32 {
            fn cast(value: &$to) -> Self {
                *value as Self
            }
        }

        impl CastFrom<$to> for f64 {
            fn cast(value: &$to) -> Self {
                *value as Self
            }
        }
    )* };
}

/// Truncation toward zero, where the result is in range.
macro_rules! impl_float_to_integer {
    ($to:ty, $from:ty) => {
        impl CastFrom<$from> for $to {
            fn cast(value: &$from) -> Self {
                *value as Self
            }

            fn holds(value: &$from, overflow: Overflow) -> bool {
                // Both powers of two (or zero) are exact, unlike `MAX as f32`, which is `MAX + 1`
                // for the wide types. `MIN - 1` is either exact, and then excluded with all
                // below it, or rounds to `MIN`, and then nothing lies between the two.
                const MIN: $from = <$to>::MIN as $from;
                const BELOW: $from = MIN - 1.0;
                const ABOVE: $from = (<$to>::MAX / 2 + 1) as $from * 2.0;
                let inside = ((*value > BELOW) | (*value >= MIN)) & (*value < ABOVE);
                inside | (overflow == Overflow::Clamp)
            }
        }
    };
}

integers!(into_integers);

/// Every type but f16 itself goes to and from f16 by way of `$via`, exactly: an integer that f32
/// rounds is far beyond f16's range, and f16 into f32 or f64 is exact.
macro_rules! via_f32 {
    ($($type:ty)*) => { $(
        impl CastFrom<f16> for $type {
            fn cast(value: &f16) -> Self {
                Self::cast(&f32::cast(value))
            }

            fn holds(value: &f16, overflow: Overflow) -> bool {
                <Self as CastFrom<f32>>::holds(&f32::cast(value), overflow)
            }

            fn holds_all(values: &[f16], overflow: Overflow) -> bool {
                let mut wide = [0.0; BLOCK];
                let wide = &mut wide[..values.len()];
                f32::cast_block(values, wide);
                <Self as CastFrom<f32>>::holds_all(wide, overflow)
            }

            fn cast_block(from: &[f16], to: &mut [Self]) {
                let mut wide = [0.0; BLOCK];
                let wide = &mut wide[..from.len()];
                f32::cast_block(from, wide);
                <Self as CastFrom<f32>>::cast_block(wide, to);
            }
        }

        impl CastFrom<$type> for f16 {
            fn cast(value: &$type) -> Self {
                Self::cast(&<f32 as CastFrom<$type>>::cast(value))
            }

            fn cast_block(from: &[$type], to: &mut [Self]) {
                let mut wide = [0.0; BLOCK];
                let wide = &mut wide[..from.len()];
                <f32 as CastFrom<$type>>::cast_block(from, wide);
                Self::cast_block(wide, to);
            }
        }
    )* };
}

integers!(via_f32);
via_f32!(Bool);

macro_rules! float_and_bool {
    ($($float:ty)*) => { $(
        impl CastFrom<Bool> for $float {
            fn cast(value: &Bool) -> Self {
                Self::from(u8::from(value.0 != 0))
            }
        }

        impl CastFrom<$float> for Bool {
            fn cast(value: &$float) -> Self {
                Self((*value != 0.0).into())
            }
        }
    )* };
}

float_and_bool!(f32 f64);

macro_rules! identity {
    ($($type:ty)*) => { $(
        impl CastFrom<$type> for $type {
            fn cast(value: &$type) -> Self {
                *value
            }

            fn cast_block(from: &[$type], to: &mut [Self]) {
                to.copy_from_slice(from);
            }
        }
    )* };
}

floats!(identity);

impl CastFrom<Bool> for Bool {
    fn cast(value: &Bool) -> Self {
        Self((value.0 != 0).into())
    }
}

impl CastFrom<f64> for f32 {
    fn cast(value: &f64) -> Self {
        *value as Self
    }
}

impl CastFrom<f32> for f64 {
    fn cast(value: &f32) -> Self {
        (*value).into()
    }
}

// To and from f16, numpy moves the bits of a NaN, where the processor's instructions (used by
// `half`) also make it quiet: the lanes of signalling ones are patched, in the rare block that has
// any. Quiet ones, the usual mark of missing data, come out right.

/// A float that may be a signalling NaN: one whose payload does not begin with a one.
trait MaybeSignalling {
    /// As wide as the float, which is how vectors compare.
    type Mask: Copy + Default + PartialEq + std::ops::BitOr<Output = Self::Mask>;

    /// Zero if it is not.
    fn signalling(&self) -> Self::Mask;
}

macro_rules! maybe_signalling {
    ($($float:ty, $mask:ty, $infinity:literal, $quiet:literal;)*) => { $(
        impl MaybeSignalling for $float {
            type Mask = $mask;

            fn signalling(&self) -> $mask {
                let magnitude = self.to_bits() as $mask & <$mask>::MAX;
                -<$mask>::from((magnitude > $infinity) & (magnitude < $quiet))
            }
        }
    )* };
}

maybe_signalling! {
    f16, i16, 0x7c00, 0x7e00;
    f32, i32, 0x7f80_0000, 0x7fc0_0000;
    f64, i64, 0x7ff0_0000_0000_0000, 0x7ff8_0000_0000_0000;
}

/// `$vectors` if the processor has what it needs, else `$plain`; and the patch.
macro_rules! to_or_from_half {
    ($from:ty, $to:ty, $vectors:ident, $plain:expr) => {
        fn cast_block(from: &[$from], to: &mut [$to]) {
            let plain: fn(&[$from], &mut [$to]) = $plain;
            #[cfg(target_arch = "x86_64")]
            if halves::detected() {
                // SAFETY: detected.
                if unsafe { halves::$vectors(from, to) } {
                    patch_signalling(from, to);
                }
                return;
            }
            plain(from, to);
            patch_signalling(from, to);
        }
    };
}

/// The f16 NaN of a sign bit and a payload of ten bits, which is never empty.
fn f16_nan(negative: bool, payload: u16) -> f16 {
    f16::from_bits(u16::from(negative) << 15 | 0x7c00 | payload.max(1))
}

impl CastFrom<f16> for f32 {
    fn cast(value: &f16) -> Self {
        if value.is_nan() {
            let bits = u32::from(value.to_bits());
            return Self::from_bits((bits & 0x8000) << 16 | 0x7f80_0000 | (bits & 0x03ff) << 13);
        }
        value.to_f32()
    }

    to_or_from_half!(f16, f32, halves_to_singles, |from, to| from
        .convert_to_f32_slice(to));
}

impl CastFrom<f32> for f16 {
    fn cast(value: &f32) -> Self {
        if value.is_nan() {
            return f16_nan(
                value.is_sign_negative(),
                (value.to_bits() >> 13 & 0x03ff) as u16,
            );
        }
        Self::from_f32(*value)
    }

    to_or_from_half!(f32, f16, singles_to_halves, |from, to| to
        .convert_from_f32_slice(from));
}

impl CastFrom<f16> for f64 {
    fn cast(value: &f16) -> Self {
        if value.is_nan() {
            let bits = u64::from(value.to_bits());
            return Self::from_bits(
                (bits & 0x8000) << 48 | 0x7ff0_0000_0000_0000 | (bits & 0x03ff) << 42,
            );
        }
        value.to_f64()
    }

    to_or_from_half!(f16, f64, halves_to_doubles, |from, to| from
        .convert_to_f64_slice(to));
}

impl CastFrom<f64> for f16 {
    fn cast(value: &f64) -> Self {
        if value.is_nan() {
            return f16_nan(
                value.is_sign_negative(),
                (value.to_bits() >> 42 & 0x03ff) as u16,
            );
        }
        Self::from_f32(round_to_odd(*value))
    }

    // `half` rounds twice, to f32 and then to f16, which is wrong near halfway cases.
    to_or_from_half!(f64, f16, doubles_to_halves, |from, to| {
        let mut singles = [0.0; BLOCK];
        let singles = &mut singles[..from.len()];
        for (single, value) in singles.iter_mut().zip(from) {
            *single = round_to_odd(*value);
        }
        to.convert_from_f32_slice(singles);
    });
}

/// f64 to f32 such that rounding on to f16 is as if from f64: toward zero, and what was lost
/// lives on as an odd last bit.
#[allow(clippy::float_cmp, reason = "whether the rounding was exact")]
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    let inexact = back != value;
    let away = back.abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(away)) | u32::from(inexact))
}

/// Overwrite the lanes of the signalling NaNs in `from` by the exact cast.
fn patch_signalling<S: MaybeSignalling, D: CastFrom<S>>(from: &[S], to: &mut [D]) {
    for (to, value) in to.iter_mut().zip(from) {
        if value.signalling() != S::Mask::default() {
            *to = D::cast(value);
        }
    }
}
