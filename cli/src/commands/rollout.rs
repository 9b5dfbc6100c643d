//! `baton rollout`: looks at rollouts, waits for them, and steers them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use baton_node::api::view::{RolloutNode, RolloutView};
use baton_protocol::id::{GroupName, PermitId};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::cli::{Shared, person};
use crate::commands::token::parse_duration;
use crate::exit::{Exit, Failed, Outcome};
use crate::output::{Format, done, or_dash, print_line, show, table, yes};
use crate::progress::bar;

/// Pause between two looks at a rollout.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a rollout may be blocked before the wait ends: what blocks it may pass by itself.
const BLOCKED_FOR: Duration = Duration::from_secs(60);

/// How long the node may be away while a rollout is waited for: a daemon that is updated.
const AWAY_FOR: Duration = Duration::from_secs(30);

/// How long the log may have no leader before the wait ends: many elections.
const LEADERLESS_FOR: Duration = Duration::from_secs(30);

/// What can be done with rollouts.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// How the last rollout of a group stands.
    Status {
        #[command(flatten)]
        on: On,
        /// Wait for its end.
        #[arg(long)]
        wait: bool,
        /// How long to wait.
        #[arg(long, default_value = "1h", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// No new permit until resumed; what has begun ends.
    Pause(On),
    /// Go on.
    Resume(On),
    /// End the pause after this stage now.
    Promote(On),
    /// Stop where it is: what is done stays, nothing new starts.
    Abort(On),
    /// Back to the release before, or to one that the group had.
    Rollback {
        #[command(flatten)]
        on: On,
        /// To this version. Without it, the rollout under way turns back.
        #[arg(long)]
        to: Option<String>,
        /// Do not wait for the end.
        #[arg(long)]
        no_wait: bool,
        /// How long to wait. The rollback goes on after that.
        #[arg(long, default_value = "1h", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Close a permit whose holder never comes back.
    Override {
        /// Which permit, from `baton permits`.
        permit: PermitId,
        /// You state that the node is powered off, or out of the balancer.
        #[arg(long)]
        fenced: bool,
        /// Why; it stands in the audit log.
        #[arg(long)]
        reason: String,
    },
}

/// Which rollout.
#[derive(Debug, clap::Args)]
pub struct On {
    /// Of which group.
    #[arg(short, long)]
    group: GroupName,
}

/// Looks or steers.
pub async fn run(shared: &Shared, command: Command) -> Outcome {
    let client = shared.client();
    let (on, word) = match command {
        Command::Status { on, wait: true, timeout } => {
            return wait(shared, &on.group, None, timeout).await;
        }
        Command::Status { on, .. } => {
            let view: RolloutView = client.get(&format!("/v1/rollouts/{}", on.group)).await?;
            show(shared.output, &view, in_rows);
            return Ok(Exit::Done);
        }
        Command::Rollback { on, to: Some(to), no_wait, timeout } => {
            let body = json!({"group": on.group, "release": to, "back": true, "person": person()});
            let made: Made = client.post("/v1/rollouts", &body).await?;
            let told = json!({"rollout": made.rollout, "group": on.group});
            if no_wait {
                done(
                    shared.output,
                    told,
                    &format!("under way: {}", or_dash(made.rollout.as_ref())),
                );
                return Ok(Exit::Done);
            }
            return wait(shared, &on.group, made.rollout, timeout).await;
        }
        Command::Override { permit, fenced, reason } => {
            let body = json!({"fenced": fenced, "reason": reason, "person": person()});
            let _: Value = client.post(&format!("/v1/permits/{permit}/override"), &body).await?;
            let told = json!({"permit": permit.to_string(), "closed": true});
            done(shared.output, told, &format!("permit {permit} is closed"));
            return Ok(Exit::Done);
        }
        Command::Rollback { on, no_wait, timeout, .. } => {
            if no_wait {
                steer(shared, &on, "rollback").await?;
                return Ok(Exit::Done);
            }
            let view: RolloutView = client.get(&format!("/v1/rollouts/{}", on.group)).await?;
            order(shared, &on, "rollback").await?;
            // Here the way back is what was asked for.
            return match wait(shared, &on.group, Some(view.id), timeout).await? {
                Exit::RolledBack => Ok(Exit::Done),
                other => Ok(other),
            };
        }
        Command::Pause(on) => (on, "pause"),
        Command::Resume(on) => (on, "resume"),
        Command::Promote(on) => (on, "promote"),
        Command::Abort(on) => (on, "abort"),
    };
    steer(shared, &on, word).await?;
    Ok(Exit::Done)
}

/// What the API says of a rollout that it made.
#[derive(Debug, serde::Deserialize)]
pub struct Made {
    /// Its id; `None` where nothing had to be rolled out.
    pub rollout: Option<String>,
}

async fn order(shared: &Shared, on: &On, order: &str) -> Result<(), Failed> {
    let body = json!({"order": order, "person": person()});
    let path = format!("/v1/rollouts/{}/orders", on.group);
    let _: Value = shared.client().post(&path, &body).await?;
    Ok(())
}

async fn steer(shared: &Shared, on: &On, word: &str) -> Result<(), Failed> {
    order(shared, on, word).await?;
    let told = json!({"order": word, "group": on.group});
    done(shared.output, told, &format!("{word}: {}", on.group));
    Ok(())
}

/// Waits for the end of a rollout, telling what happens; without an id, of the group's last one. Ctrl-C
/// stops the waiting and nothing else.
pub async fn wait(
    shared: &Shared,
    group: &GroupName,
    id: Option<String>,
    timeout: Duration,
) -> Outcome {
    let until = Instant::now() + timeout;
    let mut teller = Teller::new(shared.output);
    let mut id = id;
    let (mut blocked_since, mut leaderless_since) = (None, None);
    let mut seen_at = Instant::now();
    loop {
        let query = id.as_ref().map(|id| format!("?id={id}")).unwrap_or_default();
        let path = format!("/v1/rollouts/{group}{query}");
        match shared.client().get::<RolloutView>(&path).await {
            Ok(view) => {
                seen_at = Instant::now();
                teller.tell(&view);
                // A later one is somebody else's.
                id.get_or_insert_with(|| view.id.clone());
                if let Some(exit) = end(&view) {
                    teller.finish(&view);
                    return Ok(exit);
                }
                if lasts(&mut leaderless_since, view.leader.is_none(), LEADERLESS_FOR) {
                    return Err(Failed { message: no_quorum(group), exit: Exit::NoQuorum });
                }
                if lasts(&mut blocked_since, view.phase == "blocked", BLOCKED_FOR) {
                    teller.finish(&view);
                    return Ok(Exit::Paused);
                }
            }
            // What was just made may not have come to this node yet; what was not made never will.
            Err(failed) if id.is_none() && failed.exit == Exit::Refused => return Err(failed),
            Err(failed) if seen_at.elapsed() > AWAY_FOR => return Err(failed),
            Err(_) => {}
        }
        if Instant::now() >= until {
            let text = format!(
                "still under way; go on waiting with: baton rollout status -g {group} --wait"
            );
            return Err(Failed { message: text, exit: Exit::TimedOut });
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = tokio::signal::ctrl_c() => {
                let text = format!("the rollout goes on; come back with: baton rollout status -g {group} --wait");
                return Err(Failed { message: text, exit: Exit::TimedOut });
            }
        }
    }
}

/// Whether something has been so for at least `long`.
fn lasts(since: &mut Option<Instant>, is_so: bool, long: Duration) -> bool {
    if !is_so {
        *since = None;
        return false;
    }
    since.get_or_insert_with(Instant::now).elapsed() >= long
}

fn no_quorum(group: &GroupName) -> String {
    format!(
        "no quorum: nobody has led the log for {LEADERLESS_FOR:?}, as too few voters reach each other \
         (baton status). What runs goes on; no further service is taken down until they do. Go on \
         waiting with: baton rollout status -g {group} --wait"
    )
}

/// The exit code of a rollout that needs no more waiting.
fn end(view: &RolloutView) -> Option<Exit> {
    match view.phase.as_str() {
        "done" => Some(Exit::Done),
        "rolled-back" => Some(Exit::RolledBack),
        "paused" if view.back && !view.paused_by_person => Some(Exit::RollbackIncomplete),
        "paused" => Some(Exit::Paused),
        "aborted" | "superseded" => Some(Exit::Error),
        _ => None,
    }
}

/// Tells how a rollout goes: a bar on a terminal, a line for each event off it, or JSON.
struct Teller {
    format: Format,
    bar: Option<ProgressBar>,
    last: Option<RolloutView>,
    /// Nodes of which it was told that they have the release. What the leader knows comes and goes.
    staged: BTreeSet<String>,
}

impl Teller {
    fn new(format: Format) -> Self {
        Self { format, bar: bar(format), last: None, staged: BTreeSet::new() }
    }

    fn tell(&mut self, view: &RolloutView) {
        if let Some(bar) = &self.bar {
            bar.set_length(view.nodes.len() as u64);
            bar.set_position(there(view));
            bar.set_message(headline(view));
        } else {
            let before = self.last.as_ref().map(events);
            let before = before.unwrap_or_default();
            let news = events(view).into_iter().filter(|event| !before.contains(event));
            for event in self.newly_staged(view).into_iter().chain(news) {
                match self.format {
                    Format::Text => print_line(&event),
                    Format::Json => print_line(&json!({"event": event}).to_string()),
                }
            }
        }
        self.last = Some(view.clone());
    }

    fn newly_staged(&mut self, view: &RolloutView) -> Vec<String> {
        let staged = view.nodes.iter().filter(|node| node.staged == Some(true));
        let new = staged.filter(|node| self.staged.insert(node.name.clone()));
        new.map(|node| format!("{} has all of {}", node.name, view.version)).collect()
    }

    fn finish(&mut self, view: &RolloutView) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        match self.format {
            Format::Json => print_line(&serde_json::to_string(view).unwrap_or_default()),
            Format::Text => print_line(&last_word(view)),
        }
    }
}

/// Members that count and are where the rollout wants them.
fn there(view: &RolloutView) -> u64 {
    view.arrived as u64
}

fn headline(view: &RolloutView) -> String {
    let moving: Vec<_> =
        view.nodes.iter().filter(|node| node.permit.is_some()).map(node_in_words).collect();
    let reason = view.reason.as_ref().map(|reason| format!(": {}", first_line(reason)));
    let reason = reason.unwrap_or_default();
    format!("{}{reason}{} {}", view.phase, staging(view), moving.join(", "))
}

/// How far the release has spread, until all that the leader hears of have it.
fn staging(view: &RolloutView) -> String {
    let known: Vec<_> = view.nodes.iter().filter_map(|node| Some((node.staged?, node))).collect();
    let whole = known.iter().filter(|(staged, _)| *staged).count();
    if whole == known.len() {
        return String::new();
    }
    let share = |(staged, node): &(bool, &RolloutNode)| match staged {
        true => 1000,
        false => u64::from(node.fetched.unwrap_or_default()),
    };
    let percent = known.iter().map(share).sum::<u64>() / (10 * known.len() as u64);
    format!(", {percent}% staged, all of it on {whole} of {}", known.len())
}

fn node_in_words(node: &RolloutNode) -> String {
    match &node.condition {
        Some(condition) => format!("{} {}", node.name, first_line(condition)),
        None => node.name.clone(),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// What can be said of a rollout's present state, a line each; what was said before is not said again.
fn events(view: &RolloutView) -> Vec<String> {
    let mut events = Vec::new();
    let reason = view.reason.as_ref().map(|reason| format!(": {reason}"));
    let stage = match view.stages {
        0 | 1 => String::new(),
        stages => format!(", stage {} of {stages}", view.stage),
    };
    events.push(format!("{} {}{stage}{}", view.id, view.phase, reason.unwrap_or_default()));
    if view.leader.is_none() && !view.over {
        events.push("nobody leads the log that this node knows of".to_owned());
    }
    let target = if view.back || view.phase == "rolling-back" {
        view.previous.as_ref()
    } else {
        Some(&view.version)
    };
    for node in &view.nodes {
        if node.permit.is_some() {
            events.push(format!("{} has a permit", node.name));
        } else if node.version.as_ref() == target && target.is_some() {
            events.push(format!("{} in service on {}", node.name, or_dash(target)));
        }
        if let Some(failure) = &node.failure {
            events.push(format!("{} failed: {failure}", node.name));
        }
    }
    events
}

fn last_word(view: &RolloutView) -> String {
    let reason = view.reason.clone().unwrap_or_default();
    match view.phase.as_str() {
        "done" => format!("done: {} of {} on {}", view.arrived, view.total, view.version),
        "rolled-back" => format!("{reason}\nrolled back to {}", or_dash(view.previous.as_ref())),
        other => format!("{other}: {reason}"),
    }
}

fn in_rows(view: &RolloutView) -> String {
    let row = |node: &RolloutNode| {
        vec![
            node.name.clone(),
            node.standing.clone(),
            or_dash(node.version.as_ref()),
            node.staged.map_or_else(|| "?".to_owned(), yes),
            node.condition.as_deref().map_or("?", first_line).to_owned(),
            or_dash(node.permit.as_ref()),
        ]
    };
    let rows: Vec<_> = view.nodes.iter().map(row).collect();
    let reason = view.reason.as_ref().map(|reason| format!("\n{reason}"));
    format!(
        "{} of {} on {}: {}, stage {} of {}, {} of {} there, permits {} of {}{}\n\n{}",
        view.id,
        view.version,
        view.group,
        view.phase,
        view.stage,
        view.stages,
        view.arrived,
        view.total,
        view.permits,
        or_dash(view.limit.as_ref()),
        reason.unwrap_or_default(),
        table(&["NODE", "STANDING", "VERSION", "STAGED", "CONDITION", "PERMIT"], &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(phase: &str) -> RolloutView {
        let view = json!({
            "id": "r7", "group": "web", "version": "v2", "previous": "v1", "phase": phase,
            "reason": null, "back": false, "over": false, "leader": "n1", "stage": 1, "stages": 1,
            "total": 3, "arrived": 1, "limit": 1, "permits": 0, "nodes": [],
        });
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn how_far_a_release_has_spread_is_told_once_for_each_node() {
        let node = |name: &str, staged, fetched| RolloutNode {
            name: name.to_owned(),
            standing: "counted".to_owned(),
            version: None,
            condition: None,
            staged,
            fetched,
            permit: None,
            failure: None,
        };
        let nodes = vec![
            node("n1", Some(true), None),
            node("n2", Some(false), Some(500)),
            node("n3", None, None),
        ];
        let view = RolloutView { nodes, ..view("forward") };
        assert_eq!(staging(&view), ", 75% staged, all of it on 1 of 2");
        let mut teller = Teller::new(Format::Json);
        assert_eq!(teller.newly_staged(&view), ["n1 has all of v2"]);
        assert!(teller.newly_staged(&view).is_empty());
    }

    #[test]
    fn a_rollback_that_a_person_pauses_is_paused_and_one_that_fails_is_incomplete() {
        let paused = |back, paused_by_person| {
            end(&RolloutView { back, paused_by_person, ..view("paused") }).unwrap()
        };
        assert_eq!(paused(false, false), Exit::Paused);
        assert_eq!(paused(true, true), Exit::Paused);
        assert_eq!(paused(true, false), Exit::RollbackIncomplete);
    }
}
