//! The connections of a node, and how far each is trusted.
//!
//! A peer that cannot prove its membership gets nothing and is told nothing.

use std::collections::BTreeMap;

use crate::fleet::Fleet;
use crate::id::{MeshId, NodeId};
use crate::limits::NODES_MAX;
use crate::trust::certificate::Certificate;
use crate::trust::chain;

/// Connections that a node keeps, as all members have one to the leader. More are hung up on.
const SESSIONS_MAX: usize = NODES_MAX;

/// How far a connection is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not shown its proof.
    Unproven,
    /// Its proof is good, and the roster as it is here does not have it.
    Candidate(Certificate),
    /// It is a member.
    Member,
}

/// The open connections.
#[derive(Debug, Default)]
pub struct Sessions {
    open: BTreeMap<NodeId, Standing>,
}

/// Why a connection is ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The proof does not hold.
    #[error("its proof of membership does not hold: {0}")]
    Proof(String),
    /// It was removed.
    #[error("it was removed from the mesh")]
    Removed,
    /// Too many connections.
    #[error("too many connections")]
    Full,
}

impl Sessions {
    /// A connection was opened.
    ///
    /// # Errors
    /// There are too many.
    pub fn open(&mut self, node: NodeId) -> Result<(), Denied> {
        if self.open.len() >= SESSIONS_MAX {
            return Err(Denied::Full);
        }
        self.open.insert(node, Standing::Unproven);
        Ok(())
    }

    /// A connection was closed.
    pub fn close(&mut self, node: NodeId) {
        self.open.remove(&node);
    }

    /// How far the connection to `node` is trusted; `None` where there is none.
    pub fn standing(&self, node: NodeId) -> Option<&Standing> {
        self.open.get(&node)
    }

    /// Whether `node` is a connected member.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.standing(node) == Some(&Standing::Member)
    }

    /// The connected members.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        self.open.iter().filter(|(_, it)| **it == Standing::Member).map(|(node, _)| *node)
    }

    /// Takes a proof. A node that is in no mesh's roster yet, its own being empty, believes every
    /// good proof: it has nothing else to go by.
    ///
    /// # Errors
    /// The proof does not hold.
    pub fn prove(
        &mut self,
        mesh: MeshId,
        fleet: &Fleet,
        node: NodeId,
        certificate: &Certificate,
    ) -> Result<Standing, Denied> {
        // A member's own certificate, byte for byte, was verified when the log admitted it.
        let admitted = fleet.members().get(&node).is_some_and(|it| it.certificate == *certificate);
        if !admitted {
            chain::verify(mesh, certificate).map_err(|error| Denied::Proof(error.to_string()))?;
        }
        if certificate.node != node {
            return Err(Denied::Proof("it is another node's".to_owned()));
        }
        if fleet.removed().contains_key(&node) {
            return Err(Denied::Removed);
        }
        let known = fleet.members().is_empty() || fleet.members().contains_key(&node);
        let standing =
            if known { Standing::Member } else { Standing::Candidate(certificate.clone()) };
        self.open.insert(node, standing.clone());
        Ok(standing)
    }

    /// Follows the roster: who became a member, and who is one no more. Who was believed while there
    /// was no roster has to be in it by the time that it has `me`.
    pub fn follow(&mut self, me: NodeId, fleet: &Fleet) -> Vec<(NodeId, Standing)> {
        let mut changed = Vec::new();
        for (node, standing) in &mut self.open {
            let member = fleet.members().contains_key(node);
            let believed = *standing == Standing::Member && fleet.members().contains_key(&me);
            if member && matches!(standing, Standing::Candidate(_)) {
                *standing = Standing::Member;
                changed.push((*node, standing.clone()));
            } else if fleet.removed().contains_key(node) || (believed && !member) {
                *standing = Standing::Unproven;
                changed.push((*node, standing.clone()));
            }
        }
        changed
    }
}
