//! An open-loop client: requests begin on schedule, whatever became of those before them, so that a
//! service that stalls is not asked less. It keeps connections and sends bodies, as real clients do.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A request that is not answered by then has failed.
const WITHIN: Duration = Duration::from_secs(5);

/// Requests under way at once: more is a server that answers nobody, and a request beyond has failed.
const UNDER_WAY_MAX: usize = 1_000;

/// Connections kept for later requests; those beyond are closed.
const KEPT_MAX: usize = 64;

/// Bytes of the largest body that is sent.
const BODY_BYTES_MAX: u64 = 16 * 1024;

/// Failures whose words are kept.
const FAILURES_KEPT: usize = 20;

/// Stack of a thread that does one request.
const STACK_BYTES: usize = 128 * 1024;

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Requests that were answered or failed.
    pub requests: u64,
    /// Requests without a whole and right answer.
    pub failed: u64,
    /// The first failures in words.
    pub failures: Vec<String>,
    /// How late the latest request began after its time.
    pub latest: Duration,
}

/// Requests at a steady rate, until [`Client::finish`].
pub struct Client {
    shared: Arc<Shared>,
    scheduler: JoinHandle<Duration>,
}

struct Shared {
    front: SocketAddr,
    stop: AtomicBool,
    under_way: AtomicUsize,
    requests: AtomicU64,
    failures: Mutex<(u64, Vec<String>)>,
    kept: Mutex<Vec<Connection>>,
}

type Connection = BufReader<TcpStream>;

impl Client {
    /// Begins to send `per_second` requests to a port of this host.
    pub fn start(front: u16, per_second: u32) -> Self {
        let shared = Arc::new(Shared {
            front: ([127, 0, 0, 1], front).into(),
            stop: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            failures: Mutex::default(),
            kept: Mutex::default(),
        });
        let its = Arc::clone(&shared);
        let scheduler = std::thread::spawn(move || schedule(&its, per_second));
        Self { shared, scheduler }
    }

    /// Requests that have ended so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Relaxed)
    }

    /// Begins no more requests, waits for those under way, and says what became of all.
    pub fn finish(self) -> Served {
        self.shared.stop.store(true, Relaxed);
        let latest = self.scheduler.join().unwrap();
        while self.shared.under_way.load(Relaxed) > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (failed, failures) = self.shared.failures.lock().unwrap().clone();
        Served { requests: self.shared.requests.load(Relaxed), failed, failures, latest }
    }
}

/// Begins each request at its time, and gives how late the latest began.
fn schedule(shared: &Arc<Shared>, per_second: u32) -> Duration {
    let begun = Instant::now();
    let mut latest = Duration::ZERO;
    for number in 0.. {
        if shared.stop.load(Relaxed) {
            break;
        }
        let due = begun + Duration::from_secs(number) / per_second;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        latest = latest.max(due.elapsed());
        begin(shared, number);
    }
    latest
}

fn begin(shared: &Arc<Shared>, number: u64) {
    if shared.under_way.fetch_add(1, Relaxed) >= UNDER_WAY_MAX {
        return shared.ended(Err("too many requests without an answer".to_owned()));
    }
    let its = Arc::clone(shared);
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        let request = Request::of(number);
        let result = its.perform(&request);
        its.ended(result.map_err(|why| format!("{why}: {request:?}")));
    });
    if let Err(error) = started {
        shared.ended(Err(format!("no thread: {error}")));
    }
}

/// What is asked: of every ten requests, four are POSTs, one takes a while, and three have a
/// connection of their own.
#[derive(Debug)]
struct Request {
    ask: Ask,
    keep: bool,
}

#[derive(Debug)]
enum Ask {
    Version,
    Slow,
    Echo { bytes: usize, seed: u64 },
}

impl Request {
    fn of(number: u64) -> Self {
        let bytes = usize::try_from(number * 7_919 % BODY_BYTES_MAX).unwrap();
        match number % 10 {
            0 => Self { ask: Ask::Version, keep: false },
            1 => Self { ask: Ask::Slow, keep: true },
            2 | 3 => Self { ask: Ask::Echo { bytes, seed: number }, keep: false },
            4 | 5 => Self { ask: Ask::Echo { bytes, seed: number }, keep: true },
            _ => Self { ask: Ask::Version, keep: true },
        }
    }

    fn path(&self) -> &'static str {
        match self.ask {
            Ask::Version => "/ready",
            Ask::Slow => "/slow",
            Ask::Echo { .. } => "/echo",
        }
    }

    /// What is sent as a body, if anything: bytes that no other request sends.
    fn body(&self) -> Option<Vec<u8>> {
        let Ask::Echo { bytes, seed } = self.ask else { return None };
        let words = (0..).flat_map(|n: u64| (n ^ (seed << 20)).to_le_bytes());
        Some(words.take(bytes).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        let connection = if self.keep { "keep-alive" } else { "close" };
        let body = self.body();
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = body.unwrap_or_default();
        let head = format!(
            "{method} {} HTTP/1.1\r\nhost: test\r\nconnection: {connection}\r\n\
             content-length: {}\r\n\r\n",
            self.path(),
            body.len()
        );
        [head.into_bytes(), body].concat()
    }

    fn check(&self, answer: &Answer) -> Result<(), String> {
        if answer.status != 200 {
            return Err(format!("status {}", answer.status));
        }
        match self.body() {
            Some(sent) if sent != answer.body => Err("another body came back".to_owned()),
            _ => Ok(()),
        }
    }
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Shared {
    fn ended(&self, result: Result<(), String>) {
        self.requests.fetch_add(1, Relaxed);
        if let Err(why) = result {
            let mut failures = self.failures.lock().unwrap();
            failures.0 += 1;
            if failures.1.len() < FAILURES_KEPT {
                failures.1.push(why);
            }
        }
        self.under_way.fetch_sub(1, Relaxed);
    }

    fn perform(&self, request: &Request) -> Result<(), String> {
        let kept = if request.keep { self.kept.lock().unwrap().pop() } else { None };
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect().map_err(|error| format!("no connection: {error}"))?,
        };
        let answer = exchange(&mut connection, request).map_err(|error| error.to_string())?;
        if request.keep {
            let mut kept = self.kept.lock().unwrap();
            if kept.len() < KEPT_MAX {
                kept.push(connection);
            }
        }
        request.check(&answer)
    }

    fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&self.front, WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WITHIN))?;
        stream.set_write_timeout(Some(WITHIN))?;
        Ok(BufReader::new(stream))
    }
}

fn exchange(connection: &mut Connection, request: &Request) -> io::Result<Answer> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    connection.get_mut().write_all(&request.bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|it| it.parse().ok());
    let status = status.ok_or_else(|| wrong("closed without an answer"))?;
    let mut length = 0;
    loop {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Err(wrong("closed within the head"));
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(|_| wrong("a length that is no number"))?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ten_requests_four_have_bodies_and_three_close() {
        let ten: Vec<_> = (0..10).map(Request::of).collect();
        assert_eq!(ten.iter().filter(|it| it.body().is_some()).count(), 4);
        assert_eq!(ten.iter().filter(|it| !it.keep).count(), 3);
        assert_ne!(Request::of(12).body(), Request::of(22).body());
    }

    #[test]
    fn a_server_that_is_not_there_or_answers_wrongly_is_a_failure() {
        let client = Client::start(crate::ports::free_port(), 100);
        std::thread::sleep(Duration::from_millis(200));
        let served = client.finish();
        assert!(served.requests >= 10 && served.failed == served.requests, "{served:?}");
        let echo = Request::of(2);
        assert!(echo.check(&Answer { status: 200, body: echo.body().unwrap() }).is_ok());
        assert!(echo.check(&Answer { status: 200, body: vec![] }).is_err());
        assert!(Request::of(0).check(&Answer { status: 503, body: vec![] }).is_err());
    }
}
