use std::collections::BTreeSet;
use std::ops::Range;

use baton_protocol::id::{GroupName, ReleaseId};
use tempfile::TempDir;

use super::*;
use crate::store::tests::{listing, noise, pack, spread, temp, write};
use crate::store::{Packed, Store};

/// What must hold after a power cut between two changes.
struct Promise {
    /// Numbers of changes done.
    during: Range<usize>,
    what: Promised,
}

enum Promised {
    Staged(ReleaseId),
    Current(ReleaseId),
}

fn group() -> GroupName {
    "web".parse().unwrap()
}

/// A tree with one of everything, as small as a power cut at each of its writes can be afforded.
fn sample(dir: &Path, seed: u64) {
    write(dir, "bin/web", &noise(200_000, seed), 0o755);
    write(dir, "bin/copy", &noise(200_000, seed), 0o640);
    write(dir, "same", &noise(100_000, 7), 0o444);
    write(dir, "zeros", &[0; 100_000], 0o644);
    write(dir, "empty-file", b"", 0o600);
    fs::create_dir_all(dir.join("empty/dir")).unwrap();
    fs::set_permissions(dir.join("empty"), Permissions::from_mode(0o555)).unwrap();
    let _ = symlink("bin/web", dir.join("latest"));
}

/// In memory where there is such a place: a cut is as good there, and sooner made.
fn place() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| temp())
}

/// Asserts that what a power cut has left is a store that promises nothing that it has not, keeps
/// what was promised, and gets the rest.
fn check(left: &Path, from: &Store, releases: &[&Packed], promised: &[&Promised]) {
    let store = Store::open(left).unwrap();
    for staged in store.list() {
        let whole = listing(&from.tree(staged.id).unwrap());
        assert_eq!(listing(&store.tree(staged.id).unwrap()), whole, "{} is staged", staged.version);
    }
    let current = store.current(&group()).unwrap();
    assert!(current.is_none_or(|release| store.is_staged(release)), "`current` points at nothing");
    for promised in promised {
        match promised {
            Promised::Staged(release) => assert!(store.is_staged(*release), "was staged"),
            Promised::Current(release) => assert_eq!(current, Some(*release)),
        }
    }
    for release in releases.iter().filter(|release| !store.is_staged(release.id)) {
        spread(from, &store, &release.signed);
        let whole = listing(&from.tree(release.id).unwrap());
        assert_eq!(listing(&store.tree(release.id).unwrap()), whole);
    }
}

fn check_every_cut(root: &Path, from: &Store, releases: &[&Packed], promises: &[Promise]) {
    let mut disk = Disk::new(root);
    let changes = recorded(root);
    for (after, change) in (1..).zip(changes) {
        let what = format!("{:.120}", format!("{change:?}"));
        disk.apply(change);
        let holds = promises.iter().filter(|promise| promise.during.contains(&after));
        let holds: Vec<_> = holds.map(|promise| &promise.what).collect();
        for loss in [Loss::Nothing, Loss::Everything, Loss::Bytes, Loss::Chance(after as u64)] {
            println!("cut after change {after}, {what}; lost: {loss:?}");
            let left = place();
            disk.cut(left.path(), loss);
            check(left.path(), from, releases, &holds);
        }
    }
}

#[test]
fn a_power_cut_at_any_write_leaves_no_release_staged_that_is_not_whole() {
    let (source, a, b) = (temp(), temp(), temp());
    let from = Store::open(a.path()).unwrap();
    sample(source.path(), 1);
    let first = pack(&from, source.path(), "1", 1);
    sample(source.path(), 2);
    let second = pack(&from, source.path(), "2", 2);

    let root = b.path().canonicalize().unwrap();
    record(&root);
    let so_far = || recorded(&root).len();
    let to = Store::open(&root).unwrap();
    spread(&from, &to, &first.signed);
    let first_staged = so_far();
    to.set_current(&group(), first.id).unwrap();
    let first_current = so_far();
    spread(&from, &to, &second.signed);
    let second_staged = so_far();
    to.set_current(&group(), second.id).unwrap();
    let switched = so_far();
    to.retain(&BTreeSet::from([second.id])).unwrap();
    let end = so_far() + 1;

    let promise = |during, what| Promise { during, what };
    let promises = [
        promise(first_staged..switched + 1, Promised::Staged(first.id)),
        promise(first_current..second_staged + 1, Promised::Current(first.id)),
        promise(second_staged..end, Promised::Staged(second.id)),
        promise(switched..end, Promised::Current(second.id)),
    ];
    check_every_cut(&root, &from, &[&first, &second], &promises);
}

#[test]
fn a_power_cut_while_a_directory_becomes_a_release_leaves_none_that_is_not_whole() {
    let (source, a, b) = (temp(), temp(), temp());
    let from = Store::open(a.path()).unwrap();
    sample(source.path(), 1);
    let release = pack(&from, source.path(), "1", 1);
    let root = b.path().canonicalize().unwrap();
    record(&root);
    let store = Store::open(&root).unwrap();
    pack(&store, source.path(), "1", 1);
    let staged = recorded(&root).len();
    let promises = [Promise { during: staged..staged + 1, what: Promised::Staged(release.id) }];
    check_every_cut(&root, &from, &[&release], &promises);
}

/// What the tests above rest on: nothing reaches the disk that is not recorded.
#[test]
fn all_that_the_store_changes_is_recorded() {
    let (source, a, b) = (temp(), temp(), temp());
    let from = Store::open(a.path()).unwrap();
    sample(source.path(), 1);
    let packed = pack(&from, source.path(), "1", 1);
    let root = b.path().canonicalize().unwrap();
    record(&root);
    let to = Store::open(&root).unwrap();
    spread(&from, &to, &packed.signed);
    to.set_current(&group(), packed.id).unwrap();
    let mut disk = Disk::new(&root);
    recorded(&root).into_iter().for_each(|change| disk.apply(change));
    let replayed = place();
    disk.cut(replayed.path(), Loss::Nothing);
    fs::remove_file(root.join("store.lock")).unwrap();
    assert_eq!(listing(replayed.path()), listing(&root));
}
