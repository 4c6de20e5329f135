//! Where encoded bytes are: files, whose reads are checked against their size, and what others
//! fetched.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tempozarr::memory;
use zarrs_codec::{ArrayBytesRaw, BytesPartialDecoderTraits, CodecError, CodecOptions};
use zarrs_storage::StorageError;
use zarrs_storage::byte_range::{ByteRange, ByteRangeIterator, InvalidByteRangeError};

use crate::fetched::Fetched;
use crate::stats::Counter;

/// The encoded bytes of a chunk, which are read by ranges.
///
/// Stored bytes say which ranges to read, so every range is checked against the size before
/// anything is allocated for it.
#[derive(Debug)]
pub struct ChunkFile {
    bytes: Place,
    size: u64,
    /// The most bytes that zarrs may read at once.
    limit: u64,
    stamp: Stamp,
    read: Counter,
}

/// Where the bytes are.
#[derive(Debug)]
enum Place {
    /// In an open file.
    File(File),
    /// In memory, all of them.
    Memory(Fetched),
    /// In memory, some of them: pieces and where they begin, in ascending order.
    Pieces(Vec<(u64, Fetched)>),
}

/// What tells a file, or an object, from the one that replaces it: its size, identity and times.
pub type Stamp = [u64; 4];

impl ChunkFile {
    /// Open `path`; `None` if nothing is there.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        Ok(open_regular(path)?.map(|(file, metadata)| Self {
            bytes: Place::File(file),
            size: metadata.len(),
            limit: u64::MAX,
            stamp: stamp(&metadata),
            read: Counter::default(),
        }))
    }

    /// All bytes of an object that was fetched.
    pub fn fetched(bytes: Fetched) -> Self {
        let size = bytes.len() as u64;
        Self::in_memory(Place::Memory(bytes), size)
    }

    /// Pieces of an object of up to `size` bytes, and where they begin.
    pub fn pieces(mut pieces: Vec<(u64, Fetched)>, size: u64) -> Self {
        pieces.sort_by_key(|(start, _)| *start);
        Self::in_memory(Place::Pieces(pieces), size)
    }

    /// The same bytes, of an object of that stamp.
    pub fn stamped(self, stamp: Stamp) -> Self {
        Self { stamp, ..self }
    }

    /// The same, of which no more than `limit` bytes are read at once.
    pub fn limited(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    fn in_memory(bytes: Place, size: u64) -> Self {
        Self {
            bytes,
            size,
            limit: u64::MAX,
            stamp: Stamp::default(),
            read: Counter::default(),
        }
    }

    /// Whether only those bytes are there that the subchunks of a selection need.
    pub fn is_partial(&self) -> bool {
        matches!(self.bytes, Place::Pieces(_))
    }

    /// What tells this file from one that replaces it.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Bytes that were read from the file so far; none if they were in memory.
    pub fn bytes_read(&self) -> u64 {
        self.read.get()
    }

    /// Bytes that it holds in memory.
    pub fn held(&self) -> usize {
        match &self.bytes {
            Place::File(_) => 0,
            Place::Memory(bytes) => bytes.len(),
            Place::Pieces(pieces) => pieces.iter().map(|(_, piece)| piece.len()).sum(),
        }
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of `range`, which lies inside: in `buffer`, which may hold more, or where they are.
    pub fn read_into<'a>(
        &'a self,
        range: Range<u64>,
        buffer: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]> {
        let size = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        if let Some((piece, start)) = self.piece(&range)?
            && let Some(bytes) = piece.as_slice()
        {
            return Ok(&bytes[start..start + size]);
        }
        memory::grow(buffer, size).map_err(io::Error::other)?;
        self.read_exact(&mut buffer[..size], range.start)?;
        Ok(&buffer[..size])
    }

    /// The bytes of `range`, which lies inside.
    pub fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = memory::zeros(length).map_err(io::Error::other)?;
        self.read_exact(&mut bytes, range.start)?;
        Ok(bytes)
    }

    /// The bytes of `range`.
    fn read_range(&self, range: ByteRange) -> Result<Vec<u8>, CodecError> {
        let range =
            within(range, self.size).ok_or_else(|| InvalidByteRangeError::new(range, self.size))?;
        let length = range.end - range.start;
        if length > self.limit {
            return Err(CodecError::Other(format!(
                "{length} encoded bytes, and the metadata of the chunk allow {} at most; it is corrupt",
                self.limit
            )));
        }
        // A storage error, unlike the input/output errors of decompressors.
        let failed = |error: io::Error| StorageError::from(Arc::new(error));
        Ok(self.read(range).map_err(failed)?)
    }

    /// By position: threads share the file, and it has one cursor.
    fn read_exact(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        if let Place::File(file) = &self.bytes {
            self.read.add(bytes.len() as u64);
            return read_exact_at(file, bytes, offset);
        }
        if let Some((piece, start)) = self.piece(&(offset..offset + bytes.len() as u64))? {
            piece.copy(start, bytes);
        }
        Ok(())
    }

    /// The fetched bytes that hold `range`, and where in them it begins; none for an empty one, and
    /// for a file.
    fn piece(&self, range: &Range<u64>) -> io::Result<Option<(&Fetched, usize)>> {
        let held = |start: u64, piece: &Fetched| {
            start <= range.start && range.end <= start.saturating_add(piece.len() as u64)
        };
        let found = match &self.bytes {
            Place::File(_) => return Ok(None),
            _ if range.is_empty() => return Ok(None),
            Place::Memory(bytes) => held(0, bytes).then_some((0, bytes)),
            Place::Pieces(pieces) => {
                let before = pieces.partition_point(|(start, _)| *start <= range.start);
                let mut before = pieces[..before].iter().rev();
                before
                    .find(|(start, piece)| held(*start, piece))
                    .map(|(start, piece)| (*start, piece))
            }
        };
        let (start, piece) = found.ok_or_else(|| {
            let Range { start, end } = range;
            io::Error::new(
                ErrorKind::UnexpectedEof,
                format!("bytes {start} to {end} were not fetched"),
            )
        })?;
        Ok(Some((piece, (range.start - start) as usize)))
    }
}

impl BytesPartialDecoderTraits for ChunkFile {
    fn exists(&self) -> Result<bool, StorageError> {
        Ok(true)
    }

    fn size_held(&self) -> usize {
        0
    }

    fn partial_decode_many(
        &self,
        ranges: ByteRangeIterator,
        _options: &CodecOptions,
    ) -> Result<Option<Vec<ArrayBytesRaw<'_>>>, CodecError> {
        ranges
            .map(|range| Ok(self.read_range(range)?.into()))
            .collect::<Result<_, CodecError>>()
            .map(Some)
    }

    fn supports_partial_decode(&self) -> bool {
        true
    }
}

/// `range` in a file of `size` bytes, if it lies inside.
fn within(range: ByteRange, size: u64) -> Option<Range<u64>> {
    let range = match range {
        ByteRange::FromStart(start, Some(length)) => start..start.checked_add(length)?,
        ByteRange::FromStart(start, None) => start..size,
        ByteRange::Suffix(length) => size.checked_sub(length)?..size,
    };
    (range.start <= range.end && range.end <= size).then_some(range)
}

#[cfg(unix)]
fn stamp(metadata: &Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000) + rest;
    [
        metadata.len(),
        metadata.ino(),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()).cast_unsigned(),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()).cast_unsigned(),
    ]
}

#[cfg(windows)]
fn stamp(metadata: &Metadata) -> Stamp {
    use std::os::windows::fs::MetadataExt;
    let (created, written) = (metadata.creation_time(), metadata.last_write_time());
    [metadata.len(), 0, created, written]
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

/// Open `path` to read it, if it is a regular file or leads to one; `None` if nothing is there.
///
/// Nothing else is read, nor waited for: named pipes, sockets, devices and folders are errors. What is
/// stored is a file, so one of these in its place is damage, or meant to do harm.
pub fn open_regular(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let irregular = |metadata: &Metadata| {
        io::Error::other(format!(
            "expected a regular file, found {}: remove it, or put the file back",
            describe(metadata.file_type())
        ))
    };
    match open_at_once(path) {
        Ok(file) => {
            let metadata = file.metadata()?;
            if metadata.is_file() {
                Ok(Some((file, metadata)))
            } else {
                Err(irregular(&metadata))
            }
        }
        Err(error) if is_absent(&error) => Ok(None),
        // Sockets are not opened; nor are devices without hardware, and folders on Windows.
        Err(error) => Err(match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => irregular(&metadata),
            _ => error,
        }),
    }
}

/// Open `path` without waiting for another process, as a named pipe does.
#[cfg(unix)]
fn open_at_once(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;
    // A terminal must not become that of this process. Regular files know neither flag, ...
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    match opened {
        // ... unless another process has a lease on one, which it gives back when it is asked to.
        Err(error)
            if error.kind() == ErrorKind::WouldBlock
                && fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) =>
        {
            File::open(path)
        }
        opened => opened,
    }
}

#[cfg(windows)]
fn open_at_once(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// What a file is, if it is no regular one.
fn describe(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() {
        "a folder"
    } else {
        "something else"
    }
}

/// The errors that mean "no such key", as zarr-python has it.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory
    )
}
