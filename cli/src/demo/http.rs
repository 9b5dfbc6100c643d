//! The least of HTTP that the demo's clients need: one request, one answer, one connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Bytes of an answer that are read; the files that the demo asks for are far smaller.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, 200 where all is well.
    pub status: u16,
    /// What came after the head.
    pub body: Vec<u8>,
}

/// Asks a port of this host, over a connection of its own.
///
/// # Errors
/// When it cannot be reached, does not answer in `within`, or answers no whole HTTP.
pub async fn get(port: u16, path: &str, within: Duration) -> io::Result<Answer> {
    let ask = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        exchange(stream, path).await
    };
    timeout(within, ask).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Asks the API of a node, on its socket.
///
/// # Errors
/// As [`get`].
pub async fn get_unix(
    socket: &std::path::Path,
    path: &str,
    within: Duration,
) -> io::Result<Answer> {
    let ask = async { exchange(UnixStream::connect(socket).await?, path).await };
    timeout(within, ask).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
) -> io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no whole answer"))
}

/// A whole answer; `None` where its head or a part of its body is missing.
pub fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = bytes.split_at(end);
    let head = std::str::from_utf8(head).ok()?;
    let status = status(head)?;
    let body = body.get(4..)?;
    let whole = length(head).is_none_or(|length| length == body.len());
    whole.then(|| Answer { status, body: body.to_vec() })
}

/// The status in a head's first line.
pub fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.trim().parse().ok()
}

/// The length of the body that a head announces.
pub fn length(head: &str) -> Option<usize> {
    let is_length = |name: &str| name.eq_ignore_ascii_case("content-length");
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| is_length(name)).and_then(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_is_read() {
        let answer = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv1").unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"v1".as_slice()));
    }

    #[test]
    fn a_cut_answer_is_none() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nv1"), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), None);
    }
}
