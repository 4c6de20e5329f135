mod vectors;

use bytemuck::Pod;
use half::f16;
use proptest::prelude::*;

use super::{BLOCK, CastFrom, Overflow, cast, cast_bytes, stream};
use crate::dtype::{NumericType, dispatch};
use crate::elements::elements;

/// FNV-1a.
fn fnv(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The `i`th random bits of `width`, as vectors.py makes them.
fn bits(width: usize, i: usize) -> u64 {
    (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - width)
}

/// The samples of vectors.py.
fn samples(numeric: NumericType) -> Vec<u8> {
    let near_integers = |i: usize| {
        let integer = f64::from((bits(64, i) >> 40) as u32) - f64::from(1 << 23);
        integer / f64::from(1 << (i % 24))
    };
    (0..4096)
        .flat_map(|i| match numeric {
            NumericType::Bool => vec![u8::from(bits(8, i) >= 128)],
            NumericType::Float32 if i % 2 == 1 => (near_integers(i) as f32).to_le_bytes().to_vec(),
            NumericType::Float64 if i % 2 == 1 => near_integers(i).to_le_bytes().to_vec(),
            _ => bits(8 * numeric.size(), i).to_le_bytes()[..numeric.size()].to_vec(),
        })
        .collect()
}

fn named(name: &str) -> NumericType {
    *NumericType::ALL
        .iter()
        .find(|numeric| numeric.name() == name)
        .unwrap()
}

/// The samples that `rule` says `D` holds.
fn held<S: Pod, D: CastFrom<S>>(samples: &[u8], rule: Overflow) -> Vec<u8> {
    let samples = elements::<S>(samples);
    let held: Vec<S> = samples
        .iter()
        .copied()
        .filter(|value| D::holds(value, rule))
        .collect();
    bytemuck::cast_slice(&held).to_vec()
}

#[test]
fn every_cast_equals_numpy() {
    assert_eq!(vectors::CASTS.len(), NumericType::ALL.len().pow(2));
    for (from_name, to_name, count, hash) in vectors::CASTS {
        let (from, to) = (named(from_name), named(to_name));
        let samples = samples(from);
        let (strict, defined) = dispatch!(from, S => dispatch!(to, D => (
            held::<S, D>(&samples, Overflow::Refuse),
            held::<S, D>(&samples, Overflow::Wrap),
        )));
        assert_eq!(
            strict.len() / from.size(),
            *count,
            "{from_name} to {to_name}"
        );
        let result = cast_bytes(&defined, from, to, Overflow::Wrap).unwrap();
        assert_eq!(fnv(&result), *hash, "{from_name} to {to_name}");
        cast_bytes(&strict, from, to, Overflow::Refuse).unwrap();
        let all = cast_bytes(&samples, from, to, Overflow::Refuse);
        assert_eq!(all.is_ok(), strict.len() == samples.len());
    }
}

fn cast_all<S, D: CastFrom<S> + Pod>(from: &[S]) -> Vec<D> {
    let mut to = vec![D::zeroed(); from.len()];
    cast(from, &mut to, Overflow::Clamp).unwrap();
    to
}

#[test]
fn random_floats_narrow_as_numpy_narrows_them() {
    let singles: Vec<f32> = (0..1 << 18)
        .map(|i| f32::from_bits(bits(32, i) as u32))
        .collect();
    let doubles: Vec<f64> = (0..1 << 18).map(|i| f64::from_bits(bits(64, i))).collect();
    let hash = |halves: Vec<f16>| fnv(bytemuck::cast_slice(&halves));
    assert_eq!(hash(cast_all(&singles)), vectors::F4_TO_HALF);
    assert_eq!(hash(cast_all(&doubles)), vectors::F8_TO_HALF);
    let narrowed: Vec<f32> = cast_all(&doubles);
    assert_eq!(fnv(bytemuck::cast_slice(&narrowed)), vectors::F8_TO_F4);
}

/// What the bits of a float16 mean.
fn naive_half(half: u16) -> f64 {
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f64::from(half & 1023));
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if half >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

#[test]
fn all_halves_widen() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let single: Vec<f32> = cast_all(&halves);
    let double: Vec<f64> = cast_all(&halves);
    assert_eq!(fnv(bytemuck::cast_slice(&single)), vectors::HALF_TO_F4);
    assert_eq!(fnv(bytemuck::cast_slice(&double)), vectors::HALF_TO_F8);
    for (half, (single, double)) in (0..=u16::MAX).zip(single.iter().zip(&double)) {
        let naive = naive_half(half);
        if naive.is_nan() {
            assert!(single.is_nan() && double.is_nan());
        } else {
            assert_eq!(double.to_bits(), naive.to_bits());
            assert_eq!(f64::from(*single).to_bits(), naive.to_bits());
        }
    }
    // And back: every payload survives.
    assert_eq!(
        cast_all::<_, f16>(&single)
            .iter()
            .map(|h| h.to_bits())
            .collect::<Vec<_>>(),
        (0..=u16::MAX).collect::<Vec<_>>()
    );
}

/// Streamed, at any place in a line and of any length, halves widen as they do otherwise.
#[test]
fn halves_widen_past_the_caches() {
    let (half, single) = (NumericType::Float16, NumericType::Float32);
    let bits: Vec<u16> = (0..100).map(|i: u16| i.wrapping_mul(7919)).collect();
    let mut memory = vec![0_f32; 160];
    for start in 0..20 {
        for length in (0..40).chain([47, 48, 49, 64, 100]) {
            let from: &[u8] = bytemuck::cast_slice(&bits[..length]);
            let expected = cast_bytes(from, half, single, Overflow::Wrap).unwrap();
            memory.fill(0.5);
            let to: &mut [u8] = bytemuck::cast_slice_mut(&mut memory[start..][..length]);
            if !stream(from, half, single, to) {
                return; // not on this processor
            }
            crate::stream::fence();
            assert_eq!(to, expected, "{length} from {start}");
            let mut others = memory[..start].iter().chain(&memory[start + length..]);
            assert!(others.all(|value| value.to_bits() == 0.5_f32.to_bits()));
        }
    }
}

/// numpy 2.4.6 and 2.5.5: `np.array([bits], "u4").view("f4").astype("f2").view("u2")`
#[test]
fn singles_narrow_to_half() {
    for (single, half) in [
        (0x477f_efff, 0x7bff), // 65519.996, the last that is not infinity
        (0x477f_f000, 0x7c00), // 65520
        (0xff7f_ffff, 0xfc00),
        (0x3300_0000, 0x0000), // 2^-25, halfway to the smallest subnormal, to even
        (0x3300_0001, 0x0001),
        (0xb300_0001, 0x8001),
        (0x33c0_0000, 0x0002), // 1.5 * 2^-24, halfway, to even
        (0x387f_e000, 0x0400), // halfway between the largest subnormal and the smallest normal
        (0x3880_0000, 0x0400),
        (0x3f80_1000, 0x3c00), // halfway, to even: down
        (0x3f80_3000, 0x3c02), // halfway, to even: up
        (0x3f80_1001, 0x3c01),
        (0x0000_0001, 0x0000),
        (0x8000_0000, 0x8000),
        (0x7f80_0001, 0x7c01), // the payload does not fit, but NaN stays NaN
        (0x7f80_2000, 0x7c01),
        (0x7f80_3fff, 0x7c01),
        (0x7fa0_0000, 0x7d00), // signalling stays so
        (0x7fc0_0000, 0x7e00),
        (0x7fc0_2000, 0x7e01),
        (0xffc0_1234, 0xfe00),
        (0x7fff_ffff, 0x7fff),
    ] {
        let single = f32::from_bits(single);
        for length in [1, 7, 8, 9] {
            let halves: Vec<f16> = cast_all(&vec![single; length]);
            assert!(
                halves.iter().all(|got| got.to_bits() == half),
                "{:x}",
                single.to_bits()
            );
        }
        assert_eq!(f16::cast(&single).to_bits(), half);
    }
}

/// numpy 2.4.6 and 2.5.5; rounding to f32 first would give the even neighbour.
#[test]
fn doubles_narrow_to_half_at_once() {
    for (double, half) in [
        (1.0 + 2_f64.powi(-11) + 2_f64.powi(-40), 0x3c01),
        (1.0 + 2_f64.powi(-11), 0x3c00),
        (1.0 + 3.0 * 2_f64.powi(-11) - 2_f64.powi(-40), 0x3c01),
        (65_519.999_999_99, 0x7bff),
        (65520.0, 0x7c00),
        (2_f64.powi(-25) * (1.0 + 2_f64.powi(-50)), 0x0001),
        (2_f64.powi(-25), 0x0000),
        (-f64::MAX, 0xfc00),
        (f64::MIN_POSITIVE, 0x0000),
        (f64::from_bits(0x7ff0_0000_0000_0001), 0x7c01),
        (f64::from_bits(0x7ff4_0000_0000_0000), 0x7d00),
        (f64::from_bits(0xfff8_0400_2000_0001), 0xfe01),
    ] {
        assert_eq!(f16::cast(&double).to_bits(), half, "{double:e}");
        let halves: Vec<f16> = cast_all(&[double; 11]);
        assert!(halves.iter().all(|got| got.to_bits() == half), "{double:e}");
    }
}

/// Blocks of every length equal elements cast one by one, bit for bit.
fn blocks_equal_elements<S: Pod, D: CastFrom<S> + Pod>(values: &[S]) {
    let one_by_one: Vec<D> = values.iter().map(D::cast).collect();
    let mut start = 0;
    for length in (0..70).chain([BLOCK - 1, BLOCK, BLOCK + 1]).cycle() {
        let end = values.len().min(start + length);
        let blocks: Vec<D> = cast_all(&values[start..end]);
        assert_eq!(
            bytemuck::cast_slice::<_, u8>(&blocks),
            bytemuck::cast_slice::<_, u8>(&one_by_one[start..end]),
            "from {start}, {length} values"
        );
        if end == values.len() {
            return;
        }
        start = end;
    }
}

#[test]
fn blocks_of_floats_equal_elements() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    blocks_equal_elements::<f16, f32>(&halves);
    blocks_equal_elements::<f16, f64>(&halves);

    // Each sign, exponent and top of a fraction, with what decides how the rest rounds.
    let rests = [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff];
    let singles: Vec<f32> = (0..1 << 19)
        .flat_map(|top| rests.map(|rest| f32::from_bits(top << 13 | rest)))
        .collect();
    blocks_equal_elements::<f32, f16>(&singles);
    blocks_equal_elements::<f32, f64>(&singles);

    let nans = [0x7ff_u64, 0xfff].into_iter().flat_map(|exponent| {
        (0..1 << 11)
            .flat_map(move |top| [0, 1, 1 << 30].map(|rest| exponent << 52 | top << 41 | rest))
    });
    let doubles: Vec<f64> = singles
        .iter()
        .filter(|single| !single.is_nan())
        .flat_map(|single| [0, 1, 1 << 28].map(|rest| f64::from(*single).to_bits() | rest))
        .chain(nans)
        .map(f64::from_bits)
        .collect();
    blocks_equal_elements::<f64, f16>(&doubles);
    blocks_equal_elements::<f64, f32>(&doubles);
}

macro_rules! bounds_of {
    ($float:ty: $($integer:ty)*) => { $({
        let powers = (0..66).flat_map(|power| [1.0, -1.0].map(|sign| sign * <$float>::powi(2.0, power)));
        for power in powers.chain([0.0]) {
            for value in [power, power - 1.0, power - 0.5, power + 0.5, power + 1.0,
                          power.next_up(), power.next_down()] {
                let truncated = value as i128;
                let expected = <$integer>::try_from(truncated);
                let holds = <$integer as CastFrom<$float>>::holds(&value, Overflow::Refuse);
                assert_eq!(holds, expected.is_ok(), "{value:e} into {}", stringify!($integer));
                if let Ok(expected) = expected {
                    assert_eq!(<$integer as CastFrom<$float>>::cast(&value), expected);
                }
            }
        }
        for value in [<$float>::NAN, <$float>::INFINITY, <$float>::NEG_INFINITY, <$float>::MAX] {
            assert!(!<$integer as CastFrom<$float>>::holds(&value, Overflow::Refuse));
            assert!(!<$integer as CastFrom<$float>>::holds(&value, Overflow::Wrap));
        }
    })* };
}

#[test]
fn integers_hold_exactly_their_range() {
    bounds_of!(f32: i8 i16 i32 i64 u8 u16 u32 u64);
    bounds_of!(f64: i8 i16 i32 i64 u8 u16 u32 u64);
}

#[test]
fn any_byte_but_zero_is_true() {
    let bytes = [0, 1, 2, 255];
    let cast = |to| cast_bytes(&bytes, NumericType::Bool, to, Overflow::Refuse).unwrap();
    assert_eq!(cast(NumericType::UInt8), [0, 1, 1, 1]);
    assert_eq!(
        cast(NumericType::Float16),
        [0, 0, 0, 0x3c, 0, 0x3c, 0, 0x3c]
    );
    let floats: Vec<u8> = [-0.0_f32, f32::NAN, 1e-45]
        .iter()
        .flat_map(|f| f.to_ne_bytes())
        .collect();
    let bools = cast_bytes(
        &floats,
        NumericType::Float32,
        NumericType::Bool,
        Overflow::Refuse,
    );
    assert_eq!(bools.unwrap(), [0, 1, 1]);
}

#[test]
fn an_error_names_the_first_value() {
    let values: Vec<u8> = [1.0_f32, -3e9, f32::NAN]
        .iter()
        .flat_map(|f| f.to_ne_bytes())
        .collect();
    let error = |to| cast_bytes(&values, NumericType::Float32, to, Overflow::Refuse).unwrap_err();
    assert_eq!(
        error(NumericType::Int32).to_string(),
        "element 1 (-3000000000.0) has no value as int32"
    );
    assert_eq!(
        error(NumericType::Int64).to_string(),
        "element 2 (NaN) has no value as int64"
    );
}

proptest! {
    /// Blocks, tails and single elements agree, and so does the place of a bad element.
    #[test]
    fn any_length_equals_one_by_one(
        from in prop::sample::select(NumericType::ALL),
        to in prop::sample::select(NumericType::ALL),
        length in 0_usize..2 * BLOCK + 20,
        offset in 0_usize..16,
    ) {
        // Unaligned, too.
        let samples = samples(from);
        let mut bytes = vec![0; offset];
        bytes.extend(&samples[..length * from.size()]);
        let bytes = &bytes[offset..];
        let whole = cast_bytes(bytes, from, to, Overflow::Refuse);
        let single: Result<Vec<_>, usize> = bytes
            .chunks(from.size())
            .enumerate()
            .map(|(i, one)| cast_bytes(one, from, to, Overflow::Refuse).map_err(|_| i))
            .collect();
        prop_assert_eq!(
            whole.map_err(|error| error.index),
            single.map(|elements| elements.concat())
        );
    }
}
