//! A node's keys and its place in a mesh, as files in the data directory.
//!
//! Each file is written beside its place, synced, put in place by one system call, and the directory
//! is synced: after a kill or a power cut it is there and whole, or it is not there. What a kill
//! leaves beside (`.new-…`) is never read.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use baton_protocol::codec::{self, DecodeError};
use baton_protocol::id::{MeshId, MeshName, NodeId};
use baton_protocol::trust::certificate::Certificate;
use baton_protocol::trust::chain::{self, ChainError};
use baton_protocol::trust::key::SecretKey;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

/// Bytes of a key or mesh file that are read: far more than either has.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The name of the file that tells which mesh the node is in.
const MESH_FILE: &str = "mesh";
/// The name of the file that says that the mesh was founded from this very directory.
const FOUNDED_FILE: &str = "founded";

/// One of the secret keys that a node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFile {
    /// The node's own: every node has one.
    Node,
    /// The mesh's root: it issues tokens. Best kept on one node, or on paper alone.
    Root,
    /// A publisher's: it signs releases.
    Publisher,
}

impl KeyFile {
    /// The key's file in the data directory.
    pub fn path(self, data_dir: &Path) -> PathBuf {
        data_dir.join(match self {
            Self::Node => "node.key",
            Self::Root => "root.key",
            Self::Publisher => "publisher.key",
        })
    }
}

/// Why a key or the node's place in its mesh cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refused.
    #[error("{}: cannot be {verb}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried: "read" or "written".
        verb: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The system gave no random bytes.
    #[error("no random bytes for a new key: {0}")]
    Random(getrandom::Error),
    /// A key is there already, and would have been lost.
    #[error("{}: is there already, and a lost key cannot be made again: move it away first", .0.display())]
    Exists(PathBuf),
    /// The file holds no key.
    #[error("{}: holds no key: 64 hexadecimal digits are one; bring back its copy", .0.display())]
    NoKey(PathBuf),
    /// The mesh file is damaged.
    #[error("{}: {why}; bring back its copy, or remove it and join with a new token", path.display())]
    Mesh {
        /// The mesh file.
        path: PathBuf,
        /// What is wrong with it.
        why: MeshFault,
    },
}

/// What can be wrong with a mesh file.
#[derive(Debug, thiserror::Error)]
pub enum MeshFault {
    /// It is not what was written.
    #[error("cannot be read as a mesh file: {0}")]
    Malformed(String),
    /// Its certificate is no certificate.
    #[error("the certificate cannot be read: {0}")]
    Certificate(#[from] DecodeError),
    /// Its certificate does not prove membership.
    #[error("the certificate does not hold: {0}")]
    Chain(#[from] ChainError),
    /// Its certificate is another node's.
    #[error("the certificate is for node {}, and node.key is node {}", .found.short(), .expected.short())]
    OtherNode {
        /// The node whose key is in the data directory.
        expected: NodeId,
        /// The node that the certificate names.
        found: NodeId,
    },
}

/// The key in its file; `None` when there is no such file. Where others on this machine can read it,
/// the log says so, and the node starts: an outage would not make the key secret again.
///
/// # Errors
/// The file cannot be read, or holds no key. Never replaced then: a
/// damaged key is for a person to look at.
pub fn load(data_dir: &Path, key: KeyFile) -> Result<Option<SecretKey>, KeyError> {
    let path = key.path(data_dir);
    let Some((text, mode)) = read(&path)? else { return Ok(None) };
    if let Some(warning) = exposure(&path, mode) {
        tracing::warn!("{warning}");
    }
    let bytes = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok();
    let seed: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    seed.map(|seed| Some(SecretKey::from_seed(seed))).ok_or(KeyError::NoKey(path))
}

/// What to say of a key that is not for its owner alone.
fn exposure(path: &Path, mode: u32) -> Option<String> {
    let path = path.display();
    let say = || format!("{path}: others can read this key (mode {mode:o}): chmod 600 {path}");
    (mode & 0o077 != 0).then(say)
}

/// Makes a new key and its file.
///
/// # Errors
/// [`KeyError::Exists`] when there is one: it is never overwritten.
pub fn create(data_dir: &Path, key: KeyFile) -> Result<SecretKey, KeyError> {
    let secret = SecretKey::from_seed(random()?);
    store(data_dir, key, &secret)?;
    Ok(secret)
}

/// The key in its file, which is made when there is none.
///
/// # Errors
/// See [`load`] and [`create`].
pub fn load_or_create(data_dir: &Path, key: KeyFile) -> Result<SecretKey, KeyError> {
    if let Some(secret) = load(data_dir, key)? {
        return Ok(secret);
    }
    match create(data_dir, key) {
        // Another process was faster. Its key is the one that stays.
        Err(KeyError::Exists(path)) => load(data_dir, key)?.ok_or(KeyError::NoKey(path)),
        created => created,
    }
}

/// Writes a key that came from elsewhere, a recovery text say.
///
/// # Errors
/// [`KeyError::Exists`] when there is one: it is never overwritten.
pub fn store(data_dir: &Path, key: KeyFile, secret: &SecretKey) -> Result<(), KeyError> {
    let text = format!("{}\n", HEXLOWER.encode(&secret.seed()));
    put(data_dir, &key.path(data_dir), &text, Place::New)
}

/// 32 random bytes from the system.
///
/// # Errors
/// The system has none.
pub fn random() -> Result<[u8; 32], KeyError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    Ok(bytes)
}

/// The mesh that the node is in, and its proof of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshFile {
    /// The mesh.
    pub mesh: MeshId,
    /// What people call it.
    pub name: MeshName,
    /// The node's own certificate.
    pub certificate: Certificate,
    /// `host:port` of nodes to ask first after a restart.
    pub bootstrap: Vec<String>,
}

/// The file's TOML.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MeshText {
    mesh: MeshId,
    name: MeshName,
    bootstrap: Vec<String>,
    /// The certificate's frame, in hexadecimal digits.
    certificate: String,
}

impl MeshFile {
    /// Reads the file and checks that its certificate admits `node` to its mesh; `None` when there
    /// is no file: the node is in no mesh yet.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or belongs to another node.
    pub fn load(data_dir: &Path, node: NodeId) -> Result<Option<Self>, KeyError> {
        let path = data_dir.join(MESH_FILE);
        let Some((text, _)) = read(&path)? else { return Ok(None) };
        Self::parse(&text, node).map(Some).map_err(|why| KeyError::Mesh { path, why })
    }

    fn parse(text: &str, node: NodeId) -> Result<Self, MeshFault> {
        let malformed = |error: toml::de::Error| MeshFault::Malformed(error.message().to_owned());
        let MeshText { mesh, name, bootstrap, certificate } =
            toml::from_str(text).map_err(malformed)?;
        let bytes = HEXLOWER
            .decode(certificate.as_bytes())
            .map_err(|error| MeshFault::Malformed(format!("certificate: {error}")))?;
        let certificate: Certificate = codec::decode(&bytes)?;
        chain::verify(mesh, &certificate)?;
        if certificate.node != node {
            return Err(MeshFault::OtherNode { expected: node, found: certificate.node });
        }
        Ok(Self { mesh, name, certificate, bootstrap })
    }

    /// Writes the file, over an older one if there is one.
    ///
    /// # Errors
    /// The system refused.
    pub fn store(&self, data_dir: &Path) -> Result<(), KeyError> {
        let path = data_dir.join(MESH_FILE);
        let text = toml::to_string(&MeshText {
            mesh: self.mesh,
            name: self.name.clone(),
            bootstrap: self.bootstrap.clone(),
            certificate: HEXLOWER.encode(&codec::encode(&self.certificate)),
        });
        let text = text.map_err(|error| KeyError::Mesh {
            path: path.clone(),
            why: MeshFault::Malformed(error.to_string()),
        })?;
        put(data_dir, &path, &format!("# Written by baton.\n{text}"), Place::Over)
    }
}

/// Whether a mesh was founded from this directory, and its first entries have been on its disk.
///
/// # Errors
/// The system does not say.
pub fn has_founded(data_dir: &Path) -> Result<bool, KeyError> {
    let path = data_dir.join(FOUNDED_FILE);
    path.try_exists().map_err(|error| KeyError::Io { path, verb: "read", error })
}

/// Keeps that a mesh was founded from this directory: it cannot be founded a second time.
///
/// # Errors
/// The system refused.
pub fn mark_founded(data_dir: &Path) -> Result<(), KeyError> {
    let text = "A mesh was founded from this directory; it is not founded again.\n";
    put(data_dir, &data_dir.join(FOUNDED_FILE), text, Place::Over)
}

/// What happens to a file that is there already.
#[derive(Clone, Copy)]
enum Place {
    /// It stays, and the new one is refused.
    New,
    /// The new one takes its place.
    Over,
}

/// The file's text and permission bits; `None` when there is no such file.
fn read(path: &Path) -> Result<Option<(String, u32)>, KeyError> {
    let failed = |error| KeyError::Io { path: path.to_owned(), verb: "read", error };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(Some((text, mode)))
}

/// Writes a file for its owner alone, whole or not at all.
fn put(data_dir: &Path, path: &Path, text: &str, place: Place) -> Result<(), KeyError> {
    let failed = |error| KeyError::Io { path: path.to_owned(), verb: "written", error };
    make_dir(data_dir).map_err(failed)?;
    // A name of its own: two processes that make a key at once must not write to one file.
    let beside = HEXLOWER.encode(random()?.get(..8).unwrap_or_default());
    let beside = data_dir.join(format!(".new-{beside}"));
    let put = write_synced(&beside, text).and_then(|()| match place {
        // Unlike a rename, a link refuses to replace.
        Place::New => fs::hard_link(&beside, path),
        Place::Over => fs::rename(&beside, path),
    });
    // Gone already after a rename. Where it cannot be removed it does no harm.
    let _ = fs::remove_file(&beside);
    match put {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyError::Exists(path.to_owned()))
        }
        put => put.and_then(|()| sync_dir(data_dir)).map_err(failed),
    }
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The mode above passes through the umask, which may take away even from the owner.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes the data directory if there is none, so that it outlives a power cut.
fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_dir(parent)?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made?,
    }
    sync_dir(parent.unwrap_or(Path::new(".")))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use baton_protocol::trust::founder;
    use tempfile::tempdir;

    use super::*;

    const ALL: [KeyFile; 3] = [KeyFile::Node, KeyFile::Root, KeyFile::Publisher];

    fn mesh_file(node: NodeId) -> MeshFile {
        let root = SecretKey::from_seed([1; 32]);
        MeshFile {
            mesh: MeshId(root.public()),
            name: "prod".parse().unwrap(),
            certificate: founder(&root, [2; 32], node),
            bootstrap: vec!["10.0.0.1:7400".into()],
        }
    }

    #[test]
    fn a_key_is_made_once_and_comes_back() {
        let dir = tempdir().unwrap();
        let data = dir.path().join("a/b");
        for key in ALL {
            assert!(load(&data, key).unwrap().is_none());
            let made = load_or_create(&data, key).unwrap();
            assert_eq!(load_or_create(&data, key).unwrap().seed(), made.seed());
            assert!(matches!(create(&data, key), Err(KeyError::Exists(_))));
            assert_eq!(load(&data, key).unwrap().unwrap().seed(), made.seed());
        }
        let seeds = ALL.map(|key| load(&data, key).unwrap().unwrap().seed());
        assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2] && seeds[0] != seeds[2]);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 3, "nothing is left beside the keys");
    }

    #[test]
    fn a_key_is_for_its_owner_alone() {
        let dir = tempdir().unwrap();
        create(dir.path(), KeyFile::Root).unwrap();
        let path = KeyFile::Root.path(dir.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(load(dir.path(), KeyFile::Root).unwrap().is_some(), "a warning, and no outage");
        let said = "/d/root.key: others can read this key (mode 640): chmod 600 /d/root.key";
        assert_eq!(exposure(Path::new("/d/root.key"), 0o640).unwrap(), said);
        assert_eq!(exposure(Path::new("/d/root.key"), 0o600), None);
    }

    #[test]
    fn the_file_is_hex_that_other_tools_can_read() {
        let dir = tempdir().unwrap();
        store(dir.path(), KeyFile::Publisher, &SecretKey::from_seed([0xa7; 32])).unwrap();
        let text = fs::read_to_string(dir.path().join("publisher.key")).unwrap();
        assert_eq!(text, format!("{}\n", "a7".repeat(32)));
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays() {
        let dir = tempdir().unwrap();
        create(dir.path(), KeyFile::Node).unwrap();
        let path = KeyFile::Node.path(dir.path());
        for damage in ["", "a7a7", &"g".repeat(64), &"a".repeat(66)] {
            fs::write(&path, damage).unwrap();
            assert!(matches!(load_or_create(dir.path(), KeyFile::Node), Err(KeyError::NoKey(_))));
            assert_eq!(fs::read_to_string(&path).unwrap(), damage);
        }
    }

    #[test]
    fn what_a_kill_left_is_ignored() {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join(".new-0011223344556677"), "a7a7").unwrap();
        assert!(load(dir.path(), KeyFile::Node).unwrap().is_none());
        let made = load_or_create(dir.path(), KeyFile::Node).unwrap();
        assert_eq!(load(dir.path(), KeyFile::Node).unwrap().unwrap().seed(), made.seed());
    }

    #[test]
    fn of_many_that_make_a_key_at_once_all_get_the_same() {
        let dir = tempdir().unwrap();
        let path = dir.path();
        let seeds: Vec<_> = std::thread::scope(|scope| {
            let make = || load_or_create(path, KeyFile::Node).unwrap().seed();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seeds.iter().all(|seed| *seed == seeds[0]));
    }

    #[test]
    fn a_mesh_file_comes_back_and_can_be_replaced() {
        let dir = tempdir().unwrap();
        let node = NodeId([3; 32]);
        assert_eq!(MeshFile::load(dir.path(), node).unwrap(), None);
        let mut file = mesh_file(node);
        file.store(dir.path()).unwrap();
        assert_eq!(MeshFile::load(dir.path(), node).unwrap(), Some(file.clone()));
        file.bootstrap.push("web-2.example:7400".into());
        file.store(dir.path()).unwrap();
        assert_eq!(MeshFile::load(dir.path(), node).unwrap(), Some(file));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_mesh_file_of_another_node_or_mesh_or_torn_is_refused() {
        let dir = tempdir().unwrap();
        let node = NodeId([3; 32]);
        let file = mesh_file(node);
        file.store(dir.path()).unwrap();
        let path = dir.path().join("mesh");
        let text = fs::read_to_string(&path).unwrap();
        let why = |text: &str, node| {
            fs::write(&path, text).unwrap();
            match MeshFile::load(dir.path(), node) {
                Err(KeyError::Mesh { why, .. }) => why,
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(why(&text, NodeId([4; 32])), MeshFault::OtherNode { .. }));
        let other = text.replace(&file.mesh.to_string(), &"0".repeat(64));
        // The mesh's id is in the certificate too: put that one back.
        let certificate = HEXLOWER.encode(&codec::encode(&file.certificate));
        let other = format!(
            "{}certificate = \"{certificate}\"\n",
            other.split("certificate").next().unwrap()
        );
        assert!(matches!(why(&other, node), MeshFault::Chain(ChainError::WrongMesh { .. })));
        for end in [0, 1, text.len() / 2, text.len() - 3] {
            why(&text[..end], node);
        }
    }
}
