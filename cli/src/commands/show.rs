//! Commands that only look.

use baton_node::api::view::{AuditView, PermitView, ReleaseView, Status};

use baton_protocol::id::GroupName;

use crate::cli::Shared;
use crate::commands::group::groups_table;
use crate::exit::{Exit, Outcome};
use crate::output::{bytes, or_dash, show, table, yes};

/// Which lines.
#[derive(Debug, clap::Args)]
pub struct LogArguments {
    /// Of which group's service, on this node.
    #[arg(short, long)]
    group: GroupName,
    /// How many of the last lines.
    #[arg(short = 'n', long, default_value_t = 50)]
    lines: u32,
}

/// `baton status`.
pub async fn status(shared: &Shared) -> Outcome {
    let status: Status = shared.client().get("/v1/status").await?;
    show(shared.output, &status, in_words);
    Ok(Exit::Done)
}

fn in_words(it: &Status) -> String {
    let leader = it.leader.as_deref().unwrap_or("nobody: no permit can be granted");
    format!(
        "mesh     {}\nnode     {}\nmembers  {}, {} connected\nleader   {leader}\n\
         voters   {} ({})\n{}\n{}",
        or_dash(it.mesh.as_ref()),
        it.node.as_deref().unwrap_or("not a member yet"),
        it.members,
        it.connected,
        it.voters.join(", "),
        to_spare(it),
        there_twice(it),
        groups_table(&it.groups)
    )
}

/// How many voters may fail, and what it costs where none may: two servers without a witness, say.
fn to_spare(it: &Status) -> String {
    match it.voters_to_spare {
        0 => format!(
            "none may fail: while {} is down, nothing can be deployed or rolled back; add a node, or a \
             witness on a third machine: baton join --witness",
            it.voters.join(" or ")
        ),
        some => format!("any {some} may fail"),
    }
}

/// The leader knows of nodes that were cloned.
fn there_twice(it: &Status) -> String {
    match it.there_twice.as_deref().unwrap_or_default() {
        [] => String::new(),
        names => format!(
            "twice    {}: from a cloned or restored disk; no permit before one of the two is stopped\n",
            names.join(", ")
        ),
    }
}

/// `baton releases`.
pub async fn releases(shared: &Shared) -> Outcome {
    let releases: Vec<ReleaseView> = shared.client().get("/v1/releases").await?;
    show(shared.output, &releases, |releases| {
        let row = |it: &ReleaseView| {
            vec![
                it.service.clone(),
                it.version.clone(),
                it.sequence.to_string(),
                bytes(it.size_bytes),
                it.files.to_string(),
                yes(it.staged_here),
                yes(it.registered),
                it.id.chars().take(10).collect(),
            ]
        };
        let rows: Vec<_> = releases.iter().map(row).collect();
        let head =
            ["SERVICE", "VERSION", "SEQUENCE", "SIZE", "FILES", "STAGED HERE", "REGISTERED", "ID"];
        table(&head, &rows)
    });
    Ok(Exit::Done)
}

/// `baton permits`.
pub async fn permits(shared: &Shared) -> Outcome {
    let permits: Vec<PermitView> = shared.client().get("/v1/permits").await?;
    show(shared.output, &permits, |permits| {
        let row = |it: &PermitView| {
            vec![
                it.id.clone(),
                it.node.clone(),
                it.group.clone(),
                it.version.clone(),
                it.kind.clone(),
                yes(it.begun),
                or_dash(it.failure.as_ref()),
            ]
        };
        let rows: Vec<_> = permits.iter().map(row).collect();
        table(&["PERMIT", "NODE", "GROUP", "VERSION", "KIND", "BEGUN", "FAILURE"], &rows)
    });
    Ok(Exit::Done)
}

/// `baton logs`.
pub async fn logs(shared: &Shared, arguments: LogArguments) -> Outcome {
    let path = format!("/v1/logs/{}?lines={}", arguments.group, arguments.lines);
    let lines: Vec<String> = shared.client().get(&path).await?;
    show(shared.output, &lines, |lines| lines.join("\n"));
    Ok(Exit::Done)
}

/// `baton audit`.
pub async fn audit(shared: &Shared) -> Outcome {
    let entries: Vec<AuditView> = shared.client().get("/v1/audit").await?;
    show(shared.output, &entries, |entries| {
        let row = |it: &AuditView| {
            let refused = it.refused.as_ref().map(|why| format!(" (refused: {why})"));
            vec![
                it.index.to_string(),
                it.at.to_string(),
                it.node.clone(),
                or_dash(it.person.as_ref()),
                format!("{}{}", it.what, refused.unwrap_or_default()),
            ]
        };
        let rows: Vec<_> = entries.iter().map(row).collect();
        table(&["ENTRY", "UNIX TIME", "NODE", "PERSON", "WHAT"], &rows)
    });
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_servers_without_a_witness_cost_is_said() {
        let status = serde_json::json!({
            "mesh": "acme", "id": "x", "node": "web1", "members": 2, "connected": 2, "leader": "web1",
            "voters": ["web1"], "voters_to_spare": 0, "applied": 9,
            "groups": [{
                "name": "web", "service": null, "version": null, "counted": 1, "members": 2,
                "quarantined": ["web2"], "max_unavailable": "1", "limit": 1, "obstacle": null,
                "permits": 0, "rollout": null, "watchers": [],
            }],
        });
        let said = in_words(&serde_json::from_value(status).unwrap());
        assert!(said.contains("while web1 is down") && said.contains("--witness"), "{said}");
        assert!(said.contains("QUARANTINED") && said.contains("web2"), "{said}");
    }
}
