//! Mistakes of people: a clear word, an exit code, and nothing changed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use baton_tests::mesh::{Mesh, baton, run};

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
