//! The numeric data types that codecs compute with, declared once.
//!
//! [`NumericType`] is their list; `dispatch!` turns one of them into a Rust type; `integers!` and
//! `floats!` hand the Rust types to a macro that implements a trait for each.

use bytemuck::{Pod, Zeroable};
use serde::de::DeserializeOwned;
use zarrs::array::data_type;
use zarrs_codec::CodecError;
use zarrs_data_type::DataType;
use zarrs_metadata::Configuration;
use zarrs_metadata::v2::{ArrayMetadataV2, DataTypeMetadataV2};
use zarrs_plugin::{PluginCreateError, ZarrVersion};

/// One element of numpy's bool: zero is false, every other byte is true.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct Bool(pub u8);

macro_rules! numeric_types {
    // `$d` is a dollar sign, for the macros that this one defines.
    ($d:tt
     integers { $($integer:ident $int:ty, $int_name:ident $int_marker:ident [$($int_code:literal)*],)* }
     floats { $($float:ident $flt:ty, $flt_name:ident $flt_marker:ident [$($flt_code:literal)*],)* }
    ) => {
        /// A numeric data type: bool, an integer or a float.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum NumericType {
            /// `bool`
            Bool,
            $(#[doc = concat!("`", stringify!($int_name), "`")] $integer,)*
            $(#[doc = concat!("`", stringify!($flt_name), "`")] $float,)*
        }

        impl NumericType {
            /// Every numeric type.
            pub const ALL: &'static [Self] =
                &[Self::Bool, $(Self::$integer,)* $(Self::$float,)*];

            /// The Zarr V3 name, which is also numpy's: `float32`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Bool => "bool",
                    $(Self::$integer => stringify!($int_name),)*
                    $(Self::$float => stringify!($flt_name),)*
                }
            }

            /// The numeric type of a zarrs data type, if it is one.
            #[must_use]
            pub fn of(data_type: &DataType) -> Option<Self> {
                if data_type.is::<data_type::BoolDataType>() {
                    return Some(Self::Bool);
                }
                $(if data_type.is::<data_type::$int_marker>() {
                    return Some(Self::$integer);
                })*
                $(if data_type.is::<data_type::$flt_marker>() {
                    return Some(Self::$float);
                })*
                None
            }

            /// The zarrs data type.
            #[must_use]
            pub fn data_type(self) -> DataType {
                match self {
                    Self::Bool => data_type::bool(),
                    $(Self::$integer => data_type::$int_name(),)*
                    $(Self::$float => data_type::$flt_name(),)*
                }
            }

            /// numpy's codes that may follow a byte order, the canonical one first.
            const fn codes(self) -> &'static [&'static str] {
                match self {
                    Self::Bool => &["b1", "?"],
                    $(Self::$integer => &[$($int_code),*],)*
                    $(Self::$float => &[$($flt_code),*],)*
                }
            }

            /// Whether this is an integer type; bool is none.
            #[must_use]
            pub const fn is_integer(self) -> bool {
                matches!(self, $(Self::$integer)|*)
            }

            /// Whether this is a floating point type.
            #[must_use]
            pub const fn is_float(self) -> bool {
                matches!(self, $(Self::$float)|*)
            }
        }

        /// Evaluate an expression with `$T` standing for the Rust type of a [`NumericType`].
        /// With `bool => …`, that is the answer for bool, and `$T` is always a number.
        macro_rules! dispatch {
            ($d numeric:expr, $d T:ident => $d body:expr) => {
                $crate::dtype::dispatch!($d numeric, $d T => $d body, bool => {
                    type $d T = $crate::dtype::Bool;
                    $d body
                })
            };
            ($d numeric:expr, $d T:ident => $d body:expr, bool => $d bool:expr) => {
                match $d numeric {
                    $crate::dtype::NumericType::Bool => $d bool,
                    $($crate::dtype::NumericType::$integer => { type $d T = $int; $d body })*
                    $($crate::dtype::NumericType::$float => { type $d T = $flt; $d body })*
                }
            };
        }

        /// `integers!(callback args)` is `callback!(args i8 i16 …)`.
        macro_rules! integers {
            ($d callback:ident $d($d args:tt)*) => { $d callback!($d($d args)* $($int)*); };
        }

        /// `floats!(callback args)` is `callback!(args f16 f32 f64)`.
        macro_rules! floats {
            ($d callback:ident $d($d args:tt)*) => { $d callback!($d($d args)* $($flt)*); };
        }
    };
}

numeric_types! { $
    integers {
        Int8 i8, int8 Int8DataType ["i1" "b"],
        Int16 i16, int16 Int16DataType ["i2" "h"],
        Int32 i32, int32 Int32DataType ["i4" "i"],
        Int64 i64, int64 Int64DataType ["i8" "q"],
        UInt8 u8, uint8 UInt8DataType ["u1" "B"],
        UInt16 u16, uint16 UInt16DataType ["u2" "H"],
        UInt32 u32, uint32 UInt32DataType ["u4" "I"],
        UInt64 u64, uint64 UInt64DataType ["u8" "Q"],
    }
    floats {
        Float16 half::f16, float16 Float16DataType ["f2" "e"],
        Float32 f32, float32 Float32DataType ["f4" "f"],
        Float64 f64, float64 Float64DataType ["f8" "d"],
    }
}
pub(crate) use {dispatch, floats, integers};

impl NumericType {
    /// The size of an element in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        dispatch!(self, T => size_of::<T>())
    }

    /// numpy's own way to write the type, little-endian: `<f4`, `|u1`.
    #[must_use]
    pub fn numpy(self) -> String {
        let order = if self.size() == 1 { '|' } else { '<' };
        format!("{order}{}", self.codes()[0])
    }
}

/// A numpy data-type string, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumpyType {
    /// The type, without its byte order.
    pub numeric: NumericType,
    /// Whether the string asks for big-endian elements of more than one byte.
    pub big_endian: bool,
}

impl NumpyType {
    /// The type that a numpy data-type string names: a name (`float32`), or a code with or
    /// without a byte order (`f4`, `<f4`, `=f4`, `>f4`, `|u1`). `None` if it is not numeric.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let code = text.strip_prefix(['<', '>', '=', '|']).unwrap_or(text);
        let numeric = *NumericType::ALL
            .iter()
            .find(|numeric| numeric.name() == text || numeric.codes().contains(&code))?;
        Some(Self {
            numeric,
            big_endian: text.starts_with('>') && numeric.size() > 1,
        })
    }
}

/// The type that the field `field` of a codec's configuration names.
///
/// # Errors
/// Returns a [`PluginCreateError`] if it is not a numeric type.
pub(crate) fn parse_field(
    codec: &str,
    field: &str,
    text: &str,
) -> Result<NumpyType, PluginCreateError> {
    NumpyType::parse(text).ok_or_else(|| {
        let remedy = match text.trim_start_matches(['<', '>', '=', '|']) {
            time if time.starts_with(['M', 'm']) || time.contains("time") => {
                "; \"<i8\" works on the bits of a datetime64 or timedelta64"
            }
            _ => "",
        };
        PluginCreateError::Other(format!(
            "{codec}: {field} {text:?} is not supported, expected a numpy bool, integer or float \
             type such as \"float32\", \"f4\", \"<f4\" or \"|u1\"{remedy}"
        ))
    })
}

/// Check that an array of `data_type` can be seen as one of `numeric`, which the field `field` of
/// a codec's configuration names: another name of the same width is a view of the bits.
///
/// # Errors
/// Returns a [`CodecError`] if the widths differ.
pub(crate) fn check_width(
    codec: &str,
    field: &str,
    numeric: NumericType,
    data_type: &DataType,
) -> Result<(), CodecError> {
    if data_type.fixed_size() == Some(numeric.size()) && !data_type.is_optional() {
        return Ok(());
    }
    Err(CodecError::Other(format!(
        "{codec}: {field} {} does not have the width of the array's data type {data_type}, \
         expected a type of that width",
        numeric.name()
    )))
}

/// Check that the byte orders of a codec's types are those of the elements that it will see.
///
/// zarrs swaps all of a chunk as the array's data type says, so that a codec sees native elements.
/// That is right where the codec's types have the array's byte order: in Zarr V2 all of them; in
/// Zarr V3, whose data types have none, little-endian ones.
///
/// # Errors
/// Returns a [`PluginCreateError`] if they are not.
pub(crate) fn check_byte_order(
    codec: &str,
    version: ZarrVersion,
    decoded: (&str, Option<NumpyType>),
    encoded: (&str, NumpyType),
) -> Result<(), PluginCreateError> {
    let (decoded_field, decoded_type) = decoded;
    let (encoded_field, encoded_type) = encoded;
    let decoded_big = decoded_type.is_some_and(|decoded| decoded.big_endian);
    let big = if decoded_big {
        decoded_field
    } else {
        encoded_field
    };
    match version {
        ZarrVersion::V3 if decoded_big || encoded_type.big_endian => {
            Err(PluginCreateError::Other(format!(
                "{codec}: {big} is big-endian, expected a little-endian type such as \"<f4\" in \
                 Zarr V3, where the bytes codec alone knows a byte order; zarr-python's own \
                 results for this array are wrong or vary by version"
            )))
        }
        ZarrVersion::V2
            if decoded_big != encoded_type.big_endian && encoded_type.numeric.size() > 1 =>
        {
            Err(PluginCreateError::Other(format!(
                "{codec}: {encoded_field} and {decoded_field} differ in byte order, expected the \
                 array's own in both"
            )))
        }
        _ => Ok(()),
    }
}

/// The filters of Zarr V2 that name data types.
const TYPED_FILTERS: [&str; 4] = ["astype", "delta", "fixedscaleoffset", "quantize"];

/// Check what a codec cannot see: that the types in a Zarr V2 array's filters have the array's own
/// byte order. numcodecs takes them as they are, and zarrs would read other values; so whoever opens
/// a Zarr V2 array asks here first.
///
/// # Errors
/// Returns a [`PluginCreateError`] that names the first filter and type that do not.
pub fn check_v2_byte_order(metadata: &ArrayMetadataV2) -> Result<(), PluginCreateError> {
    let DataTypeMetadataV2::Simple(array) = &metadata.dtype else {
        return Ok(());
    };
    let filters = metadata.filters.iter().flatten();
    for filter in filters.filter(|filter| TYPED_FILTERS.contains(&filter.id())) {
        for (field, value) in filter.configuration().iter() {
            let text = value.as_str().unwrap_or_default();
            let differs = NumpyType::parse(text).is_some_and(|parsed| {
                parsed.numeric.size() > 1 && parsed.big_endian != array.starts_with('>')
            });
            if differs && !array.starts_with('|') {
                return Err(PluginCreateError::Other(format!(
                    "{}: {field} {text:?} differs in byte order from the array's data type \
                     {array:?}, expected the same",
                    filter.id()
                )));
            }
        }
    }
    Ok(())
}

/// A codec's configuration as it was parsed, for metadata of `version`: Zarr V3 has no big-endian
/// types, and needs none (see [`check_byte_order`]).
pub(crate) fn configuration_for(
    version: ZarrVersion,
    configuration: &Configuration,
) -> Configuration {
    let mut fields = serde_json::Map::from(configuration.clone());
    if version == ZarrVersion::V3 {
        for value in fields.values_mut() {
            if let Some(code) = value.as_str().and_then(|text| text.strip_prefix('>')) {
                *value = format!("<{code}").into();
            }
        }
    }
    fields.into()
}

/// A codec's configuration as its own type.
///
/// # Errors
/// Returns a [`PluginCreateError`] that names the codec and the offending field.
pub(crate) fn typed<T: DeserializeOwned>(
    codec: &str,
    configuration: &Configuration,
) -> Result<T, PluginCreateError> {
    configuration.to_typed().map_err(|error| {
        PluginCreateError::Other(format!("{codec}: invalid configuration: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{NumericType, NumpyType, check_v2_byte_order};
    use crate::testing::v2;

    #[test]
    fn every_type_has_its_names() {
        for numeric in NumericType::ALL {
            assert_eq!(NumericType::of(&numeric.data_type()), Some(*numeric));
            assert_eq!(numeric.data_type().fixed_size(), Some(numeric.size()));
            for text in [numeric.name(), &numeric.numpy(), &numeric.numpy()[1..]] {
                let parsed = NumpyType::parse(text).unwrap();
                assert_eq!(
                    (parsed.numeric, parsed.big_endian),
                    (*numeric, false),
                    "{text}"
                );
            }
        }
        let numpy: Vec<_> = NumericType::ALL
            .iter()
            .map(|numeric| numeric.numpy())
            .collect();
        assert_eq!(
            numpy,
            [
                "|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"
            ]
        );
    }

    #[test]
    fn filters_of_another_byte_order_are_errors() {
        let check = |dtype, filter| {
            let metadata = serde_json::from_value(v2(dtype, &[filter])).unwrap();
            check_v2_byte_order(&metadata).map_err(|error| error.to_string())
        };
        let delta = |dtype, astype| json!({"id": "delta", "dtype": dtype, "astype": astype});
        for (array, dtype, astype) in [
            (">i4", ">i4", ">i2"),
            ("<i4", "<i4", "|i1"),
            (">i4", ">i4", "|i1"),
            ("|u1", "u1", "<i2"),
        ] {
            check(array, delta(dtype, astype)).unwrap();
        }
        for (array, dtype) in [(">i4", "<i4"), ("<i4", ">i4"), (">i4", "i4")] {
            assert_eq!(
                check(array, delta(dtype, dtype)).unwrap_err(),
                format!(
                    "delta: dtype {dtype:?} differs in byte order from the array's data type \
                     {array:?}, expected the same"
                )
            );
        }
        let filter = json!({"id": "astype", "encode_dtype": "<f4", "decode_dtype": ">f8"});
        assert!(check(">f8", filter).is_err());
        check("<i4", json!({"id": "categorize", "dtype": ">f8"})).unwrap();
    }

    /// `np.dtype(text).str`
    #[test]
    fn strings_are_read_as_numpy_reads_them() {
        for (text, expected) in [
            ("?", "|b1"),
            ("<?", "|b1"),
            ("|b1", "|b1"),
            ("=f4", "<f4"),
            ("|f4", "<f4"),
            ("<f", "<f4"),
            ("e", "<f2"),
            ("d", "<f8"),
            ("b", "|i1"),
            ("B", "|u1"),
            ("<i8", "<i8"),
            (">u1", "|u1"),
            (">i4", ">i4"),
            (">f2", ">f2"),
            ("uint64", "<u8"),
        ] {
            let parsed = NumpyType::parse(text).unwrap();
            let numpy = parsed.numeric.numpy();
            let numpy = if parsed.big_endian {
                numpy.replace('<', ">")
            } else {
                numpy
            };
            assert_eq!(numpy, expected, "{text}");
        }
        for text in [
            "", "<", "f5", "<float32", "<<f4", "f4 ", "F4", "c8", "<M8[ns]", "S3", "r32",
        ] {
            assert_eq!(NumpyType::parse(text), None, "{text}");
        }
    }
}
