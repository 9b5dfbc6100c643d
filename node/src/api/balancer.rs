//! What the mesh knows for a load balancer's configuration.

use baton_protocol::agent::balancer::Sight;
use baton_protocol::artifact::service::Probe;
use baton_protocol::fleet::group::Ports;
use baton_protocol::fleet::roster::Member;
use baton_protocol::id::GroupName;
use baton_protocol::peer::Peer;
use baton_protocol::time::Instant;
use serde::{Deserialize, Serialize};

/// A group, as a balancer in front of it is to know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BalancerView {
    /// Which group.
    pub group: String,
    /// What its service is asked for by HTTP to see whether it is ready, where this node has a release
    /// of it that says so.
    pub check_path: Option<String>,
    /// Whether this node reads a balancer in front of the group.
    pub read_here: bool,
    /// Whether any node reads a balancer in front of it.
    #[serde(default)]
    pub watched: bool,
    /// Its members.
    pub servers: Vec<BalancerServer>,
}

/// A member, as a balancer is to know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BalancerServer {
    /// What it is called: as a server, too.
    pub name: String,
    /// Name or address of its host.
    pub host: Option<String>,
    /// Where the service answers.
    pub port: Option<u16>,
    /// Where the agent-check is answered.
    pub agent_port: Option<u16>,
    /// How the balancer beside this node has it.
    pub state: Option<String>,
}

/// A group; `None` where there is none of that name.
pub fn balancer(peer: &Peer, now: Instant, name: &GroupName) -> Option<BalancerView> {
    let fleet = peer.fleet();
    let group = fleet.groups().get(name)?;
    let sight = peer.agent().report(now).balancers.remove(name).map(|look| look.sight);
    let members = group.members.iter();
    let members = members.filter_map(|(node, it)| Some((fleet.members().get(node)?, it.ports)));
    let mut servers: Vec<_> =
        members.map(|(member, ports)| server(member, ports, sight.as_ref())).collect();
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    let spec = group.installable().and_then(|release| peer.agent().library().service(release));
    Some(BalancerView {
        group: name.to_string(),
        check_path: spec.and_then(|spec| path_of(&spec.ready.probe)),
        watched: !group.watchers.is_empty(),
        read_here: group.watchers.contains(&peer.id()),
        servers,
    })
}

fn server(member: &Member, ports: Ports, sight: Option<&Sight>) -> BalancerServer {
    let host = member.addresses.first().and_then(|it| it.as_str().rsplit_once(':'));
    let seen = match sight {
        Some(Sight::Seen(servers)) => servers.get(&member.name),
        _ => None,
    };
    BalancerServer {
        name: member.name.to_string(),
        host: host.map(|(host, _)| host.to_owned()),
        port: ports.service,
        agent_port: ports.agent_check,
        state: seen.map(|server| server.state.clone()),
    }
}

fn path_of(probe: &Probe) -> Option<String> {
    let Probe::Http(url) = probe else { return None };
    let (_, path) = url.strip_prefix("http://")?.split_once('/')?;
    Some(format!("/{path}"))
}
