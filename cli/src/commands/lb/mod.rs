//! `baton lb`: the configuration of the load balancer in front of a group, as the mesh knows it.

mod apply;
mod backend;
mod section;

use std::path::{Path, PathBuf};

use baton_node::api::balancer::BalancerView;
use baton_protocol::id::GroupName;

use crate::cli::Shared;
use crate::exit::{Exit, Failed, Outcome};
use crate::output::{done, print_line};

/// Which balancer.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print a group's backend for HAProxy, or bring it into HAProxy's configuration.
    ///
    /// On the machine of the balancer:
    ///
    ///   baton lb haproxy -g web --apply /etc/haproxy/haproxy.cfg
    Haproxy(Arguments),
}

/// The backend.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which group's servers.
    #[arg(short, long)]
    group: GroupName,
    /// What the backend is called [default: like the group].
    #[arg(long)]
    backend: Option<String>,
    /// What the service is asked for by HTTP [default: as its release says, where this node has it;
    /// else only a connection is tried].
    #[arg(long)]
    httpchk: Option<String>,
    /// Show what would change in this configuration.
    #[arg(long, value_name = "FILE")]
    diff: Option<PathBuf>,
    /// Write it into this configuration, have HAProxy check that and load it.
    #[arg(long, value_name = "FILE", conflicts_with = "diff")]
    apply: Option<PathBuf>,
    /// How HAProxy loads its configuration anew.
    #[arg(long, env = "BATON_HAPROXY_RELOAD", default_value = "systemctl reload haproxy")]
    reload: String,
}

/// Prints, compares or applies.
pub async fn run(shared: &Shared, command: Command) -> Outcome {
    let Command::Haproxy(arguments) = command;
    let client = shared.client();
    let path = format!("/v1/balancers/{}", arguments.group);
    let view: BalancerView = client.get(&path).await?;
    let name = arguments.backend.as_deref().unwrap_or(arguments.group.as_str());
    let check_path = arguments.httpchk.as_deref().or(view.check_path.as_deref());
    let text = backend::text(name, &view, check_path).map_err(Failed::refused)?;
    match (&arguments.diff, &arguments.apply) {
        (Some(file), _) => {
            let before = read(file)?;
            let after = section::placed(&before, name, &text).map_err(Failed::refused)?;
            print_line(&section::difference(&before, &after));
        }
        (None, Some(file)) => {
            let before = read(file)?;
            let after = section::placed(&before, name, &text).map_err(Failed::refused)?;
            if before != after {
                apply::refuse_under_permits(&client, &arguments.group).await?;
                apply::write(file, &after)?;
                apply::reload(&arguments.reload)?;
            }
            apply::wait_until_seen(&client, &path).await?;
            let words = if before == after { "as it is already" } else { "written and loaded" };
            let told = serde_json::json!({"backend": name, "changed": before != after});
            done(shared.output, told, &format!("{}: backend {name} {words}", file.display()));
        }
        (None, None) => print_line(text.trim_end()),
    }
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<String, Failed> {
    let failed = |error| Failed::refused(format!("{} cannot be read: {error}", file.display()));
    std::fs::read_to_string(file).map_err(failed)
}
