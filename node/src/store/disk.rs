//! The few things that are asked of the file system, each with its path in the error. Nothing else in
//! the store changes the disk, so that a test can replay all of it up to a power cut.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use super::entries;
use super::error::{At, StoreError};
#[cfg(test)]
use super::power_cut::{Change, note};

/// The mode of everything that is not whole yet: nobody else has business there.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;

/// Holes are made in whole blocks; smaller runs of zeros are written.
const BLOCK: usize = 4096;

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).at("sync the directory", path)?;
    #[cfg(test)]
    note(Change::Sync(path.to_owned()));
    Ok(())
}

/// Makes the bytes, the length and the mode of an open file or directory durable.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), StoreError> {
    file.sync_all().at("sync", path)?;
    #[cfg(test)]
    note(Change::Sync(path.to_owned()));
    Ok(())
}

/// Makes everything durable in the file system that holds `path`.
pub(super) fn sync_all(path: &Path) -> Result<(), StoreError> {
    let file = File::open(path).at("open", path)?;
    rustix::fs::syncfs(&file).at("sync the file system of", path)?;
    #[cfg(test)]
    note(Change::SyncAll(path.to_owned()));
    Ok(())
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).at("move into place", to)?;
    #[cfg(test)]
    note(Change::Rename(from.to_owned(), to.to_owned()));
    Ok(())
}

pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    fs::remove_file(path).at("remove", path)?;
    #[cfg(test)]
    note(Change::Remove(path.to_owned()));
    Ok(())
}

/// Removes a directory with all that is in it, also where the modes in it forbid that.
pub(super) fn remove_tree(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock(path)?;
            fs::remove_dir_all(path).at("remove", path)?;
        }
        removed => removed.at("remove", path)?,
    }
    #[cfg(test)]
    note(Change::Remove(path.to_owned()));
    Ok(())
}

fn unlock(path: &Path) -> Result<(), StoreError> {
    let mut dirs = vec![path.to_owned()];
    while let Some(dir) = dirs.pop() {
        set_mode(&dir, PRIVATE_DIR)?;
        let is_dir = |path: &std::path::PathBuf| path.symlink_metadata().is_ok_and(|m| m.is_dir());
        dirs.extend(entries(&dir)?.into_iter().filter(is_dir));
    }
    Ok(())
}

/// Makes a link, unless an interrupted attempt has made it.
pub(super) fn make_link(path: &Path, target: &Path) -> Result<(), StoreError> {
    match symlink(target, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let made = fs::read_link(path).at("read the link", path)?;
            if made != target {
                return Err(error).at("make the link", path);
            }
        }
        made => made.at("make the link", path)?,
    }
    #[cfg(test)]
    note(Change::MakeLink(path.to_owned(), target.to_owned()));
    Ok(())
}

/// Makes `path` a directory that exists. Its parent must exist.
pub(super) fn ensure_dir(path: &Path) -> Result<(), StoreError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => {
            made.at("make the directory", path)?;
            #[cfg(test)]
            note(Change::MakeDir(path.to_owned()));
            Ok(())
        }
    }
}

/// As [`ensure_dir`], and gives its owner all rights in it, which the mode of a release may not.
pub(super) fn ensure_private_dir(path: &Path) -> Result<(), StoreError> {
    ensure_dir(path)?;
    set_mode(path, PRIVATE_DIR)
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).at("set the mode", path)?;
    #[cfg(test)]
    note(Change::SetMode(path.to_owned(), mode));
    Ok(())
}

pub(super) fn set_len(file: &File, path: &Path, len: u64) -> Result<(), StoreError> {
    file.set_len(len).at("set the length of", path)?;
    #[cfg(test)]
    note(Change::SetLen(path.to_owned(), len));
    Ok(())
}

/// Makes an empty file, or empties it.
pub(super) fn create(path: &Path) -> Result<File, StoreError> {
    let file = File::create(path).at("make", path)?;
    #[cfg(test)]
    note(Change::MakeFile(path.to_owned()));
    #[cfg(test)]
    note(Change::SetLen(path.to_owned(), 0));
    Ok(file)
}

/// Opens a file to be filled, and makes it if it is not there.
pub(super) fn open_to_fill(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE);
    options.custom_flags(libc::O_NOFOLLOW);
    let file = match options.open(path) {
        // An attempt that ended in the middle of sealing has left the release's own mode.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.exists() => {
            set_mode(path, PRIVATE_FILE)?;
            options.open(path).at("open", path)?
        }
        opened => opened.at("open", path)?,
    };
    #[cfg(test)]
    note(Change::MakeFile(path.to_owned()));
    Ok(file)
}

/// Writes a small file so that after a crash it is there with all its bytes or is as before.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    let file = create(&new)?;
    file.write_all_at(bytes, 0).at("write", &new)?;
    #[cfg(test)]
    note(Change::Write(new.clone(), 0, bytes.to_vec()));
    sync(&file, &new)?;
    rename(&new, path)?;
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
    #[cfg(test)]
    note(Change::Write(path.to_owned(), offset, bytes.to_vec()));
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
pub(super) fn copy_all(from: &mut File, to: &mut File, path: &Path) -> Result<(), StoreError> {
    if share_blocks(from, to, path) {
        return Ok(());
    }
    // The standard library uses copy_file_range, and reads and writes where that is not possible.
    io::copy(from, to).at("copy to", path)?;
    #[cfg(test)]
    note(Change::Write(path.to_owned(), 0, fs::read(path).unwrap_or_default()));
    Ok(())
}

/// Gives the file `to` the blocks of `from`; `false` where the file system cannot.
pub(super) fn share_blocks(from: &File, to: &File, path: &Path) -> bool {
    if let Err(error) = rustix::fs::ioctl_ficlone(to, from) {
        tracing::trace!(path = %path.display(), %error, "no shared blocks");
        return false;
    }
    #[cfg(test)]
    note(Change::Write(path.to_owned(), 0, fs::read(path).unwrap_or_default()));
    true
}
