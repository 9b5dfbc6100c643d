//! What HAProxy's own log says of every request.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;

/// Bytes of log that may wait to be read: seconds of it. What the kernel drops is missing in the count.
const LOG_BUFFER_BYTES: usize = 4 << 20;

/// How long nothing must come before the log is taken to be whole.
const LOG_QUIET: Duration = Duration::from_millis(500);

/// Lines of failed requests that are kept.
const FAILED_KEPT: usize = 20;

/// What the log says so far.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    /// Requests of clients.
    pub requests: u64,
    /// Those that the balancer or a server failed, or that did not end as they should.
    pub failed: u64,
    /// The first of the failed, as they stand in the log.
    pub failures: Vec<String>,
    /// Requests by server.
    pub by_server: BTreeMap<String, u64>,
}

impl Logged {
    /// Takes a line of [`LOG_FORMAT`].
    fn take(&mut self, line: &str) {
        let mut fields = line.split(' ');
        let (Some(status), Some(ended), Some(server)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        let Ok(status) = status.parse::<i32>() else { return };
        self.requests += 1;
        *self.by_server.entry(server.to_owned()).or_default() += 1;
        if !(100..500).contains(&status) || ended != "--" {
            self.failed += 1;
            if self.failures.len() < FAILED_KEPT {
                self.failures.push(line.to_owned());
            }
        }
    }
}

/// Status, how the session ended (`--`: as it should), server, and the request itself
/// (configuration manual, section 8.2.4).
pub(super) const LOG_FORMAT: &str = "%ST %ts %s %{+Q}r";

/// A log that is read while HAProxy writes it, until it is dropped.
pub(super) struct Log {
    socket: UdpSocket,
    logged: Arc<Mutex<Logged>>,
}

impl Log {
    pub(super) fn open() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        set_socket_recv_buffer_size(&socket, LOG_BUFFER_BYTES).unwrap();
        let logged = Arc::new(Mutex::new(Logged::default()));
        let (reader, taken) = (socket.try_clone().unwrap(), Arc::clone(&logged));
        std::thread::spawn(move || read(&reader, &taken));
        Self { socket, logged }
    }

    /// Where HAProxy sends it.
    pub(super) fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// What has come since this was last asked, once no more of it comes.
    pub(super) fn take(&self) -> Logged {
        let count = || self.logged.lock().unwrap().requests;
        let mut last = count();
        loop {
            std::thread::sleep(LOG_QUIET);
            let now = count();
            if now == last {
                return std::mem::take(&mut self.logged.lock().unwrap());
            }
            last = now;
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // An empty datagram ends the reader.
        let _ = self.socket.local_addr().and_then(|own| self.socket.send_to(&[], own));
    }
}

fn read(log: &UdpSocket, logged: &Mutex<Logged>) {
    let mut buffer = [0; 2048];
    while let Ok((length @ 1.., _)) = log.recv_from(&mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        logged.lock().unwrap().take(line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_a_server_or_the_balancer_fails_counts() {
        let mut logged = Logged::default();
        logged.take("200 -- n1 \"GET /ready HTTP/1.1\"");
        assert_eq!((logged.requests, logged.failed), (1, 0));
        for line in [
            "503 SC n2 \"GET / HTTP/1.1\"",
            "502 SH n2 \"GET / HTTP/1.1\"",
            "-1 CR <NOSRV> \"<BADREQ>\"",
            "200 SD n2 \"GET / HTTP/1.1\"",
        ] {
            logged.take(line);
        }
        assert_eq!((logged.requests, logged.failed, logged.failures.len()), (5, 4, 4));
        assert_eq!(logged.by_server["n2"], 3);
    }
}
