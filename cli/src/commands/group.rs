//! `baton group`: how groups are deployed to.

use std::time::Duration;

use baton_node::api::GroupBody;
use baton_node::api::view::GroupView;
use baton_protocol::fleet::policy::OnFailure;
use baton_protocol::id::GroupName;
use serde_json::Value;

use crate::cli::{Shared, person};
use crate::commands::token::parse_duration;
use crate::exit::{Exit, Outcome};
use crate::output::{dash_or, or_dash, show, table};

/// What can be done with groups.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Set how a group is deployed to. What is left out stays as it is.
    ///
    /// Example:  baton group set web --max-unavailable 10% --min-healthy 10s
    Set(SetArguments),
    /// The groups.
    List,
}

/// The policy.
#[derive(Debug, clap::Args)]
pub struct SetArguments {
    /// Which group. It is made if there is none.
    group: GroupName,
    /// How many may be down at once: a count (2), a percentage (10%), which is rounded down, or both
    /// (2,10%), the stricter of which holds.
    #[arg(long)]
    max_unavailable: Option<String>,
    /// How long a service must be ready to count as available.
    #[arg(long, value_parser = parse_duration)]
    min_healthy: Option<Duration>,
    /// Growing shares of the group, in percent, with a pause after each: 5,25,100.
    #[arg(long, value_delimiter = ',')]
    stages: Option<Vec<u8>>,
    /// The pause after each stage but the last.
    #[arg(long, value_parser = parse_duration)]
    soak: Option<Duration>,
    /// What a node that fails means.
    #[arg(long, value_parser = ["rollback", "pause"])]
    on_failure: Option<String>,
    /// Let half of the group and more be down at once; `--allow-half=false` takes it back.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_half: Option<bool>,
    /// Let the only node of the group be down; `--allow-downtime=false` takes it back.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_downtime: Option<bool>,
    /// Let a min-healthy of 0 be enough; `--allow-unproven=false` takes it back.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_unproven: Option<bool>,
}

/// Sets or lists.
pub async fn run(shared: &Shared, command: Command) -> Outcome {
    let client = shared.client();
    let Command::Set(arguments) = command else {
        let groups: Vec<GroupView> = client.get("/v1/groups").await?;
        show(shared.output, &groups, |groups| groups_table(groups));
        return Ok(Exit::Done);
    };
    let body = GroupBody {
        max_unavailable: arguments.max_unavailable,
        allow_half: arguments.allow_half,
        allow_downtime: arguments.allow_downtime,
        min_healthy_ms: arguments.min_healthy.map(milliseconds),
        allow_unproven: arguments.allow_unproven,
        stages: arguments.stages,
        soak_ms: arguments.soak.map(milliseconds),
        on_failure: arguments.on_failure.map(|it| match it.as_str() {
            "pause" => OnFailure::Pause,
            _ => OnFailure::Rollback,
        }),
        person: person(),
    };
    let path = format!("/v1/groups/{}", arguments.group);
    let _: Value = client.post(&path, &body).await?;
    let groups: Vec<GroupView> = client.get("/v1/groups").await?;
    let set: Vec<_> = groups.into_iter().filter(|it| it.name == arguments.group.as_str()).collect();
    show(shared.output, &set, |groups| groups_table(groups));
    Ok(Exit::Done)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The groups as a table.
pub fn groups_table(groups: &[GroupView]) -> String {
    let row = |group: &GroupView| {
        let limit = match &group.limit {
            Some(limit) => format!("{limit} of {}", group.members),
            None => or_dash(group.obstacle.as_ref()),
        };
        vec![
            group.name.clone(),
            or_dash(group.version.as_ref()),
            format!("{}/{}", group.counted, group.members),
            group.max_unavailable.clone(),
            limit,
            dash_or(&group.quarantined),
            group.permits.to_string(),
            or_dash(group.rollout.as_ref()),
            or_dash(Some(group.watchers.join(",")).filter(|it| !it.is_empty()).as_ref()),
        ]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    let head = [
        "GROUP",
        "VERSION",
        "IN SERVICE",
        "MAX UNAVAILABLE",
        "AT MOST DOWN",
        "QUARANTINED",
        "PERMITS",
        "ROLLOUT",
        "BALANCER READ BY",
    ];
    table(&head, &rows)
}
