//! An array, opened as readers open it, and its first chunk.

use std::sync::Arc;

use tempozarr::limits;
use zarrs::array::{Array, ArrayBytes, ArrayMetadata, ArraySubset};
use zarrs_codec::ArrayToBytesCodecTraits;
use zarrs_storage::WritableStorageTraits;
use zarrs_storage::store::MemoryStore;

use crate::{Chunk, options, register, split};

/// Open an array with metadata, fused and not, and decode a chunk whole and in parts: no panic, and both the
/// same.
///
/// # Panics
/// If there is a finding.
pub fn array(data: &[u8]) {
    register();
    let Some((metadata, chunk)) = split::<ArrayMetadata>(data) else {
        return;
    };
    // As readers do, before anything is made of it.
    if limits::check(&metadata).is_err() {
        return;
    }
    let metadata = tempozarr::guarded(metadata);
    let _ = tempozarr::explain(&metadata).to_string();
    let fused = tempozarr::fuse(&metadata);
    let unfused = read(&metadata, chunk);
    if fused != metadata {
        assert_eq!(read(&fused, chunk), unfused, "fused and unfused");
    }
}

/// The first chunk, if it decodes, and the array, if it is small and does, too.
fn read(metadata: &ArrayMetadata, encoded: &[u8]) -> Option<[Option<ArrayBytes<'static>>; 2]> {
    let store = Arc::new(MemoryStore::new());
    let array = Array::new_with_metadata(store.clone(), "/", metadata.clone()).ok()?;
    tempozarr::store_metadata(&array).ok()?;
    let first = vec![0; array.dimensionality()];
    let chunk = Chunk {
        shape: array.chunk_shape(&first).ok()?,
        data_type: array.data_type().clone(),
        fill_value: array.fill_value().clone(),
    };
    // Readers ask for this, too.
    let codecs = array.codecs();
    let representation =
        codecs.encoded_representation(&chunk.shape, &chunk.data_type, &chunk.fill_value);
    if representation.is_err() || chunk.bytes().is_none() {
        return None;
    }
    let encoded = encoded.to_vec().into();
    store.set(&array.chunk_key(&first), encoded).ok()?;
    let shape: Vec<_> = chunk.shape.iter().map(|length| length.get()).collect();
    let part: ArraySubset = shape
        .iter()
        .map(|length| length / 2..length / 2 + length.div_ceil(4))
        .collect::<Vec<_>>()
        .into();
    let read_part = |part: &ArraySubset| {
        let decoder = array.partial_decoder_opt(&first, &options()).ok()?;
        let bytes = decoder.partial_decode(part, &options()).ok()?;
        Some(bytes.into_owned())
    };
    // A part may be read though the rest is damaged, but not the other way round.
    let parted = read_part(&part);
    let whole: ArrayBytes = array.retrieve_chunk_opt(&first, &options()).ok()?;
    chunk.check(&whole);
    let cut = whole.extract_array_subset(&part, &shape, &chunk.data_type);
    let cut = cut.expect("the part is in the chunk").into_owned();
    assert_eq!(
        parted.as_ref(),
        Some(&cut),
        "a part and the same part of the whole"
    );
    let all = Chunk::with(chunk.data_type.clone(), array.shape());
    let small = !array.shape().contains(&0) && all.bytes().is_some();
    let all = small.then(|| {
        let everything = ArraySubset::new_with_shape(array.shape().to_vec());
        array
            .retrieve_array_subset_opt(&everything, &options())
            .ok()
    });
    Some([Some(whole.into_owned()), all.flatten()])
}
