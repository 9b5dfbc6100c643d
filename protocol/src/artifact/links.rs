//! Where symbolic links lead. A link is followed as the kernel would follow it, through the other
//! links of the tree, because two links that look harmless can lead out together.

use super::manifest::{Entry, Kind, ManifestError, find};
use crate::limits::PATH_BYTES_MAX;

/// Links that are followed on the way from one path, as in the kernel (`MAXSYMLINKS`).
const FOLLOWED_MAX: usize = 40;

/// Steps of one walk. Far above what a real tree needs; without it a few hundred links that name
/// each other many times over would keep a node busy.
const STEPS_MAX: usize = 4096;

enum Fault {
    Target,
    Outside,
    Loop,
}

/// Refuses links that lead, or could lead, out of the tree of `entries`, which are sorted.
pub(super) fn check(entries: &[Entry]) -> Result<(), ManifestError> {
    for Entry { path, kind } in entries {
        let Kind::Symlink { target } = kind else { continue };
        let (path, target) = (path.clone(), target.clone());
        return match follow(entries, path.parent(), &target) {
            Ok(()) => continue,
            Err(Fault::Target) => Err(ManifestError::LinkTarget { path, target }),
            Err(Fault::Outside) => Err(ManifestError::LinkOutside { path, target }),
            Err(Fault::Loop) => Err(ManifestError::LinkLoop { path, target }),
        };
    }
    Ok(())
}

fn follow(entries: &[Entry], from: Option<&str>, target: &str) -> Result<(), Fault> {
    let mut at: Vec<&str> = from.into_iter().flat_map(|dir| dir.split('/')).collect();
    let mut ahead: Vec<&str> = steps(target)?;
    let mut followed = 1;
    for _ in 0..STEPS_MAX {
        let Some(step) = ahead.pop() else { return Ok(()) };
        match step {
            "" | "." => continue,
            ".." => {
                at.pop().ok_or(Fault::Outside)?;
                continue;
            }
            name => at.push(name),
        }
        // What is not in the release is no link, so that `..` after it leads where it seems to.
        let here = find(entries, &at.join("/")).map(|entry| &entry.kind);
        if let Some(Kind::Symlink { target }) = here {
            followed += 1;
            if followed > FOLLOWED_MAX {
                return Err(Fault::Loop);
            }
            at.pop();
            ahead.extend(steps(target)?);
        }
    }
    Err(Fault::Loop)
}

/// The components of a link's target, the first one last.
fn steps(target: &str) -> Result<Vec<&str>, Fault> {
    let usable = !target.is_empty()
        && !target.starts_with('/')
        && !target.contains('\0')
        && target.len() <= PATH_BYTES_MAX;
    usable.then(|| target.split('/').rev().collect()).ok_or(Fault::Target)
}
