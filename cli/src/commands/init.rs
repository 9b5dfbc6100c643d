//! `baton init`: founds a mesh.

use baton_node::STATE_FILE;
use baton_node::keys::{self, KeyFile, MeshFile};
use baton_protocol::id::{MeshId, MeshName, NodeId};
use baton_protocol::trust::{self, recovery};
use serde::Serialize;

use crate::cli::Shared;
use crate::exit::{Exit, Failed, Outcome};
use crate::output::show;

/// Founds a mesh on this machine: makes its keys, and makes this node its first voter.
///
/// Example:  baton init acme
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What the mesh is called.
    name: MeshName,
}

#[derive(Serialize)]
struct Founded {
    mesh: String,
    id: String,
    recovery_key: String,
}

/// Makes the keys and the mesh file.
pub fn run(shared: &Shared, arguments: Arguments) -> Outcome {
    let dir = &shared.data_dir;
    let node = keys::load_or_create(dir, KeyFile::Node).map_err(Failed::error)?;
    let node = NodeId(node.public());
    let root = keys::load(dir, KeyFile::Root).map_err(Failed::error)?;
    if MeshFile::load(dir, node).map_err(Failed::error)?.is_some() {
        let what = if root.is_some() { "holds a mesh" } else { "is of a node that has joined one" };
        let text = format!("{} {what} already; nothing was changed", dir.display());
        return Err(Failed::refused(text));
    }
    if dir.join(STATE_FILE).exists() || keys::has_founded(dir).map_err(Failed::error)? {
        let text = format!(
            "{} has the state of a mesh whose own file is gone; nothing was changed. Put the file \
             back, or found the mesh in another --data-dir",
            dir.display()
        );
        return Err(Failed::refused(text));
    }
    keys::load_or_create(dir, KeyFile::Publisher).map_err(Failed::error)?;
    // A key without a mesh is what an earlier attempt has left that came no further. Nobody was shown
    // its recovery key, and nothing stands on it; this one goes on with it.
    let root = match root {
        Some(root) => root,
        None => keys::create(dir, KeyFile::Root).map_err(Failed::error)?,
    };
    let secret = keys::random().map_err(Failed::error)?;
    let mesh = MeshFile {
        mesh: MeshId(root.public()),
        name: arguments.name,
        certificate: trust::founder(&root, secret, node),
        bootstrap: Vec::new(),
    };
    mesh.store(dir).map_err(Failed::error)?;
    let founded = Founded {
        mesh: mesh.name.to_string(),
        id: mesh.mesh.to_string(),
        recovery_key: recovery::to_text(&root),
    };
    show(shared.output, &founded, |it| {
        format!(
            "mesh {}. Recovery key, shown once; keep it off this machine:\n\n    {}\n\n\
             Next: start the node (baton node), open tcp/7400 between your servers,\n\
             and let others in:  baton token --uses 2\n\n\
             Two servers alone have one that decides, this one: while it is down, nothing can be\n\
             deployed or rolled back. A witness on a third machine, the balancer say, mends that:\n\
             baton join --witness TOKEN",
            it.mesh, it.recovery_key
        )
    });
    Ok(Exit::Done)
}
