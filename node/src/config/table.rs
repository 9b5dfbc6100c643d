//! The table of all keys. Files, environment, defaults and the example are read and written by it.

/// The form of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Switch,
    /// Texts; between commas where there is but one text to hold them (environment).
    List,
}

impl Shape {
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Switch => "true or false",
            Self::List => "a list of texts, such as [\"10.0.0.1:7400\"]",
        }
    }
}

/// One key of the config.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// As an environment variable would hold it. `None`: derived, or not set at all.
    pub(super) default: Option<&'static str>,
    /// A value that differs from the default.
    pub(super) sample: &'static str,
    /// What it is for, a line each.
    pub(super) doc: &'static [&'static str],
}

impl Key {
    /// The environment variable that overrides it.
    pub(super) fn env(&self) -> String {
        format!("BATON_{}", self.name.to_ascii_uppercase().replace('.', "_"))
    }

    /// The flag that overrides it, without its dashes.
    pub(super) fn flag(&self) -> String {
        self.name.replace(['_', '.'], "-")
    }

    fn toml(&self, text: &str) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        match self.shape {
            Shape::Text => quoted(text),
            Shape::Switch => text.to_owned(),
            Shape::List => {
                let items: Vec<_> = text.split(',').filter(|s| !s.is_empty()).map(quoted).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "data_dir",
        shape: Shape::Text,
        default: Some("/var/lib/baton"),
        sample: "/srv/baton",
        doc: &["Keys, state and releases. Needs a file system that keeps what is synced."],
    },
    Key {
        name: "token",
        shape: Shape::Text,
        default: None,
        sample: "btn1.AQRw",
        doc: &[
            "The join token, from `baton token` on any node. Used once, at the first start; a node",
            "that is in a mesh needs none. Whoever reads it can join: prefer token_file.",
        ],
    },
    Key {
        name: "token_file",
        shape: Shape::Text,
        default: None,
        sample: "/etc/baton/token",
        doc: &["A file that holds the join token, instead of token."],
    },
    Key {
        name: "name",
        shape: Shape::Text,
        default: None,
        sample: "web-1",
        doc: &["What people call this node. Default: the host's name."],
    },
    Key {
        name: "zone",
        shape: Shape::Text,
        default: None,
        sample: "rack-2",
        doc: &["The failure domain it stands in: a rack, a data centre, a region."],
    },
    Key {
        name: "listen",
        shape: Shape::Text,
        default: Some("0.0.0.0:7400"),
        sample: "10.0.0.1:7400",
        doc: &["Where the other nodes reach this one: ip:port (TCP)."],
    },
    Key {
        name: "advertise",
        shape: Shape::List,
        default: None,
        sample: "web-1.example:7400",
        doc: &[
            "host:port under which the others reach it, where that is not what it listens on (NAT,",
            "several networks). Default: derived from its own addresses.",
        ],
    },
    Key {
        name: "bootstrap",
        shape: Shape::List,
        default: Some(""),
        sample: "10.0.0.1:7400,10.0.0.2:7400",
        doc: &["host:port of nodes to ask first, besides those of the token and those remembered."],
    },
    Key {
        name: "witness",
        shape: Shape::Switch,
        default: Some("false"),
        sample: "true",
        doc: &["Only vote, and run no service: the third machine of a two-server mesh."],
    },
    Key {
        name: "agent_check",
        shape: Shape::Text,
        default: Some("0.0.0.0:7401"),
        sample: "off",
        doc: &["Where HAProxy's agent-check is answered: ip:port, or \"off\"."],
    },
    Key {
        name: "api_socket",
        shape: Shape::Text,
        default: None,
        sample: "/run/baton.sock",
        doc: &["The unix socket of the API. Default: baton.sock in data_dir."],
    },
    Key {
        name: "run_dir",
        shape: Shape::Text,
        default: None,
        sample: "/run/baton",
        doc: &[
            "Where the services' shims keep their sockets, records and output, a directory each.",
            "A service that runs is found there again: do not change it under one. Default: run in",
            "data_dir.",
        ],
    },
    Key {
        name: "balancer.groups",
        shape: Shape::List,
        default: Some(""),
        sample: "web,api=api_servers",
        doc: &[
            "The groups whose servers stand in the HAProxy beside this node, which is then read: a permit",
            "closes only when it is seen to send to the server again. A server is called like its node;",
            "a backend like its group, or as said after a =.",
        ],
    },
    Key {
        name: "balancer.haproxy",
        shape: Shape::Text,
        default: Some("/run/haproxy/admin.sock"),
        sample: "/run/haproxy.sock",
        doc: &["The stats socket of that HAProxy. It is only read."],
    },
];

/// Whether keys stand in the table `name` of the file.
pub(super) fn is_table(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

const HEAD: &str = "\
# One node of a baton mesh. The least that works is a join token; what is not set has the default.
# Each key can be overridden by its environment variable and its flag, which wins over both:
# data_dir by BATON_DATA_DIR and --data-dir, and so on. Lists stand between commas there.
";

const GROUPS: &str = "
# What this node fills into the ${name}s of the service of a group, one table per group. Texts all.
#[groups.web]
#vars = { port = \"8080\" }
";

/// The commented example: keys with a fixed default as they are, the others as comments.
pub(super) fn example() -> String {
    let mut text = HEAD.to_owned();
    for key in KEYS {
        text.push('\n');
        for line in key.doc {
            text.push_str(&format!("# {line}\n"));
        }
        let line = match key.default {
            Some(default) => format!("{} = {}\n", key.name, key.toml(default)),
            None => format!("#{} = {}\n", key.name, key.toml(key.sample)),
        };
        text.push_str(&line);
    }
    text + GROUPS
}
