//! A HAProxy that nobody reads, configured by hand.

use std::fmt::Write as _;
use std::path::Path;

use crate::mesh::{Mesh, wait};

use super::Haproxy;

/// What its servers are asked for, and how often. They are named beside [`crate::mesh::Balancer::Unread`],
/// whose delay is the sum of the two, and as much again.
///
/// Clients keep their connections; those to the servers end with each answer (`http-server-close`), so
/// that one which is established is one that is needed. HAProxy would keep one to a drained server for as
/// long as the client that last used it stays.
const BACKEND: &str = "backend web\n  balance roundrobin\n  option http-server-close\n\
    \x20 option httpchk GET /ready\n  http-check expect status 200\n\
    \x20 default-server check inter 500ms fall 2 rise 1 agent-check agent-inter 200ms weight 100\n";

impl Haproxy {
    /// Puts this program before all services of a mesh with agents, and waits until it sends to each.
    pub fn unread(program: &Path, mesh: &Mesh) -> Self {
        let mut haproxy = Self::prepare(mesh.dir().join("haproxy"));
        let mut text = std::fs::read_to_string(&haproxy.config).unwrap() + BACKEND;
        for node in &mesh.nodes {
            let (name, service) = (&node.name, node.service_port);
            let agent = node.agent_port.expect("a mesh whose agents answer");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  server {name} 127.0.0.1:{service} agent-port {agent}");
        }
        std::fs::write(&haproxy.config, text).unwrap();
        haproxy.run(program);
        haproxy.wait_until_it_sends(mesh);
        haproxy
    }

    /// Waits until it sends to every node's service.
    pub(crate) fn wait_until_it_sends(&self, mesh: &Mesh) {
        for node in &mesh.nodes {
            wait("HAProxy sends to it", || (self.state(&node.name) == "UP 100").then_some(()));
        }
    }
}
