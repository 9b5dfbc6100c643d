//! `baton.toml`: a service definition as people write it.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::duration::{self, DurationError};
use super::keys::{self, UnknownKey};
use super::service::{Drain, Probe, Readiness, Run, ServiceSpec};
use super::template::{self, TemplateError};
use crate::id::{IdError, ServiceName};
use crate::limits::SERVICE_FILE_BYTES_MAX;

/// Why a `baton.toml` is refused, or cannot be filled with a node's variables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It is larger than any that is read.
    #[error("{0} bytes: at most {SERVICE_FILE_BYTES_MAX} are read")]
    TooLarge(usize),
    /// No TOML, or a value of another kind than the key's.
    #[error("{0}")]
    Toml(String),
    /// A key that nothing reads.
    #[error(transparent)]
    UnknownKey(#[from] UnknownKey),
    /// `service` is no name.
    #[error("service: {0}")]
    Service(IdError),
    /// A value that is no span of time.
    #[error("{key}: {error}")]
    Duration {
        /// The key, `ready.interval`.
        key: &'static str,
        /// What is wrong with it.
        error: DurationError,
    },
    /// A span of time in which nothing can happen.
    #[error("{0}: must be longer than 0")]
    Zero(&'static str),
    /// `run.command` names no program.
    #[error("run.command: name a program, such as [\"bin/web\", \"--port\", \"8080\"]")]
    NoCommand,
    /// A section without which the service cannot be run.
    #[error("there is no [{0}], and the service cannot be run without it")]
    NoSection(&'static str),
    /// Not exactly one of the three probes.
    #[error(
        "ready: give exactly one of http, tcp and command, by which the service proves that it is ready"
    )]
    OneProbe,
    /// An address that a probe or a drain cannot use.
    #[error("{key}: \"{value}\" is not {wanted}")]
    Address {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A stop signal that does not exist.
    #[error(
        "run.stop_signal: \"{0}\" is no signal: write TERM, INT, QUIT, HUP, USR1, USR2, KILL, WINCH or a number from 1 to 64"
    )]
    Signal(String),
    /// A `${name}` that is malformed or has no value.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// What a `baton.toml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFile {
    /// What the tree is a release of; a seed's flag may say it instead.
    pub service: Option<ServiceName>,
    /// How it is run; `None` where the file has none of its sections.
    pub spec: Option<ServiceSpec>,
}

#[derive(Deserialize)]
struct RawFile {
    service: Option<String>,
    run: Option<RawRun>,
    ready: Option<RawReady>,
    drain: Option<RawDrain>,
}

#[derive(Deserialize)]
struct RawRun {
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stop_signal: Option<RawSignal>,
    stop_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawSignal {
    Number(i64),
    Name(String),
}

#[derive(Deserialize)]
struct RawReady {
    http: Option<String>,
    tcp: Option<String>,
    command: Option<Vec<String>>,
    interval: Option<String>,
    timeout: Option<String>,
    deadline: Option<String>,
}

#[derive(Default, Deserialize)]
struct RawDrain {
    listen: Option<String>,
    timeout: Option<String>,
    balancer_delay: Option<String>,
}

/// The sections of the file and their keys; the first has no name.
const SECTIONS: [(&str, &[&str]); 4] = [
    ("", &["service", "run", "ready", "drain"]),
    ("run", &["command", "env", "stop_signal", "stop_timeout"]),
    ("ready", &["http", "tcp", "command", "interval", "timeout", "deadline"]),
    ("drain", &["listen", "timeout", "balancer_delay"]),
];

/// Reads a `baton.toml`.
///
/// # Errors
/// See [`SpecError`]; each names the key to blame.
pub fn parse(text: &str) -> Result<ServiceFile, SpecError> {
    if text.len() > SERVICE_FILE_BYTES_MAX {
        return Err(SpecError::TooLarge(text.len()));
    }
    let malformed = |error: toml::de::Error| SpecError::Toml(error.to_string());
    check_keys(&text.parse().map_err(malformed)?)?;
    let raw: RawFile = toml::from_str(text).map_err(malformed)?;
    let service = raw.service.map(|name| name.parse().map_err(SpecError::Service)).transpose()?;
    let spec = match (raw.run, raw.ready, raw.drain) {
        (None, None, None) => None,
        (None, _, _) => return Err(SpecError::NoSection("run")),
        (_, None, _) => return Err(SpecError::NoSection("ready")),
        (Some(run), Some(ready), drain) => Some(spec_of(run, ready, drain.unwrap_or_default())?),
    };
    Ok(ServiceFile { service, spec })
}

fn check_keys(file: &toml::Table) -> Result<(), SpecError> {
    for (section, known) in SECTIONS {
        let table = if section.is_empty() {
            Some(file)
        } else {
            file.get(section).and_then(toml::Value::as_table)
        };
        table.map_or(Ok(()), |table| keys::check(table, section, known))?;
    }
    Ok(())
}

fn spec_of(run: RawRun, ready: RawReady, drain: RawDrain) -> Result<ServiceSpec, SpecError> {
    let spec = ServiceSpec { run: run_of(run)?, ready: ready_of(ready)?, drain: drain_of(drain)? };
    // Any value will do: what is looked for here are signs that no value could fill.
    map_texts(&spec, |text| template::fill(text, |_| Some(String::new())))?;
    Ok(spec)
}

fn run_of(raw: RawRun) -> Result<Run, SpecError> {
    if raw.command.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand);
    }
    Ok(Run {
        command: raw.command,
        env: raw.env,
        stop_signal: raw.stop_signal.map_or(Ok(15), signal_of)?,
        stop_timeout: span("run.stop_timeout", raw.stop_timeout, Duration::from_secs(10))?,
    })
}

fn ready_of(raw: RawReady) -> Result<Readiness, SpecError> {
    let probe = match (raw.http, raw.tcp, raw.command) {
        (Some(url), None, None) => Probe::Http(http_address(url)?),
        (None, Some(address), None) => Probe::Tcp(host_port("ready.tcp", address)?),
        (None, None, Some(command)) if !command.is_empty() => Probe::Command(command),
        _ => return Err(SpecError::OneProbe),
    };
    Ok(Readiness {
        probe,
        interval: some_span("ready.interval", raw.interval, Duration::from_secs(1))?,
        timeout: some_span("ready.timeout", raw.timeout, Duration::from_secs(2))?,
        deadline: some_span("ready.deadline", raw.deadline, Duration::from_secs(60))?,
    })
}

fn drain_of(raw: RawDrain) -> Result<Drain, SpecError> {
    Ok(Drain {
        listen: raw.listen.map(ip_port).transpose()?,
        timeout: span("drain.timeout", raw.timeout, Duration::from_secs(30))?,
        balancer_delay: span("drain.balancer_delay", raw.balancer_delay, Duration::ZERO)?,
    })
}

fn span(key: &'static str, text: Option<String>, default: Duration) -> Result<Duration, SpecError> {
    let parse = |text: String| duration::parse(&text);
    text.map_or(Ok(default), parse).map_err(|error| SpecError::Duration { key, error })
}

fn some_span(
    key: &'static str,
    text: Option<String>,
    default: Duration,
) -> Result<Duration, SpecError> {
    let span = span(key, text, default)?;
    if span.is_zero() { Err(SpecError::Zero(key)) } else { Ok(span) }
}

/// Numbers of the signals on Linux for x86-64 and ARM.
fn signal_of(raw: RawSignal) -> Result<i32, SpecError> {
    let (number, said) = match raw {
        RawSignal::Number(number) => (i32::try_from(number).ok(), number.to_string()),
        RawSignal::Name(name) => {
            let number = match name.strip_prefix("SIG").unwrap_or(&name) {
                "HUP" => Some(1),
                "INT" => Some(2),
                "QUIT" => Some(3),
                "KILL" => Some(9),
                "USR1" => Some(10),
                "USR2" => Some(12),
                "TERM" => Some(15),
                "WINCH" => Some(28),
                _ => None,
            };
            (number, name)
        }
    };
    number.filter(|number| (1..=64).contains(number)).ok_or(SpecError::Signal(said))
}

fn http_address(value: String) -> Result<String, SpecError> {
    let wanted = "an address that starts with http://";
    if value.starts_with("http://") || value.starts_with("${") {
        return Ok(value);
    }
    Err(SpecError::Address { key: "ready.http", value, wanted })
}

fn host_port(key: &'static str, value: String) -> Result<String, SpecError> {
    if value.contains(':') || value.contains("${") {
        return Ok(value);
    }
    Err(SpecError::Address { key, value, wanted: "host:port" })
}

/// Where connections are counted. The kernel counts them by addresses and knows no names. What stands
/// for a variable is checked when it is filled in.
fn ip_port(value: String) -> Result<String, SpecError> {
    let open = |text: &str| text.contains("${");
    let fits = match value.rsplit_once(':') {
        None => open(&value),
        Some((host, port)) => {
            let host_fits = open(host) || format!("{host}:0").parse::<SocketAddr>().is_ok();
            host_fits && (open(port) || port.parse::<u16>().is_ok())
        }
    };
    if fits { Ok(value) } else { Err(no_ip_port(value)) }
}

fn no_ip_port(value: String) -> SpecError {
    let wanted =
        "IP:port, such as 127.0.0.1:8080: connections are counted by addresses, not by names";
    SpecError::Address { key: "drain.listen", value, wanted }
}

/// The definition with each `${name}` replaced by the node's value for it.
///
/// # Errors
/// A variable without a value, by its name; a `drain.listen` that becomes no address.
pub fn fill(spec: &ServiceSpec, vars: &BTreeMap<String, String>) -> Result<ServiceSpec, SpecError> {
    let filled = map_texts(spec, |text| template::fill_from(text, vars))?;
    filled.drain.address()?;
    Ok(filled)
}

impl Drain {
    /// Where connections are counted, once the variables are filled in.
    ///
    /// # Errors
    /// It is no address.
    pub fn address(&self) -> Result<Option<SocketAddr>, SpecError> {
        let parse = |text: &String| text.parse().map_err(|_| no_ip_port(text.clone()));
        self.listen.as_ref().map(parse).transpose()
    }
}

/// The variables that [`fill`] needs values for.
pub fn variables(spec: &ServiceSpec) -> BTreeSet<String> {
    let names = core::cell::RefCell::new(BTreeSet::new());
    let note = |name: &str| {
        names.borrow_mut().insert(name.to_owned());
        Some(String::new())
    };
    // A malformed text has no variables that could be filled: `fill` says what is wrong with it.
    let _ = map_texts(spec, |text| template::fill(text, note));
    names.into_inner()
}

fn map_texts(
    spec: &ServiceSpec,
    map: impl Fn(&str) -> Result<String, TemplateError>,
) -> Result<ServiceSpec, TemplateError> {
    let all = |texts: &[String]| texts.iter().map(|text| map(text)).collect::<Result<_, _>>();
    let mut spec = spec.clone();
    spec.run.command = all(&spec.run.command)?;
    for value in spec.run.env.values_mut() {
        *value = map(value)?;
    }
    spec.ready.probe = match &spec.ready.probe {
        Probe::Http(url) => Probe::Http(map(url)?),
        Probe::Tcp(address) => Probe::Tcp(map(address)?),
        Probe::Command(command) => Probe::Command(all(command)?),
    };
    spec.drain.listen = spec.drain.listen.as_deref().map(map).transpose()?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[run]\ncommand = ['bin/web']\n[ready]\ntcp = '127.0.0.1:80'\n";

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_least_file_has_sane_defaults() {
        let file = parse(LEAST).unwrap();
        let spec = file.spec.unwrap();
        assert_eq!(file.service, None);
        assert_eq!((spec.run.stop_signal, spec.run.stop_timeout.as_secs()), (15, 10));
        let ready = &spec.ready;
        let seconds = [ready.interval, ready.timeout, ready.deadline].map(|d| d.as_secs());
        assert_eq!(seconds, [1, 2, 60]);
        assert_eq!(spec.drain.timeout.as_secs(), 30);
        assert!(spec.drain.balancer_delay.is_zero());
        assert_eq!(parse("service = 'web'").unwrap().spec, None);
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            service = "web"
            [run]
            command = ["bin/web", "--port", "${port}"]
            env = { A = "${a}", HOME = "$${HOME}" }
            stop_signal = "INT"
            stop_timeout = "1m"
            [ready]
            http = "http://127.0.0.1:${port}/ready"
            interval = "250ms"
            timeout = "3s"
            deadline = "2m"
            [drain]
            listen = "0.0.0.0:${port}"
            timeout = "0s"
            balancer_delay = "5s"
        "#;
        let file = parse(text).unwrap();
        assert_eq!(file.service.unwrap().as_str(), "web");
        let spec = file.spec.unwrap();
        assert_eq!(variables(&spec), ["a", "port"].map(String::from).into());
        let vars = [("port", "81"), ("a", "b")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let spec = fill(&spec, &vars).unwrap();
        assert_eq!(spec.run.command, ["bin/web", "--port", "81"]);
        assert_eq!((spec.run.stop_signal, spec.run.stop_timeout.as_secs()), (2, 60));
        assert_eq!((spec.run.env["A"].as_str(), spec.run.env["HOME"].as_str()), ("b", "${HOME}"));
        assert_eq!(spec.ready.probe, Probe::Http("http://127.0.0.1:81/ready".into()));
        assert_eq!(spec.ready.interval, Duration::from_millis(250));
        assert_eq!(spec.drain.listen.as_deref(), Some("0.0.0.0:81"));
        assert_eq!((spec.drain.timeout, spec.drain.balancer_delay.as_secs()), (Duration::ZERO, 5));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let spec = parse(&LEAST.replace("80", "${port}")).unwrap().spec.unwrap();
        let error = fill(&spec, &BTreeMap::new()).unwrap_err();
        assert_eq!(error, SpecError::Template(TemplateError::Missing("port".into())));
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest() {
        let said = refused(&LEAST.replace("tcp", "tpc"));
        assert_eq!(said, "unknown key \"ready.tpc\"; did you mean \"ready.tcp\"?");
        assert!(refused(&format!("servcie = 'a'\n{LEAST}")).contains("\"service\""));
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_its_key() {
        assert_eq!(parse("[run]\ncommand = ['x']\n"), Err(SpecError::NoSection("ready")));
        assert_eq!(parse("[ready]\ntcp = 'a:1'\n"), Err(SpecError::NoSection("run")));
        assert_eq!(parse(&LEAST.replace("'bin/web'", "")), Err(SpecError::NoCommand));
        assert_eq!(parse(&format!("{LEAST}command = ['x']")), Err(SpecError::OneProbe));
        assert_eq!(
            parse(&format!("{LEAST}interval = '0s'")),
            Err(SpecError::Zero("ready.interval"))
        );
        assert!(refused(&format!("{LEAST}timeout = '2'")).starts_with("ready.timeout: \"2\""));
        assert!(refused(&LEAST.replace("127.0.0.1:80", "localhost")).contains("host:port"));
        assert!(refused(&LEAST.replace("bin/web", "${")).contains("needs a name"));
        let drain = |listen: &str| parse(&format!("{LEAST}[drain]\nlisten = '{listen}'"));
        for good in
            ["127.0.0.1:80", "[::]:${port}", "${ip}:${port}", "0.0.0.0:${port}", "${address}"]
        {
            assert!(drain(good).is_ok(), "{good}");
        }
        for bad in ["localhost:80", "localhost:${port}", "127.0.0.1", ":80", "127.0.0.1:http"] {
            let said = drain(bad).unwrap_err().to_string();
            assert!(said.starts_with("drain.listen: ") && said.contains("IP:port"), "{said}");
        }
        let spec = drain("${ip}:80").unwrap().spec.unwrap();
        let filled = |ip: &str| fill(&spec, &[("ip".to_owned(), ip.to_owned())].into());
        assert!(filled("10.0.0.1").is_ok());
        assert!(matches!(filled("localhost"), Err(SpecError::Address { .. })));
        let signal = |value: &str| {
            parse(&LEAST.replace("[ready]", &format!("stop_signal={value}\n[ready]")))
        };
        assert_eq!(signal("'TREM'"), Err(SpecError::Signal("TREM".into())));
        assert_eq!(signal("65"), Err(SpecError::Signal("65".into())));
        assert_eq!(signal("'SIGKILL'").unwrap().spec.unwrap().run.stop_signal, 9);
        assert!(refused("[run").contains("TOML parse error"));
        assert!(refused("run = 3\n[ready]\ntcp='a:1'").contains("invalid type"));
    }
}
