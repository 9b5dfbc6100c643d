//! How many connections a service still has, by the kernel's word.
//!
//! The kernel is asked over netlink (sock_diag(7)) for the established TCP sockets of one local
//! port, and selects them itself, so that a host with many other connections costs nothing more. A
//! kernel without it is asked through `/proc/net/tcp` and `tcp6`.
//!
//! Only established connections count. One whose client has closed its half (CLOSE_WAIT) does not:
//! a service that forgets to close would never be drained. Connections that wait to be accepted are
//! established to the kernel, and do count.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt::Timeout;
use rustix::net::sockopt::set_socket_timeout;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use rustix::net::{recv, send, socket_with};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// `TCP_ESTABLISHED` of the kernel's `enum`, and its name in `/proc/net/tcp`.
const ESTABLISHED: u8 = 1;
const ESTABLISHED_HEX: &str = "01";

/// linux/netlink.h and linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x001 | 0x300;
const HEADER_BYTES: usize = 16;

/// `struct inet_diag_req_v2` with its header, and the offset of the source address in
/// `struct inet_diag_msg` (linux/inet_diag.h).
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
const SOURCE_OFFSET: usize = 8;

/// Bytes of one answer. The kernel makes them no larger than it is given room for, up to 32 KiB.
const ANSWER_BYTES: usize = 32 * 1024;

/// Answers that one question may have: some million connections. More is a kernel gone mad.
const ANSWERS_MAX: usize = 10_000;

/// How long the kernel may take for one answer; it needs microseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of established connections to a service that listens on `listening`. An unspecified
/// address (`0.0.0.0`, `::`) stands for each address of the host, IPv4 and IPv6 alike.
///
/// It blocks for as long as the kernel takes: about a millisecond for a thousand connections.
///
/// # Errors
/// When neither netlink nor `/proc` gives an answer. Then nobody knows, and nothing is drained.
pub fn established(listening: SocketAddr) -> io::Result<usize> {
    by_netlink(listening).or_else(|_| by_proc(listening))
}

fn by_netlink(listening: SocketAddr) -> io::Result<usize> {
    let mut count = 0;
    for family in [AF_INET, AF_INET6] {
        count += dump(family, listening)?;
    }
    Ok(count)
}

fn dump(family: u8, listening: SocketAddr) -> io::Result<usize> {
    let flags = SocketFlags::CLOEXEC;
    let protocol = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
    send(&socket, &request(family, listening.port()), SendFlags::empty())?;
    let mut buffer = vec![0; ANSWER_BYTES];
    let mut count = 0;
    for _ in 0..ANSWERS_MAX {
        let (size, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let answer = buffer.get(..size).unwrap_or_default();
        match read_answer(answer, family, listening)? {
            Answer::More(found) => count += found,
            Answer::Done(found) => return Ok(count + found),
        }
    }
    Err(io::Error::other("the kernel's answer has no end"))
}

fn request(family: u8, port: u16) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    let mut put = |at: usize, field: &[u8]| {
        for (to, from) in bytes.iter_mut().skip(at).zip(field) {
            *to = *from;
        }
    };
    put(0, &(REQUEST_BYTES as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST_DUMP.to_ne_bytes());
    put(HEADER_BYTES, &[family, IPPROTO_TCP]);
    put(HEADER_BYTES + 4, &(1u32 << ESTABLISHED).to_ne_bytes());
    put(HEADER_BYTES + 8, &port.to_be_bytes());
    bytes
}

enum Answer {
    More(usize),
    Done(usize),
}

fn read_answer(mut bytes: &[u8], family: u8, listening: SocketAddr) -> io::Result<Answer> {
    let mut count = 0;
    while let Some((kind, body, rest)) = next_message(bytes) {
        match kind {
            SOCK_DIAG_BY_FAMILY => {
                let source = source(body, family);
                count += usize::from(source.is_some_and(|source| belongs(source, listening)));
            }
            NLMSG_DONE => return Ok(Answer::Done(count)),
            NLMSG_ERROR => return Err(io::Error::other("sock_diag is refused")),
            _ => {}
        }
        bytes = rest;
    }
    Ok(Answer::More(count))
}

/// The kind and the body of the first message, and what follows it, padded to 4 bytes.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, rest))
}

fn source(body: &[u8], family: u8) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*body.get(4..)?.first_chunk()?);
    let address = body.get(SOURCE_OFFSET..)?;
    let ip = if family == AF_INET {
        IpAddr::V4(Ipv4Addr::from(*address.first_chunk::<4>()?))
    } else {
        IpAddr::V6(Ipv6Addr::from(*address.first_chunk::<16>()?))
    };
    Some(SocketAddr::new(ip, port))
}

/// Whether a socket of this host with the local address `source` came from this listening socket.
fn belongs(source: SocketAddr, listening: SocketAddr) -> bool {
    let wanted = listening.ip().to_canonical();
    let any = listening.ip().is_unspecified();
    source.port() == listening.port() && (any || source.ip().to_canonical() == wanted)
}

fn by_proc(listening: SocketAddr) -> io::Result<usize> {
    let v4 = fs::read_to_string("/proc/net/tcp")?;
    // A host without IPv6 has no such file, and no such connections.
    let v6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let sockets = v4.lines().chain(v6.lines()).filter_map(established_source);
    Ok(sockets.filter(|source| belongs(*source, listening)).count())
}

/// The local address of a line of `/proc/net/tcp` or `tcp6` (proc(5)), if it is established: in
/// hexadecimal, the address in words of the host's byte order, the port as a number.
fn established_source(line: &str) -> Option<SocketAddr> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    (state == ESTABLISHED_HEX).then_some(())?;
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|n| u32::from_str_radix(address.get(n * 8..n * 8 + 8)?, 16).ok())
        .map(|word| word.map(u32::to_ne_bytes))
        .collect();
    let bytes = words?.concat();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    /// Both ways must say it, within a moment: the kernel takes its time to close.
    fn assert_count(address: SocketAddr, expected: usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let found = (by_netlink(address).unwrap(), by_proc(address).unwrap());
            if found == (expected, expected) {
                return;
            }
            assert!(Instant::now() < deadline, "{found:?} instead of {expected}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn connections_are_counted_until_they_are_closed() {
        for any in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else { continue };
            let bound = listener.local_addr().unwrap();
            let host = if any.contains("::1") { "[::1]" } else { "127.0.0.1" };
            let target = format!("{host}:{}", bound.port());
            assert_count(bound, 0);
            let clients: Vec<TcpStream> =
                (0..3).map(|_| TcpStream::connect(&target).unwrap()).collect();
            // Two are accepted; the third still waits in the queue.
            let accepted: Vec<TcpStream> = (0..2).map(|_| listener.accept().unwrap().0).collect();
            assert_count(bound, 3);
            drop(clients);
            drop(accepted);
            assert_count(bound, 0);
        }
    }

    #[test]
    fn another_services_connections_are_not_counted() {
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
        // A connection *from* this host has the other's port on its far side only.
        let _client = TcpStream::connect(theirs.local_addr().unwrap()).unwrap();
        assert_count(ours.local_addr().unwrap(), 0);
        assert_count(theirs.local_addr().unwrap(), 1);
        let elsewhere = SocketAddr::new([127, 0, 0, 2].into(), theirs.local_addr().unwrap().port());
        assert_count(elsewhere, 0);
    }

    #[test]
    fn many_connections_are_cheap() {
        // 400 and not 10,000: a test may not count on more descriptors than the usual 1024.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pairs: Vec<(TcpStream, TcpStream)> = (0..400)
            .map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0))
            .collect();
        let begun = Instant::now();
        assert_eq!(by_netlink(address).unwrap(), pairs.len());
        assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
    }
}
