//! The `cast_value` array->array codec: values become those of another numeric type, by rules that the
//! metadata states.
//!
//! Values in `scalar_map` become what it says. Others are rounded to one of the type as `rounding`
//! says, and are out of range if there is none: an error, or what `out_of_range` says. NaN and
//! infinities have no integer.
//!
//! ### Compatible implementations
//! `cast_value` of zarr-extensions, as zarr-python 3.4.2 has it (with cast-value-rs): `clamp` takes
//! integers to the nearest bound and floats to infinity, `wrap` keeps the low bits of integers.
//!
//! ### Codec names
//! - Zarr V3 `name`: `cast_value`
//!
//! ### Configuration example
//! ```rust
//! # let configuration = r#"
//! {
//!     "data_type": "uint8",
//!     "rounding": "towards-zero",
//!     "out_of_range": "clamp",
//!     "scalar_map": { "encode": [["NaN", 0]], "decode": [[0, "NaN"]] }
//! }
//! # "#;
//! # serde_json::from_str::<tempozarr::CastValueConfiguration>(configuration).unwrap();
//! ```

use std::cmp::Ordering;
use std::num::NonZeroU64;
use std::sync::Arc;

use half::f16;
use serde::{Deserialize, Serialize};
use zarrs_chunk_grid::ArraySubset;
use zarrs_codec::{
    ArrayBytes, ArrayToArrayCodecTraits, CodecError, CodecMetadataOptions, CodecOptions,
    CodecTraits,
};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::v3::MetadataV3;
use zarrs_metadata::{Configuration, FillValueMetadata};
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::dtype::{NumericType, dispatch, integers, typed};
use crate::elements::{elements, fixed};
use crate::memory;
use crate::partial::{PartialCodec, partial_coders};
use crate::util::{array_on_one_thread, codec_traits, named};

const NAME: &str = "cast_value";

/// The configuration of [`CastValueCodec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CastValueConfiguration {
    /// The type to store.
    pub data_type: MetadataV3,
    /// How a value is rounded that the type does not hold.
    #[serde(default)]
    pub rounding: Rounding,
    /// What is done with a value that is out of the type's range.
    #[serde(default)]
    pub out_of_range: Option<OutOfRange>,
    /// What becomes of certain values.
    #[serde(default)]
    pub scalar_map: Option<ScalarMap>,
}

/// How to round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "their names say it")]
pub enum Rounding {
    #[default]
    NearestEven,
    TowardsZero,
    TowardsPositive,
    TowardsNegative,
    NearestAway,
}

/// What to do with values out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutOfRange {
    /// Refuse them.
    Error,
    /// Take the nearest integer, or infinity.
    Clamp,
    /// Keep the low bits of integers.
    Wrap,
}

/// Pairs of a value and what it becomes, each spelt as a fill value of its type; the last pair of a
/// value counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScalarMap {
    /// From values of the array to stored ones.
    pub encode: Option<Vec<(FillValueMetadata, FillValueMetadata)>>,
    /// From stored values to those of the array.
    pub decode: Option<Vec<(FillValueMetadata, FillValueMetadata)>>,
}

/// The `cast_value` codec.
#[derive(Clone, Debug)]
pub struct CastValueCodec {
    configuration: Configuration,
    parsed: CastValueConfiguration,
    stored: NumericType,
}

named!(CastValueCodec: ArrayToArray, v3: "cast_value");

/// A value of any type, exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Exact {
    Integer(i128),
    Float(f64),
}

impl Exact {
    fn is(self, other: Self) -> bool {
        let nan = |value| matches!(value, Self::Float(float) if float.is_nan());
        self == other || nan(self) && nan(other)
    }
}

impl std::fmt::Display for Exact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(integer) => write!(f, "{integer}"),
            Self::Float(float) => write!(f, "{float:?}"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    rounding: Rounding,
    out_of_range: OutOfRange,
}

/// A type to cast from and to.
trait Castable: Copy {
    fn exact(self) -> Exact;

    /// `None` if the rules have no answer.
    fn cast(value: Exact, rules: Rules) -> Option<Self>;
}

macro_rules! cast_integers {
    ($($type:ty)*) => { $(
        impl Castable for $type {
            fn exact(self) -> Exact {
                Exact::Integer(self.into())
            }

            #[allow(
                clippy::cast_possible_truncation, clippy::cast_sign_loss,
                reason = "that is how integers wrap"
            )]
            fn cast(value: Exact, rules: Rules) -> Option<Self> {
                let integer = match value {
                    Exact::Integer(integer) => integer,
                    Exact::Float(float) if float.is_finite() => rounded(float, rules.rounding),
                    Exact::Float(_) => return None,
                };
                match (Self::try_from(integer), rules.out_of_range) {
                    (Ok(value), _) => Some(value),
                    (Err(_), OutOfRange::Error) => None,
                    (Err(_), OutOfRange::Clamp) if integer < 0 => Some(Self::MIN),
                    (Err(_), OutOfRange::Clamp) => Some(Self::MAX),
                    (Err(_), OutOfRange::Wrap) => Some(integer as Self),
                }
            }
        }
    )* };
}

integers!(cast_integers);

/// An integer as far from any type's range as the float, with zeros for low bits, if it is larger than
/// all integers here.
fn rounded(float: f64, rounding: Rounding) -> i128 {
    let rounded = match rounding {
        Rounding::NearestEven => float.round_ties_even(),
        Rounding::TowardsZero => float.trunc(),
        Rounding::TowardsPositive => float.ceil(),
        Rounding::TowardsNegative => float.floor(),
        Rounding::NearestAway => float.round(),
    };
    let limit = 2_f64.powi(126);
    #[allow(clippy::cast_possible_truncation, reason = "it is an integer in range")]
    if rounded.abs() < limit {
        rounded as i128
    } else if rounded < 0.0 {
        -(1 << 126)
    } else {
        1 << 126
    }
}

/// A float to round to.
trait Float: Copy {
    /// The power of two behind the largest.
    const LIMIT: f64;
    const INFINITY: Self;
    const NEG_INFINITY: Self;

    /// The nearest of them, the even one of two.
    fn nearest(value: Exact) -> Self;

    fn wide(self) -> f64;

    /// The next larger one.
    fn up(self) -> Self;

    /// The next smaller one.
    fn down(self) -> Self;
}

macro_rules! floats_to_round_to {
    ($($type:ty, $limit:expr, $narrow:expr;)*) => { $(
        impl Float for $type {
            const LIMIT: f64 = $limit;
            const INFINITY: Self = <$type>::INFINITY;
            const NEG_INFINITY: Self = <$type>::NEG_INFINITY;

            fn nearest(value: Exact) -> Self {
                match value {
                    #[allow(clippy::cast_precision_loss, reason = "it rounds")]
                    Exact::Integer(integer) => integer as Self,
                    Exact::Float(float) => $narrow(float),
                }
            }

            fn wide(self) -> f64 {
                self.into()
            }

            fn up(self) -> Self {
                self.next_up()
            }

            fn down(self) -> Self {
                self.next_down()
            }
        }
    )* };
}

#[allow(clippy::cast_possible_truncation, reason = "it rounds")]
fn narrow(float: f64) -> f32 {
    float as f32
}

floats_to_round_to! {
    f32, f64::from_bits((1023 + 128) << 52), narrow;
    f64, f64::INFINITY, f64::from;
}

impl Float for f16 {
    const LIMIT: f64 = 65536.0;
    const INFINITY: Self = f16::INFINITY;
    const NEG_INFINITY: Self = f16::NEG_INFINITY;

    fn nearest(value: Exact) -> Self {
        let nearest = <Self as crate::cast::CastFrom<f64>>::cast(&f64::nearest(value));
        let quiet = if nearest.is_nan() { 0x0200 } else { 0 };
        Self::from_bits(nearest.to_bits() | quiet)
    }

    fn wide(self) -> f64 {
        self.to_f64()
    }

    fn up(self) -> Self {
        match self.to_bits() {
            0x8000 => Self::from_bits(1),
            bits if self.is_sign_negative() => Self::from_bits(bits - 1),
            bits => Self::from_bits(bits + 1),
        }
    }

    fn down(self) -> Self {
        -(-self).up()
    }
}

/// `value` in a float type, as if it had no largest one; and if the result is beyond that, by the
/// rules.
fn round<F: Float>(value: Exact, rules: Rules) -> Option<F> {
    let nearest = F::nearest(value);
    if matches!(value, Exact::Float(float) if !float.is_finite()) {
        return Some(nearest);
    }
    let (below, above) = match compare(nearest, value) {
        Ordering::Less => (nearest, nearest.up()),
        Ordering::Equal => (nearest, nearest),
        Ordering::Greater => (nearest.down(), nearest),
    };
    let (is_negative, magnitude) = match value {
        #[allow(
            clippy::cast_precision_loss,
            reason = "it is compared with a power of two"
        )]
        Exact::Integer(integer) => (integer < 0, integer.unsigned_abs() as f64),
        Exact::Float(float) => (float.is_sign_negative(), float.abs()),
    };
    let (inward, outward) = if is_negative {
        (above, below)
    } else {
        (below, above)
    };
    let result = match rules.rounding {
        Rounding::TowardsZero => inward,
        Rounding::TowardsPositive => above,
        Rounding::TowardsNegative => below,
        Rounding::NearestAway if is_between(below, value, above) => outward,
        Rounding::NearestEven | Rounding::NearestAway => nearest,
    };
    if result.wide().is_finite() && magnitude < F::LIMIT {
        Some(result)
    } else if rules.out_of_range != OutOfRange::Clamp {
        None
    } else if is_negative {
        Some(F::NEG_INFINITY)
    } else {
        Some(F::INFINITY)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "only infinity is not exact, and saturates"
)]
fn compare<F: Float>(float: F, value: Exact) -> Ordering {
    match value {
        Exact::Integer(integer) => (float.wide() as i128).cmp(&integer),
        Exact::Float(value) => float.wide().total_cmp(&value),
    }
}

/// Whether `value` is half way between two neighbours.
#[allow(clippy::cast_possible_truncation, reason = "as above")]
#[allow(clippy::float_cmp, reason = "differences of neighbours are exact")]
fn is_between<F: Float>(below: F, value: Exact, above: F) -> bool {
    let (below, above) = (below.wide(), above.wide());
    match value {
        Exact::Integer(integer) => {
            integer.saturating_sub(below as i128) == (above as i128).saturating_sub(integer)
        }
        Exact::Float(value) => value - below == above - value,
    }
}

macro_rules! cast_floats {
    ($($type:ty)*) => { $(
        impl Castable for $type {
            fn exact(self) -> Exact {
                Exact::Float(self.wide())
            }

            fn cast(value: Exact, rules: Rules) -> Option<Self> {
                round(value, rules)
            }
        }
    )* };
}

cast_floats!(f16 f32 f64);

/// A map of one direction, understood.
type Pairs = Vec<(Exact, Vec<u8>)>;

impl CastValueCodec {
    fn from_metadata(
        _version: ZarrVersion,
        configuration: Configuration,
    ) -> Result<Self, PluginCreateError> {
        let parsed: CastValueConfiguration = typed(NAME, &configuration)?;
        let data_type = DataType::from_metadata(&parsed.data_type)?;
        let stored = number(&data_type).map_err(PluginCreateError::Other)?;
        if stored.is_float() && parsed.out_of_range == Some(OutOfRange::Wrap) {
            return Err(PluginCreateError::Other(format!(
                "{NAME}: out_of_range \"wrap\" for {data_type}, expected it for integers only"
            )));
        }
        Ok(Self {
            configuration,
            parsed,
            stored,
        })
    }

    fn encode_map(&self, decoded: NumericType) -> Result<Pairs, String> {
        let map = self
            .parsed
            .scalar_map
            .as_ref()
            .and_then(|map| map.encode.as_ref());
        pairs(map, decoded, self.stored)
    }

    fn decode_map(&self, decoded: NumericType) -> Result<Pairs, String> {
        let map = self
            .parsed
            .scalar_map
            .as_ref()
            .and_then(|map| map.decode.as_ref());
        pairs(map, self.stored, decoded)
    }

    /// Cast `bytes`. The error is the first element that has no value.
    fn cast(
        &self,
        bytes: &[u8],
        from: NumericType,
        to: NumericType,
        map: &Pairs,
    ) -> Result<Vec<u8>, String> {
        let rules = Rules {
            rounding: self.parsed.rounding,
            out_of_range: self.parsed.out_of_range.unwrap_or(OutOfRange::Error),
        };
        let mut result = Vec::new();
        memory::reserve_exact(&mut result, bytes.len() / from.size() * to.size())?;
        let failed = dispatch!(from, S => dispatch!(to, D => {
            let failed = elements::<S>(bytes).iter().position(|element| {
                let exact = element.exact();
                if let Some((_, mapped)) = map.iter().rev().find(|(key, _)| key.is(exact)) {
                    result.extend_from_slice(mapped);
                } else if from == to {
                    result.extend_from_slice(bytemuck::bytes_of(element));
                } else if let Some(value) = D::cast(exact, rules) {
                    result.extend_from_slice(bytemuck::bytes_of(&value));
                } else {
                    return true;
                }
                false
            });
            failed.map(|index| (index, elements::<S>(bytes)[index].exact()))
        }, bool => None), bool => None);
        match failed {
            None => Ok(result),
            Some((index, value)) => Err(format!(
                "element {index} ({value}) has no value as {}",
                to.name()
            )),
        }
    }
}

fn number(data_type: &DataType) -> Result<NumericType, String> {
    NumericType::of(data_type)
        .filter(|numeric| *numeric != NumericType::Bool)
        .ok_or_else(|| {
            format!(
                "{NAME}: data type {data_type} is not supported, expected an integer or float type"
            )
        })
}

fn pairs(
    map: Option<&Vec<(FillValueMetadata, FillValueMetadata)>>,
    from: NumericType,
    to: NumericType,
) -> Result<Pairs, String> {
    let value = |value: &FillValueMetadata, numeric: NumericType| {
        numeric.data_type().fill_value_v3(value).map_err(|_| {
            format!(
                "{NAME}: {value} in scalar_map is not a value of {}",
                numeric.name()
            )
        })
    };
    map.into_iter()
        .flatten()
        .map(|(key, mapped)| {
            let key = value(key, from)?;
            let key = dispatch!(from, S => {
                bytemuck::pod_read_unaligned::<S>(key.as_ne_bytes()).exact()
            }, bool => Exact::Integer(0));
            Ok((key, value(mapped, to)?.as_ne_bytes().to_vec()))
        })
        .collect()
}

impl CodecTraits for CastValueCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(self.configuration.clone())
    }

    codec_traits!(parts);
}

array_on_one_thread!(CastValueCodec);

impl ArrayToArrayCodecTraits for CastValueCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToArrayCodecTraits> {
        self
    }

    fn encoded_data_type(&self, decoded_data_type: &DataType) -> Result<DataType, CodecError> {
        let decoded = number(decoded_data_type)?;
        self.encode_map(decoded)?;
        self.decode_map(decoded)?;
        Ok(self.stored.data_type())
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let decoded = number(data_type)?;
        let bytes = fixed(bytes, shape, decoded)?;
        let map = self.encode_map(decoded)?;
        match self.cast(&bytes, decoded, self.stored, &map) {
            Ok(encoded) => Ok(encoded.into()),
            Err(error) => Err(CodecError::Other(format!(
                "{NAME}: {error}: nothing was stored; out_of_range and scalar_map can say what \
                 becomes of it"
            ))),
        }
    }

    fn decode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _fill_value: &FillValue,
        _options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let decoded = number(data_type)?;
        let bytes = fixed(bytes, shape, self.stored)?;
        let map = self.decode_map(decoded)?;
        match self.cast(&bytes, self.stored, decoded, &map) {
            Ok(decoded) => Ok(decoded.into()),
            Err(error) => Err(CodecError::Other(format!(
                "{NAME}: cannot decode a chunk: stored {error}"
            ))),
        }
    }

    partial_coders!();
}

impl PartialCodec for CastValueCodec {
    /// The region itself: elements do not depend on each other.
    fn dependency(&self, region: &ArraySubset, _shape: &[u64]) -> ArraySubset {
        region.clone()
    }

    /// It may be rounded, or mapped.
    fn keeps_fill(&self, _fill_value: &FillValue) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{array_codec, bytes, open, raw, v3};

    const ALL: [Rounding; 5] = [
        Rounding::NearestEven,
        Rounding::TowardsZero,
        Rounding::TowardsPositive,
        Rounding::TowardsNegative,
        Rounding::NearestAway,
    ];

    fn cast<D: Castable>(value: Exact, rounding: Rounding, out_of_range: OutOfRange) -> Option<D> {
        D::cast(
            value,
            Rules {
                rounding,
                out_of_range,
            },
        )
    }

    /// What cast-value-rs 0.5.1 makes of the values, in the order of `ALL`.
    #[test]
    fn rounds_as_the_reference_does() {
        use Exact::{Float, Integer};
        let integers =
            |float| ALL.map(|rule| cast::<i32>(Float(float), rule, OutOfRange::Error).unwrap());
        assert_eq!(integers(0.5), [0, 0, 1, 0, 1]);
        assert_eq!(integers(1.5), [2, 1, 2, 1, 2]);
        assert_eq!(integers(2.5), [2, 2, 3, 2, 3]);
        assert_eq!(integers(-0.5), [0, 0, 0, -1, -1]);
        assert_eq!(integers(-1.2), [-1, -1, -1, -2, -1]);
        let singles =
            |value| ALL.map(|rule| cast::<f32>(value, rule, OutOfRange::Error).map(f32::to_bits));
        assert_eq!(
            singles(Float(-0.1)),
            [
                0xbdcc_cccd,
                0xbdcc_cccc,
                0xbdcc_cccc,
                0xbdcc_cccd,
                0xbdcc_cccd
            ]
            .map(Some)
        );
        assert_eq!(singles(Float(1e-50)), [0, 0, 1, 0, 0].map(Some));
        assert_eq!(singles(Float(1e39)), [None; 5]);
        let largest = Some(f32::MAX.to_bits());
        let tie = Float(3.402_823_567_797_336_6e38);
        assert_eq!(singles(tie), [None, largest, None, largest, None]);
        assert_eq!(
            singles(Integer(16_777_217)),
            [
                0x4b80_0000,
                0x4b80_0000,
                0x4b80_0001,
                0x4b80_0000,
                0x4b80_0001
            ]
            .map(Some)
        );
        assert_eq!(
            singles(Integer(-16_777_217)),
            [
                0xcb80_0000,
                0xcb80_0000,
                0xcb80_0000,
                0xcb80_0001,
                0xcb80_0001
            ]
            .map(Some)
        );
        let halves = |value| {
            ALL.map(|rule| {
                cast::<f16>(value, rule, OutOfRange::Clamp)
                    .unwrap()
                    .to_bits()
            })
        };
        assert_eq!(
            halves(Float(-0.1)),
            [0xae66, 0xae66, 0xae66, 0xae67, 0xae66]
        );
        assert_eq!(
            halves(Integer(2049)),
            [0x6800, 0x6800, 0x6801, 0x6800, 0x6801]
        );
        assert_eq!(halves(Integer(70_000)), [0x7c00; 5]);
        assert_eq!(
            halves(Float(65519.0)),
            [0x7bff, 0x7bff, 0x7c00, 0x7bff, 0x7bff]
        );
        let large = i128::from(i64::MAX);
        let doubles = ALL.map(|rule| cast::<f64>(Integer(large), rule, OutOfRange::Error).unwrap());
        let (above, below) = (2_f64.powi(63), 2_f64.powi(63).next_down());
        assert_eq!(
            doubles.map(f64::to_bits),
            [above, below, above, below, above].map(f64::to_bits)
        );
    }

    #[test]
    fn values_out_of_range_are_refused_clamped_or_wrapped() {
        use OutOfRange::{Clamp, Error, Wrap};
        let [even, ..] = ALL;
        for (value, clamped, wrapped) in [
            (Exact::Integer(300), 255, 44),
            (Exact::Integer(-1), 0, 255),
            (Exact::Float(300.5), 255, 44),
            (Exact::Float(-1.6), 0, 254),
            (Exact::Float(255.6), 255, 0),
            (Exact::Float(1e300), 255, 0),
        ] {
            assert_eq!(cast::<u8>(value, even, Error), None);
            assert_eq!(cast::<u8>(value, even, Clamp), Some(clamped));
            assert_eq!(cast::<u8>(value, even, Wrap), Some(wrapped));
        }
        assert_eq!(
            cast(Exact::Float(1e30), even, Wrap),
            Some(5_076_964_154_930_102_272_i64)
        );
        assert_eq!(
            cast(Exact::Float(-1e30), even, Wrap),
            Some(13_369_779_918_779_449_344_u64)
        );
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(cast::<u8>(Exact::Float(value), even, Clamp), None);
            let kept: f32 = cast(Exact::Float(value), even, Error).unwrap();
            assert_eq!(kept.is_nan(), value.is_nan());
            assert!(!kept.is_finite());
        }
    }

    fn filter(configuration: &Value) -> Value {
        json!({"name": NAME, "configuration": configuration})
    }

    #[test]
    fn mapped_values_go_where_the_map_says() {
        let codec = filter(&json!({
            "data_type": "uint8",
            "rounding": "nearest-away",
            "scalar_map": {
                "encode": [["NaN", 9], ["NaN", 0], ["Infinity", 255]],
                "decode": [[0, "NaN"], [255, "Infinity"]],
            },
        }));
        array_codec(&codec);
        let array = open(&v3(&json!("float32"), &json!("NaN"), &[codec])).unwrap();
        let chunk = array.chunk_subset(&[0, 0]).unwrap();
        let mut values = [2.5_f32; 12];
        values[..3].copy_from_slice(&[f32::NAN, f32::INFINITY, 254.0]);
        array
            .store_chunk(&[0, 0], ArrayBytes::from(raw(&values)))
            .unwrap();
        let stored = array.retrieve_encoded_chunk(&[0, 0]).unwrap().unwrap();
        assert_eq!(stored[..4], [0, 255, 254, 3]);
        let read: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes(&array, &chunk).unwrap());
        assert!(read[0].is_nan());
        assert_eq!(read[1..4], [f32::INFINITY, 254.0, 3.0]);
        values[3] = -1.0;
        let refused = array.store_chunk(&[0, 0], ArrayBytes::from(raw(&values)));
        assert_eq!(
            refused.unwrap_err().to_string(),
            "cast_value: element 3 (-1.0) has no value as uint8: nothing was stored; out_of_range and \
             scalar_map can say what becomes of it"
        );
        let missing = ArraySubset::new_with_ranges(&[5..6, 1..2]);
        let fill: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes(&array, &missing).unwrap());
        assert!(fill[0].is_nan());
    }

    #[test]
    fn configurations_that_cannot_be_used_say_why() {
        for (configuration, message) in [
            (json!({}), "Expected metadata"),
            (json!({"data_type": "bool"}), "data type bool"),
            (
                json!({"data_type": "int8", "rounding": "up"}),
                "unknown variant `up`",
            ),
            (
                json!({"data_type": "float32", "out_of_range": "wrap"}),
                "expected it for integers only",
            ),
            (
                json!({"data_type": "int8", "scalar_map": {"both": []}}),
                "unknown field `both`",
            ),
        ] {
            let error = crate::testing::codec(&filter(&configuration)).unwrap_err();
            assert!(error.contains(NAME) && error.contains(message), "{error}");
        }
        let codec = filter(&json!({"data_type": "int8", "scalar_map": {"encode": [["NaN", 300]]}}));
        assert_eq!(
            open(&v3(&json!("float32"), &json!(0), &[codec])).unwrap_err(),
            "cast_value: 300 in scalar_map is not a value of int8"
        );
    }
}
