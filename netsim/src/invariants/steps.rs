//! Safety 3: the first disruptive step is taken only when the `Begin` of this very life's request is
//! committed, and the permit is open still.

use baton_protocol::agent::unit::ServiceAction;
use baton_protocol::id::PermitId;
use baton_protocol::time::Instant;

use super::Judge;
use crate::event::Host;
use crate::rig::Rig;

pub(super) fn check(
    judge: &Judge,
    rig: &Rig,
    now: Instant,
    host: Host,
    action: &ServiceAction,
) -> Result<(), String> {
    let Some(peer) = &rig.peer else { return Ok(()) };
    let life = peer.agent().report(rig.local(now)).incarnation;
    let node = rig.config.node;
    let open =
        |id: &PermitId| judge.newest.permits().contains_key(id) || judge.overridden.contains(id);
    let mut begun = judge.begun.iter().filter(|(id, _)| open(id));
    let allowed = begun.any(|(_, all)| all.iter().any(|it| it.0 == node && it.1 == life));
    if allowed {
        return Ok(());
    }
    Err(format!(
        "safety 3 (two steps): host {host} does {action:?} and no Begin of this life is committed"
    ))
}
