//! Frames on one stream, and the queues before it.

use std::collections::BTreeSet;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_protocol::id::{NodeId, ReleaseId};
use baton_protocol::limits::{CHUNK_BYTES_MAX, CONTROL_FRAME_BYTES_MAX};
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::swarm::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::{BulkEvent, BulkFrame, NetEvent};

/// Control frames that may wait for one peer: some seconds of a busy mesh.
const CONTROL_QUEUE_MAX: usize = 4096;

/// Bytes of control frames that may wait for one peer: a few of the longest, or thousands of usual ones.
const CONTROL_QUEUE_BYTES_MAX: usize = 8 * CONTROL_FRAME_BYTES_MAX;

/// Chunks that may wait for one peer: more than the swarm has under way to it.
const BULK_QUEUE_MAX: usize = 64;

/// Frames that a peer may send before it has proved itself: its proof, and little else.
const UNPROVEN_FRAMES_MAX: u32 = 8;

/// Bytes of each of them. A longer frame is not read before the peer has proved itself.
const UNPROVEN_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a bulk frame before the chunk: release, part, index.
const BULK_HEADER_BYTES: usize = 32 + 1 + 4;

/// A control frame that waits, and its share of the room.
struct Queued {
    frame: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// The way out to one peer.
pub(crate) struct Outlet {
    control: mpsc::Sender<Queued>,
    /// Bytes that may still be queued.
    room: Arc<Semaphore>,
    bulk: mpsc::Sender<(u64, BulkFrame)>,
    cancelled: Arc<Mutex<BTreeSet<u64>>>,
    admitted: watch::Sender<bool>,
}

/// The other ends of an [`Outlet`].
pub(super) struct Inlet {
    control: mpsc::Receiver<Queued>,
    bulk: mpsc::Receiver<(u64, BulkFrame)>,
    cancelled: Arc<Mutex<BTreeSet<u64>>>,
    admitted: watch::Receiver<bool>,
}

impl Outlet {
    pub(super) fn new() -> (Self, Inlet) {
        let (control, control_out) = mpsc::channel(CONTROL_QUEUE_MAX);
        let (bulk, bulk_out) = mpsc::channel(BULK_QUEUE_MAX);
        let (admitted, is_admitted) = watch::channel(false);
        let cancelled = Arc::<Mutex<BTreeSet<u64>>>::default();
        let inlet = Inlet {
            control: control_out,
            bulk: bulk_out,
            cancelled: Arc::clone(&cancelled),
            admitted: is_admitted,
        };
        let room = Arc::new(Semaphore::new(CONTROL_QUEUE_BYTES_MAX));
        (Self { control, room, bulk, cancelled, admitted }, inlet)
    }

    /// False if the queue is full.
    pub(crate) fn send_control(&self, frame: Vec<u8>) -> bool {
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else { return false };
        let queued = self.control.try_send(Queued { frame, _room: room });
        !matches!(queued, Err(mpsc::error::TrySendError::Full(_)))
    }

    pub(crate) fn send_bulk(&self, ticket: u64, frame: BulkFrame) -> bool {
        self.bulk.try_send((ticket, frame)).is_ok()
    }

    pub(crate) fn cancel_bulk(&self, ticket: u64) {
        let mut cancelled = self.cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        cancelled.insert(ticket);
        while cancelled.len() > 4 * BULK_QUEUE_MAX {
            cancelled.pop_first();
        }
    }

    pub(crate) fn admit(&self) {
        self.admitted.send_replace(true);
    }
}

/// Runs both streams of a pair until one of them ends; says why.
pub(super) async fn run(
    node: NodeId,
    control: Stream,
    bulk: Stream,
    inlet: Inlet,
    within: Duration,
    events: mpsc::Sender<NetEvent>,
    chunks: mpsc::Sender<BulkEvent>,
) -> String {
    let (control_in, control_out) = control.split();
    let (bulk_in, bulk_out) = bulk.split();
    let Inlet { control, bulk, cancelled, admitted } = inlet;
    let admitted = Admission { admitted, until: Instant::now() + within };
    // A task for each way of each stream: libp2p's multiplexer wants to be read while it is written.
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(read_control(node, control_in, events.clone(), admitted.clone()));
    tasks.spawn(write_control(control_out, control));
    tasks.spawn(read_bulk(node, bulk_in, chunks, admitted));
    tasks.spawn(write_bulk(node, bulk_out, bulk, cancelled, events));
    let ended = tasks.join_next().await;
    tasks.abort_all();
    match ended {
        Some(Ok(Err(error))) => error.to_string(),
        _ => "closed".to_owned(),
    }
}

fn too_large(size: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {size} bytes, over the limit"))
}

async fn read_length(stream: &mut ReadHalf<Stream>, limit: usize) -> io::Result<usize> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > limit { Err(too_large(length)) } else { Ok(length) }
}

async fn read_body(stream: &mut ReadHalf<Stream>, length: usize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn read_frame(stream: &mut ReadHalf<Stream>, limit: usize) -> io::Result<Vec<u8>> {
    let length = read_length(stream, limit).await?;
    read_body(stream, length).await
}

/// Whether the peer has proved itself, and until when it has to.
#[derive(Clone)]
struct Admission {
    admitted: watch::Receiver<bool>,
    until: Instant,
}

impl Admission {
    async fn granted(&mut self) -> io::Result<()> {
        let waited = timeout_at(self.until, self.admitted.wait_for(|it| *it)).await;
        let late =
            || io::Error::new(io::ErrorKind::PermissionDenied, "it has not proved itself in time");
        waited.map_err(|_| late())?.map(|_| ()).map_err(|_| late())
    }

    /// What is read of a peer before it is admitted, or after; one that is not admitted in time is
    /// waited for no longer.
    async fn guard<T>(&mut self, read: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut read = pin!(read);
        tokio::select! {
            biased;
            read = &mut read => read,
            granted = self.granted() => {
                granted?;
                read.await
            }
        }
    }
}

async fn read_control(
    from: NodeId,
    mut stream: ReadHalf<Stream>,
    events: mpsc::Sender<NetEvent>,
    mut admission: Admission,
) -> io::Result<()> {
    for _ in 0..UNPROVEN_FRAMES_MAX {
        let length = admission.guard(read_length(&mut stream, CONTROL_FRAME_BYTES_MAX)).await?;
        if length > UNPROVEN_FRAME_BYTES_MAX {
            admission.granted().await?;
        }
        let bytes = admission.guard(read_body(&mut stream, length)).await?;
        let _ = events.send(NetEvent::Control { from, bytes }).await;
    }
    admission.granted().await?;
    loop {
        let bytes = read_frame(&mut stream, CONTROL_FRAME_BYTES_MAX).await?;
        let _ = events.send(NetEvent::Control { from, bytes }).await;
    }
}

async fn write_control(
    mut stream: WriteHalf<Stream>,
    mut queue: mpsc::Receiver<Queued>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(queued) = queue.recv().await {
        buffer.clear();
        append(&mut buffer, &queued.frame);
        // Whatever else waits goes in the same write.
        while buffer.len() < CONTROL_FRAME_BYTES_MAX {
            let Ok(queued) = queue.try_recv() else { break };
            append(&mut buffer, &queued.frame);
        }
        stream.write_all(&buffer).await?;
        stream.flush().await?;
    }
    Ok(())
}

fn append(buffer: &mut Vec<u8>, frame: &[u8]) {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(frame);
}

async fn read_bulk(
    from: NodeId,
    mut stream: ReadHalf<Stream>,
    chunks: mpsc::Sender<BulkEvent>,
    mut admission: Admission,
) -> io::Result<()> {
    admission.granted().await?;
    loop {
        let mut frame = read_frame(&mut stream, CHUNK_BYTES_MAX + BULK_HEADER_BYTES).await?;
        let bytes = frame.split_off(BULK_HEADER_BYTES.min(frame.len()));
        let frame = parse(&frame, bytes).ok_or_else(|| too_large(0))?;
        let _ = chunks.send(BulkEvent { from, frame }).await;
    }
}

fn parse(header: &[u8], bytes: Vec<u8>) -> Option<BulkFrame> {
    let (release, rest) = header.split_first_chunk::<32>()?;
    let (part, rest) = rest.split_first()?;
    let (index, _) = rest.split_first_chunk::<4>()?;
    let release = ReleaseId(*release);
    Some(BulkFrame { release, manifest: *part == 0, index: u32::from_le_bytes(*index), bytes })
}

fn header(frame: &BulkFrame) -> Vec<u8> {
    let length = BULK_HEADER_BYTES + frame.bytes.len();
    let mut header = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    header.extend_from_slice(&frame.release.0);
    header.push(u8::from(!frame.manifest));
    header.extend_from_slice(&frame.index.to_le_bytes());
    header
}

async fn write_bulk(
    to: NodeId,
    mut stream: WriteHalf<Stream>,
    mut queue: mpsc::Receiver<(u64, BulkFrame)>,
    cancelled: Arc<Mutex<BTreeSet<u64>>>,
    events: mpsc::Sender<NetEvent>,
) -> io::Result<()> {
    while let Some((ticket, frame)) = queue.recv().await {
        let dropped = cancelled.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
        if dropped {
            let _ = events.send(NetEvent::BulkDropped { to, ticket }).await;
            continue;
        }
        stream.write_all(&header(&frame)).await?;
        stream.write_all(&frame.bytes).await?;
        stream.flush().await?;
        let _ = events.send(NetEvent::BulkSent { to, ticket }).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_chunk_keeps_its_form() {
        let release = ReleaseId([7; 32]);
        let frame = BulkFrame { release, manifest: false, index: 300, bytes: vec![1; 10] };
        let bytes = header(&frame);
        let golden = format!("2f000000{}012c010000", "07".repeat(32));
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), golden);
        assert_eq!(parse(&bytes[4..], vec![1; 10]), Some(frame));
    }
}
