//! The service of the tests: it answers `/ready` with its release's `VERSION`, as its `MODE` says,
//! and `/pid` with its process' number; on SIGTERM it ends what runs before it goes. `testd PORT`, run in the
//! release's directory.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// What `/slow` takes: long beside a request, short beside a drain.
const SLOW: Duration = Duration::from_millis(200);

/// What a slow start takes: balancers see that nobody is there.
const STARTS_IN: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port: u16 = std::env::args().nth(1).unwrap().parse().unwrap();
    let read = |name| std::fs::read_to_string(name).unwrap_or_default().trim().to_owned();
    let (version, mode) = (read("VERSION"), read("MODE"));
    if mode == "crash" {
        eprintln!("KeyError: DB_URL");
        std::process::exit(1);
    }
    if mode == "slow" {
        tokio::time::sleep(STARTS_IN).await;
    }
    let ready = match mode.as_str() {
        "unready" => (StatusCode::SERVICE_UNAVAILABLE, "no database".to_owned()),
        _ => (StatusCode::OK, version),
    };
    let slow = async || tokio::time::sleep(SLOW).await;
    let app = Router::new()
        .route("/ready", get(async || ready))
        .route("/pid", get(async || std::process::id().to_string()))
        .route("/slow", get(slow))
        .route("/echo", post(async |body: Bytes| body));
    let mut ended = signal(SignalKind::terminate()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    if mode == "leak" {
        leak();
    }
    let end = async move { ended.recv().await.unwrap_or_default() };
    axum::serve(listener, app).with_graceful_shutdown(end).await.unwrap();
}

/// Opens files until there are no descriptors left, and never closes one: nobody is accepted any more.
fn leak() {
    let few = Rlimit { current: Some(256), maximum: Some(256) };
    setrlimit(Resource::Nofile, few).unwrap();
    let open = || std::fs::File::open("/dev/null").map(std::mem::forget);
    while open().is_ok() {}
}
