//! Talks to the node on this machine.

use std::path::{Path, PathBuf};

use baton_node::api::Problem;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::exit::Failed;

/// The API of one node.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The API on `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// What a path shows.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        self.ask(Method::GET, path, &()).await
    }

    /// Does what a path is for.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failed> {
        self.ask(Method::POST, path, body).await
    }

    /// Removes what a path names.
    pub async fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failed> {
        self.ask(Method::DELETE, path, body).await
    }

    fn unreachable(&self, error: &std::io::Error) -> Failed {
        let socket = self.socket.display();
        Failed::error(match error.kind() {
            std::io::ErrorKind::PermissionDenied => format!(
                "{socket} is not open to you: {error}. Use the account that the node runs under (root, \
                 usually: sudo), or name another node's socket with --socket"
            ),
            _ => format!(
                "no baton node answers on {socket}: {error}. Start it with `baton node`, as root, or \
                 name its socket with --socket"
            ),
        })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failed> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| self.unreachable(&error))?;
        let lost = |error: &dyn std::fmt::Display| {
            Failed::error(format!("the node went away before it answered: {error}"))
        };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|it| lost(&it))?;
        let driving = tokio::spawn(connection);
        let body = serde_json::to_vec(body).map_err(Failed::error)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "baton")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(Failed::error)?;
        let response = sender.send_request(request).await.map_err(|it| lost(&it))?;
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(|it| lost(&it))?.to_bytes();
        driving.abort();
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(Failed::error);
        }
        Err(match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Failed::of_kind(&problem.kind, problem.error),
            Err(_) => Failed::error(format!("{status}: {}", String::from_utf8_lossy(&bytes))),
        })
    }
}
