//! HAProxy's statistics in CSV (management guide, section 9.1): what it does for each server.

use std::collections::BTreeMap;

use baton_protocol::agent::balancer::Server;
use baton_protocol::id::NodeName;
use baton_protocol::limits::{BALANCER_SERVERS_MAX, BALANCER_STATE_BYTES_MAX};

/// Where the fields stand that are needed. Their places have only ever been added to, at the end; none
/// of these is quoted, nor stands after one that is.
struct Columns {
    name: usize,
    queued: usize,
    sessions: usize,
    status: usize,
    weight: usize,
}

impl Columns {
    fn of(head: &str) -> Option<Self> {
        let place = |field: &str| head.split(',').position(|it| it == field);
        Some(Self {
            name: place("svname")?,
            queued: place("qcur")?,
            sessions: place("scur")?,
            status: place("status")?,
            weight: place("weight")?,
        })
    }

    /// The server of one line; `None` where it is called as no node can be.
    fn server(&self, line: &str) -> Option<(NodeName, Server)> {
        let field = |place: usize| line.split(',').nth(place);
        let count = |place: usize| field(place).and_then(|text| text.parse::<u32>().ok());
        let name = field(self.name)?.parse().ok()?;
        let (status, weight) = (field(self.status)?, count(self.weight).unwrap_or_default());
        let under_way = count(self.sessions).unwrap_or_default();
        let sessions = under_way.saturating_add(count(self.queued).unwrap_or_default());
        let up = is_up(status);
        let state =
            if up && weight == 0 { format!("{status}, weight 0") } else { status.to_owned() };
        Some((name, Server { sends: up && weight > 0, sessions, state: cut(state) }))
    }
}

/// `UP`, also with checks that fail already (`UP 1/3`), and `no check` are sent to. `DOWN`, `NOLB`,
/// `DRAIN` and `MAINT`, with whatever follows, are not; nor is what is not known here.
fn is_up(status: &str) -> bool {
    status == "no check" || status == "UP" || status.starts_with("UP ")
}

fn cut(mut state: String) -> String {
    let mut end = state.len().min(BALANCER_STATE_BYTES_MAX);
    while !state.is_char_boundary(end) {
        end -= 1;
    }
    state.truncate(end);
    state
}

/// The servers in an answer to `show stat`; else what HAProxy said instead.
pub(super) fn read(answer: &str) -> Result<BTreeMap<NodeName, Server>, String> {
    let (head, lines) = answer.split_once('\n').unwrap_or((answer, ""));
    let columns = head.strip_prefix("# ").and_then(Columns::of);
    let columns =
        columns.ok_or_else(|| format!("HAProxy says: {}", cut(head.trim().to_owned())))?;
    let servers: BTreeMap<_, _> = lines.lines().filter_map(|line| columns.server(line)).collect();
    if servers.len() > BALANCER_SERVERS_MAX {
        return Err(format!("more than {BALANCER_SERVERS_MAX} servers"));
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first fields of what HAProxy 2.6 prints.
    const HEAD: &str = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,\
                        eresp,wretr,wredis,status,weight,act,bck,";

    fn server(status: &str, weight: u32) -> Server {
        let line = format!("web,web1,1,9,2,9,,7,0,0,,0,,0,0,0,0,{status},{weight},1,0,");
        let mut servers = read(&format!("{HEAD}\n{line}\n\n")).unwrap();
        servers.remove(&"web1".parse().unwrap()).unwrap()
    }

    #[test]
    fn only_what_is_up_with_a_weight_is_sent_to() {
        for status in ["UP", "UP 1/3", "no check"] {
            assert!(server(status, 100).sends, "{status}");
            assert!(!server(status, 0).sends, "{status}");
        }
        for status in [
            "DOWN",
            "DOWN 1/3",
            "DOWN (agent)",
            "MAINT",
            "MAINT (via web/web2)",
            "MAINT (resolution)",
            "DRAIN",
            "DRAIN (agent)",
            "NOLB",
            "NOLB 1/2",
            "UPSIDE",
            "",
        ] {
            assert!(!server(status, 100).sends, "{status}");
        }
    }

    #[test]
    fn sessions_and_the_queue_are_both_under_way_and_the_state_is_its_own_word() {
        let seen = server("UP", 0);
        assert_eq!((seen.sessions, seen.state.as_str()), (3, "UP, weight 0"));
        assert_eq!(server("MAINT", 0).state, "MAINT");
        assert_eq!(server(&"x".repeat(500), 1).state.len(), BALANCER_STATE_BYTES_MAX);
    }

    #[test]
    fn what_is_no_table_or_too_large_is_said() {
        assert_eq!(read("No such proxy.\n\n"), Err("HAProxy says: No such proxy.".into()));
        assert_eq!(read(""), Err("HAProxy says: ".into()));
        assert_eq!(read(&format!("{HEAD}\n\n")), Ok(BTreeMap::new()));
        let lines: String = (0..=BALANCER_SERVERS_MAX)
            .map(|n| format!("web,s{n},0,0,0,0,,,,,,,,,,,,UP,1\n"))
            .collect();
        assert!(read(&format!("{HEAD}\n{lines}")).is_err());
    }

    #[test]
    fn a_torn_line_and_a_strange_name_are_no_servers() {
        let text = format!("{HEAD}\nweb,a b,0,0,0,0,,,,,,,,,,,,UP,1\nweb,web1,0\n,,,");
        assert_eq!(read(&text), Ok(BTreeMap::new()));
    }
}
