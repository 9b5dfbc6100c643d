//! Brings a configuration into a HAProxy that runs.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use baton_node::api::balancer::BalancerView;
use baton_node::api::view::PermitView;
use baton_protocol::id::GroupName;

use crate::client::Client;
use crate::demo::haproxy;
use crate::exit::{Exit, Failed};

/// How long HAProxy may take to have every server: a check and an agent's answer, and many servers.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// Pause between two looks: as often as the node reads HAProxy.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A HAProxy that loads its configuration has forgotten which servers drain.
pub async fn refuse_under_permits(client: &Client, group: &GroupName) -> Result<(), Failed> {
    let permits: Vec<PermitView> = client.get("/v1/permits").await?;
    match permits.iter().find(|permit| permit.group == group.as_str()) {
        None => Ok(()),
        Some(permit) => Err(Failed {
            message: format!(
                "{} holds permit {}, and HAProxy would send to it while it drains: wait for the rollout",
                permit.node, permit.id
            ),
            exit: Exit::Conflict,
        }),
    }
}

/// Replaces the file by one that HAProxy accepts; else nothing is changed.
pub fn write(file: &Path, text: &str) -> Result<(), Failed> {
    let failed = |error| Failed::error(format!("{} cannot be written: {error}", file.display()));
    let mut new = file.as_os_str().to_owned();
    new.push(".baton-new");
    let new = Path::new(&new);
    let replace = || {
        std::fs::write(new, text)?;
        std::fs::set_permissions(new, std::fs::metadata(file)?.permissions())?;
        std::fs::File::open(new)?.sync_all()
    };
    let accepted = replace().map_err(failed).and_then(|()| check(new));
    let done = accepted.and_then(|()| std::fs::rename(new, file).map_err(failed));
    if done.is_err() {
        let _ = std::fs::remove_file(new); // it may not even be there
    }
    done
}

fn check(file: &Path) -> Result<(), Failed> {
    let program = haproxy::find().ok_or_else(|| Failed::error("haproxy is not installed here"))?;
    let output = Command::new(program).arg("-c").arg("-f").arg(file).output();
    let output = output.map_err(|error| Failed::error(format!("haproxy: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failed::refused(format!("HAProxy refuses it, and nothing was changed: {}", said.trim())))
}

/// Has HAProxy load its configuration, by a command without a shell.
pub fn reload(command: &str) -> Result<(), Failed> {
    let failed = |why: String| {
        Failed::error(format!(
            "written, and not loaded: {command}: {why}; load it, or see --reload"
        ))
    };
    let mut words = command.split_whitespace();
    let program = words.next().ok_or_else(|| failed("an empty command".to_owned()))?;
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{} {}", output.status, said.trim())))
}

/// Waits until the node beside HAProxy has read each server there; one that reads nothing is not waited
/// for.
pub async fn wait_until_seen(client: &Client, path: &str) -> Result<(), Failed> {
    let until = Instant::now() + SEEN_WITHIN;
    loop {
        let view: BalancerView = client.get(path).await?;
        let unseen = view.servers.iter().find(|server| server.state.is_none());
        let Some(unseen) = unseen.filter(|_| view.read_here) else { return Ok(()) };
        if Instant::now() >= until {
            return Err(Failed {
                message: format!("{} is not seen in HAProxy within {SEEN_WITHIN:?}", unseen.name),
                exit: Exit::TimedOut,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
