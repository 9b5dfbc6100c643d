//! What a node keeps of the releases on its disk.

use std::sync::Arc;

use super::holder::signed;
use crate::agent::brief::Brief;
use crate::agent::library::{Contents, StoreCommand, StoreEvent};
use crate::agent::{Agent, Input, Output};
use crate::id::Incarnation;
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::Instant;

/// Were it told of them one after the other, a daemon that learns in between what is needed would let
/// the last go before it was named, and take it for staged ever after.
#[test]
fn what_is_found_staged_is_on_the_disk_still_when_it_is_taken_for_staged() {
    let mut agent = Agent::new(Incarnation(1), [].into(), Rng::new(1));
    let contents = Contents { chunks: Arc::new([]), service: None };
    let staged = [5, 4, 3, 2, 6].map(|sequence| (signed(sequence), contents.clone())).to_vec();
    agent.handle(Instant::ZERO, Input::Store(StoreEvent::Found { staged }));
    let brief = Brief { life: Some(Incarnation(1)), ..Brief::default() };
    agent.handle(Instant::ZERO, Input::Brief(Box::new(brief)));
    let mut kept = Vec::new();
    while let Some(output) = agent.poll_output() {
        if let Output::Store(StoreCommand::Retain { keep }) = output {
            kept.push(keep);
        }
    }
    assert!(!kept.is_empty(), "there is more than it needs");
    let believed = agent.report(Instant::ZERO).staged;
    assert!(believed.contains(&signed(6).id()));
    assert!(kept.iter().all(|keep| believed.iter().all(|id| keep.contains(id))), "{kept:?}");
}
