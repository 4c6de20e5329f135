//! From the JSON text of array metadata to zarrs' array, with errors that name what is at fault.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempozarr::Encoding;
use tempozarr::fused::Explanation;
use zarrs::array::{Array, ArrayCreateError, ArrayMetadata};
use zarrs_codec::{ArrayToBytesCodecTraits, Codec};
use zarrs_metadata::v2::ArrayMetadataV2;
use zarrs_metadata::v3::ArrayMetadataV3;

use crate::dtype::{Kind, NATIVE};
use crate::errors::{Error, Result};

/// The array at `node` of `store` that `text` describes, and what its elements are in Python. It
/// encodes with `encoding`.
///
/// It must run on the pool: zarrs asks for the number of threads.
///
/// # Errors
/// [`Error::Metadata`], which names the codec or data type and the reason.
pub fn create<S: ?Sized>(
    store: Arc<S>,
    node: &str,
    text: &str,
    encoding: Encoding,
) -> Result<(Array<S>, Kind)> {
    let (metadata, dtype) = parse(text)?;
    tempozarr::limits::check(&metadata)?;
    let array = Array::new_with_metadata(Arc::clone(&store), node, metadata.clone())
        .map_err(|error| Error::Metadata(explain(&error, &metadata)))?;
    check(&array)?;
    let metadata = tempozarr::encode_with(&metadata, encoding)
        .map_err(|error| Error::Metadata(error.to_string()))?;
    let array = Array::new_with_metadata(store, node, tempozarr::fuse(&metadata))
        .map_err(|error| Error::Metadata(error.to_string()))?;
    let kind = match (dtype, Kind::new(array.data_type())?) {
        (Some(dtype), Kind::Fixed(_, size)) => Kind::Fixed(dtype, size),
        (_, kind) => kind,
    };
    Ok((array, kind))
}

/// How the chunks of the array that `text` describes are decoded.
///
/// # Errors
/// As for [`create`].
pub fn explanation(text: &str) -> Result<Explanation> {
    Ok(tempozarr::explain(&parse(text)?.0))
}

/// The metadata, as zarrs understands it, and numpy's dtype where zarrs has another.
fn parse(text: &str) -> Result<(ArrayMetadata, Option<String>)> {
    let failed = |error: &dyn std::fmt::Display| Error::Metadata(error.to_string());
    let mut document: Value =
        serde_json::from_str(&strict_json(text)).map_err(|error| failed(&error))?;
    let dtype = translate(&mut document);
    if document["zarr_format"] == 2 {
        let metadata: ArrayMetadataV2 =
            serde_json::from_value(document).map_err(|error| failed(&error))?;
        tempozarr::dtype::check_v2_byte_order(&metadata).map_err(|error| failed(&error))?;
        return Ok((tempozarr::guarded(metadata.into()), dtype));
    }
    if document["node_type"] == "group" {
        return Err(Error::Metadata("it is a group, expected an array".into()));
    }
    let metadata: ArrayMetadataV3 =
        serde_json::from_value(document).map_err(|error| failed(&error))?;
    let fields = &metadata.additional_fields;
    if let Some((name, _)) = fields.iter().find(|(_, field)| field.must_understand()) {
        return Err(Error::Metadata(format!(
            "the field {name:?} must be understood, and is not"
        )));
    }
    Ok((ArrayMetadata::V3(metadata), dtype))
}

/// `text` with the literals that Python's json module writes and JSON does not have (`NaN`,
/// `Infinity`, `-Infinity`: zarr-python has them in attributes) as text of the same letters, which is
/// how fill values spell them.
pub fn strict_json(text: &str) -> String {
    let (mut strict, mut rest) = (String::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let is_text = rest.starts_with('"');
        let end = if is_text {
            end_of_text(rest)
        } else {
            rest.find('"').unwrap_or(rest.len())
        };
        let (part, after) = rest.split_at(end);
        if is_text {
            strict.push_str(part);
        } else {
            let part = part
                .replace("NaN", r#""NaN""#)
                .replace("Infinity", r#""Infinity""#);
            strict.push_str(&part.replace(r#"-"Infinity""#, r#""-Infinity""#));
        }
        rest = after;
    }
    strict
}

/// Where the text in quotes that `json` begins with ends.
fn end_of_text(json: &str) -> usize {
    let mut is_escaped = false;
    let end = json.char_indices().skip(1).find(|&(_, letter)| {
        let ends = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        ends
    });
    end.map_or(json.len(), |(at, _)| at + 1)
}

/// Check that the codecs take the array's chunks and data type: zarrs asks them at the first read.
fn check<S: ?Sized>(array: &Array<S>) -> Result<()> {
    let first = vec![0; array.dimensionality()];
    let Ok(shape) = array.chunk_shape(&first) else {
        return Ok(()); // no chunks
    };
    array
        .codecs()
        .encoded_representation(&shape, array.data_type(), array.fill_value())
        .map_err(|error| Error::Metadata(format!("codecs: {error}")))?;
    Ok(())
}

/// zarrs' message, with the part of the metadata that it is about.
fn explain(error: &ArrayCreateError, metadata: &ArrayMetadata) -> String {
    match (error, metadata) {
        (ArrayCreateError::CodecsCreateError(error), ArrayMetadata::V3(metadata)) => {
            let culprit = metadata
                .codecs
                .iter()
                .find(|codec| Codec::from_metadata(*codec).is_err());
            match culprit {
                Some(codec) => format!("codec {}: {error}", codec.name()),
                None => format!("codecs: {error}"),
            }
        }
        (ArrayCreateError::DataTypeCreateError(error), _) => format!("data type: {error}"),
        (ArrayCreateError::ChunkGridCreateError(error), _) => format!("chunk grid: {error}"),
        (ArrayCreateError::ChunkKeyEncodingCreateError(error), _) => {
            format!("chunk key encoding: {error}")
        }
        (error, _) => error.to_string(),
    }
}

/// Rewrite data types of zarr-python that zarrs does not know as others of the same bytes, in
/// memory only. Returns numpy's dtype then.
fn translate(document: &mut Value) -> Option<String> {
    let is_v2 = document["zarr_format"] == 2;
    let key = if is_v2 { "dtype" } else { "data_type" };
    let stored = document[key].clone();
    let fill = document["fill_value"].clone();
    let (dtype, data_type, fill) = if is_v2 {
        let (order, code) = stored.as_str()?.split_at_checked(1)?;
        if let Some(length) = code.strip_prefix(['S', 'V']) {
            let fill = bytes(fill, length.parse().ok()?)?;
            (format!("|{code}"), format!("|V{length}"), fill)
        } else if code.starts_with("M8") || code.starts_with("m8") {
            // Dates are integers in the stored byte order.
            let is_nat = fill.is_null() || fill == "NaT";
            let fill = if is_nat { json!(i64::MIN) } else { fill };
            (format!("{NATIVE}{code}"), format!("{order}i8"), fill)
        } else {
            if code.starts_with('U') && fill.is_null() {
                document["fill_value"] = json!("");
            }
            return None;
        }
    } else {
        let code = match stored["name"].as_str()? {
            "null_terminated_bytes" => 'S',
            "raw_bytes" => 'V',
            _ => return None,
        };
        let length = stored["configuration"]["length_bytes"].as_u64()?;
        let fill = bytes(fill, length)?;
        (
            format!("|{code}{length}"),
            format!("r{}", length.checked_mul(8)?),
            fill,
        )
    };
    document[key] = data_type.into();
    document["fill_value"] = fill;
    Some(dtype)
}

/// A fill value of `length` bytes: Base64, without the zeros at the end; nothing, or 0, means zeros.
/// What is anything else is left to zarrs, which refuses it.
fn bytes(fill: Value, length: u64) -> Option<Value> {
    let length = usize::try_from(length)
        .ok()
        .filter(|&length| length <= LONGEST)?;
    let encoded = if fill.is_null() || fill == 0 {
        Some("")
    } else {
        fill.as_str()
    };
    let bytes = encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    match bytes {
        Some(mut bytes) if bytes.len() <= length => {
            // Memory: no more than `LONGEST`.
            bytes.resize(length, 0);
            Some(bytes.into())
        }
        _ => Some(fill),
    }
}

/// No element is longer than that; what says so is no metadata that anybody wrote.
const LONGEST: usize = 1 << 20;
