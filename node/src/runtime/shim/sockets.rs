//! The listening sockets of a service. The shim owns them, so that clients wait in their queues
//! while the service restarts; with a handover, two shims own the same ones for a while.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use baton_protocol::codec;
use baton_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::SOCKET_FILE;
use super::identity::{Identity, open_pidfd};
use super::message::{LISTEN_MAX, Refusal, Request, Response};

/// How long another shim may take to say which sockets it has.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Sockets by the addresses that they were asked for with.
#[derive(Default)]
pub(super) struct Sockets(Vec<(SocketAddr, TcpListener)>);

impl Sockets {
    /// Sees to it that there is a socket for each address, and no other: kept, else taken from the
    /// shim of the directory `from`, else opened.
    pub fn provide(&mut self, wanted: &[SocketAddr], from: Option<&Path>) -> Result<(), Refusal> {
        if wanted.len() > LISTEN_MAX {
            return Err(Refusal::CannotStart(format!("more than {LISTEN_MAX} sockets")));
        }
        self.0.retain(|(own, _)| wanted.contains(own));
        if let Some(from) = from {
            let others = Self::of_shim(from)
                .map_err(|error| Refusal::CannotStart(format!("{}: {error}", from.display())))?;
            self.0.extend(others.0.into_iter().filter(|(address, _)| wanted.contains(address)));
        }
        for address in wanted {
            if self.get(*address).is_none() {
                let cause = |error: io::Error| error.to_string();
                let listener = TcpListener::bind(address)
                    .map_err(|error| Refusal::Listen { address: *address, cause: cause(error) })?;
                self.0.push((*address, listener));
            }
        }
        Ok(())
    }

    /// The socket of an address.
    pub fn get(&self, address: SocketAddr) -> Option<BorrowedFd<'_>> {
        self.0.iter().find(|(own, _)| *own == address).map(|(_, listener)| listener.as_fd())
    }

    /// What another shim needs to take them.
    pub fn offered(&self) -> Vec<(SocketAddr, RawFd)> {
        self.0.iter().map(|(address, listener)| (*address, listener.as_raw_fd())).collect()
    }

    /// The sockets that the process behind `handle` has under these numbers. One that it has
    /// closed, or put something else in the place of, is left out.
    pub fn of_process(
        handle: &OwnedFd,
        offered: impl IntoIterator<Item = (SocketAddr, RawFd)>,
    ) -> Self {
        let taken = offered.into_iter().filter_map(|(address, number)| {
            let socket = pidfd_getfd(handle, number, PidfdGetfdFlags::empty()).ok()?;
            let listener = TcpListener::from(socket);
            let found = listener.local_addr().ok()?;
            let same_port = address.port() == 0 || address.port() == found.port();
            (same_port && found.ip() == address.ip()).then_some((address, listener))
        });
        Self(taken.collect())
    }

    /// All sockets of another shim, which keeps them.
    fn of_shim(dir: &Path) -> io::Result<Self> {
        let Response::Sockets { shim, offered } = ask(dir, &Request::Sockets)? else {
            return Err(io::Error::other("the other shim offers no sockets"));
        };
        let gone = || io::Error::other("the other shim has just ended");
        if Identity::of(shim.pid)? != shim {
            return Err(gone());
        }
        let handle = open_pidfd(shim.pid)?.ok_or_else(gone)?;
        let count = offered.len();
        let taken = Self::of_process(&handle, offered);
        if taken.0.len() < count {
            return Err(io::Error::other("the system does not let the sockets be taken over"));
        }
        Ok(taken)
    }
}

/// Asks another shim, and blocks for the answer: there is no child yet that could miss us.
fn ask(dir: &Path, request: &Request) -> io::Result<Response> {
    let handle = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", handle.as_raw_fd());
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ASK_TIMEOUT))?;
    stream.set_write_timeout(Some(ASK_TIMEOUT))?;
    let body = codec::encode(request);
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&body)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > CONTROL_FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too large"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    codec::decode(&body).map_err(io::Error::other)
}
