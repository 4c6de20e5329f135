//! Fill values of codecs that store another data type.

use zarrs_codec::CodecError;
use zarrs_data_type::FillValue;

use crate::cast::{Overflow, cast_bytes};
use crate::dtype::NumericType;

/// The fill value of an array of `from` cast to `to`, or what of it that type can hold: an array
/// opens although its fill value (NaN into an integer, say) cannot be stored.
///
/// # Errors
/// None: nothing is refused.
pub(crate) fn cast(
    fill_value: &FillValue,
    from: NumericType,
    to: NumericType,
) -> Result<FillValue, CodecError> {
    let cast = cast_bytes(fill_value.as_ne_bytes(), from, to, Overflow::Clamp);
    Ok(FillValue::new(cast.map_err(|error| error.to_string())?))
}
