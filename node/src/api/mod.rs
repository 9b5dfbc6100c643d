//! The local API: JSON over HTTP on a unix socket, for the command line and for scripts.
//!
//! Whoever may open the socket may operate the mesh: it is made for its owner alone (0600).

pub mod balancer;
mod routes;
pub mod view;

use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

pub use routes::{GroupBody, Problem, SeededView};

use crate::driver::NodeHandle;
use rustix::fs::Mode;

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
    let listener = bind_for_owner(&socket).map_err(refused)?;
    let routes = routes::all(node);
    Ok(async move { axum::serve(listener, routes).await.map_err(ApiError::Ended) })
}

/// Nobody else may connect at any moment, so the socket is made with its mode: a change of mode comes
/// too late. Files that other threads make meanwhile are the owner's alone, too, which harms none.
fn bind_for_owner(socket: &Path) -> std::io::Result<UnixListener> {
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = UnixListener::bind(socket);
    rustix::process::umask(before);
    listener
}
