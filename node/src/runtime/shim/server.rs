//! The shim's socket: takes requests from the daemon and hands them to the supervisor.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::time::sleep;

use super::message::{Event, Request, Response, read_frame, write_frame};
use super::supervisor::Question;

/// Connections that are served at once. The daemon needs three; more are a mistake of somebody's.
const CONNECTIONS_MAX: usize = 64;

/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections get their answers from.
#[derive(Clone)]
pub(super) struct Desk {
    pub questions: mpsc::Sender<Question>,
    pub events: broadcast::Sender<Event>,
}

/// Accepts for ever.
pub(super) async fn serve(listener: UnixListener, desk: Desk) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, for example: others have to end first.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let desk = desk.clone();
        tokio::spawn(async move {
            // An error here is a daemon that went away or speaks nonsense; it will be back.
            let _ = desk.converse(stream).await;
            drop(place);
        });
    }
}

impl Desk {
    async fn converse(&self, mut stream: UnixStream) -> io::Result<()> {
        loop {
            let request: Request = read_frame(&mut stream).await?;
            // Subscribed first, so that nothing falls between the status and the first event.
            let events = matches!(request, Request::Subscribe).then(|| self.events.subscribe());
            let response = self.ask(request).await?;
            write_frame(&mut stream, &response).await?;
            if let Some(events) = events {
                return tell_events(stream, events).await;
            }
        }
    }

    async fn ask(&self, request: Request) -> io::Result<Response> {
        let (reply, response) = oneshot::channel();
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.questions.send((request, reply)).await.map_err(|_| gone(()))?;
        response.await.map_err(|_| gone(()))
    }
}

/// One who is too slow for the events is cut off: on return it gets the status, which says more.
async fn tell_events(
    mut stream: UnixStream,
    mut events: broadcast::Receiver<Event>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    loop {
        tokio::select! {
            event = events.recv() => {
                let event = event.map_err(io::Error::other)?;
                write_frame(&mut writer, &event).await?;
            }
            // The subscriber says nothing more; what can be read is its end.
            _ = reader.read_u8() => return Ok(()),
        }
    }
}
