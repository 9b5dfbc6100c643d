//! Who this node is, and of which mesh: from the data directory, or from a join token.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use baton_protocol::id::NodeId;
use baton_protocol::membership::Address;
use baton_protocol::trust::certificate::Role;
use baton_protocol::trust::key::SecretKey;

use crate::config::Config;
use crate::driver::RunError;
use crate::keys::{self, KeyFile, MeshFile};

/// A node's key and mesh.
pub(super) struct Identity {
    pub(super) key: SecretKey,
    pub(super) node: NodeId,
    pub(super) mesh: MeshFile,
}

/// Reads both from the data directory, or takes the token of the config and writes them.
pub(super) fn establish(config: &Config) -> Result<Identity, RunError> {
    let dir: &Path = &config.data_dir;
    let key = keys::load_or_create(dir, KeyFile::Node)?;
    let node = NodeId(key.public());
    let mesh = match MeshFile::load(dir, node)? {
        Some(mesh) => mesh,
        None => enter(config, node)?,
    };
    Ok(Identity { key, node, mesh })
}

fn enter(config: &Config, node: NodeId) -> Result<MeshFile, RunError> {
    let token = config.token.as_ref().ok_or(RunError::NoMesh)?;
    let role = if config.witness { Role::Witness } else { Role::Member };
    let certificate = token.certify(node, role).map_err(|it| RunError::Token(it.to_string()))?;
    let mesh = MeshFile {
        mesh: token.mesh,
        name: token.mesh_name.clone(),
        certificate,
        bootstrap: token.addresses.clone(),
    };
    mesh.store(&config.data_dir)?;
    Ok(mesh)
}

/// Where other nodes reach this one: what the config says, or the address that it listens on, or,
/// where that is every address, the one from which this machine reaches the others.
pub(super) fn addresses(config: &Config, bound: SocketAddr, bootstrap: &[Address]) -> Vec<Address> {
    let said: Vec<_> = config.advertise.iter().filter_map(|text| text.parse().ok()).collect();
    if !said.is_empty() {
        return said;
    }
    let ip = if bound.ip().is_unspecified() { outward(bootstrap) } else { Some(bound.ip()) };
    let ip = ip.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    SocketAddr::new(ip, bound.port()).to_string().parse().into_iter().collect()
}

/// The own address towards the others. Connecting a datagram socket sends nothing: it only asks the
/// routing table. 192.0.2.1 is of a network that is nowhere (RFC 5737).
fn outward(bootstrap: &[Address]) -> Option<IpAddr> {
    let targets = bootstrap.iter().map(Address::as_str).chain(["192.0.2.1:9"]);
    targets.into_iter().find_map(|target| {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect(target).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_unspecified()).then_some(ip)
    })
}
