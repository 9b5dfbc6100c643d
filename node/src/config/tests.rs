//! What a person notices of the config: its defaults, what overrides what, and its errors.

use std::fs;

use baton_protocol::id::NodeId;
use baton_protocol::time::UnixTime;
use baton_protocol::trust::certificate::Role;
use baton_protocol::trust::key::SecretKey;

use super::*;
use crate::config::table::{KEYS, Shape};

const NO_ENV: fn(&str) -> Option<String> = |_| None;

/// What the file's text gives.
fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(text, NO_ENV, &Overrides::default())
}

fn load_with(
    text: &str,
    env: impl Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("baton.toml");
    fs::write(&path, text).unwrap();
    Config::load(Some(&path), env, overrides)
}

/// The error of the file's text, without the folder of the test.
fn error(text: &str) -> String {
    let error = load(text).unwrap_err().to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    error.split_once("/baton.toml").map_or(error.clone(), |(_, rest)| rest.to_owned())
}

fn join_token(mesh: &str) -> String {
    let root = SecretKey::from_seed([1; 32]);
    let (end, addresses) = (UnixTime(2_000_000_000), vec!["10.0.0.1:7400".to_owned()]);
    let mesh = mesh.parse().unwrap();
    JoinToken::issue(&root, mesh, [2; 32], end, 1, Role::Member, addresses).to_string()
}

fn sample(key: &str) -> String {
    match key {
        "token" => join_token("prod"),
        other => table::find(other).unwrap().sample.to_owned(),
    }
}

fn mesh_of(config: &Config) -> &str {
    config.token.as_ref().unwrap().mesh_name.as_str()
}

#[test]
fn nothing_at_all_gives_the_defaults() {
    let config = Config::load(None, NO_ENV, &Overrides::default()).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/baton"));
    assert_eq!(config.api_socket, Path::new("/var/lib/baton/baton.sock"));
    assert_eq!(config.run_dir, Path::new("/var/lib/baton/run"));
    assert_eq!(config.listen.to_string(), "0.0.0.0:7400");
    assert_eq!(config.agent_check.unwrap().to_string(), "0.0.0.0:7401");
    assert!(config.advertise.is_empty() && config.bootstrap.is_empty() && !config.witness);
    assert!(config.token.is_none() && config.zone.is_none() && config.groups.is_empty());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(config.name.as_str(), host);
}

#[test]
fn the_example_says_the_defaults_and_names_every_key() {
    let text = Config::example();
    let (example, default) = (load(&text).unwrap(), load("").unwrap());
    assert_eq!(format!("{example:?}"), format!("{default:?}"));
    for key in KEYS {
        let set =
            |line: &str| line.trim_start_matches('#').starts_with(&format!("{} = ", key.name));
        assert_eq!(text.lines().filter(|line| set(line)).count(), 1, "{}", key.name);
        let live = text.lines().any(|line| line.starts_with(&format!("{} = ", key.name)));
        assert_eq!(live, key.default.is_some(), "{}", key.name);
    }
}

#[test]
fn what_the_example_has_in_comments_can_be_taken_out_of_them() {
    let live = |line: &str| match line.strip_prefix('#') {
        Some(rest) if line.starts_with("#token") => format!("#{rest}\n"),
        Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let config = load(&Config::example().lines().map(live).collect::<String>()).unwrap();
    assert_eq!(config.name.as_str(), "web-1");
    assert_eq!(config.advertise, ["web-1.example:7400"]);
    assert_eq!(config.groups[&"web".parse().unwrap()].vars["port"], "8080");
}

#[test]
fn a_token_and_a_data_directory_are_enough() {
    let config =
        load(&format!("token = \"{}\"\ndata_dir = \"/srv/b\"", join_token("prod"))).unwrap();
    assert_eq!((mesh_of(&config), config.data_dir.to_str()), ("prod", Some("/srv/b")));
    assert!(config.token.unwrap().certify(NodeId([3; 32]), Role::Member).is_ok());
}

#[test]
fn every_key_works_in_the_file_and_in_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    fs::write(&token_file, join_token("prod") + "\n").unwrap();
    let default = format!("{:?}", load("").unwrap());
    for key in KEYS {
        let value = match key.name {
            "token_file" => token_file.to_str().unwrap().to_owned(),
            name => sample(name),
        };
        let toml = match key.shape {
            Shape::Text => format!("{} = {value:?}", key.name),
            Shape::Switch => format!("{} = {value}", key.name),
            Shape::List => format!("{} = {:?}", key.name, value.split(',').collect::<Vec<_>>()),
        };
        let by_file = format!("{:?}", load(&toml).unwrap());
        assert_ne!(by_file, default, "{}", key.name);
        let env = |name: &str| (name == key.env()).then(|| value.clone());
        let by_env = Config::load(None, env, &Overrides::default()).unwrap();
        assert_eq!(format!("{by_env:?}"), by_file, "{}", key.name);
    }
}

#[test]
fn every_key_has_a_flag() {
    let text = |key| Some(sample(key));
    let overrides = Overrides {
        data_dir: text("data_dir"),
        name: text("name"),
        listen: text("listen"),
        advertise: vec![sample("advertise")],
        token: text("token"),
        token_file: None,
        zone: text("zone"),
        witness: Some(true),
        agent_check: text("agent_check"),
        api_socket: text("api_socket"),
        run_dir: text("run_dir"),
        bootstrap: vec!["10.0.0.1:7400".into(), "10.0.0.2:7400".into()],
        balancer_groups: vec!["web".into(), "api=api_servers".into()],
        balancer_haproxy: text("balancer.haproxy"),
    };
    let by_flag = Config::load(None, NO_ENV, &overrides).unwrap();
    let env = |name: &str| {
        let key = KEYS.iter().find(|key| key.env() == name && key.name != "token_file");
        key.map(|key| sample(key.name))
    };
    let by_env = Config::load(None, env, &Overrides::default()).unwrap();
    assert_eq!(format!("{by_flag:?}"), format!("{by_env:?}"));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let env = |name: &str| (name == "BATON_NAME" || name == "BATON_ZONE").then(|| "env".to_owned());
    let overrides = Overrides { name: Some("flag".into()), ..Overrides::default() };
    let file = "name = \"file\"\nzone = \"file\"\nlisten = \"10.0.0.9:1\"";
    let config = load_with(file, env, &overrides).unwrap();
    assert_eq!((config.name.as_str(), config.zone.unwrap().as_str()), ("flag", "env"));
    assert_eq!(config.listen.to_string(), "10.0.0.9:1");
    let empty = load_with(file, |_| Some(String::new()), &Overrides::default()).unwrap();
    assert_eq!(empty.name.as_str(), "file", "an empty variable counts as not set");
}

#[test]
fn the_token_of_the_higher_layer_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, join_token("filed")).unwrap();
    let file = format!("token_file = {path:?}");
    assert_eq!(mesh_of(&load(&file).unwrap()), "filed");
    let overrides = Overrides { token: Some(join_token("flag")), ..Overrides::default() };
    assert_eq!(mesh_of(&load_with(&file, NO_ENV, &overrides).unwrap()), "flag");
    let env = |name: &str| (name == "BATON_TOKEN_FILE").then(|| path.to_str().unwrap().to_owned());
    let inline = format!("token = {:?}", join_token("inline"));
    assert_eq!(mesh_of(&load_with(&inline, env, &Overrides::default()).unwrap()), "filed");
    let both = error(&format!("{inline}\n{file}"));
    assert_eq!(both, ":1: both token and token_file are set: keep one of them");
}

#[test]
fn unknown_keys_name_the_nearest_one() {
    assert_eq!(
        error("# x\nlisten = \"0.0.0.0:1\"\ndata-dir = \"/x\""),
        ":3: unknown key \"data-dir\": did you mean \"data_dir\"?"
    );
    assert_eq!(error("group = 1"), ":1: unknown key \"group\": did you mean \"groups\"?");
    assert!(
        error("replicas = 3").starts_with(":1: unknown key \"replicas\": the keys are data_dir,")
    );
    assert_eq!(
        error("[groups.web]\n\nport = \"80\""),
        ":3: unknown key \"groups.web.port\": did you mean \"vars\"?"
    );
}

#[test]
fn the_balancer_has_a_table_of_its_own() {
    let balancer = load("[balancer]\ngroups = [\"web\", \"api=shop\"]\n").unwrap().balancer;
    let backends: Vec<_> =
        balancer.backends.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(backends, [("api", "shop"), ("web", "web")]);
    assert_eq!(balancer.haproxy, Path::new("/run/haproxy/admin.sock"));
    assert_eq!(
        error("[balancer]\ngroup = [\"web\"]"),
        ":2: unknown key \"balancer.group\": did you mean \"balancer.groups\"?"
    );
    assert_eq!(error("balancer = 1"), ":1: balancer is the number 1, and must be a table of keys");
    let injected = error("balancer.groups = [\"web=a;shutdown\"]");
    assert!(
        injected.starts_with(":1: balancer.groups: \"a;shutdown\" is no backend"),
        "{injected}"
    );
}

#[test]
fn wrong_types_say_what_is_expected() {
    let quotes = "a text in quotes";
    assert_eq!(
        error("\nlisten = 7400"),
        format!(":2: listen is the number 7400, and must be {quotes}")
    );
    assert_eq!(error("witness = \"yes\""), ":1: witness is a text, and must be true or false");
    let list = "and must be a list of texts, such as [\"10.0.0.1:7400\"]";
    assert_eq!(error("advertise = \"a:1\""), format!(":1: advertise is a text, {list}"));
    assert_eq!(
        error("bootstrap = [\n\"a:1\",\n2]"),
        format!(":3: bootstrap is the number 2, {list}")
    );
    assert_eq!(
        error("[groups.web]\nvars = { port = 8080 }"),
        ":2: groups.web.vars.port is the number 8080, and must be a text in quotes, such as \"8080\""
    );
    assert_eq!(
        error("groups = 1"),
        ":1: groups is the number 1, and must be tables such as [groups.web]"
    );
    let env = |name: &str| (name == "BATON_WITNESS").then(|| "maybe".to_owned());
    let env = load_with("", env, &Overrides::default()).unwrap_err().to_string();
    assert_eq!(env, "BATON_WITNESS: witness is \"maybe\", and must be true or false");
}

#[test]
fn bad_values_say_what_would_do() {
    let listen = "listen: \"7400\" is no address: write ip:port, such as 0.0.0.0:7400";
    assert_eq!(error("listen = \"7400\""), format!(":1: {listen}"));
    let overrides = Overrides { listen: Some("7400".into()), ..Overrides::default() };
    let flag = load_with("", NO_ENV, &overrides).unwrap_err().to_string();
    assert_eq!(flag, format!("--listen: {listen}"));
    for (bad, key) in [
        ("name = \"a b\"", ":1: name: \"a b\" is no name"),
        ("zone = \"\"", ":1: zone: is empty"),
        ("agent_check = \"on\"", ":1: agent_check: \"on\" is no address"),
        ("bootstrap = [\"a\"]", ":1: bootstrap: \"a\" is no host:port"),
        ("bootstrap = [\"a:0\"]", ":1: bootstrap: \"a:0\" is no host:port"),
        ("bootstrap = [\"http://a:1\"]", ":1: bootstrap: \"http://a:1\" is no host:port"),
        ("bootstrap = [\"2001:db8::1:7400\"]", ":1: bootstrap: \"2001:db8::1:7400\" is no"),
        ("[groups.\"a b\"]", ":1: groups.a b: \"a b\" is no name"),
        ("data_dir = \"\"", ":1: data_dir: is empty"),
    ] {
        assert!(error(bad).starts_with(key), "{bad}: {}", error(bad));
    }
    assert!(load("bootstrap = [\"[2001:db8::1]:7400\", \"db_1.example:1\"]").is_ok());
    assert_eq!(load("agent_check = \"off\"").unwrap().agent_check, None);
}

#[test]
fn a_socket_path_that_the_system_cannot_take_is_refused_here() {
    let long = format!("data_dir = \"/{}\"", "x".repeat(96));
    let shown = error(&long);
    assert!(
        shown.starts_with(":1: api_socket: "),
        "the line of the data_dir that it is in: {shown}"
    );
    assert!(shown.ends_with("108 bytes, and the system takes 107: set a shorter path"), "{shown}");
    assert!(load(&long.replace("/x", "/")).is_ok());
}

#[test]
fn a_bad_token_is_named_and_never_shown() {
    let mut cut = join_token("prod");
    cut.truncate(cut.len() - 2);
    let shown = error(&format!("\ntoken = {cut:?}"));
    assert_eq!(shown, ":2: token: the token is incomplete or mistyped");
    let torn = error(&format!("token = \"{cut}"));
    assert!(torn.starts_with(":1: ") && !torn.contains(&cut), "{torn}");
    let config = load(&format!("token = {:?}", join_token("prod"))).unwrap();
    let secret = format!("{:?}", [2u8; 32]);
    assert!(!format!("{config:?}").contains(&secret));
}

#[test]
fn a_missing_file_says_which() {
    let none = Config::load(Some(Path::new("/nowhere/b.toml")), NO_ENV, &Overrides::default());
    let none = none.unwrap_err().to_string();
    assert!(none.starts_with("/nowhere/b.toml: the config file cannot be read: No such file"));
    let token = error("token_file = \"/nowhere/token\"");
    assert!(
        token.starts_with(":1: token_file: /nowhere/token cannot be read: No such file"),
        "{token}"
    );
}

#[test]
fn a_file_too_large_is_refused_and_not_cut() {
    let padded = |bytes: usize| format!("{}\nwitness = true", "#".repeat(bytes));
    assert!(load(&padded(1_000_000)).unwrap().witness);
    let large = load(&padded(1024 * 1024)).unwrap_err().to_string();
    assert!(large.ends_with("it has more than 1048576 bytes"), "{large}");
}

#[test]
fn torn_toml_names_its_line() {
    assert!(error("name = \"a\"\nzone = \n").starts_with(":2: "));
    assert!(error("name = \"a\"\nname = \"b\"").starts_with(":2: "));
}
