//! What the nodes' APIs say of a release's transfer.

use std::time::Duration;

use serde_json::Value;

use super::http;
use super::plan::Node;

const WITHIN: Duration = Duration::from_secs(2);

/// A release on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes of the release.
    pub total: u64,
    /// Bytes that the node has.
    pub have: u64,
    /// Bytes that it received from others.
    pub received: u64,
    /// Bytes that it sent to others.
    pub sent: u64,
}

/// Asks a node for its transfer of a version; `None` where it does not say.
pub async fn of(node: &Node, version: &str) -> Option<Transfer> {
    let answer = http::get_unix(&node.socket(), "/v1/transfers", WITHIN).await.ok()?;
    read(&serde_json::from_slice(&answer.body).ok()?, version)
}

fn read(answer: &Value, version: &str) -> Option<Transfer> {
    let list = answer.as_array().or_else(|| answer.get("transfers")?.as_array())?;
    let names = ["version", "release"];
    let is_it = |item: &&Value| {
        let mut said = names.iter().filter_map(|name| item.get(name)?.as_str());
        said.any(|said| said == version || said.rsplit([' ', '@', '/']).next() == Some(version))
    };
    let item = list.iter().find(is_it)?;
    let number = |name: &str| {
        let long = format!("{name}_bytes");
        item.get(name).or_else(|| item.get(&long))?.as_u64()
    };
    Some(Transfer {
        total: number("total")?,
        have: number("have")?,
        received: number("received")?,
        sent: number("sent")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_is_asked_for_is_found() {
        let item = |version: &str, sent: u64| {
            serde_json::json!({"service": "demo", "version": version, "total": 9, "have": 9,
                "received": 0, "sent": sent})
        };
        let answer = serde_json::json!({"transfers": [item("v1", 1), item("v2", 2)]});
        assert_eq!(read(&answer, "v2").unwrap().sent, 2);
        assert_eq!(read(&answer, "v3"), None);
        assert_eq!(read(&serde_json::json!({"error": "no"}), "v2"), None);
    }
}
