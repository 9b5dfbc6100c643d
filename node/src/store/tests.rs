use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use baton_protocol::artifact::header::SignedHeader;
use baton_protocol::artifact::manifest::ManifestError;
use tempfile::TempDir;

use super::*;

/// Bytes without repetition that are the same in every run.
pub(super) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

pub(super) fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) fn write(dir: &Path, path: &str, bytes: &[u8], mode: u32) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A tree with one of everything.
fn sample(dir: &Path) {
    write(dir, "bin/web", &noise(900_000, 1), 0o755);
    write(dir, "bin/copy", &noise(900_000, 1), 0o640);
    write(dir, "big", &noise(5_000_000, 2), 0o444);
    write(dir, "empty-file", b"", 0o600);
    write(dir, "zeros", &vec![0; 3_000_000], 0o644);
    fs::create_dir_all(dir.join("empty/dir")).unwrap();
    fs::set_permissions(dir.join("empty"), fs::Permissions::from_mode(0o555)).unwrap();
    symlink("bin/web", dir.join("latest")).unwrap();
}

/// Every path below `dir`, with its kind, mode and contents.
pub(super) fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for path in entries(dir).unwrap() {
        let metadata = path.symlink_metadata().unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if metadata.is_symlink() {
            lines.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            continue;
        }
        let mode = metadata.mode() & 0o7777;
        if metadata.is_dir() {
            lines.push(format!("{name}/ {mode:o}"));
            lines.extend(listing(&path).into_iter().map(|line| format!("{name}/{line}")));
            continue;
        }
        let hash = blake3::hash(&fs::read(&path).unwrap());
        lines.push(format!("{name} {mode:o} {} {hash}", metadata.len()));
    }
    lines
}

fn request(source: &Path, version: &str, sequence: u64) -> PackRequest {
    PackRequest {
        source: source.to_owned(),
        service: Some("web".parse().unwrap()),
        version: version.parse().unwrap(),
        sequence: Sequence(sequence),
        expires: None,
        known: Vec::new(),
    }
}

pub(super) fn pack(store: &Store, source: &Path, version: &str, sequence: u64) -> Packed {
    store.pack(&request(source, version, sequence), &|_| {}).unwrap()
}

/// Fetches the manifest of a release from one store into another, and prepares it there.
fn announce(from: &Store, to: &Store, signed: &SignedHeader) -> Prepared {
    let id = signed.id();
    let Begun::Partial { pieces } = to.begin(signed).unwrap() else { panic!("is staged") };
    for index in (0..pieces.len()).filter(|index| !pieces.contains(*index)) {
        let piece = from.read_manifest_piece(id, index).unwrap();
        to.write_manifest_piece(id, index, &piece).unwrap();
    }
    to.prepare(id).unwrap()
}

fn missing(prepared: &Prepared) -> Vec<u32> {
    (0..prepared.present.len()).filter(|index| !prepared.present.contains(*index)).collect()
}

fn fetch(from: &Store, to: &Store, id: ReleaseId, chunks: &[u32]) {
    for &index in chunks {
        to.write_chunk(id, index, &from.read_chunk(id, index).unwrap()).unwrap();
    }
}

pub(super) fn spread(from: &Store, to: &Store, signed: &SignedHeader) -> Prepared {
    let prepared = announce(from, to, signed);
    fetch(from, to, signed.id(), &missing(&prepared));
    to.seal(signed.id()).unwrap();
    prepared
}

/// The path of the release's file in the staging directory of a store.
fn staging(data: &TempDir, id: ReleaseId) -> PathBuf {
    data.path().join("staging").join(id.to_string())
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let mode = path.metadata().unwrap().permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

#[test]
fn a_tree_arrives_as_it_left() {
    let (source, a, b) = (temp(), temp(), temp());
    sample(source.path());
    let (from, to) = (Store::open(a.path()).unwrap(), Store::open(b.path()).unwrap());
    let packed = pack(&from, source.path(), "1", 1);
    assert_eq!(listing(&from.tree(packed.id).unwrap()), listing(source.path()));
    let prepared = spread(&from, &to, &packed.signed);
    assert_eq!((prepared.reused_bytes, prepared.resumed_bytes), (0, 0));
    assert_eq!(listing(&to.tree(packed.id).unwrap()), listing(source.path()));
    assert_eq!(to.begin(&packed.signed).unwrap(), Begun::Staged);
    // The same after a restart, and served on.
    drop(to);
    let to = Store::open(b.path()).unwrap();
    assert_eq!(to.list(), from.list());
    assert_eq!(to.read_chunk(packed.id, 3).unwrap(), from.read_chunk(packed.id, 3).unwrap());
    assert!(to.partials().unwrap().is_empty());
    assert_eq!(to.manifest(packed.id).unwrap(), packed.manifest);
}

#[test]
fn zeros_take_no_room() {
    let (source, a) = (temp(), temp());
    write(source.path(), "zeros", &vec![0; 8_000_000], 0o644);
    let store = Store::open(a.path()).unwrap();
    let packed = pack(&store, source.path(), "1", 1);
    let blocks = store.tree(packed.id).unwrap().join("zeros").metadata().unwrap().blocks();
    assert!(blocks * 512 < 100_000, "{blocks} blocks");
}

#[test]
fn what_is_served_is_the_copy_and_not_the_source() {
    let (source, a) = (temp(), temp());
    sample(source.path());
    let store = Store::open(a.path()).unwrap();
    let packed = pack(&store, source.path(), "1", 1);
    fs::remove_dir_all(source.path().join("bin")).unwrap();
    assert_eq!(store.scrub(packed.id).unwrap(), [0; 0]);
}

#[test]
fn only_what_changed_travels() {
    let (source, a, b) = (temp(), temp(), temp());
    sample(source.path());
    let (from, to) = (Store::open(a.path()).unwrap(), Store::open(b.path()).unwrap());
    let first = pack(&from, source.path(), "1", 1);
    spread(&from, &to, &first.signed);
    let mut big = noise(5_000_000, 2);
    big.splice(2_000_000..2_000_000, *b"a few bytes more");
    write(source.path(), "moved/big", &big, 0o644);
    fs::remove_file(source.path().join("big")).unwrap();
    let second = pack(&from, source.path(), "2", 2);
    let prepared = announce(&from, &to, &second.signed);
    let lacking = missing(&prepared);
    assert!((1..=3).contains(&lacking.len()), "{lacking:?}");
    assert!(second.new_bytes > 0 && second.new_bytes < 600_000);
    let distinct: u64 = second.manifest.unique_chunks().iter().map(|c| u64::from(c.len)).sum();
    assert_eq!(prepared.reused_bytes, distinct - second.new_bytes);
    fetch(&from, &to, second.id, &lacking);
    to.seal(second.id).unwrap();
    assert_eq!(listing(&to.tree(second.id).unwrap()), listing(source.path()));
}

#[test]
fn rot_in_an_older_release_is_not_taken_over() {
    let (source, a, b) = (temp(), temp(), temp());
    write(source.path(), "f", &noise(2_000_000, 5), 0o644);
    let (from, to) = (Store::open(a.path()).unwrap(), Store::open(b.path()).unwrap());
    let first = pack(&from, source.path(), "1", 1);
    spread(&from, &to, &first.signed);
    overwrite(&to.tree(first.id).unwrap().join("f"), 0, b"rot");
    write(source.path(), "g", b"new", 0o644);
    let second = pack(&from, source.path(), "2", 2);
    let prepared = announce(&from, &to, &second.signed);
    assert_eq!(missing(&prepared).len(), 2);
    fetch(&from, &to, second.id, &missing(&prepared));
    to.seal(second.id).unwrap();
    assert_eq!(to.scrub(second.id).unwrap(), [0; 0]);
}

#[test]
fn after_a_crash_exactly_the_good_chunks_are_found() {
    let (source, a, b) = (temp(), temp(), temp());
    write(source.path(), "f", &noise(3_000_000, 6), 0o644);
    write(source.path(), "g", &noise(1_000_000, 7), 0o644);
    let from = Store::open(a.path()).unwrap();
    let packed = pack(&from, source.path(), "1", 1);
    let to = Store::open(b.path()).unwrap();
    let all = missing(&announce(&from, &to, &packed.signed));
    let (some, rest) = all.split_at(all.len() / 2);
    fetch(&from, &to, packed.id, some);
    drop(to);
    // What a power cut may leave: a block of garbage in a chunk, and a file that lost its end.
    let tree = staging(&b, packed.id).join("tree");
    overwrite(&tree.join("f"), 100, b"garbage");
    OpenOptions::new().write(true).open(tree.join("g")).unwrap().set_len(10).unwrap();
    let to = Store::open(b.path()).unwrap();
    assert_eq!(to.partials().unwrap(), [packed.id]);
    let prepared = announce(&from, &to, &packed.signed);
    let expected: Vec<u32> = [some[0]].into_iter().chain(rest.iter().copied()).collect();
    assert_eq!(missing(&prepared), expected);
    assert!(prepared.resumed_bytes > 0 && prepared.reused_bytes == 0);
    let refused = to.seal(packed.id).unwrap_err();
    assert!(
        matches!(refused, StoreError::NotWhole { missing, .. } if missing as usize == expected.len())
    );
    fetch(&from, &to, packed.id, &expected);
    to.seal(packed.id).unwrap();
    assert_eq!(listing(&to.tree(packed.id).unwrap()), listing(source.path()));
}

// The modes and links of a release are there already, and shut what must be opened again.
#[test]
fn a_seal_that_was_cut_off_can_be_done_again() {
    let (source, a, b) = (temp(), temp(), temp());
    sample(source.path());
    let from = Store::open(a.path()).unwrap();
    let packed = pack(&from, source.path(), "1", 1);
    spread(&from, &Store::open(b.path()).unwrap(), &packed.signed);
    let staged = b.path().join("releases/web").join(packed.id.to_string());
    fs::rename(staged, staging(&b, packed.id)).unwrap();
    let to = Store::open(b.path()).unwrap();
    assert!(!to.is_staged(packed.id));
    let prepared = announce(&from, &to, &packed.signed);
    assert!(prepared.present.is_full());
    to.seal(packed.id).unwrap();
    assert_eq!(listing(&to.tree(packed.id).unwrap()), listing(source.path()));
}

#[test]
fn bytes_that_fail_their_hash_are_not_written() {
    let (source, a, b) = (temp(), temp(), temp());
    sample(source.path());
    let (from, to) = (Store::open(a.path()).unwrap(), Store::open(b.path()).unwrap());
    let packed = pack(&from, source.path(), "1", 1);
    let id = packed.id;
    to.begin(&packed.signed).unwrap();
    let wrong = to.write_manifest_piece(id, 0, b"wrong").unwrap_err();
    assert!(matches!(wrong, StoreError::WrongBytes { index: 0, .. }));
    assert!(matches!(to.prepare(id), Err(StoreError::NoManifest(_))));
    announce(&from, &to, &packed.signed);
    let mut bytes = from.read_chunk(id, 0).unwrap();
    bytes[0] ^= 1;
    assert!(matches!(to.write_chunk(id, 0, &bytes), Err(StoreError::WrongBytes { .. })));
    assert!(matches!(to.read_chunk(id, 0), Err(StoreError::NoChunk { .. })));
    assert!(matches!(to.write_chunk(id, u32::MAX, &bytes), Err(StoreError::NoChunk { .. })));
}

#[test]
fn a_chunk_that_has_rotted_is_not_served_and_can_be_healed() {
    let (source, a) = (temp(), temp());
    write(source.path(), "f", &noise(1_000_000, 8), 0o444);
    let store = Store::open(a.path()).unwrap();
    let packed = pack(&store, source.path(), "1", 1);
    let good = store.read_chunk(packed.id, 0).unwrap();
    overwrite(&store.tree(packed.id).unwrap().join("f"), 5, b"rot");
    assert!(matches!(store.read_chunk(packed.id, 0), Err(StoreError::Rot { offset: 0, .. })));
    assert_eq!(store.scrub(packed.id).unwrap(), [0]);
    store.heal_chunk(packed.id, 0, &good).unwrap();
    assert_eq!(store.scrub(packed.id).unwrap(), [0; 0]);
    assert_eq!(listing(&store.tree(packed.id).unwrap()), listing(source.path()));
}

#[test]
fn a_partly_filled_release_is_served_on() {
    let (source, a, b) = (temp(), temp(), temp());
    write(source.path(), "f", &noise(1_000_000, 9), 0o644);
    let (from, to) = (Store::open(a.path()).unwrap(), Store::open(b.path()).unwrap());
    let packed = pack(&from, source.path(), "1", 1);
    announce(&from, &to, &packed.signed);
    fetch(&from, &to, packed.id, &[1]);
    assert_eq!(to.read_chunk(packed.id, 1).unwrap(), from.read_chunk(packed.id, 1).unwrap());
    assert!(matches!(to.read_chunk(packed.id, 0), Err(StoreError::NoChunk { .. })));
    let piece = from.read_manifest_piece(packed.id, 0).unwrap();
    assert_eq!(to.read_manifest_piece(packed.id, 0).unwrap(), piece);
}

#[test]
fn what_cannot_be_a_release_is_refused_and_leaves_nothing() {
    let data = temp();
    let store = Store::open(data.path()).unwrap();
    let refused = |make: &dyn Fn(&Path)| {
        let source = temp();
        write(source.path(), "f", b"x", 0o644);
        make(source.path());
        let error = store.pack(&request(source.path(), "1", 1), &|_| {}).unwrap_err();
        match error {
            StoreError::Source { cause, .. } => cause,
            other => panic!("{other}"),
        }
    };
    let outside = refused(&|dir| symlink("../../etc/passwd", dir.join("l")).unwrap());
    assert!(matches!(outside, SourceError::Tree(ManifestError::LinkOutside { .. })));
    let absolute = refused(&|dir| symlink("/etc/passwd", dir.join("l")).unwrap());
    assert!(matches!(absolute, SourceError::Tree(ManifestError::LinkTarget { .. })));
    let socket = refused(&|dir| drop(UnixListener::bind(dir.join("s")).unwrap()));
    assert!(matches!(socket, SourceError::Special("socket")));
    let clash = refused(&|dir| write(dir, "F", b"", 0o644));
    assert!(matches!(clash, SourceError::Tree(ManifestError::CaseClash(..))));
    let empty = refused(&|dir| fs::remove_file(dir.join("f")).unwrap());
    assert!(matches!(empty, SourceError::Empty));
    let spec = refused(&|dir| write(dir, "baton.toml", b"servce = 'x'", 0o644));
    assert!(matches!(&spec, SourceError::Spec(error) if error.to_string().contains("\"service\"")));
    let file = store.pack(&request(&data.path().join("store.lock"), "1", 1), &|_| {});
    assert!(matches!(file, Err(StoreError::Source { cause: SourceError::NotADirectory, .. })));
    let own = store.pack(&request(data.path(), "1", 1), &|_| {});
    assert!(matches!(own, Err(StoreError::Source { cause: SourceError::HoldsStore, .. })));
    assert!(store.pack(&request(Path::new("/nowhere"), "1", 1), &|_| {}).is_err());
    assert!(store.list().is_empty());
    assert_eq!(fs::read_dir(data.path().join("staging")).unwrap().count(), 0);
}

#[test]
fn a_version_is_one_release_for_ever() {
    let (source, a) = (temp(), temp());
    write(source.path(), "baton.toml", b"service = 'api'", 0o644);
    write(source.path(), "su", b"x", 0o4755);
    let store = Store::open(a.path()).unwrap();
    let request = |version, sequence| PackRequest {
        service: None,
        ..request(source.path(), version, sequence)
    };
    let first = store.pack(&request("1", 1), &|_| {}).unwrap();
    assert_eq!(first.header.service.as_str(), "api");
    assert_eq!(first.dropped_bits.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["su"]);
    let again = store.pack(&request("1", 2), &|_| {}).unwrap();
    assert_eq!((again.was_staged, again.id), (true, first.id));
    write(source.path(), "su", b"y", 0o755);
    let taken = store.pack(&request("1", 2), &|_| {}).unwrap_err();
    assert!(matches!(taken, StoreError::Source { cause: SourceError::VersionTaken { .. }, .. }));
    assert_eq!(store.list().len(), 1);
}

#[test]
fn a_version_that_the_mesh_knows_stays_what_it_is() {
    let (source, a, b) = (temp(), temp(), temp());
    write(source.path(), "f", b"x", 0o644);
    let known = vec![pack(&Store::open(a.path()).unwrap(), source.path(), "1", 1).signed];
    // Another store, or the same one later: the release itself is not here any more.
    let store = Store::open(b.path()).unwrap();
    write(source.path(), "f", b"other", 0o644);
    let request =
        |version| PackRequest { known: known.clone(), ..request(source.path(), version, 2) };
    let refused = store.pack(&request("1"), &|_| {}).unwrap_err();
    assert!(refused.to_string().contains("other contents"), "{refused}");
    assert!(store.list().is_empty());
    assert!(store.pack(&request("2"), &|_| {}).is_ok());
    write(source.path(), "f", b"x", 0o644);
    let again = store.pack(&request("1"), &|_| {}).unwrap();
    assert_eq!((again.id, again.was_staged), (known[0].id(), false));
}

#[test]
fn current_moves_only_to_what_is_staged_and_pins_it() {
    let (source, a) = (temp(), temp());
    let store = Store::open(a.path()).unwrap();
    let group: baton_protocol::id::GroupName = "web".parse().unwrap();
    assert_eq!(store.current(&group).unwrap(), None);
    let ids: Vec<_> = (1..=3u8)
        .map(|n| {
            write(source.path(), "f", &[n], 0o644);
            pack(&store, source.path(), &n.to_string(), n.into()).id
        })
        .collect();
    store.set_current(&group, ids[0]).unwrap();
    let nowhere = ReleaseId([9; 32]);
    assert!(matches!(store.set_current(&group, nowhere), Err(StoreError::Unknown(_))));
    assert_eq!(store.current(&group).unwrap(), Some(ids[0]));
    assert_eq!(fs::read(a.path().join("current/web/f")).unwrap(), [1]);
    store.set_current(&group, ids[1]).unwrap();
    assert_eq!(fs::read(a.path().join("current/web/f")).unwrap(), [2]);
    store.retain(&ids.iter().copied().collect()).unwrap();
    let gone: BTreeSet<_> = store.retain(&[ids[2]].into()).unwrap().into_iter().collect();
    assert_eq!(gone, [ids[0]].into());
    assert!(store.read_chunk(ids[0], 0).is_err());
    drop(store);
    let store = Store::open(a.path()).unwrap();
    let left: BTreeSet<_> = store.list().into_iter().map(|staged| staged.id).collect();
    assert_eq!(left, [ids[1], ids[2]].into());
}

#[test]
fn a_partial_release_that_nobody_wants_is_removed_and_can_be_begun_again() {
    let (source, a, b) = (temp(), temp(), temp());
    sample(source.path());
    let (from, to) = (Store::open(a.path()).unwrap(), Store::open(b.path()).unwrap());
    let packed = pack(&from, source.path(), "1", 1);
    announce(&from, &to, &packed.signed);
    fetch(&from, &to, packed.id, &[0, 1]);
    let half = staging(&b, packed.id);
    assert!(to.retain(&[packed.id].into()).unwrap().is_empty() && half.exists());
    assert_eq!(to.retain(&BTreeSet::new()).unwrap(), [packed.id]);
    assert!(!half.exists());
    // What an earlier run has begun goes as well.
    announce(&from, &to, &packed.signed);
    drop(to);
    let to = Store::open(b.path()).unwrap();
    assert_eq!(to.retain(&BTreeSet::new()).unwrap(), [packed.id]);
    assert!(!half.exists());
    assert_eq!(spread(&from, &to, &packed.signed).resumed_bytes, 0);
}

#[test]
fn what_was_just_packed_stays_until_it_was_asked_to_be_kept() {
    let (source, a) = (temp(), temp());
    let store = Store::open(a.path()).unwrap();
    write(source.path(), "f", b"x", 0o644);
    let packed = pack(&store, source.path(), "1", 1).id;
    assert_eq!(store.retain(&BTreeSet::new()).unwrap(), [], "said before anybody heard of it");
    assert!(store.is_staged(packed));
    assert_eq!(store.retain(&[packed].into()).unwrap(), []);
    assert_eq!(store.retain(&BTreeSet::new()).unwrap(), [packed]);
}

#[test]
fn two_processes_cannot_have_one_store() {
    let data = temp();
    let _store = Store::open(data.path()).unwrap();
    assert!(matches!(Store::open(data.path()), Err(StoreError::InUse(_))));
}

#[test]
fn signatures_are_kept() {
    use baton_protocol::artifact::header::Signature;
    use baton_protocol::id::KeyId;
    let (source, a) = (temp(), temp());
    write(source.path(), "f", b"x", 0o644);
    let store = Store::open(a.path()).unwrap();
    let packed = pack(&store, source.path(), "1", 1);
    let signatures = vec![(KeyId([1; 32]), Signature(vec![2; 64]))];
    let signed = store.set_signatures(packed.id, signatures.clone()).unwrap();
    assert_eq!((signed.id(), signed.signatures.clone()), (packed.id, signatures));
    drop(store);
    assert_eq!(Store::open(a.path()).unwrap().header(packed.id).unwrap(), signed);
}
