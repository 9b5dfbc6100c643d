//! Judges readiness from outside: a new connection for each probe, every 10 ms and port. Anything but
//! a 200 within 500 ms is down.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(10);
const WITHIN: Duration = Duration::from_millis(500);

/// What one probe saw: `Some` body of a 200, or down.
pub fn probe(port: u16) -> Option<String> {
    ask(port, "/ready")
}

/// The process that serves on a port, by its own word.
pub fn pid(port: u16) -> Option<u32> {
    ask(port, "/pid")?.parse().ok()
}

/// The body of a 200; nothing where all of it is not here in time.
fn ask(port: u16, path: &str) -> Option<String> {
    let until = Instant::now() + WITHIN;
    // A timeout of 0 would be none; who comes too late gets an error from either.
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, left()).ok()?;
    stream.set_write_timeout(Some(left())).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        stream.set_read_timeout(Some(left())).ok()?;
        match stream.read(&mut part).ok()? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.contains(" 200 ") && Instant::now() <= until).then(|| body.to_owned())
}

/// Probes ports until it is asked what it saw.
pub struct Prober {
    stop: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<()>>,
    log: Arc<Mutex<Vec<(Instant, usize, bool)>>>,
    ports: usize,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// The most ports down at the same moment.
    pub most_down: usize,
    /// Ports that were down at least once.
    pub ever_down: usize,
}

impl Prober {
    /// Starts to probe; every port is taken to be up until it is seen down.
    pub fn start(ports: &[u16]) -> Self {
        let (stop, log) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let watch = |(at, port): (usize, u16)| {
            let (stop, log) = (Arc::clone(&stop), Arc::clone(&log));
            std::thread::spawn(move || {
                let mut up = true;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let now_up = probe(port).is_some();
                    if now_up != up {
                        up = now_up;
                        log.lock().unwrap().push((began, at, up));
                    }
                    std::thread::sleep(EVERY.saturating_sub(began.elapsed()));
                }
            })
        };
        let watchers = ports.iter().copied().enumerate().map(watch).collect();
        Self { stop, watchers, log, ports: ports.len() }
    }

    /// Ends, and says what was seen.
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for watcher in self.watchers {
            watcher.join().unwrap();
        }
        let mut log = self.log.lock().unwrap().clone();
        log.sort_by_key(|(when, _, _)| *when);
        count(self.ports, log.iter().map(|(_, port, up)| (*port, *up)))
    }
}

fn count(ports: usize, changes: impl Iterator<Item = (usize, bool)>) -> Seen {
    let (mut up, mut ever) = (vec![true; ports], vec![false; ports]);
    let mut most_down = 0;
    for (port, is_up) in changes {
        up[port] = is_up;
        ever[port] |= !is_up;
        most_down = most_down.max(up.iter().filter(|up| !**up).count());
    }
    Seen { most_down, ever_down: ever.iter().filter(|ever| **ever).count() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_at_once_are_counted_and_not_the_sum() {
        let one_after_the_other = [(0, false), (0, true), (1, false), (1, true)];
        let seen = count(3, one_after_the_other.into_iter());
        assert_eq!((seen.most_down, seen.ever_down), (1, 2));
        let together = [(0, false), (1, false), (0, true), (1, true)];
        assert_eq!(count(3, together.into_iter()).most_down, 2);
    }

    #[test]
    fn an_answer_that_only_trickles_is_too_late() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let trickle = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for byte in b"HTTP/1.1 200 OK\r\n\r\nv1" {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let begun = Instant::now();
        assert_eq!(probe(port), None);
        assert!(begun.elapsed() < 2 * WITHIN, "{:?}", begun.elapsed());
        trickle.join().unwrap();
    }

    #[test]
    fn a_port_without_a_service_is_down() {
        assert_eq!(probe(crate::ports::free_port()), None);
    }
}
