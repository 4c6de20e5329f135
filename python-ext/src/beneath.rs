//! `Beneath`: a folder that files are written beneath, and nowhere else.
//!
//! A store may come from a stranger, with links in it to anywhere. Reading follows them. What is
//! created, replaced or removed goes through a handle of its folder, which is opened from the root
//! without leaving it, and then by its bare name, which no call here follows.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::errors::Error;
use crate::store::is_absent;

/// The root of what may be written.
#[pyclass(frozen, module = "tempozarr._core")]
pub struct Beneath {
    root: PathBuf,
    /// Whether links may lead out of it.
    follow_links: bool,
    folder: Folder,
}

#[pymethods]
#[allow(
    clippy::needless_pass_by_value,
    reason = "arguments are extracted from Python objects"
)]
impl Beneath {
    /// Write beneath the folder `root`, which is there.
    #[new]
    #[pyo3(signature = (root, follow_links=false))]
    fn python(py: Python<'_>, root: PathBuf, follow_links: bool) -> PyResult<Self> {
        let name = root.display().to_string();
        py.detach(|| Self::new(root, follow_links))
            .map_err(|error| raise(&name, &error))
    }

    /// The folder, as it was given.
    #[getter]
    fn root(&self) -> &Path {
        &self.root
    }

    /// Whether links may lead out of it.
    #[getter]
    fn follow_links(&self) -> bool {
        self.follow_links
    }

    /// Open the folder at `path`, for `dir_fd` of functions of `os`; whoever asks closes it. With
    /// `create`, it and those above are made if they are not there.
    ///
    /// `OSError` if that fails, `StoreError` if a link leads out of the root.
    #[cfg(unix)]
    #[pyo3(signature = (path, create=false))]
    fn folder(&self, py: Python<'_>, path: PathBuf, create: bool) -> PyResult<i32> {
        use std::os::fd::IntoRawFd;
        let opened = py.detach(|| self.open(&path, create));
        opened
            .map(|folder| folder.0.into_raw_fd())
            .map_err(|error| raise(&self.root.join(&path).display().to_string(), &error))
    }
}

impl Beneath {
    /// Write beneath the folder `root`.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn new(root: PathBuf, follow_links: bool) -> io::Result<Self> {
        Ok(Self {
            folder: Folder::at(&root)?,
            root,
            follow_links,
        })
    }

    /// The folder, as it was given.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// A new file at `path`, in a folder that is there.
    ///
    /// # Errors
    /// If that fails, or there is anything.
    pub fn create_new(&self, path: &Path) -> io::Result<File> {
        let (folder, name) = split(path)?;
        self.open(folder, false)?.create_new(name)
    }

    /// Wait until the file at `path` is on the disk.
    ///
    /// # Errors
    /// If that fails.
    pub fn sync(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = split(path)?;
        self.open(folder, false)?.open_file(name)?.sync_all()
    }

    /// Replace or create `path`: a reader sees the old bytes or the new ones, never a part.
    ///
    /// # Errors
    /// If that fails; what was there is there still.
    pub fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (folder, name) = split(path)?;
        let folder = self.open(folder, true)?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        // The ending is zarr-python's own.
        let mut temporary = name.to_os_string();
        temporary.push(format!(".{:032x}.partial", u128::from_ne_bytes(random)));
        let mut file = folder.create_new(&temporary)?;
        let result = file.write_all(bytes).and_then(|()| {
            drop(file);
            folder.rename(&temporary, name)
        });
        if result.is_err() {
            // The write has failed already; that error is the one to report.
            let _ = folder.remove(&temporary);
        }
        result
    }

    /// Remove `path`; it is no error if it is not there.
    ///
    /// # Errors
    /// If that fails.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = split(path)?;
        match self
            .open(folder, false)
            .and_then(|folder| folder.remove(name))
        {
            Err(error) if is_absent(&error) => Ok(()),
            result => result,
        }
    }

    /// Open the folder at `path`; with `create`, make what is missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Folder> {
        if !path
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(leaves(&format!(
                "expected a path in {}, got {}",
                self.root.display(),
                path.display()
            )));
        }
        match self.step(path) {
            Err(error) if create && error.kind() == ErrorKind::NotFound => {
                let (above, name) = split(path)?;
                match self.open(above, true)?.create_folder(name) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    result => result?,
                }
                self.step(path)
            }
            result => result,
        }
    }

    fn step(&self, path: &Path) -> io::Result<Folder> {
        if path.as_os_str().is_empty() {
            return self.folder.again();
        }
        let opened = self.folder.open(path, self.follow_links);
        opened.map_err(|error| self.leads_out(path).unwrap_or(error))
    }

    /// The error about the first link on the way that leads out of the root, if there is one.
    fn leads_out(&self, path: &Path) -> Option<io::Error> {
        if self.follow_links {
            return None;
        }
        let mut on_the_way = self.root.clone();
        let link = path.components().find_map(|part| {
            on_the_way.push(part);
            let is_link = fs::symlink_metadata(&on_the_way).is_ok_and(|found| found.is_symlink());
            (is_link && !self.stays_inside(&on_the_way)).then(|| on_the_way.clone())
        })?;
        Some(leaves(&format!(
            "{} is a link that leads out of {}: nothing is written, moved or removed through it. If \
             that is what you want, pass follow_links=True",
            link.display(),
            self.root.display()
        )))
    }

    /// Whether [`Folder::open`] follows that link.
    fn stays_inside(&self, link: &Path) -> bool {
        cfg!(target_os = "linux")
            && fs::read_link(link).is_ok_and(|to| to.is_relative())
            && match (fs::canonicalize(link), fs::canonicalize(&self.root)) {
                (Ok(to), Ok(root)) => to.starts_with(root),
                _ => false,
            }
    }
}

/// A path that leads elsewhere; not an error of the system.
fn leaves(message: &str) -> io::Error {
    io::Error::other(message)
}

/// The folder of a file, and its name there.
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().zip(path.parent());
    name.map(|(name, folder)| (folder, name)).ok_or_else(|| {
        leaves(&format!(
            "expected the path of a file, got {}",
            path.display()
        ))
    })
}

fn raise(name: &str, error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let text = text
                .split(" (os error")
                .next()
                .unwrap_or_default()
                .to_owned();
            PyOSError::new_err((number, text, name.to_owned()))
        }
        None => Error::Store(error.to_string()).into(),
    }
}

/// Swap two folders in one step; false if the file system cannot.
///
/// `OSError` if that fails.
#[pyfunction]
#[allow(
    clippy::needless_pass_by_value,
    reason = "arguments are extracted from Python objects"
)]
pub fn exchange(one: PathBuf, other: PathBuf) -> PyResult<bool> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => Ok(false),
            Err(error) => Err(raise(&other.display().to_string(), &error.into())),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = (one, other);
        Ok(false)
    }
}

#[cfg(unix)]
use unix::Folder;

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};

    /// A handle of a folder.
    pub struct Folder(pub OwnedFd);

    const FOLDER: OFlags = OFlags::RDONLY
        .union(OFlags::DIRECTORY)
        .union(OFlags::CLOEXEC);
    const FILE: OFlags = OFlags::WRONLY
        .union(OFlags::NOFOLLOW)
        .union(OFlags::CLOEXEC);

    impl Folder {
        pub fn at(path: &Path) -> io::Result<Self> {
            Ok(Self(openat(CWD, path, FOLDER, Mode::empty())?))
        }

        pub fn again(&self) -> io::Result<Self> {
            Ok(Self(self.0.try_clone()?))
        }

        /// Open the folder at `path`, which does not leave this one by its text.
        pub fn open(&self, path: &Path, follow_links: bool) -> io::Result<Self> {
            if follow_links {
                return Ok(Self(openat(&self.0, path, FOLDER, Mode::empty())?));
            }
            #[cfg(target_os = "linux")]
            {
                use rustix::fs::{ResolveFlags, openat2};
                use rustix::io::Errno;
                let inside = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
                loop {
                    match openat2(&self.0, path, FOLDER, Mode::empty(), inside) {
                        // Something was renamed meanwhile.
                        Err(Errno::AGAIN) => {}
                        // Before Linux 5.6, and in sandboxes that do not know the call.
                        Err(Errno::NOSYS | Errno::PERM) => break,
                        result => return Ok(Self(result?)),
                    }
                }
            }
            self.walk(path)
        }

        /// The same where the system has no such call: no link at all is followed.
        fn walk(&self, path: &Path) -> io::Result<Self> {
            path.components().try_fold(self.again()?, |folder, part| {
                let flags = FOLDER | OFlags::NOFOLLOW;
                let next = openat(&folder.0, part.as_os_str(), flags, Mode::empty())?;
                Ok(Self(next))
            })
        }

        pub fn create_folder(&self, name: &OsStr) -> io::Result<()> {
            Ok(mkdirat(&self.0, name, Mode::from_raw_mode(0o777))?)
        }

        pub fn create_new(&self, name: &OsStr) -> io::Result<File> {
            let flags = FILE | OFlags::CREATE | OFlags::EXCL;
            Ok(openat(&self.0, name, flags, Mode::from_raw_mode(0o666))?.into())
        }

        pub fn open_file(&self, name: &OsStr) -> io::Result<File> {
            Ok(openat(&self.0, name, FILE, Mode::empty())?.into())
        }

        pub fn rename(&self, old: &OsStr, new: &OsStr) -> io::Result<()> {
            Ok(renameat(&self.0, old, &self.0, new)?)
        }

        pub fn remove(&self, name: &OsStr) -> io::Result<()> {
            Ok(unlinkat(&self.0, name, AtFlags::empty())?)
        }
    }
}

#[cfg(not(unix))]
use elsewhere::Folder;

#[cfg(not(unix))]
mod elsewhere {
    use std::ffi::OsStr;
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, ErrorKind};
    use std::path::{Path, PathBuf};

    /// The path of a folder, on the way to which there was no link when it was opened.
    pub struct Folder(PathBuf);

    impl Folder {
        pub fn at(path: &Path) -> io::Result<Self> {
            let is_folder = fs::metadata(path)?.is_dir();
            is_folder
                .then(|| Self(path.to_owned()))
                .ok_or_else(|| ErrorKind::NotADirectory.into())
        }

        pub fn again(&self) -> io::Result<Self> {
            Ok(Self(self.0.clone()))
        }

        pub fn open(&self, path: &Path, follow_links: bool) -> io::Result<Self> {
            path.components().try_fold(self.again()?, |folder, part| {
                let next = folder.0.join(part);
                if !follow_links && fs::symlink_metadata(&next)?.is_symlink() {
                    return Err(ErrorKind::NotADirectory.into());
                }
                Self::at(&next)
            })
        }

        pub fn create_folder(&self, name: &OsStr) -> io::Result<()> {
            fs::create_dir(self.0.join(name))
        }

        pub fn create_new(&self, name: &OsStr) -> io::Result<File> {
            File::create_new(self.0.join(name))
        }

        pub fn open_file(&self, name: &OsStr) -> io::Result<File> {
            OpenOptions::new().write(true).open(self.0.join(name))
        }

        pub fn rename(&self, old: &OsStr, new: &OsStr) -> io::Result<()> {
            fs::rename(self.0.join(old), self.0.join(new))
        }

        pub fn remove(&self, name: &OsStr) -> io::Result<()> {
            fs::remove_file(self.0.join(name))
        }
    }
}
