//! The play itself: a mesh is founded, version 1 is installed, and version 2 is rolled out under load.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use baton_node::api::view::Transfer;
use tokio::time::sleep;

use super::Args;
use super::load::{self, Front, Load};
use super::plan::{self, Node};
use super::prober::Prober;
use super::processes::{Processes, said};
use super::summary::{Summary, mib};
use super::view::{self, View};
use super::{haproxy, http, transfers, tree};
use crate::output::Format;

/// How long the nodes may take to be a mesh, and each version to be on all of them.
const JOIN_WITHIN: Duration = Duration::from_secs(120);
const INSTALL_WITHIN: Duration = Duration::from_secs(300);
const ROLLOUT_WITHIN: Duration = Duration::from_secs(900);

/// How often it is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(200);

/// Requests flow for so long before version 2 begins and after it ended.
const CALM: Duration = Duration::from_secs(2);

/// How long a balancer may take to learn of a change: agent-inter 200 ms; the check's interval of
/// 500 ms x rise 1; and as much again, as all of it shares one machine.
const BALANCER_DELAY_MS: u64 = 1000;

/// The exit code of a command whose rollout failed and was rolled back.
const ROLLED_BACK: i32 = 3;

struct Play<'a> {
    args: &'a Args,
    cap: usize,
    processes: Processes,
    nodes: Vec<Node>,
    front: u16,
    view: View,
    output: Format,
    first_seed_sent: Option<u64>,
}

/// Plays the demo to its end.
pub(super) async fn play(args: &Args, cap: usize, output: Format) -> anyhow::Result<ExitCode> {
    let processes = Processes::new().context("a directory for the demo")?;
    let (nodes, front) = plan::lay_out(processes.dir(), args.nodes)?;
    let (view, first_seed_sent) = (View::new(output), None);
    let mut play = Play { args, cap, processes, nodes, front, view, output, first_seed_sent };
    play.make_trees().await?;
    play.found().await?;
    play.join().await?;
    play.install().await?;
    let summary = play.roll_out().await?;
    play.finish(&summary)
}

impl Play<'_> {
    fn tree(&self, version: &str) -> PathBuf {
        self.processes.dir().join(version)
    }

    /// Makes both versions. It fills disks, so it runs beside the event loop.
    async fn make_trees(&self) -> anyhow::Result<()> {
        let (one, two) = (self.tree("v1"), self.tree("v2"));
        let (path, bad) = (self.args.path.clone(), self.args.bad);
        let program = self.processes.program().to_owned();
        let made = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            match &path {
                Some(path) => tree::copy(path, &one)?,
                None => tree::make(&one)?,
            }
            tree::copy(&one, &two)?;
            tree::change(&two)?;
            let define = |bad| tree::Definition {
                program: &program,
                balancer_delay_ms: BALANCER_DELAY_MS,
                bad,
            };
            define(false).write(&one, "v1")?;
            define(bad).write(&two, "v2")
        });
        made.await?.context("the trees of the two versions")?;
        let (bytes, files) = self.size_of("v2")?;
        self.view.say(&format!("two versions of {files} files, {}", mib(bytes)));
        Ok(())
    }

    fn size_of(&self, version: &str) -> std::io::Result<(u64, usize)> {
        let files = tree::files(&self.tree(version))?;
        Ok((files.iter().map(|(_, bytes)| bytes).sum(), files.len()))
    }

    fn founder(&self) -> anyhow::Result<&Node> {
        self.nodes.first().context("no nodes")
    }

    async fn found(&mut self) -> anyhow::Result<()> {
        let founder = self.founder()?.clone();
        std::fs::create_dir(&founder.dir)?;
        let data = founder.data().display().to_string();
        self.baton(&["init", "demo", "--data-dir", &data]).await.context("baton init")?;
        self.start_node(&founder, None)
    }

    /// Starts the other nodes with a token, and waits until the founder knows all.
    async fn join(&mut self) -> anyhow::Result<()> {
        let founder = self.founder()?.clone();
        let data = founder.data().display().to_string();
        let (uses, address) = (self.nodes.len().to_string(), format!("127.0.0.1:{}", founder.mesh));
        let words = ["token", "--data-dir", &data, "--uses", &uses, "--address", &address];
        let said = self.baton(&words).await.context("baton token")?;
        let token = said.split_whitespace().find(|word| word.starts_with("btn1."));
        let file = self.processes.dir().join("token");
        write_secret(&file, token.context("baton token printed no token")?)?;
        for node in self.nodes.clone().iter().skip(1) {
            std::fs::create_dir(&node.dir)?;
            self.start_node(node, Some(&file))?;
        }
        self.wait_for_mesh(&founder).await?;
        let socket = founder.socket().display().to_string();
        let cap = self.args.max_unavailable.as_str();
        let words = [
            "group",
            "set",
            "web",
            "--max-unavailable",
            cap,
            "--min-healthy",
            "1s",
            "--socket",
            &socket,
        ];
        self.baton(&words).await.context("baton group set")?;
        self.view.say(&format!(
            "{} nodes are one mesh; at most {} down at once",
            self.nodes.len(),
            self.cap
        ));
        Ok(())
    }

    fn start_node(&mut self, node: &Node, token: Option<&std::path::Path>) -> anyhow::Result<()> {
        std::fs::write(node.config(), node.config_text(token))?;
        let mut command = self.processes.baton(&["node", "--config"]);
        command.arg(node.config());
        self.processes.start(command, &node.log()).with_context(|| format!("node {}", node.name))
    }

    async fn wait_for_mesh(&mut self, founder: &Node) -> anyhow::Result<()> {
        let socket = founder.socket().display().to_string();
        let begun = Instant::now();
        let mut why = anyhow::anyhow!("nothing was heard");
        while begun.elapsed() < JOIN_WITHIN {
            self.check_nodes()?;
            match self.baton(&["group", "list", "-o", "json", "--socket", &socket]).await {
                Ok(text) if count_nodes(&text) >= Some(self.nodes.len()) => return Ok(()),
                Ok(text) => why = anyhow::anyhow!("{:?} nodes have joined", count_nodes(&text)),
                Err(error) => why = error,
            }
            sleep(LOOK).await;
        }
        Err(why.context("the nodes did not become a mesh"))
    }

    /// A node that ended is told at once, with the last it said.
    fn check_nodes(&mut self) -> anyhow::Result<()> {
        let Some((n, status)) = self.processes.ended().into_iter().next() else { return Ok(()) };
        let Some(node) = self.nodes.get(n) else { bail!("the load balancer ended: {status}") };
        let log = std::fs::read_to_string(node.log()).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(5).collect();
        bail!(
            "node {} ended: {status}\n{}",
            node.name,
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        )
    }

    /// Puts version 1 on all nodes, where nothing ran before.
    async fn install(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.view.say("version 1 is installed");
        let code = self.deploy("v1", INSTALL_WITHIN, |_| ()).await?;
        if code != Some(0) {
            bail!(
                "version 1 could not be installed (exit code {code:?}): {}",
                self.deploy_log("v1")
            );
        }
        // Later it would count what a node asks for that lost its copy.
        self.first_seed_sent = transfers::of(self.founder()?, "v1").await.map(|it| it.bytes_sent);
        self.view.say(&format!("version 1 runs after {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Deploys a version, and calls `look` while it goes on. Gives the command's exit code.
    async fn deploy(
        &mut self,
        version: &str,
        within: Duration,
        mut look: impl FnMut(&mut View),
    ) -> anyhow::Result<Option<i32>> {
        let socket = self.founder()?.socket().display().to_string();
        let tree = self.tree(version).display().to_string();
        let words =
            ["deploy", &tree, "-g", "web", "--version", version, "-o", "json", "--socket", &socket];
        let log = std::fs::File::create(self.log_of(version))?;
        let mut command = self.processes.baton(&words);
        let mut child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.code());
            }
            if begun.elapsed() > within {
                bail!(
                    "{version} was not done after {} s: {}",
                    within.as_secs(),
                    self.deploy_log(version)
                );
            }
            self.check_nodes()?;
            look(&mut self.view);
            sleep(LOOK).await;
        }
    }

    fn log_of(&self, version: &str) -> PathBuf {
        self.processes.dir().join(format!("deploy-{version}.log"))
    }

    fn deploy_log(&self, version: &str) -> String {
        let text = std::fs::read_to_string(self.log_of(version)).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(5).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    async fn roll_out(&mut self) -> anyhow::Result<Summary> {
        let prober = Prober::start(self.nodes.iter().map(|node| node.service).collect())?;
        self.wait_for_version(&prober, "v1").await?;
        let (front, balancer) = self.balance().await?;
        let load = Load::start(&front, tree::asked(&self.tree("v1"))?);
        self.wait_for_requests(&load).await?;
        let flowing = (Instant::now(), load.count.sent());
        prober.look(super::tally::Tally::begin);
        sleep(CALM).await;
        self.view.say("version 2 is deployed");
        let staged = tokio::spawn(staged(self.nodes.clone(), Instant::now()));
        let code = self
            .deploy("v2", ROLLOUT_WITHIN, |view| {
                prober.look(|tally| view.show(tally, &load.count));
            })
            .await?;
        let expected = if self.args.bad { ROLLED_BACK } else { 0 };
        if code != Some(expected) {
            bail!("baton deploy ended with {code:?}, not {expected}: {}", self.deploy_log("v2"));
        }
        self.view.say("the rollout has ended");
        sleep(CALM).await;
        staged.abort();
        let staged = staged.await.ok().flatten();
        let sent = load.count.sent();
        let rate = (sent - flowing.1) as f64 / flowing.0.elapsed().as_secs_f64();
        let mut summary = self.summary().await?;
        summary.staged = staged;
        (summary.balancer, summary.rate, summary.sent) = (balancer, rate, sent);
        (summary.failed, summary.failures) = (load.count.failed(), load.count.failures());
        prober.look(|tally| {
            (summary.rollout, summary.restart) = (tally.took(), tally.downtime());
            (summary.most_down, summary.probes) = (tally.most_down(), tally.probes());
            summary.on_wanted = tally.on(&summary.wanted);
        });
        Ok(summary)
    }

    async fn wait_for_version(&mut self, prober: &Prober, version: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        while prober.look(|tally| tally.on(version)) < self.nodes.len() {
            if begun.elapsed() > JOIN_WITHIN {
                let troubles = prober.look(|tally| tally.troubles()).join("; ");
                bail!("{}; not ready: {troubles}", prober.look(|tally| view::versions(tally)));
            }
            self.check_nodes()?;
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// HAProxy where it is installed, and else a stand-in inside the demo.
    async fn balance(&mut self) -> anyhow::Result<(Arc<Front>, &'static str)> {
        let Some(program) = haproxy::find() else {
            self.view.say("no HAProxy is installed: a stand-in asks the agents and the checks");
            return Ok((Front::direct(&self.nodes), "a stand-in for HAProxy"));
        };
        let dir = self.processes.dir().to_owned();
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, haproxy::config(&self.nodes, self.front, &dir))?;
        let mut command = self.processes.command(&program);
        command.arg("-db").arg("-f").arg(file);
        self.processes.start(command, &dir.join("haproxy.log")).context("HAProxy")?;
        let begun = Instant::now();
        while !http::get(self.front, "/VERSION", LOOK).await.is_ok_and(|it| it.status == 200) {
            self.check_nodes()?;
            if begun.elapsed() > JOIN_WITHIN {
                bail!("HAProxy passes no request on");
            }
            sleep(LOOK).await;
        }
        self.view.say("requests go through HAProxy");
        Ok((Front::proxy(self.front), "HAProxy"))
    }

    /// Waits until the requests flow at their rate.
    async fn wait_for_requests(&mut self, load: &Load) -> anyhow::Result<()> {
        let begun = Instant::now();
        while load.count.sent() < load::PER_SECOND {
            if begun.elapsed() > JOIN_WITHIN {
                bail!("no requests flow: {}", load.count.failures().join("; "));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// The parts of the summary that are asked of files and nodes.
    async fn summary(&self) -> anyhow::Result<Summary> {
        let (release_bytes, release_files) = self.size_of("v2")?;
        let mut told = Vec::new();
        for node in &self.nodes {
            told.push(transfers::of(node, "v2").await);
        }
        // A node that has not all of it yet would count as one that needed little.
        let of_staged = |told: &Option<Transfer>| {
            Some(told.as_ref().filter(|told| told.staged)?.bytes_received)
        };
        let received = told.iter().skip(1).map(of_staged).sum();
        let seed_sent = told.first().and_then(|told| Some(told.as_ref()?.bytes_sent));
        let wanted = if self.args.bad { "v1" } else { "v2" }.to_owned();
        Ok(Summary {
            hosts: self.nodes.len(),
            release_bytes,
            release_files,
            first_bytes: self.size_of("v1")?.0,
            first_seed_sent: self.first_seed_sent,
            seed_sent,
            received,
            cap: self.cap,
            wanted,
            bad: self.args.bad,
            reason: reason(&self.deploy_log("v2")),
            ..Summary::default()
        })
    }

    fn finish(mut self, summary: &Summary) -> anyhow::Result<ExitCode> {
        self.view.close();
        let broken = summary.broken();
        match self.output {
            Format::Json => println!("{:#}", summary.to_json()),
            Format::Text => println!("\n{summary}"),
        }
        for broken in &broken {
            self.view.tell(&format!("NOT HELD: {broken}"));
        }
        if self.args.keep {
            self.leave()?;
        } else {
            self.view.tell("All of it is being ended and removed.");
        }
        Ok(match (broken.is_empty(), summary.bad) {
            (false, _) => ExitCode::FAILURE,
            (true, true) => ExitCode::from(3),
            (true, false) => ExitCode::SUCCESS,
        })
    }

    /// Says what can be tried with what is left running.
    fn leave(self) -> anyhow::Result<()> {
        let socket = self.founder()?.socket();
        let (socket, program) = (socket.display(), self.processes.program().display().to_string());
        let (dir, front) = (self.processes.dir().display().to_string(), self.front);
        self.view.tell(&format!("All of it is left running in {dir}. Try:"));
        self.view.tell(&format!("  {program} status --socket {socket}"));
        self.view.tell(&format!("  {program} nodes --socket {socket}"));
        self.view
            .tell(&format!("  {program} deploy {dir}/v1 -g web --version v3 --socket {socket}"));
        if haproxy::find().is_some() {
            self.view.tell(&format!("  curl http://127.0.0.1:{front}/VERSION"));
        }
        self.view
            .tell(&format!("To end and remove it: {program} demo-reaper --dir {dir} </dev/null"));
        self.processes.keep();
        Ok(())
    }

    /// Runs a command of this program to its end, and gives what it printed.
    async fn baton(&self, words: &[&str]) -> anyhow::Result<String> {
        let command = self.processes.baton(words);
        said(&tokio::task::spawn_blocking(move || output(command)).await??)
    }
}

fn output(mut command: Command) -> std::io::Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()
}

/// Why a rollout went as it did: what the last line that `baton deploy -o json` printed says.
fn reason(log: &str) -> Option<String> {
    let last: serde_json::Value = serde_json::from_str(log.lines().last()?).ok()?;
    last["reason"].as_str().map(str::to_owned)
}

/// Waits until all nodes have all of version 2.
async fn staged(nodes: Vec<Node>, begun: Instant) -> Option<Duration> {
    for node in &nodes {
        while !transfers::of(node, "v2").await.is_some_and(|told| told.staged) {
            sleep(LOOK).await;
        }
    }
    Some(begun.elapsed())
}

/// How many nodes a list in JSON has: an array, or an object that holds one.
fn count_nodes(text: &str) -> Option<usize> {
    let groups: serde_json::Value = serde_json::from_str(text).ok()?;
    let web = groups.as_array()?.iter().find(|group| group["name"] == "web")?;
    usize::try_from(web["members"].as_u64()?).ok()
}

fn write_secret(file: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(file)?.write_all(text.as_bytes())
}
