//! The few things that are asked of the file system, each with its path in the error.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use super::error::{At, StoreError};

/// The mode of everything that is not whole yet: nobody else has business there.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;

/// Holes are made in whole blocks; smaller runs of zeros are written.
const BLOCK: usize = 4096;

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).at("sync the directory", path)
}

/// Makes `path` a directory that exists. Its parent must exist.
pub(super) fn ensure_dir(path: &Path) -> Result<(), StoreError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.at("make the directory", path),
    }
}

/// As [`ensure_dir`], and gives its owner all rights in it, which the mode of a release may not.
pub(super) fn ensure_private_dir(path: &Path) -> Result<(), StoreError> {
    ensure_dir(path)?;
    set_mode(path, PRIVATE_DIR)
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).at("set the mode", path)
}

/// Opens a file to be filled, and makes it if it is not there.
pub(super) fn open_to_fill(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE);
    options.custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        // An attempt that ended in the middle of sealing has left the release's own mode.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.exists() => {
            set_mode(path, PRIVATE_FILE)?;
            options.open(path).at("open", path)
        }
        opened => opened.at("open", path),
    }
}

/// Writes a small file so that after a crash it is there with all its bytes or is as before.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    let mut file = File::create(&new).at("make", &new)?;
    file.write_all(bytes).at("write", &new)?;
    file.sync_all().at("sync", &new)?;
    fs::rename(&new, path).at("rename into place", path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Exactly `len` bytes from `offset` on; `None` where the file ends before.
pub(super) fn read_at(
    file: &File,
    path: &Path,
    offset: u64,
    len: usize,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = vec![0; len];
    match file.read_exact_at(&mut bytes, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.at("read", path).map(|()| Some(bytes)),
    }
}

/// Writes `bytes` at `offset` and starts their way to the disk, so that the sync at the end has
/// little left to do. Zeros become a hole.
pub(super) fn write_at(
    file: &File,
    path: &Path,
    offset: u64,
    bytes: &[u8],
) -> Result<(), StoreError> {
    if is_zero(bytes) && punch_hole(file, offset, bytes.len()) {
        return Ok(());
    }
    file.write_all_at(bytes, offset).at("write", path)?;
    start_writeback(file, offset, bytes.len());
    Ok(())
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Makes a hole; `false` where the file system has none or the run is too short to be worth one.
pub(super) fn punch_hole(file: &File, offset: u64, len: usize) -> bool {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    len >= BLOCK && fallocate(file, flags, offset, len as u64).is_ok()
}

/// Asks the kernel to write a range to the disk now, and waits for nothing. It is only a hint: a
/// refusal costs time at the end, and nothing else.
fn start_writeback(file: &File, offset: u64, len: usize) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: the descriptor is open as long as `file` is borrowed, and no memory is passed.
    #[allow(unsafe_code)] // rustix has no sync_file_range
    let _ = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
    };
}

/// Copies all of `from` to the empty file `to`: as shared blocks where the file system can, inside
/// the kernel where it cannot.
pub(super) fn copy_all(from: &mut File, to: &mut File) -> io::Result<u64> {
    if rustix::fs::ioctl_ficlone(&*to, &*from).is_ok() {
        return Ok(to.metadata()?.len());
    }
    // The standard library uses copy_file_range, and reads and writes where that is not possible.
    io::copy(from, to)
}
