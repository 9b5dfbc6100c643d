//! The service of the tests: answers `/ready` with its release's `VERSION`, as its `MODE` says, and
//! `/pid` with its process' number.
//! `testd PORT`, run in the release's directory.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

fn main() {
    let port: u16 = std::env::args().nth(1).unwrap().parse().unwrap();
    let read = |name| std::fs::read_to_string(name).unwrap_or_default().trim().to_owned();
    let (version, mode) = (read("VERSION"), read("MODE"));
    if mode == "crash" {
        eprintln!("KeyError: DB_URL");
        std::process::exit(1);
    }
    let status = if mode == "unready" { "503 Service Unavailable" } else { "200 OK" };
    let body = if mode == "unready" { "no database".to_owned() } else { version };
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for stream in listener.incoming().flatten() {
        let body = body.clone();
        std::thread::spawn(move || serve(stream, status, body));
    }
}

fn serve(mut stream: TcpStream, status: &str, mut body: String) {
    let mut request = [0; 4096];
    let read = stream.read(&mut request).unwrap_or_default();
    if request[..read].starts_with(b"GET /pid ") {
        body = std::process::id().to_string();
    }
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}
