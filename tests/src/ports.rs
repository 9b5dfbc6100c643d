//! Ports for services and nodes under test.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// The ports below those from which the kernel takes the local end of a connection (32768 and up by
/// default): nothing else gets one between its choice here and its use, however long that takes.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port of this host on which nobody listens, and that no other call gives while this process lives, here
/// or in another process.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap();
    let start = usize::try_from(std::process::id()).unwrap() * 97 + given.len();
    for offset in 0..usize::from(COUNT) {
        let port = FIRST + u16::try_from((start + offset) % usize::from(COUNT)).unwrap();
        let Some(claim) = claim(port) else { continue };
        given.push(claim);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port left");
}

/// A name without a file, which the kernel takes back when this process ends, however it ends.
fn claim(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("baton-tests-port-{port}")).unwrap();
    UnixListener::bind_addr(&name).ok()
}
