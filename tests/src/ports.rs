//! Ports for services and nodes under test.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// The ports below those from which the kernel takes the local end of a connection (32768 and up by
/// default): nothing else gets one between its choice here and its use, however long that takes.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// A port of this host on which nobody listens, and that no earlier call has given.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(given < COUNT, "no free port left");
        let port = FIRST + (start + given) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
