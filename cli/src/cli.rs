//! The command line: what can be typed, and who does it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::client::Client;
use crate::commands::{self, deploy, group, init, join, lb, node, rollout, token};
use crate::demo;
use crate::exit::{Exit, Failed, Outcome};
use crate::output::Format;

/// Deploys to your own servers, with no moment of downtime and no cluster manager.
///
/// Servers form a mesh. A release that is seeded on one of them spreads to all; then a quorum lets
/// them activate it in stages, so that never more than a set number of them is down at once.
///
/// See it work on this machine alone:  baton demo
#[derive(Debug, Parser)]
#[command(name = "baton", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Shared {
    /// Where this node's keys, state and releases are.
    #[arg(long, global = true, env = "BATON_DATA_DIR", default_value = "/var/lib/baton")]
    pub data_dir: PathBuf,
    /// The socket of the node to talk to [default: DATA_DIR/baton.sock].
    #[arg(long, global = true, env = "BATON_SOCKET")]
    pub socket: Option<PathBuf>,
    /// In which form to print.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    pub output: Format,
}

impl Shared {
    /// The API of the node that is meant.
    pub fn client(&self) -> Client {
        let socket = self.socket.clone();
        Client::new(&socket.unwrap_or_else(|| self.data_dir.join("baton.sock")))
    }
}

/// Who types: for the audit log.
pub fn person() -> String {
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    name.unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Found a mesh on this machine.
    Init(init::Arguments),
    /// Make a token with which other machines join.
    Token(token::Arguments),
    /// Join a mesh with a token.
    Join(join::Arguments),
    /// Run the daemon.
    Node(Box<node::Arguments>),
    /// How the groups are deployed to: `set` it, or `list` them.
    #[command(subcommand)]
    Group(group::Command),
    /// Configure the load balancer in front of a group.
    #[command(subcommand)]
    Lb(lb::Command),
    /// Make a release of a directory and spread it, without activating it.
    Seed(deploy::SeedArguments),
    /// Say what a deployment would do, and change nothing.
    Plan(deploy::PlanArguments),
    /// Seed, plan, roll out, and wait for the end.
    Deploy(deploy::Arguments),
    /// Look at a rollout, or steer it.
    #[command(subcommand)]
    Rollout(rollout::Command),
    /// The mesh at a glance.
    Status,
    /// The members, or `remove` and `quarantine` one.
    Nodes(commands::nodes::Arguments),
    /// The releases that the mesh knows.
    Releases,
    /// Who may be down just now.
    Permits,
    /// The last lines that a service on this node has written.
    Logs(commands::show::LogArguments),
    /// Who did what.
    Audit,
    /// See it all work: twenty nodes and a load balancer, on this machine alone.
    Demo(demo::Args),
    /// Completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// The manual page.
    Man,
    #[command(hide = true, name = "demo-service")]
    DemoService(demo::service::Args),
    #[command(hide = true, name = "demo-reaper")]
    DemoReaper(demo::reaper::Args),
}

/// Does what was typed.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(Err(Failed::error(error))),
    };
    // On a worker, and not on this thread: each word between the two would cost a switch.
    let done = runtime.block_on(runtime.spawn(act_or_demonstrate(cli)));
    let code = done.unwrap_or_else(|panic| ended(Err(Failed::error(panic))));
    // What still blocks somewhere must not keep the program from ending.
    runtime.shutdown_background();
    code
}

/// The demo has exit codes of its own: it judges whether what baton promises held.
async fn act_or_demonstrate(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Demo(arguments) => demo::run(arguments, cli.shared.output).await,
        Command::DemoService(arguments) => demo::service::run(arguments).await,
        Command::DemoReaper(arguments) => demo::reaper::run(&arguments),
        command => ended(act(cli.shared, command).await),
    }
}

fn ended(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(failed) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "baton: {}", failed.message);
            failed.exit.into()
        }
    }
}

async fn act(shared: Shared, command: Command) -> Outcome {
    match command {
        Command::Init(arguments) => init::run(&shared, arguments),
        Command::Token(arguments) => token::run(&shared, arguments),
        Command::Join(arguments) => join::run(&shared, arguments),
        Command::Node(arguments) => node::run(&shared, *arguments).await,
        Command::Group(command) => group::run(&shared, command).await,
        Command::Lb(command) => lb::run(&shared, command).await,
        Command::Seed(arguments) => deploy::seed(&shared, arguments).await,
        Command::Plan(arguments) => deploy::plan(&shared, arguments).await,
        Command::Deploy(arguments) => deploy::run(&shared, arguments).await,
        Command::Rollout(command) => rollout::run(&shared, command).await,
        Command::Status => commands::show::status(&shared).await,
        Command::Nodes(arguments) => commands::nodes::run(&shared, arguments).await,
        Command::Releases => commands::show::releases(&shared).await,
        Command::Permits => commands::show::permits(&shared).await,
        Command::Logs(arguments) => commands::show::logs(&shared, arguments).await,
        Command::Audit => commands::show::audit(&shared).await,
        Command::Demo(_) | Command::DemoService(_) | Command::DemoReaper(_) => Ok(Exit::Done),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "baton", &mut std::io::stdout());
            Ok(Exit::Done)
        }
        Command::Man => {
            let page = clap_mangen::Man::new(Cli::command());
            page.render(&mut std::io::stdout()).map_err(Failed::error)?;
            Ok(Exit::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
