//! `baton seed`, `plan` and `deploy`.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use baton_node::api::SeededView;
use baton_node::api::view::{Plan, SeedView};
use baton_protocol::id::GroupName;
use indicatif::ProgressBar;
use serde_json::json;

use crate::cli::{Shared, person};
use crate::client::Client;
use crate::commands::rollout::{Made, wait};
use crate::commands::token::parse_duration;
use crate::exit::{Exit, Failed, Outcome};
use crate::output::{Format, bytes, done, print_line, show};
use crate::progress::bar;

/// Pause between two looks at how far the packing is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What becomes a release.
#[derive(Debug, clap::Args)]
pub struct SeedArguments {
    /// The directory. Its baton.toml says what service it is and how it is run.
    directory: String,
    /// What it is a release of, whatever its baton.toml says.
    #[arg(long)]
    service: Option<String>,
    /// What to call it. A version never changes: other content needs another name.
    #[arg(long)]
    version: Option<String>,
}

/// What is planned.
#[derive(Debug, clap::Args)]
pub struct PlanArguments {
    /// A directory, or a version that was seeded.
    what: String,
    /// On which group.
    #[arg(short, long)]
    group: GroupName,
}

/// What is deployed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A directory, or a version that was seeded.
    what: String,
    /// On which group.
    #[arg(short, long)]
    group: GroupName,
    /// What to call the release that the directory becomes.
    #[arg(long)]
    version: Option<String>,
    /// Do not wait for the end.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait. The rollout goes on after that.
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    timeout: Duration,
}

/// `baton seed`.
pub async fn seed(shared: &Shared, arguments: SeedArguments) -> Outcome {
    let SeedArguments { directory, service, version } = arguments;
    let seeded = seed_directory(shared, &directory, service, version).await?;
    show(shared.output, &seeded, in_words);
    match seeded.obstacle {
        None => Ok(Exit::Done),
        Some(why) => {
            let text =
                format!("it spreads, but the log does not have it: {why}; seed it again later");
            Err(Failed { message: text, exit: Exit::NoQuorum })
        }
    }
}

/// `baton plan`.
pub async fn plan(shared: &Shared, arguments: PlanArguments) -> Outcome {
    let release = match is_path(&arguments.what) {
        true => {
            check_directory(&arguments.what)?;
            None
        }
        false => Some(arguments.what.as_str()),
    };
    let plan = planned(&shared.client(), &arguments.group, release).await?;
    show(shared.output, &plan, plan_in_words);
    match &plan.blocked {
        Some(_) => Ok(Exit::Refused),
        None => Ok(Exit::Done),
    }
}

/// `baton deploy`.
pub async fn run(shared: &Shared, arguments: Arguments) -> Outcome {
    let client = shared.client();
    let group = &arguments.group;
    // What would be refused in any case is refused before anything is packed.
    let first = planned(&client, group, None).await?;
    if let (None, Some(why)) = (first.limit, &first.blocked) {
        return Err(Failed::refused(why));
    }
    let version = match is_path(&arguments.what) {
        true => {
            let version = arguments.version.clone();
            let seeded = seed_directory(shared, &arguments.what, None, version).await?;
            tell(shared, || in_words(&seeded));
            if let Some(why) = seeded.obstacle {
                return Err(Failed { message: format!("no quorum: {why}"), exit: Exit::NoQuorum });
            }
            seeded.version
        }
        false => arguments.what.clone(),
    };
    let plan = planned(&client, group, Some(&version)).await?;
    tell(shared, || plan_in_words(&plan));
    let body = json!({"group": group, "release": version, "person": person()});
    let made: Made = client.post("/v1/rollouts", &body).await?;
    if arguments.no_wait {
        let words = format!("under way; look at it with: baton rollout status -g {group} --wait");
        done(shared.output, json!({"rollout": made.rollout, "group": group}), &words);
        return Ok(Exit::Done);
    }
    wait(shared, group, made.rollout, arguments.timeout).await
}

fn tell(shared: &Shared, text: impl FnOnce() -> String) {
    if shared.output == Format::Text {
        print_line(&text());
    }
}

async fn planned(
    client: &Client,
    group: &GroupName,
    release: Option<&str>,
) -> Result<Plan, Failed> {
    client.post("/v1/plan", &json!({"group": group, "release": release})).await
}

/// Whether a person means a directory rather than a version: versions have no slash.
fn is_path(what: &str) -> bool {
    what.contains('/') || what == "." || what == ".." || Path::new(what).exists()
}

fn check_directory(what: &str) -> Result<std::path::PathBuf, Failed> {
    let path = Path::new(what).canonicalize();
    let path = path.map_err(|error| Failed::refused(format!("{what}: {error}")))?;
    match path.is_dir() {
        true => Ok(path),
        false => Err(Failed::refused(format!("{what} is no directory; nothing was changed"))),
    }
}

async fn seed_directory(
    shared: &Shared,
    directory: &str,
    service: Option<String>,
    version: Option<String>,
) -> Result<SeededView, Failed> {
    // The node may stand in another directory than the one who types.
    let directory = check_directory(directory)?;
    let body = json!({"directory": directory, "service": service, "version": version});
    let client = shared.client();
    let mut seeding = pin!(client.post("/v1/seed", &body));
    let mut packing = Packing { format: shared.output, bar: bar(shared.output), told: false };
    loop {
        tokio::select! {
            seeded = &mut seeding => {
                packing.finish();
                return seeded;
            }
            () = tokio::time::sleep(LOOK_EVERY) => {
                let seeds: Vec<SeedView> = client.get("/v1/seeds").await.unwrap_or_default();
                let here = seeds.iter().find(|it| Path::new(&it.directory) == directory);
                here.into_iter().for_each(|seed| packing.tell(seed));
            }
        }
    }
}

/// Tells how far the packing of a directory is: a bar on a terminal, and off it a line where it takes
/// longer than a moment.
struct Packing {
    format: Format,
    bar: Option<ProgressBar>,
    told: bool,
}

impl Packing {
    fn tell(&mut self, seed: &SeedView) {
        let size = bytes(seed.bytes);
        if let Some(bar) = &self.bar {
            bar.set_length(seed.files);
            bar.set_position(seed.files_done);
            bar.set_message(format!("files packed, {} of {size}", bytes(seed.bytes_done)));
        } else if self.format == Format::Text && !self.told {
            print_line(&format!("packing {} files, {size}", seed.files));
        }
        self.told = true;
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn in_words(seeded: &SeededView) -> String {
    let known = if seeded.known { "; it was here already" } else { "" };
    format!(
        "release {} {} ({} files, {}){known}",
        seeded.service,
        seeded.version,
        seeded.files,
        bytes(seeded.size_bytes)
    )
}

fn plan_in_words(plan: &Plan) -> String {
    let mut lines = Vec::new();
    let moving = plan.restarts.len() + plan.current.len();
    let total = moving + plan.installs.len();
    if !plan.installs.is_empty() {
        lines.push(format!("installs on {} (not in service yet)", plan.installs.join(", ")));
    }
    if !plan.restarts.is_empty() {
        lines.push(format!("restarts {}", plan.restarts.join(", ")));
    }
    if !plan.current.is_empty() {
        lines.push(format!("has it already: {}", plan.current.join(", ")));
    }
    if let Some(limit) = plan.limit {
        lines.push(format!(
            "at most {limit} of {total} down (max_unavailable {})",
            plan.max_unavailable
        ));
    }
    if let Some(out) = plan.unavailable.as_ref().filter(|out| !out.is_empty()) {
        lines.push(format!("down already, and counted: {}", out.join(", ")));
    }
    lines.push(format!("blocked: {}", plan.blocked.as_deref().unwrap_or("no")));
    lines.join("\n")
}
