use core::time::Duration;

use super::*;
use crate::artifact::header::SignedHeader;
use crate::artifact::service::{Drain, Probe, Readiness, Run};
use crate::id::Sequence;
use crate::time::UnixTime;

fn dir(path: &str) -> Entry<String> {
    Entry { path: path.into(), kind: Kind::Dir { mode: 0o755 } }
}

fn file(path: &str, bytes: &[u8]) -> Entry<String> {
    let chunks: Vec<_> = Params::SMALL.cut(bytes).map(ChunkRef::of).collect();
    Entry { path: path.into(), kind: Kind::File { mode: 0o644, size: bytes.len() as u64, chunks } }
}

fn link(path: &str, target: &str) -> Entry<String> {
    Entry { path: path.into(), kind: Kind::Symlink { target: target.into() } }
}

fn verify(entries: Vec<Entry<String>>) -> Result<Manifest, ManifestError> {
    let frame = codec::encode(&Unverified { params: Params::SMALL, service: None, entries });
    Unverified::decode(&frame)?.verify()
}

fn sample() -> Manifest {
    let service = ServiceSpec {
        run: Run {
            command: vec!["bin/web".into(), "--port=${port}".into()],
            env: [("RUST_LOG".into(), "info".into())].into(),
            stop_signal: 15,
            stop_timeout: Duration::from_secs(10),
        },
        ready: Readiness {
            probe: Probe::Http("http://127.0.0.1:${port}/ready".into()),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            deadline: Duration::from_secs(60),
        },
        drain: Drain {
            listen: Some("127.0.0.1:${port}".into()),
            timeout: Duration::from_secs(30),
            balancer_delay: Duration::from_millis(2500),
        },
    };
    let entries = vec![
        dir("bin"),
        Entry {
            path: "bin/web".into(),
            kind: Kind::File { mode: 0o755, size: 3, chunks: vec![ChunkRef::of(b"elf")] },
        },
        dir("empty"),
        file("empty-file", b""),
        link("latest", "bin/web"),
    ];
    Unverified { params: Params::SMALL, service: Some(service), entries }.verify().unwrap()
}

fn header_of(manifest: &Manifest) -> Header {
    Header {
        service: "web".parse().unwrap(),
        version: "1.2.3".parse().unwrap(),
        sequence: Sequence(7),
        expires: Some(UnixTime(1_900_000_000)),
        manifest: manifest.to_frame().unwrap().1,
        size_bytes: manifest.size_bytes(),
        files: manifest.files(),
    }
}

/// The bytes of a golden file: hexadecimal digits, in lines.
fn golden(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap()
}

// What was signed and stored by an older baton must be read, byte for byte, by every later one.
#[test]
fn the_forms_on_disk_and_wire_are_the_same_for_ever() {
    let manifest = sample();
    let header = header_of(&manifest);
    let (frame, _) = manifest.to_frame().unwrap();
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let golden_frame = golden(include_str!("../../../golden/manifest.hex"));
    assert_eq!(hex(&frame), hex(&golden_frame));
    let golden_header = golden(include_str!("../../../golden/header.hex"));
    assert_eq!(hex(&codec::encode(&header)), hex(&golden_header));
    let signed = SignedHeader { bytes: golden_header, signatures: Vec::new() };
    assert_eq!(signed.header(), Ok(header.clone()));
    assert_eq!(Manifest::of_header(&header, &golden_frame), Ok(manifest));
}

#[test]
fn a_manifest_that_is_not_the_headers_is_refused() {
    let manifest = sample();
    let header = header_of(&manifest);
    let (mut frame, _) = manifest.to_frame().unwrap();
    assert_eq!(header.check(), Ok(()));
    assert_eq!(Manifest::of_header(&header, &frame[1..]), Err(ManifestError::OtherBytes));
    let lying = Header { size_bytes: 4, ..header.clone() };
    let refused = Manifest::of_header(&lying, &frame);
    assert!(matches!(refused, Err(ManifestError::OtherSizes { header_bytes: 4, bytes: 3, .. })));
    *frame.last_mut().unwrap() ^= 1;
    assert_eq!(Manifest::of_header(&header, &frame), Err(ManifestError::OtherBytes));
    frame.push(0);
    assert_eq!(Manifest::of_header(&header, &frame), Err(ManifestError::OtherBytes));
}

#[test]
fn a_header_that_asks_for_too_much_is_refused() {
    let header = header_of(&sample());
    let with = |manifest| Header { manifest, ..header.clone() }.check().is_err();
    let piece = header.manifest[0];
    assert!(with(vec![]));
    assert!(with(vec![piece; MANIFEST_PIECES_MAX + 1]));
    assert!(with(vec![ChunkRef { len: 0, ..piece }]));
    assert!(with(vec![ChunkRef { len: 300 * 1024, ..piece }]));
    assert!(with(vec![ChunkRef { len: 256 * 1024, ..piece }; 513]));
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    for path in ["/etc/passwd", "../x", "a/../../x", ""] {
        assert!(matches!(verify(vec![file(path, b"x")]), Err(ManifestError::Path(_))), "{path}");
    }
}

#[test]
fn doubles_disorder_and_case_clashes_are_refused() {
    let doubled = verify(vec![file("a", b"1"), file("a", b"2")]);
    assert_eq!(doubled, Err(ManifestError::Order("a".parse().unwrap())));
    assert!(matches!(verify(vec![dir("b"), dir("a")]), Err(ManifestError::Order(_))));
    let clash = verify(vec![file("Readme", b""), file("readme", b"")]);
    assert!(matches!(clash, Err(ManifestError::CaseClash(..))));
    let dirs = verify(vec![dir("A"), file("A/x", b""), dir("a"), file("a/y", b"")]);
    assert!(matches!(dirs, Err(ManifestError::CaseClash(..))));
}

#[test]
fn a_parent_must_be_a_directory_of_the_tree() {
    for parent in [file("a", b""), link("a", "b"), dir("b")] {
        let mut entries = vec![parent, file("a/x", b"")];
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(matches!(verify(entries), Err(ManifestError::Parent(..))));
    }
    assert!(verify(vec![dir("a"), file("a-b", b""), file("a/x", b"")]).is_ok());
}

#[test]
fn set_user_id_is_refused() {
    let entry = Entry { path: "su".into(), kind: Kind::Dir { mode: 0o4755 } };
    assert!(matches!(verify(vec![entry]), Err(ManifestError::Mode { mode: 0o4755, .. })));
}

#[test]
fn sizes_must_add_up() {
    let with = |size, chunks| {
        verify(vec![Entry { path: "f".into(), kind: Kind::File { mode: 0o644, size, chunks } }])
    };
    let chunk = ChunkRef::of(b"abc");
    assert!(with(6, vec![chunk, chunk]).is_ok());
    assert!(matches!(with(7, vec![chunk, chunk]), Err(ManifestError::Size { .. })));
    assert!(matches!(with(1, vec![]), Err(ManifestError::Size { .. })));
    let long = |len| ChunkRef { len, ..chunk };
    assert!(matches!(with(0, vec![long(0)]), Err(ManifestError::ChunkLen { len: 0, .. })));
    let over = CHUNK_BYTES_MAX as u32 + 1;
    assert!(matches!(with(over.into(), vec![long(over)]), Err(ManifestError::ChunkLen { .. })));
    assert!(matches!(with(7, vec![chunk, long(4)]), Err(ManifestError::ChunkLenDiffers(_))));
}

#[test]
fn links_inside_the_tree_are_taken() {
    let entries = vec![
        dir("a"),
        link("a/self", "."),
        link("a/top", ".."),
        link("a/up", "../b/./c"),
        link("dangling", "nowhere/../a"),
    ];
    assert!(verify(entries).is_ok());
}

#[test]
fn links_that_lead_out_are_refused() {
    for target in ["..", "a/../..", "../../etc/passwd", "./.."] {
        let refused = verify(vec![dir("a"), link("l", target)]);
        assert!(matches!(refused, Err(ManifestError::LinkOutside { .. })), "{target}");
    }
    for target in ["", "/etc", "a\0b", &"x/".repeat(2000)] {
        let refused = verify(vec![link("l", target)]);
        assert!(matches!(refused, Err(ManifestError::LinkTarget { .. })), "{target}");
    }
}

// By its letters "a/b/up/.." is inside; the kernel goes from "a/b/up" to the top, and then out.
#[test]
fn links_that_lead_out_together_are_refused() {
    let entries = vec![dir("a"), dir("a/b"), link("a/b/up", "../.."), link("l", "a/b/up/..")];
    assert!(
        matches!(verify(entries), Err(ManifestError::LinkOutside { path, .. }) if path.as_str() == "l")
    );
}

#[test]
fn links_without_end_are_refused() {
    let refused = verify(vec![link("a", "b"), link("b", "a")]);
    assert!(matches!(refused, Err(ManifestError::LinkLoop { .. })));
    let knot = |i: usize| link(&format!("k{i:02}"), &format!("k{:02}/", i + 1).repeat(200));
    let refused = verify((0..39).map(knot).collect());
    assert!(matches!(refused, Err(ManifestError::LinkLoop { .. })));
}

#[test]
fn a_chunk_is_listed_once_where_it_first_occurs() {
    let manifest = verify(vec![file("a", b"1"), file("b", b"2"), file("c", b"1")]).unwrap();
    assert_eq!(manifest.unique_chunks(), [ChunkRef::of(b"1"), ChunkRef::of(b"2")]);
    assert_eq!(manifest.chunk_indexes().get(&ChunkRef::of(b"2").hash), Some(&1));
}

#[test]
fn pieces_and_places_cover_the_whole() {
    let manifest = verify(vec![file("a", b"1"), file("b", b"2"), file("c", b"1")]).unwrap();
    let place = |entry| Place { entry, offset: 0 };
    assert_eq!(manifest.places(), [vec![place(0), place(2)], vec![place(1)]]);
    let frame = manifest.encode();
    assert_eq!(Manifest::decode(&frame).as_ref(), Ok(&manifest));
    let noise: Vec<u8> = (0..400_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let mut end = 0;
    for (piece, range) in Manifest::pieces(&noise) {
        assert_eq!(range.start, end);
        assert!(piece.matches(&noise[range.clone()]) && range.len() <= 256 * 1024);
        end = range.end;
    }
    assert_eq!(end, noise.len());
}

proptest::proptest! {
    #[test]
    fn damaged_manifests_are_read_or_refused(at: usize, byte: u8, cut: usize) {
        let mut frame = sample().encode();
        let at = at % frame.len();
        frame[at] = byte;
        let _ = Manifest::decode(&frame);
        let _ = Manifest::decode(&frame[..cut % frame.len()]);
    }
}
