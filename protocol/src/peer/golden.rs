//! The golden forms of what a node keeps on its disk beside its log (see `consensus/tests/golden.rs`).

use std::collections::BTreeMap;

use crate::agent::journal::{Journal, Step};
use crate::codec;
use crate::disk::Key;
use crate::id::{Incarnation, LogIndex, NodeId, PermitId, ReleaseId};
use crate::membership::Address;
use crate::trust::key::SecretKey;

fn address_book() -> BTreeMap<NodeId, Vec<Address>> {
    let node = NodeId(SecretKey::from_seed([1; 32]).public());
    [(node, vec!["10.0.0.1:4001".parse().unwrap(), "n2.example:4001".parse().unwrap()])].into()
}

#[test]
fn what_a_node_keeps_has_its_form() {
    let group = "web".parse().unwrap();
    let begun = PermitId { granted_at: LogIndex(300), ordinal: 1 };
    let journal = |step| codec::encode(&Journal { installed: Some(ReleaseId([7; 32])), step });
    let values = [
        ("key HardState", codec::encode(&Key::HardState)),
        ("key Snapshot", codec::encode(&Key::Snapshot)),
        ("key Entry", codec::encode(&Key::Entry(LogIndex(300)))),
        ("key Voter", codec::encode(&Key::Voter)),
        ("key Fleet", codec::encode(&Key::Fleet)),
        ("key Journal", codec::encode(&Key::Journal(group))),
        ("key Incarnation", codec::encode(&Key::Incarnation)),
        ("key AddressBook", codec::encode(&Key::AddressBook)),
        ("Journal", journal(Step::Begun(begun))),
        ("Journal, asking", journal(Step::Asked(begun, Incarnation(300)))),
        ("Journal, empty", codec::encode(&Journal::default())),
        ("Incarnation", codec::encode(&Incarnation(300))),
        ("address book", codec::encode(&address_book())),
    ];
    crate::golden::holds("disk.txt", include_str!("../../golden/disk.txt"), &values);
}
