//! Mistakes of people: a clear word, an exit code, and nothing changed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use baton_tests::mesh::{Mesh, baton, run};
use serde_json::Value;

#[test]
fn what_cannot_be_deployed_is_refused_and_nothing_changes() {
    let mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    let rollouts = || mesh.json(0, "rollout status -g web").unwrap()["id"].clone();
    let before = rollouts();

    let zero = mesh.cli(0, &["group", "set", "web", "--max-unavailable", "10%"]).code(2);
    assert!(
        zero.stderr.contains("rounds down to 0") && zero.stderr.contains("34%"),
        "{}",
        zero.stderr
    );

    let file = mesh.data_dir(0).join("baton.toml");
    let no_dir = mesh.cli(0, &["deploy", file.to_str().unwrap(), "-g", "web"]).code(2);
    assert!(no_dir.stderr.contains("is no directory"), "{}", no_dir.stderr);

    let escaping = mesh.release("v9", "");
    std::os::unix::fs::symlink("/etc/passwd", format!("{escaping}/way-out")).unwrap();
    let escapes = mesh.cli(0, &["deploy", &escaping, "-g", "web", "--version", "v9"]).code(2);
    assert!(escapes.stderr.contains("way-out"), "{}", escapes.stderr);

    let changed = mesh.release("v1", "");
    std::fs::write(format!("{changed}/data"), "other").unwrap();
    let taken = mesh.cli(0, &["deploy", &changed, "-g", "web", "--version", "v1"]).code(2);
    assert!(taken.stderr.contains("other contents"), "{}", taken.stderr);

    let nobody = mesh.cli(0, &["deploy", "v1", "-g", "nosuch"]).code(2);
    assert!(nobody.stderr.contains("nosuch"), "{}", nobody.stderr);

    assert_eq!(rollouts(), before, "no rollout was made");
    mesh.assert_version("v1");

    let same = mesh.release("v1", "");
    let nothing_to_do = mesh.cli(0, &["deploy", &same, "-g", "web", "--version", "v1"]).code(0);
    assert!(nothing_to_do.stdout.contains("it was here already"), "{}", nothing_to_do.stdout);
}

#[test]
fn what_a_person_orders_is_done_answered_and_kept() {
    let mesh = Mesh::start(4, "1");
    let in_json = |arguments: &[&str]| {
        let ended = mesh.cli(0, &[arguments, &["-o", "json"]].concat()).code(0);
        serde_json::from_str::<Value>(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
    };
    let cap = |arguments: &[&str]| {
        let groups = in_json(&[&["group", "set", "web"], arguments].concat());
        (groups[0]["max_unavailable"].as_str().unwrap().to_owned(), groups[0]["limit"].clone())
    };
    // What was allowed stays allowed when the number is written anew, and until it is taken back.
    let two = mesh.cli(0, &["group", "set", "web", "--max-unavailable", "2"]).code(2);
    assert!(two.stderr.contains("allow-half"), "{}", two.stderr);
    assert_eq!(cap(&["--max-unavailable", "2", "--allow-half"]).1, 2);
    assert_eq!(cap(&["--min-healthy", "1s"]).1, 2);
    assert_eq!(cap(&["--max-unavailable", "2"]).1, 2);
    mesh.cli(0, &["group", "set", "web", "--allow-half=false"]).code(2);
    assert_eq!(cap(&["--max-unavailable", "1", "--allow-half=false"]).1, 1);

    let never = mesh.cli(0, &["rollout", "status", "-g", "web", "--wait"]).code(2);
    assert!(never.stderr.contains("no rollout"), "{}", never.stderr);
    let nobody = mesh.cli(0, &["nodes", "remove", "no such"]).code(2);
    assert!(nobody.stderr.contains("is no name"), "{}", nobody.stderr);
    let permit = ["rollout", "override", "26", "--fenced", "--reason", "x"];
    let permit = mesh.cli(0, &permit).code(2);
    assert!(permit.stderr.contains("p26.0"), "{}", permit.stderr);

    mesh.deploy("v1");
    let voters = in_json(&["status"])["voters"].clone();
    let voters: Vec<_> = voters.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let names = mesh.nodes.iter().map(|node| node.name.as_str());
    let spare = names.clone().find(|name| !voters.contains(name)).unwrap();
    let quarantined = in_json(&["nodes", "quarantine", spare, "-g", "web"]);
    assert_eq!(quarantined["quarantined"], true);
    mesh.cli(0, &["nodes", "quarantine", spare, "-g", "web", "--end"]).code(0);
    assert_eq!(in_json(&["nodes", "remove", spare])["removed"], spare);
    let audit = in_json(&["audit"]);
    assert!(audit.to_string().contains(spare), "{audit}");
}

#[test]
fn the_api_tells_every_mistake_in_the_same_form() {
    let mesh = Mesh::start(1, "1");
    let socket = mesh.data_dir(0).join("baton.sock");
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(request.replace('\n', "\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let problem: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
        assert!(problem["error"].is_string() && problem["kind"].is_string(), "{answer}");
        head.split(' ').nth(1).unwrap().to_owned()
    };
    let head = "host: x\nconnection: close\ncontent-type: application/json\n";
    let post = |path: &str, body: &str| {
        ask(&format!("POST {path} HTTP/1.1\n{head}content-length: {}\n\n{body}", body.len()))
    };
    assert_eq!(post("/v1/rollouts", "{"), "422");
    assert_eq!(post("/v1/groups/web", "{\"max_unavailabel\": \"1\"}"), "422");
    assert_eq!(post("/v1/status", ""), "422");
    assert_eq!(ask(&format!("GET /v1/logs/web?lines=many HTTP/1.1\n{head}\n")), "422");
    assert_eq!(ask(&format!("GET /v1/nothing HTTP/1.1\n{head}\n")), "404");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[test]
fn a_config_that_is_wrong_says_so_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("baton.toml");
    let node = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let ended = run(Command::new(baton()).arg("node").arg("--config").arg(&config));
        assert_ne!(ended.code, 0, "{text}");
        assert_eq!(ended.stderr.trim().lines().count(), 1, "{}", ended.stderr);
        ended.stderr
    };
    let data_dir = format!("data_dir = \"{}\"\n", dir.path().join("data").display());

    let unknown = node(&format!("{data_dir}lisen = \"127.0.0.1:1\"\n"));
    assert!(unknown.contains("lisen") && unknown.contains("listen"), "{unknown}");

    let token = node(&format!("{data_dir}token = \"btn1.abc\"\n"));
    assert!(token.contains("token"), "{token}");

    let no_mesh = node(&data_dir);
    assert!(no_mesh.contains("baton init"), "{no_mesh}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = dir.path().join("data");
    run(Command::new(baton()).args(["init", "test", "--data-dir"]).arg(&data)).code(0);
    let in_use = node(&format!("{data_dir}agent_check = \"off\"\nlisten = \"{address}\"\n"));
    assert!(in_use.contains(&address), "{in_use}");
}
