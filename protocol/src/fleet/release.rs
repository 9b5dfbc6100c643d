//! The releases that the mesh knows.

use serde::{Deserialize, Serialize};

use crate::artifact::header::{Header, SignedHeader};
use crate::fleet::Fleet;
use crate::fleet::event::{Event, Refusal};
use crate::fleet::rollout::Rollout;
use crate::id::{LogIndex, ReleaseId, ServiceName, Version};
use crate::limits::RELEASES_PER_SERVICE;
use crate::trust;

/// A release that can be rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// What the publisher signed.
    pub signed: SignedHeader,
    /// The same, decoded.
    pub header: Header,
    /// The entry that registered it.
    pub registered_at: LogIndex,
}

/// Publishers that must have signed a release.
const SIGNATURES_NEEDED: usize = 1;

impl Fleet {
    /// The release of `service` that people call `version`.
    pub fn release_called(&self, service: &ServiceName, version: &Version) -> Option<ReleaseId> {
        let same = |release: &&Release| {
            release.header.service == *service && release.header.version == *version
        };
        self.releases.values().find(same).map(|release| release.signed.id())
    }

    pub(super) fn register(
        &mut self,
        signed: &SignedHeader,
        index: LogIndex,
    ) -> Result<Vec<Event>, Refusal> {
        let id = signed.id();
        if self.releases.contains_key(&id) {
            return Ok(Vec::new());
        }
        let header = trust::release::verify(signed, &self.publishers, SIGNATURES_NEEDED)
            .map_err(|error| Refusal::Untrusted(error.to_string()))?;
        if self.release_called(&header.service, &header.version).is_some() {
            let text = format!("{} {}", header.service, header.version);
            return Err(Refusal::VersionTaken(text));
        }
        self.forget_one_of(&header.service)?;
        self.releases.insert(id, Release { signed: signed.clone(), header, registered_at: index });
        Ok(vec![Event::ReleaseRegistered])
    }

    /// Makes room for one more release of `service`, where it has as many as are kept.
    fn forget_one_of(&mut self, service: &ServiceName) -> Result<(), Refusal> {
        let of_service = || self.releases.iter().filter(|(_, it)| it.header.service == *service);
        if of_service().count() < RELEASES_PER_SERVICE {
            return Ok(());
        }
        let unused = of_service().filter(|(id, _)| !self.is_used(**id));
        let oldest = unused.min_by_key(|(_, release)| release.registered_at).map(|(id, _)| *id);
        let oldest = oldest.ok_or_else(|| {
            Refusal::Limit(format!("{service} has {RELEASES_PER_SERVICE} releases in use"))
        })?;
        self.releases.remove(&oldest);
        for group in self.groups.values_mut() {
            group.completed.remove(&oldest);
        }
        Ok(())
    }

    fn is_used(&self, release: ReleaseId) -> bool {
        let by_group = self.groups.values().any(|group| {
            let wanted = |it: &Rollout| it.release == release || it.previous == Some(release);
            group.stable == Some(release)
                || group.active().is_some_and(wanted)
                || group.members.values().any(|member| member.running == Some(release))
        });
        by_group || self.permits.values().any(|permit| permit.release == release)
    }
}
