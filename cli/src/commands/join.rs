//! `baton join`: takes a token, so that the node is in the mesh when it starts.

use baton_node::keys::{self, KeyFile, MeshFile};
use baton_protocol::id::NodeId;
use baton_protocol::trust::certificate::Role;
use baton_protocol::trust::token::JoinToken;
use serde::Serialize;

use crate::cli::Shared;
use crate::exit::{Exit, Failed, Outcome};
use crate::output::show;

/// Joins a mesh. The node asks to be let in when it starts; a `token` in its config does the same.
///
/// Example:  baton join btn1.k3…
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The token, from `baton token`.
    token: JoinToken,
    /// As a witness: a voter that runs no service.
    #[arg(long)]
    witness: bool,
}

#[derive(Serialize)]
struct Joined {
    mesh: String,
    node: String,
}

/// Writes the node's key and its proof.
pub fn run(shared: &Shared, arguments: Arguments) -> Outcome {
    let dir = &shared.data_dir;
    let key = keys::load_or_create(dir, KeyFile::Node).map_err(Failed::error)?;
    let node = NodeId(key.public());
    if let Some(mesh) = MeshFile::load(dir, node).map_err(Failed::error)? {
        let text = format!("this node is in mesh {} already; nothing was changed", mesh.name);
        return Err(Failed::refused(text));
    }
    let JoinToken { mesh, mesh_name, addresses, .. } = &arguments.token;
    let role = if arguments.witness { Role::Witness } else { Role::Member };
    let certificate = arguments.token.certify(node, role).map_err(Failed::refused)?;
    let file = MeshFile {
        mesh: *mesh,
        name: mesh_name.clone(),
        certificate,
        bootstrap: addresses.clone(),
    };
    file.store(dir).map_err(Failed::error)?;
    let joined = Joined { mesh: file.name.to_string(), node: node.to_string() };
    show(shared.output, &joined, |it| {
        format!("ready to join {}. Next: start the node (baton node)", it.mesh)
    });
    Ok(Exit::Done)
}
