//! `baton token`: lets other machines in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_node::keys::{self, KeyFile, MeshFile};
use baton_protocol::artifact::duration;
use baton_protocol::id::NodeId;
use baton_protocol::membership::Address;
use baton_protocol::time::UnixTime;
use baton_protocol::trust::certificate::Role;
use baton_protocol::trust::token::JoinToken;
use serde::Serialize;

use crate::cli::Shared;
use crate::exit::{Exit, Failed, Outcome};
use crate::output::show;

/// Makes a token with which other machines join. Only where the mesh was founded, as it takes the
/// mesh's key.
///
/// Example:  baton token --uses 2 --ttl 1h
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many machines may join with it.
    #[arg(long, default_value_t = 1)]
    uses: u32,
    /// For how long.
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,
    /// It lets in witnesses only: voters that run no service.
    #[arg(long)]
    witness: bool,
    /// Where joining machines find the mesh, as host:port; may be given more than once. Without it:
    /// where the running node says that it is reached.
    #[arg(long = "address")]
    addresses: Vec<Address>,
}

/// A duration as people write it: 500ms, 10s, 5m, 1h.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Issued {
    token: String,
}

/// Issues the token.
pub fn run(shared: &Shared, arguments: Arguments) -> Outcome {
    let dir = &shared.data_dir;
    let root = keys::load(dir, KeyFile::Root).map_err(Failed::error)?;
    let root = root.ok_or_else(|| {
        let text = "this node does not hold the mesh's key; make tokens where the mesh was founded";
        Failed::refused(format!("{text} (looked in {})", dir.display()))
    })?;
    let node = keys::load_or_create(dir, KeyFile::Node).map_err(Failed::error)?;
    let mesh = MeshFile::load(dir, NodeId(node.public())).map_err(Failed::error)?;
    let mesh = mesh.ok_or_else(|| Failed::refused("this node is in no mesh: baton init NAME"))?;
    let addresses = match arguments.addresses.is_empty() {
        true => own_addresses(shared)?,
        false => arguments.addresses.iter().map(ToString::to_string).collect(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires = UnixTime(now.saturating_add(arguments.ttl).as_secs());
    let role = if arguments.witness { Role::Witness } else { Role::Member };
    let secret = keys::random().map_err(Failed::error)?;
    let token =
        JoinToken::issue(&root, mesh.name, secret, expires, arguments.uses, role, addresses);
    show(shared.output, &Issued { token: token.to_string() }, |it| it.token.clone());
    Ok(Exit::Done)
}

/// Where the running node says that it is reached.
fn own_addresses(shared: &Shared) -> Result<Vec<String>, Failed> {
    let client = shared.client();
    let ask = async {
        let status: baton_node::api::view::Status = client.get("/v1/status").await?;
        let nodes: Vec<baton_node::api::view::NodeView> = client.get("/v1/nodes").await?;
        Ok::<_, Failed>(nodes.into_iter().find(|node| node.id == status.id))
    };
    let own = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(ask));
    match own {
        Ok(Some(own)) => Ok(own.addresses),
        Ok(None) => Err(Failed::error("the node is not up yet; try again, or say --address")),
        Err(failed) => Err(Failed::refused(format!(
            "where do others reach this machine? Say --address HOST:7400, or start the node first \
             ({})",
            failed.message
        ))),
    }
}
