//! How a release's own programs are found, and the small fixed environment that they get.

use std::path::{Path, PathBuf};

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A relative program is one of the release's own files; a bare name that it does not have is left
/// to the search path.
pub(super) fn resolve(tree: &Path, program: &str) -> PathBuf {
    let own = tree.join(program);
    if program.contains('/') || own.is_file() { own } else { program.into() }
}

/// What every program gets. The daemon's own environment is none of a release's business.
pub(super) fn environment() -> [(String, String); 2] {
    [("PATH", SEARCH_PATH), ("LANG", "C.UTF-8")].map(|(name, value)| (name.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_releases_own_files_come_first() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("server"), "").unwrap();
        assert_eq!(resolve(tree.path(), "server"), tree.path().join("server"));
        assert_eq!(resolve(tree.path(), "bin/x"), tree.path().join("bin/x"));
        assert_eq!(resolve(tree.path(), "/bin/sh"), PathBuf::from("/bin/sh"));
        assert_eq!(resolve(tree.path(), "python3"), PathBuf::from("python3"));
    }
}
