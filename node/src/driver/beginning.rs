//! How a node begins: as the founder of a mesh, once, or with what its disk has.

use std::path::Path;

use baton_protocol::fleet::group::Ports;
use baton_protocol::id::KeyId;
use baton_protocol::limits::LOG_TAIL_ENTRIES;
use baton_protocol::membership::Address;
use baton_protocol::peer::{Config as PeerConfig, Peer};
use baton_protocol::swarm::Pace;

use super::identity::Identity;
use super::{RunError, clock, disk, identity};
use crate::config::{Config, GroupConfig};
use crate::keys::{self, KeyFile};
use crate::net::NetHandle;

/// A node that has begun.
pub(super) struct Begun {
    pub(super) peer: Peer,
    /// Whether it founds its mesh now, which is to be kept with its first batch.
    pub(super) founds: bool,
}

pub(super) fn begin(
    config: &Config,
    identity: &Identity,
    net: &NetHandle,
    disk: &disk::Disk,
) -> Result<Begun, RunError> {
    let founds = founds(&config.data_dir, identity, disk.stored.is_empty())?;
    let peer_config = peer_config(config, identity, net)?;
    let (now, wall) = (clock::now(), clock::wall());
    let publisher = keys::load(&config.data_dir, KeyFile::Publisher)?.filter(|_| founds);
    let peer = match &publisher {
        Some(publisher) => {
            let name = identity.mesh.name.clone();
            Peer::found(peer_config, now, wall, name, KeyId(publisher.public()))?
        }
        None => Peer::start(peer_config, now, wall, &disk.stored)?,
    };
    Ok(Begun { peer, founds: publisher.is_some() })
}

/// Whether the node is to found its mesh. One that has done so and has no state any more would found a
/// second log of the same mesh, and move services by it beside the first.
fn founds(data_dir: &Path, identity: &Identity, is_empty: bool) -> Result<bool, RunError> {
    let has_root = keys::load(data_dir, KeyFile::Root)?.is_some();
    if !has_root || !identity.mesh.bootstrap.is_empty() {
        return Ok(false);
    }
    match (is_empty, keys::has_founded(data_dir)?) {
        (true, true) => Err(RunError::StateGone(data_dir.to_owned())),
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        // Ended between its first batch and the mark.
        (false, false) => {
            keys::mark_founded(data_dir)?;
            Ok(false)
        }
    }
}

fn peer_config(
    config: &Config,
    identity: &Identity,
    net: &NetHandle,
) -> Result<PeerConfig, RunError> {
    let parse = |text: &String| text.parse::<Address>().ok();
    let known = identity.mesh.bootstrap.iter().chain(&config.bootstrap);
    let bootstrap: Vec<_> = known.filter_map(parse).collect();
    let bound = net.listen_addresses().first().copied().unwrap_or(config.listen);
    let seed = keys::random()?;
    let seed = seed.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(PeerConfig {
        node: identity.node,
        mesh: identity.mesh.mesh,
        certificate: identity.mesh.certificate.clone(),
        name: config.name.clone(),
        zone: config.zone.clone(),
        addresses: identity::addresses(config, bound, &bootstrap),
        bootstrap,
        groups: config.groups.iter().map(|(name, it)| (name.clone(), ports(config, it))).collect(),
        watches: config.balancer.backends.keys().cloned().collect(),
        seed,
        log_tail: LOG_TAIL_ENTRIES,
        pace: Pace::default(),
    })
}

/// What a balancer is to know of a group's service. Its port is known by the variable of that name.
fn ports(config: &Config, group: &GroupConfig) -> Ports {
    Ports {
        service: group.vars.get("port").and_then(|port| port.parse().ok()),
        agent_check: config.agent_check.map(|address| address.port()),
    }
}
