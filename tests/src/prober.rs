//! Judges readiness from outside: a new connection for each probe, every 10 ms and port. Anything but
//! a 200 within 500 ms is down.

use std::collections::BTreeSet;
use std::fmt::Write as _;
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
    log: Arc<Mutex<Vec<Change>>>,
    ports: Vec<u16>,
    begun: Instant,
}

/// A port that went down or came back.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// When the probe that saw it began.
    pub at: Instant,
    /// When it ended.
    pub seen: Instant,
    /// The place of the port among those that are probed.
    pub port: usize,
    /// Whether it is up now.
    pub up: bool,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// The most ports down at the same moment.
    pub most_down: usize,
    /// Ports that were down at least once.
    pub ever_down: usize,
    /// Every change, in its order.
    pub changes: Vec<Change>,
    /// The same for other programs: a line for each port at the start and each change, with
    /// microseconds since then, the port, and `up` or `down`.
    pub log: String,
}

impl Prober {
    /// Starts to probe; every port is taken to be up until it is seen down.
    pub fn start(ports: &[u16]) -> Self {
        let (stop, log) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let begun = Instant::now();
        let watch = |(port, number): (usize, u16)| {
            let (stop, log) = (Arc::clone(&stop), Arc::clone(&log));
            std::thread::spawn(move || {
                let mut up = true;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let now_up = probe(number).is_some();
                    if now_up != up {
                        up = now_up;
                        let seen = Instant::now();
                        log.lock().unwrap().push(Change { at: began, seen, port, up });
                    }
                    std::thread::sleep(EVERY.saturating_sub(began.elapsed()));
                }
            })
        };
        let watchers = ports.iter().copied().enumerate().map(watch).collect();
        Self { stop, watchers, log, ports: ports.to_owned(), begun }
    }

    /// Ends, and says what was seen.
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for watcher in self.watchers {
            watcher.join().unwrap();
        }
        let mut changes = self.log.lock().unwrap().clone();
        changes.sort_by_key(|change| change.at);
        let (most_down, ever_down) = count(&changes);
        let log = write_log(&self.ports, self.begun, &changes);
        Seen { most_down, ever_down, changes, log }
    }
}

/// The most ports down at once, and how many were ever down.
fn count(changes: &[Change]) -> (usize, usize) {
    let (mut down, mut ever) = (BTreeSet::new(), BTreeSet::new());
    let mut most = 0;
    for change in changes {
        if change.up {
            down.remove(&change.port);
        } else {
            down.insert(change.port);
            ever.insert(change.port);
        }
        most = most.max(down.len());
    }
    (most, ever.len())
}

fn write_log(ports: &[u16], begun: Instant, changes: &[Change]) -> String {
    let mut log: String = ports.iter().map(|port| format!("0 {port} up\n")).collect();
    for Change { at, port, up, .. } in changes {
        let (after, state) = (at.duration_since(begun), if *up { "up" } else { "down" });
        // Writing to a String cannot fail.
        let _ = writeln!(log, "{} {} {state}", after.as_micros(), ports[*port]);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_at_once_are_counted_and_not_the_sum() {
        let at = Instant::now();
        let change = |(port, up)| Change { at, seen: at, port, up };
        let one_after_the_other = [(0, false), (0, true), (1, false), (1, true)].map(change);
        assert_eq!(count(&one_after_the_other), (1, 2));
        let together = [(0, false), (1, false), (0, true), (1, true)].map(change);
        assert_eq!(count(&together), (2, 2));
    }

    #[test]
    fn the_log_has_every_port_and_every_change() {
        let begun = Instant::now();
        let at = begun + Duration::from_millis(1234);
        let change = Change { at, seen: at, port: 1, up: false };
        let log = write_log(&[4001, 4002], begun, &[change]);
        assert_eq!(log, "0 4001 up\n0 4002 up\n1234000 4002 down\n");
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
