//! The load balancer beside this node, as far as it can be read. It decides nothing.
//!
//! HAProxy tells its state on its stats socket (management guide, section 9.3, "show stat"). One
//! connection takes one command, so that each look is a connection of its own.

mod stats;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use baton_protocol::agent::balancer::Sight;
use baton_protocol::id::GroupName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long one look may take. HAProxy answers within milliseconds.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// Bytes of an answer that are read: some 600 for each server, of as many as are read at most.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where one HAProxy is read, and which of its backends has which group's servers.
#[derive(Clone, Debug)]
pub(crate) struct HaProxy {
    pub(crate) socket: PathBuf,
    pub(crate) backends: BTreeMap<GroupName, String>,
}

impl HaProxy {
    /// Looks again and again, until nobody takes what is seen.
    pub(crate) async fn watch(self, tell: mpsc::Sender<(GroupName, Sight)>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            for (group, backend) in &self.backends {
                let sight = self.look(backend).await;
                if tell.send((group.clone(), sight)).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn look(&self, backend: &str) -> Sight {
        let socket = self.socket.display();
        let seen = match timeout(LOOK_WITHIN, self.ask(backend)).await {
            Err(_) => Err(format!("{socket} does not answer within {LOOK_WITHIN:?}")),
            Ok(Err(error)) => Err(format!("{socket}: {error}")),
            Ok(Ok(answer)) => {
                stats::read(&answer).map_err(|why| format!("backend {backend}: {why}"))
            }
        };
        seen.map_or_else(|reason| Sight::Unreadable { reason }, Sight::Seen)
    }

    /// The statistics of a backend's servers: 4 stands for servers, -1 for all of them.
    async fn ask(&self, backend: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(format!("show stat {backend} 4 -1\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    async fn seen_of(answer: Option<&'static str>) -> Sight {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 64];
            let read = stream.read(&mut asked).await.unwrap();
            assert_eq!(&asked[..read], b"show stat shop 4 -1\n");
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        let haproxy = HaProxy { socket, backends: BTreeMap::new() };
        let sight = haproxy.look("shop").await;
        serving.abort();
        sight
    }

    fn reason(sight: Sight) -> String {
        match sight {
            Sight::Unreadable { reason } => reason,
            Sight::Seen(servers) => panic!("{servers:?}"),
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_says_why() {
        assert!(reason(seen_of(None).await).contains("does not answer within 1s"));
        let none = reason(seen_of(Some("No such proxy.\n\n")).await);
        assert_eq!(none, "backend shop: HAProxy says: No such proxy.");
        let nowhere = HaProxy { socket: "/nowhere/s".into(), backends: BTreeMap::new() };
        assert!(reason(nowhere.look("shop").await).contains("/nowhere/s: No such file"));
    }

    #[tokio::test]
    async fn an_answer_is_read_whole() {
        let sight =
            seen_of(Some("# pxname,svname,qcur,scur,status,weight,\nshop,web1,0,0,UP,1,\n\n"));
        let Sight::Seen(servers) = sight.await else { panic!("it was answered") };
        assert!(servers[&"web1".parse().unwrap()].sends);
    }
}
