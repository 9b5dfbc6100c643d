//! HAProxy in front of the demo's services, where it is installed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::plan::Node;

/// Where `haproxy` lies, if it does: on the path, or where distributions put it for root only.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places.into_iter().map(|place| place.join("haproxy")).find(|file| file.is_file())
}

/// The configuration: one front, and each service with a check and its node's agent-check.
///
/// Each request has a connection of its own to a server (`http-reuse never`) and one try (`retries
/// 0`), so that a service that goes without a drain would be seen as a failed request.
pub fn config(nodes: &[Node], front: u16, dir: &Path) -> String {
    let mut text = format!(
        "global\n  maxconn 500\n  nbthread 1\n  stats socket {}/haproxy.sock mode 600 level admin\n\
         defaults\n  mode http\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n\
         \x20 retries 0\n  http-reuse never\n\
         frontend front\n  bind 127.0.0.1:{front}\n  default_backend web\n\
         backend web\n  balance roundrobin\n  option httpchk GET /ready\n  http-check expect status 200\n\
         \x20 default-server check inter 500ms fall 2 rise 1 agent-check agent-inter 200ms weight 100\n",
        dir.display()
    );
    for node in nodes {
        let (name, service, agent) = (&node.name, node.service, node.agent);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  server {name} 127.0.0.1:{service} agent-port {agent}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_own_agent() {
        let (nodes, front) = super::super::plan::lay_out(Path::new("/tmp/btn-x"), 2).unwrap();
        let text = config(&nodes, front, Path::new("/tmp/btn-x"));
        for node in &nodes {
            let line = text.lines().find(|line| line.contains(&format!("server {} ", node.name)));
            let line = line.unwrap();
            assert!(line.contains(&format!(":{} ", node.service)));
            assert!(line.ends_with(&format!("agent-port {}", node.agent)));
        }
        assert!(text.contains("retries 0") && text.contains("http-reuse never"));
    }
}
