//! What a log comes to, by the real fleet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::command::{Command, Decision, Proof};
use baton_protocol::fleet::permit::{PermitKind, PermitPhase};
use baton_protocol::id::{Incarnation, LogIndex, Nonce, PermitId};

use crate::founding::{Setting, founded, node, say};
use crate::state::{Bounds, HOLDERS, Held, Mistake, Place, Said};

/// The model.
pub(crate) struct Grants {
    pub(crate) bounds: Bounds,
    pub(crate) mistake: Option<Mistake>,
    pub(crate) founded: Fleet,
    pub(crate) setting: Setting,
    /// What logs come to.
    pub(crate) known: Mutex<HashMap<Vec<Said>, Arc<[Held; HOLDERS]>>>,
}

impl Grants {
    pub(crate) fn new(bounds: Bounds, mistake: Option<Mistake>) -> Self {
        let (founded, setting) = founded();
        Self { bounds, mistake, founded, setting, known: Mutex::default() }
    }

    pub(crate) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// The holders' permits after this log, by the real fleet.
    pub(crate) fn held(&self, log: &[Said]) -> Arc<[Held; HOLDERS]> {
        if let Some(known) = self.known.lock().unwrap().get(log) {
            return Arc::clone(known);
        }
        let mut fleet = self.founded.clone();
        for said in log {
            self.tell(&mut fleet, *said);
        }
        let held = core::array::from_fn(|holder| {
            let permit = fleet.permit_of(node(holder))?;
            let begun = match permit.phase {
                PermitPhase::Granted => None,
                PermitPhase::Begun { incarnation, nonce } => {
                    Some((incarnation.0 as u8, nonce.0 as u8))
                }
            };
            let place = permit.id.granted_at.0 - self.founded.applied().0 - 1;
            Some((u8::try_from(place).unwrap(), begun))
        });
        let held = Arc::new(held);
        self.known.lock().unwrap().insert(log.to_vec(), Arc::clone(&held));
        held
    }

    pub(crate) fn tell(&self, fleet: &mut Fleet, said: Said) {
        let id = |place: Place| PermitId {
            granted_at: LogIndex(self.founded.applied().0 + 1 + u64::from(place)),
            ordinal: 0,
        };
        let life = |life: u8| Incarnation(u64::from(life));
        let (by, command) = match said {
            Said::Nothing => return,
            Said::Grant { to } => {
                let grants = [(node(to), PermitKind::Restart)].into();
                (0, Command::Decide(Decision { grants, ..self.setting.decision(fleet) }))
            }
            Said::Begin { by, permit, life: at, nonce } => {
                let (permit, incarnation) = (id(permit), life(at));
                (by, Command::Begin { permit, incarnation, nonce: Nonce(u64::from(nonce)) })
            }
            Said::Ready { by, permit, life: at } => {
                let (permit, incarnation) = (id(permit), life(at));
                let Setting { release, rollout, .. } = self.setting;
                let proof = Proof::Ready { release, rollout };
                (by, Command::Close { permit, incarnation, proof })
            }
            Said::NeverBegan { by, permit, life: at } => {
                let (permit, incarnation) = (id(permit), life(at));
                (by, Command::Close { permit, incarnation, proof: Proof::NeverBegan })
            }
            Said::Serves { by, permit, life: at, begun } => {
                let (permit, incarnation) = (id(permit), life(at));
                let release = self.setting.release;
                let proof = Proof::Serves { release, begun: Nonce(u64::from(begun)) };
                (by, Command::Close { permit, incarnation, proof })
            }
            Said::Live { by, life: at } => (by, Command::Live { incarnation: life(at) }),
            Said::Override { permit, begun } => {
                let (reason, person) = (String::new(), String::new());
                let begun = begun.map(|(at, nonce)| PermitPhase::Begun {
                    incarnation: life(at),
                    nonce: Nonce(u64::from(nonce)),
                });
                let (permit, phase) = (id(permit), begun.unwrap_or(PermitPhase::Granted));
                (0, Command::Override { permit, phase, fenced: false, reason, person })
            }
        };
        say(fleet, by, command); // refused or not, as the fleet has it
    }

    /// Whether this entry comes to anything after that log. One that is refused might as well come later.
    pub(crate) fn changes(&self, log: &[Said], said: Said) -> bool {
        let longer = [log, &[said]].concat();
        let new_life = matches!(said, Said::Live { .. }) && !log.contains(&said);
        new_life || self.held(&longer) != self.held(log)
    }
}
