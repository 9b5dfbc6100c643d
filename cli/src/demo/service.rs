//! `baton demo-service`: the service that the demo rolls out. It serves the files of its release.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Bytes of a file that is served: a demo has no need to stream.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The file that says which version a tree is.
pub const VERSION_FILE: &str = "VERSION";

/// What `baton demo-service` is told.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Never gets ready
    #[arg(long)]
    bad: bool,
}

#[derive(Clone)]
struct Tree {
    root: Arc<PathBuf>,
    version: Arc<str>,
    bad: bool,
}

/// Serves the working directory until SIGTERM, and then ends what runs.
pub async fn run(args: Args) -> ExitCode {
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-service: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> std::io::Result<()> {
    let version = std::fs::read_to_string(VERSION_FILE)?;
    let root = Arc::new(std::env::current_dir()?);
    let tree = Tree { root, version: version.trim().into(), bad: args.bad };
    let mut ended = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(args.listen).await?;
    let app = Router::new().route("/ready", get(ready)).fallback(file).with_state(tree);
    let end = async move { ended.recv().await.unwrap_or_default() };
    axum::serve(listener, app).with_graceful_shutdown(end).await
}

async fn ready(State(tree): State<Tree>) -> impl IntoResponse {
    if tree.bad {
        let why = format!("{} is broken on purpose", tree.version);
        return (StatusCode::SERVICE_UNAVAILABLE, why);
    }
    (StatusCode::OK, tree.version.to_string())
}

async fn file(State(tree): State<Tree>, uri: Uri) -> Result<Vec<u8>, StatusCode> {
    let path = inside(uri.path()).ok_or(StatusCode::BAD_REQUEST)?;
    let path = tree.root.join(path);
    let known = tokio::fs::metadata(&path).await.map_err(|_| StatusCode::NOT_FOUND)?;
    if !known.is_file() {
        return Err(StatusCode::NOT_FOUND);
    }
    if known.len() > FILE_BYTES_MAX {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    tokio::fs::read(path).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// The path below the tree; `None` where it would lead out of it.
fn inside(path: &str) -> Option<&Path> {
    let path = Path::new(path.trim_start_matches('/'));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_the_tree() {
        assert_eq!(inside("/a/b.txt"), Some(Path::new("a/b.txt")));
        assert_eq!(inside("//etc/passwd"), Some(Path::new("etc/passwd")));
        assert_eq!(inside("/../etc/passwd"), None);
        assert_eq!(inside("/a/../../b"), None);
    }
}
