//! The node's small durable state: one table of keys and values, written in atomic batches.

use std::collections::BTreeMap;
use std::path::Path;

use baton_protocol::codec;
use baton_protocol::disk::{Batch, Key, Token, Value};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::mpsc;

const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");

/// Batches that one sync may carry.
const BATCHES_PER_SYNC: usize = 256;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The database refuses.
    #[error("the state in {path} cannot be used: {cause}")]
    Database {
        /// The file.
        path: String,
        /// What it says.
        cause: String,
    },
    /// A key that no baton of this version has written.
    #[error("the state in {path} was written by another version of baton: {cause}")]
    Foreign {
        /// The file.
        path: String,
        /// What was found.
        cause: String,
    },
}

/// Everything that is there, and a way to change it.
pub(super) struct Disk {
    /// What was there at the start.
    pub(super) stored: BTreeMap<Key, Value>,
    /// Takes batches, in order.
    pub(super) batches: mpsc::UnboundedSender<Batch>,
    /// Tokens of batches that are synced; closed when the disk fails.
    pub(super) synced: mpsc::UnboundedReceiver<Token>,
}

/// Opens the state in `path`, which is made where it is not there.
pub(super) fn open(path: &Path) -> Result<Disk, DiskError> {
    let failed = |cause: &dyn std::fmt::Display| DiskError::Database {
        path: path.display().to_string(),
        cause: cause.to_string(),
    };
    let database = Database::create(path).map_err(|it| failed(&it))?;
    let stored = read(&database).map_err(|it| failed(&it))?;
    let mut decoded = BTreeMap::new();
    for (key, value) in stored {
        let key = codec::decode(&key).map_err(|error| DiskError::Foreign {
            path: path.display().to_string(),
            cause: error.to_string(),
        })?;
        decoded.insert(key, value.into());
    }
    // As many as the machines let wait for the disk: a voter's `HELD_MAX`, a journal for each group, an
    // address book and a fleet now and then. The loop may not wait here: what it waits for is behind it.
    let (batches, taken) = mpsc::unbounded_channel();
    let (tell, synced) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name("disk".to_owned())
        .spawn(move || write_all(&database, taken, &tell))
        .map_err(|it| failed(&it))?;
    Ok(Disk { stored: decoded, batches, synced })
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn read(database: &Database) -> Result<Pairs, redb::Error> {
    let setup = database.begin_write()?;
    setup.open_table(STATE)?;
    setup.commit()?;
    let transaction = database.begin_read()?;
    let table = transaction.open_table(STATE)?;
    let mut pairs = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        pairs.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(pairs)
}

/// Writes batches until there are no more to come, or the disk fails: then nothing is confirmed any
/// more, as what was said after would rest on nothing.
fn write_all(
    database: &Database,
    mut batches: mpsc::UnboundedReceiver<Batch>,
    synced: &mpsc::UnboundedSender<Token>,
) {
    let mut waiting = Vec::new();
    while let Some(first) = batches.blocking_recv() {
        waiting.push(first);
        while waiting.len() < BATCHES_PER_SYNC {
            let Ok(next) = batches.try_recv() else { break };
            waiting.push(next);
        }
        if let Err(error) = write(database, &waiting) {
            tracing::error!(%error, "the state cannot be written");
            return;
        }
        for batch in waiting.drain(..) {
            let _ = synced.send(batch.token);
        }
    }
}

/// One commit for all of them; redb syncs at the end of it.
fn write(database: &Database, batches: &[Batch]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(STATE)?;
        for (key, value) in batches.iter().flat_map(|batch| &batch.writes) {
            let key = codec::encode(key);
            match value {
                Some(value) => drop(table.insert(key.as_slice(), &**value)?),
                None => drop(table.remove(key.as_slice())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
