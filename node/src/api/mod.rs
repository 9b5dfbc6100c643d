//! The local API: JSON over HTTP on a unix socket, for the command line and for scripts.
//!
//! Whoever may open the socket may operate the mesh: it is made for its owner alone (0600).

mod routes;
pub mod view;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tokio::net::UnixListener;

pub use routes::{GroupBody, Problem, SeededView};

use crate::driver::NodeHandle;

/// Why there is no API.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The socket cannot be made.
    #[error("cannot listen on the API's socket {path}: {cause}; set `api_socket`")]
    Socket {
        /// Where.
        path: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It was served, and that has ended.
    #[error("the API has ended: {0}")]
    Ended(std::io::Error),
}

/// Binds the socket, in place of one that a dead daemon has left, and answers on it while the
/// returned future is polled.
///
/// # Errors
/// See [`ApiError`].
pub fn serve(
    socket: PathBuf,
    node: NodeHandle,
) -> Result<impl Future<Output = Result<(), ApiError>>, ApiError> {
    let refused = |cause| ApiError::Socket { path: socket.display().to_string(), cause };
    // The data directory's lock is held: nobody else answers on this socket.
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&socket).map_err(refused)?;
    let owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&socket, owner)
        .map_err(|cause| ApiError::Socket { path: socket.display().to_string(), cause })?;
    let routes = routes::all(node);
    Ok(async move { axum::serve(listener, routes).await.map_err(ApiError::Ended) })
}
