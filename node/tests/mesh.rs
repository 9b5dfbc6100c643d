//! Nodes in one process, on loopback: they found a mesh, join it and spread a release.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use baton_node::config::{Config, GroupConfig};
use baton_node::driver::{self, NodeHandle, Seed};
use baton_node::keys::{self, KeyFile, MeshFile};
use baton_node::runtime::exec::ShimProgram;
use baton_protocol::id::{MeshId, NodeId};
use baton_protocol::time::UnixTime;
use baton_protocol::trust;
use baton_protocol::trust::certificate::Role;
use baton_protocol::trust::token::JoinToken;

/// The shim, as the runtime's own tests have it: an example that cargo builds beside this test.
fn shim() -> ShimProgram {
    let deps = std::env::current_exe().unwrap();
    let program = deps.parent().unwrap().parent().unwrap().join("examples/shim");
    ShimProgram { program, options: Vec::new() }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(dir: &Path, name: &str, port: u16) -> Config {
    let port_var = ("port".to_owned(), free_port().to_string());
    let web = GroupConfig { vars: BTreeMap::from([port_var]) };
    Config {
        data_dir: dir.join(name),
        name: name.parse().unwrap(),
        listen: ([127, 0, 0, 1], port).into(),
        advertise: Vec::new(),
        token: None,
        zone: None,
        witness: false,
        agent_check: None,
        api_socket: dir.join(format!("{name}.sock")),
        run_dir: dir.join(name).join("run"),
        bootstrap: Vec::new(),
        groups: BTreeMap::from([("web".parse().unwrap(), web)]),
    }
}

fn init(config: &Config, port: u16) -> JoinToken {
    std::fs::create_dir_all(&config.data_dir).unwrap();
    let key = keys::load_or_create(&config.data_dir, KeyFile::Node).unwrap();
    let root = keys::create(&config.data_dir, KeyFile::Root).unwrap();
    keys::create(&config.data_dir, KeyFile::Publisher).unwrap();
    let certificate = trust::founder(&root, keys::random().unwrap(), NodeId(key.public()));
    let mesh = MeshFile {
        mesh: MeshId(root.public()),
        name: "test".parse().unwrap(),
        certificate,
        bootstrap: Vec::new(),
    };
    mesh.store(&config.data_dir).unwrap();
    let addresses = vec![format!("127.0.0.1:{port}")];
    let expires = UnixTime(u64::MAX / 2);
    let secret = keys::random().unwrap();
    JoinToken::issue(&root, mesh.name, secret, expires, 9, Role::Member, addresses)
}

async fn start(config: Config) -> NodeHandle {
    let (handle, node) = driver::start(config, shim()).await.unwrap();
    tokio::spawn(node);
    handle
}

async fn wait<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within 30 s: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_nodes_join_and_a_release_reaches_them_all() {
    let _ = tracing_subscriber::fmt().with_env_filter("debug,libp2p=warn,baton_node::driver::service=off,raft=warn,multistream_select=warn,libp2p_swarm=warn,yamux=warn,rustls=warn,hickory=warn,libp2p_tcp=warn,libp2p_core=warn").with_test_writer().try_init();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let founder = config(dir.path(), "n1", port);
    let token = init(&founder, port);
    let mut nodes = vec![start(founder).await];
    for name in ["n2", "n3", "n4"] {
        let mut joiner = config(dir.path(), name, free_port());
        joiner.token = Some(token.clone());
        nodes.push(start(joiner).await);
    }
    for node in &nodes {
        wait("four members and three voters", async || {
            let seen = node
                .look(|peer, _| (peer.fleet().members().len(), peer.fleet().voters().voters.len()));
            (seen.await? == (4, 3)).then_some(())
        })
        .await;
    }
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("baton.toml"), "service = \"web\"\n").unwrap();
    std::fs::write(source.join("big"), vec![7_u8; 3_000_000]).unwrap();
    let seed = Seed { directory: source, service: None, version: "v1".parse().ok() };
    let seeded = nodes[0].seed(seed).await.unwrap();
    let release = seeded.header.id();
    for node in &nodes {
        wait("the release is staged", async || {
            let staged = node.look(move |peer, _| peer.agent().library().is_staged(release));
            staged.await?.then_some(())
        })
        .await;
    }
}

const SERVICE: &str = r#"
service = "web"
[run]
command = ["python3", "-m", "http.server", "${port}", "--bind", "127.0.0.1"]
[ready]
http = "http://127.0.0.1:${port}/ready"
interval = "100ms"
deadline = "8s"
[drain]
listen = "127.0.0.1:${port}"
timeout = "5s"
"#;

async fn seed(
    node: &NodeHandle,
    dir: &Path,
    version: &str,
    good: bool,
) -> baton_protocol::id::ReleaseId {
    let source = dir.join(format!("source-{version}"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("baton.toml"), SERVICE).unwrap();
    std::fs::write(source.join("VERSION"), version).unwrap();
    std::fs::write(source.join("big"), vec![7_u8; 3_000_000]).unwrap();
    if good {
        std::fs::write(source.join("ready"), version).unwrap();
    }
    let seed = Seed { directory: source, service: None, version: version.parse().ok() };
    node.seed(seed).await.unwrap().header.id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout() {
    use baton_protocol::fleet::command::PolicyChange;
    use baton_protocol::peer::Operation;
    let _ = tracing_subscriber::fmt()
        .with_env_filter("warn,libp2p=off,raft=warn,baton_node=error")
        .with_test_writer()
        .try_init();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let founder = config(dir.path(), "n1", port);
    let token = init(&founder, port);
    let mut nodes = vec![start(founder).await];
    for name in ["n2", "n3", "n4"] {
        let mut joiner = config(dir.path(), name, free_port());
        joiner.token = Some(token.clone());
        nodes.push(start(joiner).await);
    }
    wait("all in the group", async || {
        let web = nodes[0].look(|peer, _| {
            peer.fleet().groups().get(&"web".parse().unwrap()).map(|it| it.members.len())
        });
        (web.await?? == 4).then_some(())
    })
    .await;
    let change =
        PolicyChange { min_healthy: Some(Duration::from_secs(1)), ..PolicyChange::default() };
    let op = Operation::SetGroup { group: "web".parse().unwrap(), change, person: "t".into() };
    nodes[0].operate(op).await.unwrap();
    for (version, good) in [("v1", true), ("v2", true), ("v3", false)] {
        let release = seed(&nodes[0], dir.path(), version, good).await;
        let header = nodes[0]
            .look(move |peer, _| {
                peer.agent()
                    .library()
                    .headers()
                    .find(|(it, _)| it.id() == release)
                    .map(|(it, _)| it.clone())
            })
            .await
            .unwrap()
            .unwrap();
        nodes[0].operate(Operation::Register { header }).await.unwrap();
        let deploy = Operation::Deploy {
            group: "web".parse().unwrap(),
            release,
            back: false,
            person: "t".into(),
        };
        let answer = nodes[1].operate(deploy.clone()).await;
        eprintln!("{version}: {answer:?}");
        answer.unwrap();
        let began = Instant::now();
        let mut last = String::new();
        wait("the rollout ends", async || {
            let phase = nodes[0]
                .look(|peer, _| {
                    let group = peer.fleet().groups().get(&"web".parse().unwrap())?;
                    let rollout = group.rollouts.last()?;
                    Some((
                        format!(
                            "{:?} {:?} {:?}",
                            rollout.phase,
                            group.members.values().map(|m| m.standing).collect::<Vec<_>>(),
                            peer.fleet()
                                .permits()
                                .values()
                                .map(|p| (p.id, p.phase, &p.failure))
                                .collect::<Vec<_>>()
                        ),
                        rollout.phase.is_over(),
                    ))
                })
                .await??;
            if phase.0 != last {
                eprintln!("{:?} {}", began.elapsed(), phase.0);
                last = phase.0;
            }
            phase.1.then_some(())
        })
        .await;
    }
}
