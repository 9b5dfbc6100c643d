//! `baton node`: runs the daemon.

use std::path::PathBuf;

use baton_node::config::{Config, Overrides};
use tracing_subscriber::EnvFilter;

use crate::cli::Shared;
use crate::exit::{Exit, Failed, Outcome};

/// Runs the daemon until it is asked to end. Services go on without it.
///
/// Every key of the config file can be given as a flag and as BATON_<KEY> in the environment, too.
/// The least that works is a join token, or a mesh that was founded or joined before:
///
///   baton node --token btn1.k3…
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The config file.
    #[arg(long, env = "BATON_CONFIG")]
    config: Option<PathBuf>,
    /// Print a config file with every key, explained, and end.
    #[arg(long)]
    example_config: bool,
    /// What people call this node.
    #[arg(long)]
    name: Option<String>,
    /// Where other nodes reach it.
    #[arg(long)]
    listen: Option<String>,
    /// host:port under which they do; may be given more than once.
    #[arg(long)]
    advertise: Vec<String>,
    /// The join token.
    #[arg(long)]
    token: Option<String>,
    /// A file that holds the join token.
    #[arg(long)]
    token_file: Option<String>,
    /// Where the shims of the services live, a directory each.
    #[arg(long)]
    run_dir: Option<String>,
    /// The failure domain.
    #[arg(long)]
    zone: Option<String>,
    /// Vote, and run no service.
    #[arg(long)]
    witness: bool,
    /// Where HAProxy's agent-check is answered, or "off".
    #[arg(long)]
    agent_check: Option<String>,
    /// host:port of nodes to ask first; may be given more than once.
    #[arg(long)]
    bootstrap: Vec<String>,
    /// A group whose servers stand in the HAProxy beside this node, or group=backend; may be given
    /// more than once.
    #[arg(long)]
    balancer_groups: Vec<String>,
    /// The stats socket of that HAProxy.
    #[arg(long)]
    balancer_haproxy: Option<String>,
}

/// Reads the config and runs the node.
pub async fn run(shared: &Shared, arguments: Arguments) -> Outcome {
    if arguments.example_config {
        crate::output::print_line(&Config::example());
        return Ok(Exit::Done);
    }
    let filter = EnvFilter::try_from_default_env();
    let quiet = || EnvFilter::new("info,libp2p_swarm=warn,libp2p_tcp=warn");
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| quiet()))
        .with_writer(std::io::stderr)
        .init();
    let mut overrides = Overrides {
        name: arguments.name,
        listen: arguments.listen,
        advertise: arguments.advertise,
        token: arguments.token,
        token_file: arguments.token_file,
        run_dir: arguments.run_dir,
        zone: arguments.zone,
        witness: arguments.witness.then_some(true),
        agent_check: arguments.agent_check,
        bootstrap: arguments.bootstrap,
        balancer_groups: arguments.balancer_groups,
        balancer_haproxy: arguments.balancer_haproxy,
        ..Overrides::default()
    };
    // A data directory that was only assumed gives way to the config file's.
    let given = std::env::args().any(|it| it.starts_with("--data-dir"));
    if given || arguments.config.is_none() {
        overrides.data_dir = Some(shared.data_dir.display().to_string());
    }
    overrides.api_socket = shared.socket.as_ref().map(|socket| socket.display().to_string());
    let env = |key: &str| std::env::var(key).ok();
    let config = Config::load(arguments.config.as_deref(), env, &overrides);
    let config = config.map_err(Failed::refused)?;
    baton_node::run(config).await.map_err(Failed::error)?;
    Ok(Exit::Done)
}
