//! A group's backend in HAProxy's words.

use baton_node::api::balancer::{BalancerServer, BalancerView};

/// The backend `name` with the group's servers.
///
/// Where no node reads HAProxy, a drain goes by the connections that the service has, and HAProxy would keep
/// one of them for as long as the client that last used it stays: those to servers end with each answer.
///
/// A weight of 100 is what the agent's percentages are of. An agent that cannot be reached is no error
/// to HAProxy, and so there is a check of the service as well.
///
/// # Errors
/// A member does not say where its service is.
pub fn text(name: &str, view: &BalancerView, check_path: Option<&str>) -> Result<String, String> {
    let mut lines = vec![format!("backend {name}"), "    balance roundrobin".to_owned()];
    if let Some(path) = check_path {
        lines.push(format!("    option httpchk GET {path}"));
        lines.push("    http-check expect status 200".to_owned());
    }
    if !view.watched {
        lines.push("    # no node of the mesh reads this HAProxy".to_owned());
        lines.push("    option http-server-close".to_owned());
    }
    lines.push(
        "    default-server weight 100 inter 1s fall 3 rise 2 agent-inter 1s init-addr last,libc,none"
            .to_owned(),
    );
    for server in &view.servers {
        lines.push(line(server, &view.group)?);
    }
    Ok(lines.join("\n") + "\n")
}

fn line(server: &BalancerServer, group: &str) -> Result<String, String> {
    let name = &server.name;
    let host = server.host.as_ref().ok_or_else(|| format!("{name} says no address of its own"))?;
    let port = server.port.ok_or_else(|| {
        format!(
            "{name} does not say where its service answers: give it a variable `port` in its config \
             ([groups.{group}], vars = {{ port = \"8080\" }})"
        )
    })?;
    let agent = server
        .agent_port
        .map(|agent| format!(" agent-check agent-port {agent} agent-send \"{group}\\n\""));
    Ok(format!("    server {name} {host}:{port} check{}", agent.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(port: Option<u16>, agent_port: Option<u16>) -> BalancerView {
        let (name, host) = ("web1".to_owned(), Some("10.0.0.1".to_owned()));
        let servers = vec![BalancerServer { name, host, port, agent_port, state: None }];
        let group = "web".to_owned();
        BalancerView { group, check_path: None, read_here: true, watched: true, servers }
    }

    #[test]
    fn each_member_is_a_server_with_a_check_and_its_agent() {
        let text = text("shop", &view(Some(8080), Some(7401)), Some("/ready")).unwrap();
        assert!(text.starts_with("backend shop\n"), "{text}");
        assert!(text.contains("option httpchk GET /ready\n"), "{text}");
        let line = "    server web1 10.0.0.1:8080 check agent-check agent-port 7401 agent-send \"web\\n\"\n";
        assert!(text.ends_with(line), "{text}");
    }

    #[test]
    fn only_before_a_balancer_that_nobody_reads_connections_to_servers_are_not_kept() {
        let option = "    option http-server-close\n";
        let watched = view(Some(8080), Some(7401));
        let unread = BalancerView { watched: false, ..watched.clone() };
        assert!(!text("web", &watched, None).unwrap().contains(option));
        assert!(text("web", &unread, None).unwrap().contains(option));
    }

    #[test]
    fn a_member_without_an_agent_is_only_checked_and_one_without_a_port_is_named() {
        let text_of = |port, agent| text("web", &view(port, agent), None);
        assert!(text_of(Some(80), None).unwrap().ends_with("server web1 10.0.0.1:80 check\n"));
        assert!(text_of(None, None).unwrap_err().starts_with("web1 does not say where"));
    }
}
