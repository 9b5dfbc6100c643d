//! `baton nodes`: the members.

use baton_node::api::view::NodeView;
use baton_protocol::id::{GroupName, NodeName};
use serde_json::{Value, json};

use crate::cli::{Shared, person};
use crate::exit::{Exit, Outcome};
use crate::output::{dash_or, done, or_dash, show, table, yes};

/// The members, or a change of them.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Take a node out of the mesh, for good. Its name is free again; the use of its token is not, and
    /// an open permit of it counts until it is overridden.
    Remove {
        /// Which node.
        node: NodeName,
    },
    /// Take a node that is long ill out of a group's count, or put it back.
    Quarantine {
        /// Which node.
        node: NodeName,
        /// In which group.
        #[arg(short, long)]
        group: GroupName,
        /// Put it back.
        #[arg(long)]
        end: bool,
    },
}

/// Lists, removes or quarantines.
pub async fn run(shared: &Shared, arguments: Arguments) -> Outcome {
    let client = shared.client();
    match arguments.command {
        None => {
            let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
            show(shared.output, &nodes, |nodes| in_rows(nodes));
        }
        Some(Command::Remove { node }) => {
            let body = json!({"person": person()});
            let _: Value = client.delete(&format!("/v1/nodes/{node}"), &body).await?;
            done(shared.output, json!({"removed": node}), &format!("removed {node}"));
        }
        Some(Command::Quarantine { node, group, end }) => {
            let body = json!({"group": group, "on": !end, "person": person()});
            let _: Value = client.post(&format!("/v1/nodes/{node}/quarantine"), &body).await?;
            let word = if end { "counts again in" } else { "is out of the count of" };
            let told = json!({"node": node, "group": group, "quarantined": !end});
            done(shared.output, told, &format!("{node} {word} {group}"));
        }
    }
    Ok(Exit::Done)
}

fn in_rows(nodes: &[NodeView]) -> String {
    let row = |node: &NodeView| {
        vec![
            node.name.clone(),
            node.role.clone(),
            or_dash(node.zone.as_ref()),
            yes(node.votes),
            yes(node.connected),
            dash_or(&node.quarantined_in),
            node.addresses.join(" "),
            node.id.chars().take(10).collect(),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    let head = ["NODE", "ROLE", "ZONE", "VOTES", "CONNECTED", "QUARANTINED IN", "ADDRESSES", "ID"];
    table(&head, &rows)
}
