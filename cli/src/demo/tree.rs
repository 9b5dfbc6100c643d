//! The trees that become version 1 and version 2.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::service::VERSION_FILE;

/// Files of the tree that is made, by size: 1,000 files and some 66 MiB, most files small and most
/// bytes in large ones, as in what people release.
const FILES: [(usize, usize); 3] = [(900, 16 << 10), (90, 256 << 10), (10, 3 << 20)];

/// Files in a directory of the tree that is made.
const FILES_PER_DIRECTORY: usize = 50;

/// One file in so many is another in version 2: its middle half, and so a few percent of all bytes.
const CHANGED_ONE_IN: usize = 20;

/// Bytes by which a changed file grows, so that all behind the change moves.
const GROWTH_BYTES: usize = 100;

/// Most bytes that are changed in one file, however large it is.
const CHANGED_BYTES_MAX: usize = 16 << 20;

/// Bytes of the largest file that is asked for by the requests, and how many files are.
const ASKED_BYTES_MAX: u64 = 64 << 10;
const ASKED_FILES_MAX: usize = 200;

/// What a version's `baton.toml` is made of.
pub struct Definition<'a> {
    /// This program.
    pub program: &'a Path,
    /// How long the balancer may take to learn of a drain, in milliseconds.
    pub balancer_delay_ms: u64,
    /// Whether it never gets ready.
    pub bad: bool,
}

impl Definition<'_> {
    /// The text of the `baton.toml`.
    pub fn text(&self) -> String {
        let program = toml::Value::String(self.program.display().to_string());
        let bad = if self.bad { ", \"--bad\"" } else { "" };
        format!(
            "service = \"demo\"\n\n[run]\n\
             command = [{program}, \"demo-service\", \"--listen\", \"127.0.0.1:${{port}}\"{bad}]\n\n\
             [ready]\nhttp = \"http://127.0.0.1:${{port}}/ready\"\n\
             interval = \"100ms\"\ndeadline = \"10s\"\n\n\
             [drain]\nlisten = \"127.0.0.1:${{port}}\"\ntimeout = \"10s\"\n\
             balancer_delay = \"{}ms\"\n",
            self.balancer_delay_ms
        )
    }

    /// Makes `tree` the version: adds its name and its definition.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write(&self, tree: &Path, version: &str) -> io::Result<()> {
        fs::write(tree.join(VERSION_FILE), format!("{version}\n"))?;
        fs::write(tree.join("baton.toml"), self.text())
    }
}

/// Makes a tree of pseudo-random files, the same each time.
///
/// # Errors
/// When the files cannot be written.
pub fn make(tree: &Path) -> io::Result<()> {
    let sizes = FILES.iter().flat_map(|(count, bytes)| std::iter::repeat_n(*bytes, *count));
    let mut random = blake3::Hasher::new().update(b"baton demo").finalize_xof();
    let mut bytes = Vec::new();
    for (n, size) in sizes.enumerate() {
        let directory = tree.join(format!("part{:02}", n / FILES_PER_DIRECTORY));
        if n % FILES_PER_DIRECTORY == 0 {
            fs::create_dir_all(&directory)?;
        }
        bytes.resize(size, 0);
        random.fill(&mut bytes);
        fs::write(directory.join(format!("file{n:04}")), &bytes)?;
    }
    Ok(())
}

/// Copies a tree: directories, files with their modes, and links as links. Sockets and devices are
/// left out.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(entry.path().read_link()?, to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// The plain files of a tree with their sizes, in the order of their paths.
///
/// # Errors
/// When a directory cannot be read.
pub fn files(tree: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let known = entry.metadata()?;
            if known.is_dir() {
                directories.push(entry.path());
            } else if known.is_file() {
                found.push((entry.path(), known.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Changes a few files of a tree, so that what lies behind the change moves.
///
/// # Errors
/// When a file cannot be read or written.
pub fn change(tree: &Path) -> io::Result<()> {
    let mut random = blake3::Hasher::new().update(b"baton demo, version 2").finalize_xof();
    for (path, _) in files(tree)?.iter().step_by(CHANGED_ONE_IN) {
        let bytes = fs::read(path)?;
        let (before, rest) = bytes.split_at(bytes.len() / 4);
        let changed = (bytes.len() / 2).min(CHANGED_BYTES_MAX);
        let mut new = vec![0; changed + GROWTH_BYTES];
        random.fill(&mut new);
        let mut file = fs::File::create(path)?;
        file.write_all(before)?;
        file.write_all(&new)?;
        file.write_all(rest.get(changed..).unwrap_or_default())?;
    }
    Ok(())
}

/// The request paths of small files of a tree, for the clients to ask for.
///
/// # Errors
/// When a directory cannot be read.
pub fn asked(tree: &Path) -> io::Result<Vec<String>> {
    let all = files(tree)?;
    let small = all.iter().filter(|(_, bytes)| *bytes <= ASKED_BYTES_MAX);
    let plain =
        |path: &str| path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    let inside = small.filter_map(|(path, _)| path.strip_prefix(tree).ok()?.to_str());
    let paths = inside.filter(|path| plain(path)).map(|path| format!("/{path}"));
    Ok(paths.take(ASKED_FILES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("btn-tree-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn the_made_tree_is_large_enough_and_its_copy_differs_a_little() {
        let dir = place("made");
        let (one, two) = (dir.join("v1"), dir.join("v2"));
        make(&one).unwrap();
        copy(&one, &two).unwrap();
        change(&two).unwrap();
        let (before, after) = (files(&one).unwrap(), files(&two).unwrap());
        assert!(before.len() >= 1000 && before.len() == after.len());
        assert!(before.iter().map(|(_, bytes)| bytes).sum::<u64>() >= 64 << 20);
        let same = |(a, b): &(&(PathBuf, u64), &(PathBuf, u64))| {
            fs::read(&a.0).unwrap() == fs::read(&b.0).unwrap()
        };
        let changed = before.iter().zip(&after).filter(|pair| !same(pair)).count();
        assert!((40..=60).contains(&changed), "{changed} files changed");
        assert!(asked(&one).unwrap().len() >= 100);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn links_and_modes_survive_a_copy() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = place("copy");
        let (from, to) = (dir.join("a"), dir.join("b"));
        fs::create_dir_all(from.join("x")).unwrap();
        fs::write(from.join("x/run"), "#!").unwrap();
        fs::set_permissions(from.join("x/run"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("x/run", from.join("link")).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(to.join("link").read_link().unwrap(), Path::new("x/run"));
        assert_eq!(fs::metadata(to.join("x/run")).unwrap().permissions().mode() & 0o777, 0o755);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_definition_is_one_that_baton_reads() {
        for bad in [false, true] {
            let definition = Definition {
                program: Path::new("/opt/a \"b\"/baton"),
                balancer_delay_ms: 900,
                bad,
            };
            let read = baton_protocol::artifact::service::parse(&definition.text()).unwrap();
            let command = read.spec.unwrap().run.command;
            assert_eq!(command.first().unwrap(), "/opt/a \"b\"/baton");
            assert_eq!(command.contains(&"--bad".to_owned()), bad);
        }
    }
}
