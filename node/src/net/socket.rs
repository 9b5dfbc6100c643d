//! What is set on each socket.

use std::time::Duration;

use libp2p::tcp::tokio::TcpStream;
use socket2::{SockRef, TcpKeepalive};

/// Unsent bytes that the kernel may hold of one socket. More would only make what follows wait: a
/// cancelled chunk could not be taken back, and a node would answer late.
const NOT_SENT_MAX: u32 = 128 * 1024;

/// How long data or a probe may stay unacknowledged before the connection counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// Pause between two probes of an idle connection.
const PROBE_EVERY: Duration = Duration::from_secs(3);

/// Sets a socket up. A kernel that lacks an option costs speed or time, and is no error.
pub(super) fn prepare(stream: TcpStream) -> TcpStream {
    let socket = SockRef::from(&stream.0);
    let keepalive = TcpKeepalive::new().with_time(PROBE_EVERY).with_interval(PROBE_EVERY);
    let results = [
        socket.set_tcp_nodelay(true),
        socket.set_tcp_notsent_lowat(NOT_SENT_MAX),
        socket.set_tcp_user_timeout(Some(DEAD_AFTER)),
        socket.set_tcp_keepalive(&keepalive),
    ];
    for error in results.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "socket option");
    }
    stream
}
