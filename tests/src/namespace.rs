//! A network namespace with one link to this host, whose traffic can be held back one way.

use std::process::Command;

use crate::skip::skip;

/// What is sent from inside waits for this many bits a second: for ever.
const MUTE: [&str; 6] = ["rate", "8bit", "burst", "100b", "limit", "100b"];

/// A network namespace. Dropping it takes it away, with its link.
#[derive(Debug)]
pub struct Namespace {
    /// What it is called.
    pub name: String,
    /// The address of this host on the link.
    pub outside: String,
    /// The address inside.
    pub inside: String,
}

impl Namespace {
    /// A new one. Where none can be made, the test that asks is skipped.
    pub fn new() -> Option<Self> {
        // The process numbers of living processes differ, and so do their last 14 bits on most hosts.
        let number = std::process::id() % (1 << 14);
        let (high, low) = (number >> 6, number % (1 << 6) * 4);
        let address = |last| format!("10.217.{high}.{}", low + last);
        let name = format!("bt{number}");
        let this = Self { name, outside: address(1), inside: address(2) };
        match this.set_up() {
            Ok(()) => Some(this),
            Err(why) => {
                skip(&format!("no network namespace can be made: {why}"));
                None
            }
        }
    }

    fn set_up(&self) -> Result<(), String> {
        let Self { name, outside, inside } = self;
        let (out_end, in_end) = (format!("{name}o"), format!("{name}i"));
        run("ip", &["netns", "add", name])?;
        run(
            "ip",
            &["link", "add", &out_end, "type", "veth", "peer", "name", &in_end, "netns", name],
        )?;
        run("ip", &["addr", "add", &format!("{outside}/30"), "dev", &out_end])?;
        run("ip", &["link", "set", &out_end, "up"])?;
        run("ip", &["-n", name, "addr", "add", &format!("{inside}/30"), "dev", &in_end])?;
        run("ip", &["-n", name, "link", "set", &in_end, "up"])?;
        run("ip", &["-n", name, "link", "set", "lo", "up"])
    }

    /// A command that runs `program` inside.
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// From now on nothing that is sent inside gets out.
    pub fn mute(&self) {
        let device = format!("{}i", self.name);
        let tbf = ["-n", &self.name, "qdisc", "replace", "dev", &device, "root", "tbf"];
        run("tc", &[&tbf[..], &MUTE[..]].concat()).unwrap();
    }

    /// It can be heard again.
    pub fn unmute(&self) {
        let device = format!("{}i", self.name);
        run("tc", &["-n", &self.name, "qdisc", "del", "dev", &device, "root"]).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The link goes with the namespace, but only after a while, and another may want its name.
        let _ = run("ip", &["link", "del", &format!("{}o", self.name)]);
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("{program} {}: {why}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(&String::from_utf8_lossy(&output.stderr).trim()))
}
