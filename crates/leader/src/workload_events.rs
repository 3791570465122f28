//! Writes an Event on a workload when its pods begin to run an image without a digest although a policy pins it. The
//! first count of a leader is no news, so neither a start nor a quiet cluster writes anything.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::call::call;
use crate::findings::Found;
use crate::policy_status::bare::{Bare, BareImage};
use crate::policy_status::standing::Count;
use crate::reconcile::Reconcile;
use crate::webhook_config::documents::{BREAK_GLASS, ON};
use news::News;
use tagpin_kube::Cluster;
use tagpin_objects::image_policy::Unpinned;
use tagpin_objects::release;

mod news;

/// Time until the next look if nothing changes and no Event is due.
const MAX_INTERVAL: Duration = Duration::from_hours(1);

/// The writer of Events on workloads.
pub struct WorkloadEvents {
    /// Client of the API server.
    pub client: Client,
    /// The stores with the labels of namespaces.
    pub cluster: Arc<Cluster>,
    /// The newest count of the cluster; none until a replica has told its findings.
    pub counted: watch::Receiver<Option<Arc<Count>>>,
    /// The findings of the replicas.
    pub found: watch::Receiver<Option<Arc<Found>>>,
    /// Metrics of the passes.
    pub reconcile: Reconcile,
}

impl WorkloadEvents {
    /// Writes Events for ever.
    pub async fn keep(mut self) -> Infallible {
        let reporter = Reporter { controller: release::NAME.to_owned(), instance: None };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let mut news = News::default();
        loop {
            let counted = self.counted.borrow_and_update().clone();
            if let Some(counted) = counted {
                let _pass = self.reconcile.pass();
                self.compare(&mut news, &counted);
                self.publish(&recorder, &mut news).await;
            }
            let next = news.next().unwrap_or_else(|| Instant::now() + MAX_INTERVAL);
            tokio::select! {
                Ok(()) = self.counted.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Compares the count with the earlier ones. Where break glass is on, nothing is pinned, and its own Event says so.
    fn compare(&self, news: &mut News, counted: &Count) {
        let suspended = self.cluster.namespaces.with(&[(BREAK_GLASS, ON)]);
        let found = self.found.borrow().clone().unwrap_or_default();
        let remembered = |bare: &Bare, image: &BareImage| {
            let namespace = image.top.workload.namespace.clone();
            found.unpinned.get(&[namespace, bare.slot.name.to_string(), image.image.clone()]).cloned()
        };
        let is_suspended = |image: &BareImage| suspended.contains(&image.top.workload.namespace);
        news.compare(&counted.unpinned, is_suspended, remembered, Instant::now());
    }

    /// Writes the Events that are due. An Event that could not be written is due again later.
    async fn publish(&self, recorder: &Recorder, news: &mut News) {
        for (bare, image) in news.due(Instant::now()) {
            let workload = &image.top.workload;
            let (kind, name, reason) = (workload.kind.name(), &workload.name, &bare.reason);
            let (event, about) = (event(&bare, &image), self.reference(&bare, &image));
            match call(recorder.publish(&event, &about)).await {
                Ok(()) => {
                    info!(kind, name, reason, "wrote an Event about an image without a digest");
                    news.written(bare, Instant::now());
                }
                Err(error) if error.refuses_event() => {
                    debug!(kind, name, reason, %error, "no Event can be about this workload");
                    news.given_up(&bare);
                }
                Err(error) => {
                    self.reconcile.failed();
                    warn!(kind, name, reason, %error, "cannot write the Event about an image without a digest");
                    news.failed(&bare, Instant::now());
                }
            }
        }
    }

    /// Returns the reference to the workload and its container. `kubectl describe` finds Events by the UID.
    fn reference(&self, bare: &Bare, image: &BareImage) -> ObjectReference {
        let workload = &image.top.workload;
        let row = self.cluster.kinds().row(workload.kind);
        let api_version = row.map(|row| match workload.kind.group() {
            "" => row.version.to_owned(),
            group => format!("{group}/{}", row.version),
        });
        let field_path = row.map(|row| {
            let slot = &bare.slot;
            format!("{}.{}{{{}}}", row.pod_spec.join("."), slot.role.list(), slot.name)
        });
        ObjectReference {
            api_version,
            kind: Some(workload.kind.name().to_owned()),
            name: Some(workload.name.clone()),
            namespace: Some(workload.namespace.clone()),
            uid: Some(workload.uid.clone()),
            field_path,
            resource_version: None,
        }
    }
}

fn event(bare: &Bare, image: &BareImage) -> Event {
    let workload = &image.top.workload;
    let unpinned = Unpinned {
        namespace: workload.namespace.clone(),
        kind: workload.kind.name().to_owned(),
        name: workload.name.clone(),
        slot: bare.slot.name.to_string(),
        image: image.image.clone(),
        reason: bare.reason.clone(),
    };
    Event {
        type_: EventType::Warning,
        reason: bare.reason.clone(),
        note: Some(unpinned.note()),
        action: "Pin".to_owned(),
        secondary: None,
    }
}
