use std::path::Path;

use baton_protocol::id::{MeshId, NodeId};
use baton_protocol::trust;
use tempfile::tempdir;

use super::*;
use crate::config::Overrides;
use crate::keys::MeshFile;

fn config(data_dir: &Path) -> Config {
    let overrides = Overrides {
        data_dir: Some(data_dir.display().to_string()),
        name: Some("n1".into()),
        listen: Some("127.0.0.1:0".into()),
        agent_check: Some("off".into()),
        ..Overrides::default()
    };
    Config::load(None, |_| None, &overrides).unwrap()
}

/// What `baton init` leaves.
fn init(data_dir: &Path) {
    let node = keys::create(data_dir, KeyFile::Node).unwrap();
    let root = keys::create(data_dir, KeyFile::Root).unwrap();
    keys::create(data_dir, KeyFile::Publisher).unwrap();
    let mesh = MeshFile {
        mesh: MeshId(root.public()),
        name: "prod".parse().unwrap(),
        certificate: trust::founder(&root, [2; 32], NodeId(node.public())),
        bootstrap: Vec::new(),
    };
    mesh.store(data_dir).unwrap();
}

/// Runs a node until it leads its log.
async fn live(data_dir: &Path) -> Result<(), RunError> {
    let (handle, node) = loop {
        match start(config(data_dir), ShimProgram::default()).await {
            // The threads of the life before have not closed its files yet.
            Err(RunError::Store(_) | RunError::Disk(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            started => break started?,
        }
    };
    let leads = async {
        while handle.look(|peer, _| peer.leads()).await != Some(true) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let leads = tokio::time::timeout(Duration::from_secs(30), leads);
    tokio::select! {
        ended = node => ended,
        led = leads => {
            led.unwrap();
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_founder_without_its_state_founds_no_second_log() {
    let dir = tempdir().unwrap();
    init(dir.path());
    live(dir.path()).await.unwrap();
    live(dir.path()).await.unwrap();
    std::fs::remove_file(dir.path().join(STATE_FILE)).unwrap();
    let error = live(dir.path()).await.unwrap_err();
    assert!(matches!(error, RunError::StateGone(_)), "{error}");
    // Nor the next time, though there is a state file again by now.
    let error = live(dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("a new token"), "{error}");
}

#[tokio::test]
async fn a_founder_that_ended_before_its_mark_makes_it_up() {
    let dir = tempdir().unwrap();
    init(dir.path());
    live(dir.path()).await.unwrap();
    std::fs::remove_file(dir.path().join("founded")).unwrap();
    live(dir.path()).await.unwrap();
    assert!(keys::has_founded(dir.path()).unwrap());
}
