//! Power cuts under the store, in tests: what it changes on the disk is recorded, and replayed up to
//! every point with all that was not synced by then lost, kept or torn.
//!
//! The model is harsher than file systems are: only what was synced by its own name is safe. Of a
//! directory's entries that were not, any number of the first ones are there; a file's bytes, length
//! and mode are each there or not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::partial::locked;

mod tests;

/// One change of the disk, by path.
#[derive(Clone, Debug)]
pub(super) enum Change {
    MakeDir(PathBuf),
    MakeFile(PathBuf),
    MakeLink(PathBuf, PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    SetLen(PathBuf, u64),
    SetMode(PathBuf, u32),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// Of a file its bytes, length and mode; of a directory its entries and mode.
    Sync(PathBuf),
    SyncAll(PathBuf),
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::MakeDir(path)
            | Self::MakeFile(path)
            | Self::MakeLink(path, _)
            | Self::Write(path, ..)
            | Self::SetLen(path, _)
            | Self::SetMode(path, _)
            | Self::Rename(path, _)
            | Self::Remove(path)
            | Self::Sync(path)
            | Self::SyncAll(path) => path,
        }
    }
}

/// What is recorded, by the data directory that it is about: tests run at the same time.
static TAPES: Mutex<BTreeMap<PathBuf, Vec<Change>>> = Mutex::new(BTreeMap::new());

/// Records a change, where somebody wants to know.
pub(super) fn note(change: Change) {
    let mut tapes = locked(&TAPES);
    let tape = tapes.iter_mut().find(|(root, _)| change.path().starts_with(root));
    if let Some((_, tape)) = tape {
        tape.push(change);
    }
}

/// Records all changes below `root` from now on.
pub(super) fn record(root: &Path) {
    locked(&TAPES).insert(root.to_owned(), Vec::new());
}

/// What was recorded until now.
pub(super) fn recorded(root: &Path) -> Vec<Change> {
    locked(&TAPES).get(root).cloned().unwrap_or_default()
}

/// What becomes of that which was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// It was written in time.
    Nothing,
    /// All of it.
    Everything,
    /// The bytes are zeros; names, lengths and modes are there.
    Bytes,
    /// For each by chance, drawn from this seed.
    Chance(u64),
}

/// What becomes of one change that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    Zeroed,
    Torn,
}

impl Loss {
    fn below(&mut self, n: usize) -> usize {
        let Self::Chance(state) = self else { return 0 };
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*state >> 33).unwrap_or(0) % n
    }

    /// How many of a directory's `unsynced` changes are there, the first ones.
    fn entries(&mut self, unsynced: usize) -> usize {
        match self {
            Self::Nothing | Self::Bytes => unsynced,
            Self::Everything => 0,
            Self::Chance(_) => self.below(unsynced + 1),
        }
    }

    fn fate(&mut self, lost: &Late) -> Fate {
        match self {
            Self::Nothing => Fate::Kept,
            Self::Everything => Fate::Lost,
            Self::Bytes if matches!(lost, Late::Write(..)) => Fate::Zeroed,
            Self::Bytes => Fate::Kept,
            Self::Chance(_) => [Fate::Kept, Fate::Lost, Fate::Zeroed, Fate::Torn][self.below(4)],
        }
    }
}

/// A change of one thing on the disk that is not synced.
#[derive(Clone, Debug)]
enum Late {
    Enter(OsString, usize),
    Leave(OsString),
    Write(u64, Vec<u8>),
    SetLen(u64),
    SetMode(u32),
}

#[derive(Clone, Debug)]
enum Content {
    Dir(BTreeMap<OsString, usize>),
    File(Vec<u8>),
    Link(PathBuf),
}

/// A thing on the disk: as it is safe, and what came after.
#[derive(Clone, Debug)]
struct Inode {
    content: Content,
    mode: Option<u32>,
    late: Vec<Late>,
}

impl Inode {
    fn new(content: Content) -> Self {
        Self { content, mode: None, late: Vec::new() }
    }

    fn take(&mut self, late: Late) {
        match (late, &mut self.content) {
            (Late::Enter(name, inode), Content::Dir(entries)) => drop(entries.insert(name, inode)),
            (Late::Leave(name), Content::Dir(entries)) => drop(entries.remove(&name)),
            (Late::Write(offset, bytes), Content::File(file)) => {
                let start = usize::try_from(offset).unwrap();
                file.resize(file.len().max(start + bytes.len()), 0);
                file[start..start + bytes.len()].copy_from_slice(&bytes);
            }
            (Late::SetLen(len), Content::File(file)) => {
                file.resize(usize::try_from(len).unwrap(), 0)
            }
            (Late::SetMode(mode), _) => self.mode = Some(mode),
            (late, content) => panic!("{late:?} of {content:?}"),
        }
    }

    fn sync(&mut self) {
        for late in std::mem::take(&mut self.late) {
            self.take(late);
        }
    }

    fn now(&self) -> Self {
        let mut now = self.clone();
        now.sync();
        now
    }

    fn after(&self, loss: &mut Loss) -> Self {
        let mut left = Self { late: Vec::new(), ..self.clone() };
        if matches!(self.content, Content::Dir(_)) {
            let kept = loss.entries(self.late.len());
            self.late.iter().take(kept).for_each(|late| left.take(late.clone()));
            return left;
        }
        for late in &self.late {
            match (loss.fate(late), late.clone()) {
                (Fate::Lost, _) => {}
                (Fate::Zeroed, Late::Write(offset, bytes)) => {
                    left.take(Late::Write(offset, vec![0; bytes.len()]));
                }
                (Fate::Torn, Late::Write(offset, mut bytes)) => {
                    bytes.truncate(bytes.len() / 2);
                    left.take(Late::Write(offset, bytes));
                }
                (_, late) => left.take(late),
            }
        }
        left
    }
}

/// A disk that loses what was not synced.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// The first one is the root.
    inodes: Vec<Inode>,
}

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        let top = Inode::new(Content::Dir(BTreeMap::new()));
        Self { root: root.to_owned(), inodes: vec![top] }
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::MakeDir(path) => self.make(&path, Content::Dir(BTreeMap::new())),
            Change::MakeFile(path) => self.make(&path, Content::File(Vec::new())),
            Change::MakeLink(path, target) => self.make(&path, Content::Link(target)),
            Change::Write(path, offset, bytes) => self.later(&path, Late::Write(offset, bytes)),
            Change::SetLen(path, len) => self.later(&path, Late::SetLen(len)),
            Change::SetMode(path, mode) => self.later(&path, Late::SetMode(mode)),
            Change::Rename(from, to) => {
                let moved = self.find(&from).unwrap();
                self.later(parent(&to), Late::Enter(name(&to), moved));
                self.later(parent(&from), Late::Leave(name(&from)));
            }
            Change::Remove(path) => self.later(parent(&path), Late::Leave(name(&path))),
            Change::Sync(path) => {
                let synced = self.find(&path).unwrap();
                self.inodes[synced].sync();
            }
            Change::SyncAll(_) => self.inodes.iter_mut().for_each(Inode::sync),
        }
    }

    /// Makes in the directory `to` what is left after a power cut at this moment.
    pub(super) fn cut(&self, to: &Path, mut loss: Loss) {
        self.put(0, to, &mut loss);
    }

    fn put(&self, inode: usize, to: &Path, loss: &mut Loss) {
        let left = self.inodes[inode].after(loss);
        match &left.content {
            Content::Dir(entries) => {
                fs::create_dir_all(to).unwrap();
                for (name, inode) in entries {
                    self.put(*inode, &to.join(name), loss);
                }
            }
            Content::File(bytes) => fs::write(to, bytes).unwrap(),
            Content::Link(target) => return symlink(target, to).unwrap(),
        }
        if let Some(mode) = left.mode {
            fs::set_permissions(to, Permissions::from_mode(mode)).unwrap();
        }
    }

    fn make(&mut self, path: &Path, content: Content) {
        if self.find(path).is_none() {
            self.inodes.push(Inode::new(content));
            let made = self.inodes.len() - 1;
            self.later(parent(path), Late::Enter(name(path), made));
        }
    }

    fn later(&mut self, path: &Path, late: Late) {
        let inode = self.find(path).unwrap();
        self.inodes[inode].late.push(late);
    }

    /// What has that path now, synced or not.
    fn find(&self, path: &Path) -> Option<usize> {
        let inside = path.strip_prefix(&self.root).unwrap();
        inside.iter().try_fold(0, |dir, name| match self.inodes[dir].now().content {
            Content::Dir(entries) => entries.get(name).copied(),
            _ => None,
        })
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap()
}

fn name(path: &Path) -> OsString {
    path.file_name().unwrap().to_owned()
}
