//! What HAProxy is told about the services of this node: the agent-check protocol.
//!
//! HAProxy connects every few seconds, may send a line (`agent-send`), and reads one line of words
//! (configuration manual, section 5.2, "agent-check"). Of these baton says only those on weight and
//! operational state. `ready`, `drain` and `maint` are the operator's: `ready` would undo a MAINT that
//! a person has set.
//!
//! An agent that cannot be reached is no error to HAProxy, which then keeps the last state. So
//! where nothing is known yet, nothing is said: the connection closes without a word.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_protocol::id::GroupName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Connections that are answered at once; those beyond are closed. HAProxy asks every two seconds
/// and hangs up at once, so that even many balancers stay far below.
const CONNECTIONS_MAX: usize = 256;

/// How long the asker's line is waited for. Most send none.
const LINE_TIMEOUT: Duration = Duration::from_millis(100);

/// Bytes of the asker's line that are read; a group's name is shorter.
const LINE_BYTES_MAX: usize = 128;

/// How long the answer may take to be sent, and the asker to hang up after it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a connection could not be accepted, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Characters of a reason that are told; the statistics page shows no more.
const REASON_CHARS_MAX: usize = 80;

/// What HAProxy is to think of a service. The later in this list, the worse.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgentState {
    /// It serves, with this share of its configured weight.
    Up {
        /// From 0 to 100; more is told as 100.
        weight_percent: u8,
    },
    /// It gets no new clients; those that stick to it are still sent.
    Drain,
    /// It gets nobody new, not even those that stick to it.
    DownDrain,
    /// It is not to be used.
    Down {
        /// Why, for the statistics page.
        reason: String,
    },
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { weight_percent } => writeln!(f, "up {}%", weight_percent.min(&100)),
            Self::Drain => f.write_str("up 0%\n"),
            Self::DownDrain => f.write_str("down #draining\n"),
            Self::Down { reason } => writeln!(f, "down #{}", one_line(reason)),
        }
    }
}

/// The reason is a person's or a program's text; a line end in it would end the answer.
fn one_line(reason: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
    reason.trim().chars().take(REASON_CHARS_MAX).map(plain).collect()
}

type States = Arc<Mutex<BTreeMap<GroupName, AgentState>>>;

/// A listener that answers for this node's groups until it is dropped.
#[derive(Debug)]
pub struct AgentCheck {
    states: States,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl AgentCheck {
    /// Listens on `address`. Nothing is said about a group before its first [`Self::set`].
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let states = States::default();
        let serving = tokio::spawn(serve(listener, states.clone()));
        Ok(Self { states, address, serving })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What is said about `group` from now on.
    pub fn set(&self, group: GroupName, state: AgentState) {
        locked(&self.states).insert(group, state);
    }

    /// Says nothing more about `group`; HAProxy keeps what it was told last.
    pub fn remove(&self, group: &GroupName) {
        locked(&self.states).remove(group);
    }

    /// What is said about `group` now.
    pub fn get(&self, group: &GroupName) -> Option<AgentState> {
        locked(&self.states).get(group).cloned()
    }
}

impl Drop for AgentCheck {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The map is whole even if a holder of the lock panicked: each change of it is one step.
fn locked(states: &States) -> std::sync::MutexGuard<'_, BTreeMap<GroupName, AgentState>> {
    states.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, states: States) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let states = states.clone();
        tokio::spawn(async move {
            // An asker that hangs up early asks again in two seconds.
            let _ = timeout(LINE_TIMEOUT + 2 * ANSWER_TIMEOUT, answer(stream, &states)).await;
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream, states: &States) -> io::Result<()> {
    let line = read_line(&mut stream).await;
    let Some(state) = state_for(&line, states) else { return Ok(()) };
    stream.write_all(state.to_string().as_bytes()).await?;
    stream.shutdown().await?;
    // To close with bytes unread resets the connection, and may take the answer along.
    let mut rest = [0; LINE_BYTES_MAX];
    let hang_up = async { while let Ok(1..) = stream.read(&mut rest).await {} };
    let _ = timeout(ANSWER_TIMEOUT, hang_up).await;
    Ok(())
}

/// What the asker sends until its line ends or its time is up.
async fn read_line(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut reader = stream.take(LINE_BYTES_MAX as u64);
    let read = async {
        while !bytes.contains(&b'\n') {
            match reader.read_buf(&mut bytes).await {
                Ok(1..) => {}
                _ => break,
            }
        }
    };
    let _ = timeout(LINE_TIMEOUT, read).await;
    String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().trim().to_owned()
}

/// The state of the group that the line names; without a name the worst of all, which for one group
/// is its own. A name that is not known is a mistake in somebody's configuration, or this daemon
/// has just started: nothing is said.
fn state_for(line: &str, states: &States) -> Option<AgentState> {
    let states = locked(states);
    if line.is_empty() {
        return worst(states.values()).cloned();
    }
    let name: GroupName = line.parse().ok()?;
    states.get(&name).cloned()
}

fn worst<'a>(states: impl Iterator<Item = &'a AgentState>) -> Option<&'a AgentState> {
    states.max_by(|a, b| match (a, b) {
        (AgentState::Up { weight_percent: a }, AgentState::Up { weight_percent: b }) => b.cmp(a),
        _ => a.cmp(b),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn agent(states: &[(&str, AgentState)]) -> AgentCheck {
        let agent = AgentCheck::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        for (group, state) in states {
            agent.set(group.parse().unwrap(), state.clone());
        }
        agent
    }

    /// What a client reads that first sends `line`.
    async fn ask(agent: &AgentCheck, line: &str) -> String {
        let mut stream = TcpStream::connect(agent.local_addr()).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn up(weight_percent: u8) -> AgentState {
        AgentState::Up { weight_percent }
    }

    fn down(reason: &str) -> AgentState {
        AgentState::Down { reason: reason.into() }
    }

    #[tokio::test]
    async fn each_state_has_its_words() {
        let agent = agent(&[]).await;
        for (state, words) in [
            (up(100), "up 100%\n"),
            (up(7), "up 7%\n"),
            (up(255), "up 100%\n"),
            (AgentState::Drain, "up 0%\n"),
            (AgentState::DownDrain, "down #draining\n"),
            (down("not ready: status 503"), "down #not ready: status 503\n"),
            (down("a\nready up 100%\r\n\u{fc}"), "down #a ready up 100%\n"),
        ] {
            agent.set("web".parse().unwrap(), state);
            let said = ask(&agent, "").await;
            assert_eq!(said.trim_end(), words.trim_end());
            assert_eq!(said.matches('\n').count(), 1);
        }
    }

    #[tokio::test]
    async fn a_line_chooses_the_group_and_without_one_the_worst_counts() {
        let agent = agent(&[("api", up(50)), ("db", AgentState::Drain), ("web", up(100))]).await;
        assert_eq!(ask(&agent, "web\n").await, "up 100%\n");
        assert_eq!(ask(&agent, "api\r\n").await, "up 50%\n");
        assert_eq!(ask(&agent, "").await, "up 0%\n");
        agent.remove(&"db".parse().unwrap());
        assert_eq!(ask(&agent, "").await, "up 50%\n");
        agent.set("db".parse().unwrap(), down("gone"));
        assert_eq!(ask(&agent, "\n").await, "down #gone\n");
    }

    #[tokio::test]
    async fn what_is_not_known_is_not_said() {
        assert_eq!(ask(&agent(&[]).await, "").await, "");
        let agent = agent(&[("web", up(100))]).await;
        assert_eq!(ask(&agent, "shop\n").await, "");
        assert_eq!(ask(&agent, "../etc\n").await, "");
    }

    #[tokio::test]
    async fn a_flood_of_silent_and_noisy_askers_blocks_nobody() {
        let agent = agent(&[("web", up(100))]).await;
        let mut crowd = Vec::new();
        for n in 0..2 * CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(agent.local_addr()).await.unwrap();
            if n % 2 == 0 {
                let _ = stream.write_all(&[b'x'; 4096]).await;
            }
            crowd.push(stream);
        }
        let begun = Instant::now();
        while ask_once(&agent).await.as_deref() != Some("up 100%\n") {
            assert!(begun.elapsed() < Duration::from_secs(10), "never answered again");
        }
    }

    async fn ask_once(agent: &AgentCheck) -> Option<String> {
        let mut stream = TcpStream::connect(agent.local_addr()).await.ok()?;
        stream.write_all(b"web\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    }
}
