//! What the nodes' APIs say of a release's transfer.

use std::time::Duration;

use baton_node::api::view::Transfer;

use super::http;
use super::plan::Node;

/// A node that does not answer by then is asked again later.
const WITHIN: Duration = Duration::from_secs(2);

/// Asks a node for its transfer of a version; `None` where it does not say.
pub async fn of(node: &Node, version: &str) -> Option<Transfer> {
    let answer = http::get_unix(&node.socket(), "/v1/transfers", WITHIN).await.ok()?;
    let all: Vec<Transfer> = serde_json::from_slice(&answer.body).ok()?;
    all.into_iter().find(|transfer| transfer.version.as_deref() == Some(version))
}
