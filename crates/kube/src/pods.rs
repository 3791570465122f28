//! The pods and the digests that tagpin's pins chose, for sibling pods and for times when a registry cannot
//! be reached.
//!
//! A pin counts when the annotation names the slot, the slot's image is the original reference plus `@` and a
//! digest, and the mark proves that tagpin chose that digest. A digest that an author wrote never counts. The
//! pins of a deleted pod count for another hour.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::changes::Changes;
use crate::follow::Sink;
use crate::item::{Identity, Unreadable};
use crate::shelf::Shelf;
use crate::slim::Slim;
use crate::stored::{Proof, Stored};
use crate::workloads::Workloads;
use parking_lot::{RwLock, RwLockReadGuard};
use tagpin_domain::asker::{Asker, Secrets};
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::LastKnown;
use tagpin_domain::image::ImageRef;
use tagpin_domain::mark::{KeyId, Keys};
use tagpin_domain::pin::Revision;
use tagpin_domain::slot::SlotKey;
use tagpin_objects::kinds::{Kinds, PODS};
use tagpin_review::{Pins, Seeds};

/// Time for which the pins of a deleted pod still count.
const MEMORY: Duration = Duration::from_hours(1);

/// The pods of the cluster.
#[derive(Debug, Default)]
pub struct Pods {
    memory: RwLock<Memory>,
    /// The possible controllers of the pods; their ages tell whether they adopted a pod.
    workloads: Arc<Workloads>,
    kinds: Kinds,
    budget: Budget,
    changes: Changes,
}

#[derive(Debug, Default)]
struct Memory {
    /// The keys that prove a pin; none while there is no key.
    keys: Option<Arc<Keys>>,
    live: Shelf<Stored>,
    /// The deleted pods whose pins still count, numbered in the order of their deletion.
    departed: BTreeMap<u64, Departed>,
    /// The numbers of these pods by UID, because each new pod is looked for among them.
    departed_numbers: HashMap<Box<str>, u64>,
    /// The number of the next pod that is deleted.
    next_number: u64,
    siblings: HashMap<Revision, Siblings>,
    seeds: HashMap<SeedKey, Carriers>,
}

#[derive(Debug)]
struct Departed {
    at: Instant,
    pod: Arc<Stored>,
}

/// Slots of pods. Whoever may create pods decides how many there are, so that one is removed without a search.
type Carriers = HashSet<Carrier>;

/// One slot of a pod, with a pin that tagpin made. It is the same one whatever its proof.
#[derive(Debug)]
struct Carrier {
    pod: Arc<Stored>,
    /// Position in the pod's slots.
    slot: usize,
    proof: Proof,
}

/// The pods of one revision with tagpin's pins, by their slot and by the reference as the author wrote it. Whoever may
/// create pods decides how many of both there are.
type Siblings = HashMap<SlotKey, HashMap<String, Carriers>>;

/// Key of the pods of one namespace whose authors wrote one tag of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SeedKey {
    namespace: String,
    /// Repository and effective tag, normalised.
    image: String,
}

impl Pods {
    pub(crate) fn new(workloads: Arc<Workloads>, kinds: Kinds, budget: Budget, changes: Changes) -> Self {
        Self { memory: RwLock::default(), workloads, kinds, budget, changes }
    }

    /// Replaces the keys and verifies every pin with the new ones.
    pub fn use_keys(&self, keys: Option<Keys>) {
        self.memory.write().use_keys(keys.map(Arc::new));
        self.changes.announce();
    }

    /// Returns the keys with which new pins are marked.
    #[must_use]
    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.memory.read().keys.clone()
    }

    /// Returns the keys with which any pod was marked, also of pods that were deleted within the last hour.
    #[must_use]
    pub fn marked_with(&self) -> BTreeSet<KeyId> {
        let memory = self.memory.read();
        let departed = memory.departed.values().map(|gone| &gone.pod);
        memory.live.all().chain(departed).flat_map(|pod| pod.mark_keys()).collect()
    }

    /// Records a pod that was reported.
    pub fn apply(&self, pod: Stored) {
        let changed = self.memory.write().apply(Arc::new(pod));
        if changed {
            self.changes.announce();
        }
    }

    /// Removes the pod with this UID. Its pins count for another hour.
    pub fn delete(&self, uid: &str) {
        let gone = self.memory.write().depart(uid, Instant::now());
        if gone {
            self.changes.announce();
        }
    }

    /// Replaces all pods with these. The pins of pods that are left out count for another hour.
    pub fn replace(&self, pods: Vec<Stored>) {
        let now = Instant::now();
        let new = pods.into_iter().map(Arc::new).collect::<Vec<_>>();
        let mut memory = self.memory.write();
        let listed = new.iter().map(|pod| pod.workload.uid.as_str()).collect::<HashSet<_>>();
        let gone =
            memory.live.all().filter(|pod| !listed.contains(pod.workload.uid.as_str())).map(Arc::clone);
        let gone = gone.collect::<Vec<_>>();
        let mut changed = false;
        for pod in gone {
            changed |= memory.depart(&pod.workload.uid, now);
        }
        for pod in &new {
            changed |= memory.apply(Arc::clone(pod));
        }
        drop(memory);
        if changed {
            self.changes.announce();
        }
    }

    /// Returns the memory, without pins that are too old to count.
    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        let memory = self.memory.read();
        if !memory.has_old() {
            return memory;
        }
        drop(memory);
        self.memory.write().forget_old();
        self.memory.read()
    }

    /// Returns the pod with this UID.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Arc<Stored>> {
        self.memory.read().live.get(uid).map(Arc::clone)
    }

    /// Returns all pods, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Stored>> {
        self.memory.read().live.all().map(Arc::clone).collect()
    }
}

impl Memory {
    fn use_keys(&mut self, keys: Option<Arc<Keys>>) {
        self.keys = keys;
        self.siblings.clear();
        self.seeds.clear();
        let departed = self.departed.values().map(|gone| Arc::clone(&gone.pod));
        let pods = self.live.all().map(Arc::clone).chain(departed).collect::<Vec<_>>();
        for pod in &pods {
            self.remember(pod);
        }
    }

    fn apply(&mut self, pod: Arc<Stored>) -> bool {
        self.forget_old();
        let old = self.live.get(&pod.workload.uid).map(Arc::clone);
        if !self.live.put(Arc::clone(&pod)) {
            return false;
        }
        if let Some(old) = old {
            self.forget(&old);
        } else if let Some(number) = self.departed_numbers.remove(pod.workload.uid.as_str())
            && let Some(gone) = self.departed.remove(&number)
        {
            // An outdated list had left the pod out.
            self.forget(&gone.pod);
        }
        self.remember(&pod);
        true
    }

    fn depart(&mut self, uid: &str, now: Instant) -> bool {
        self.forget_old();
        let Some(pod) = self.live.take(uid) else { return false };
        if pod.workload.slots.iter().any(|slot| pod.workload.originals.pin_of(slot).is_some()) {
            self.departed_numbers.insert(pod.workload.uid.as_str().into(), self.next_number);
            self.departed.insert(self.next_number, Departed { at: now, pod });
            self.next_number += 1;
        }
        true
    }

    fn has_old(&self) -> bool {
        self.departed.first_key_value().is_some_and(|(_, gone)| gone.at.elapsed() >= MEMORY)
    }

    fn forget_old(&mut self) {
        while self.has_old() {
            if let Some((_, gone)) = self.departed.pop_first() {
                self.departed_numbers.remove(gone.pod.workload.uid.as_str());
                self.forget(&gone.pod);
            }
        }
    }

    fn remember(&mut self, pod: &Arc<Stored>) {
        for pin in pins(pod) {
            let Some(proof) = pod.proof(pin.slot, self.keys.as_deref()) else { continue };
            let carrier = || Carrier { pod: Arc::clone(pod), slot: pin.slot, proof };
            if let Some(revision) = pod.workload.revision() {
                let siblings = self.siblings.entry(revision).or_default();
                let of_slot = siblings.entry(pin.key.clone()).or_default();
                of_slot.entry(pin.original).or_default().replace(carrier());
            }
            if let Some(key) = pin.seed {
                self.seeds.entry(key).or_default().replace(carrier());
            }
        }
    }

    fn forget(&mut self, pod: &Arc<Stored>) {
        let revision = pod.workload.revision();
        let mut siblings = revision.as_ref().and_then(|revision| self.siblings.get_mut(revision));
        for pin in pins(pod) {
            let carrier = Carrier { pod: Arc::clone(pod), slot: pin.slot, proof: Proof::Mark };
            if let Some(siblings) = siblings.as_deref_mut()
                && let Some(of_slot) = siblings.get_mut(pin.key)
            {
                remove(of_slot, &pin.original, &carrier);
                if of_slot.is_empty() {
                    siblings.remove(pin.key);
                }
            }
            if let Some(key) = &pin.seed {
                remove(&mut self.seeds, key, &carrier);
            }
        }
        if siblings.is_some_and(|siblings| siblings.is_empty())
            && let Some(revision) = &revision
        {
            self.siblings.remove(revision);
        }
    }
}

/// Removes this slot from the carriers with this key.
fn remove<K: Hash + Eq>(carriers: &mut HashMap<K, Carriers>, key: &K, carrier: &Carrier) {
    if let Some(held) = carriers.get_mut(key) {
        held.remove(carrier);
        if held.is_empty() {
            carriers.remove(key);
        }
    }
}

/// The keys under which one pin of a pod is found.
struct Pin<'a> {
    /// Position in the pod's slots.
    slot: usize,
    key: &'a SlotKey,
    /// The reference that the author wrote.
    original: String,
    seed: Option<SeedKey>,
}

fn pins(pod: &Stored) -> impl Iterator<Item = Pin<'_>> {
    pod.workload.slots.iter().enumerate().filter_map(|(position, slot)| {
        let (original, _) = pod.workload.originals.pin_of(slot)?;
        let seed =
            ImageRef::parse(original).ok().and_then(|image| SeedKey::new(&pod.workload.namespace, &image));
        Some(Pin { slot: position, key: slot.key(), original: original.to_owned(), seed })
    })
}

impl SeedKey {
    fn new(namespace: &str, image: &ImageRef) -> Option<Self> {
        let image = format!("{}:{}", image.repository(), image.effective_tag()?);
        Some(Self { namespace: namespace.to_owned(), image })
    }
}

impl Carrier {
    fn digest(&self) -> Option<Digest> {
        let (_, digest) = self.pod.workload.originals.pin_of(self.pod.workload.slots.get(self.slot)?)?;
        Some(digest)
    }

    /// Returns true if the proof counts for the pod's controller. Anybody who may patch a pod can write its
    /// owner reference, so the ages of the pod and of the controller decide whether that controller created
    /// or adopted the pod.
    fn counts_for_controller(&self, workloads: &Workloads) -> bool {
        let controller = self.pod.workload.controller.as_ref().and_then(|controller| {
            let found = workloads.get(controller.kind?, &controller.uid)?;
            Some(found.created)
        });
        match self.proof {
            Proof::Mark => true,
            Proof::Age => controller.is_none_or(|controller| controller <= self.pod.created),
            Proof::MarkOfAnotherOwner => controller.is_some_and(|controller| self.pod.created < controller),
        }
    }

    /// Returns the order by age. Creation times are whole seconds, so the UID decides between two pods of the
    /// same age and the position between two slots, and every replica chooses the same one.
    fn age_order(&self) -> (Timestamp, &str, usize) {
        (self.pod.created, &self.pod.workload.uid, self.slot)
    }
}

impl PartialEq for Carrier {
    fn eq(&self, other: &Self) -> bool {
        self.slot == other.slot && self.pod.workload.uid == other.pod.workload.uid
    }
}

impl Eq for Carrier {}

impl Hash for Carrier {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pod.workload.uid.hash(state);
        self.slot.hash(state);
    }
}

impl Pins for Pods {
    fn sibling(&self, revision: &Revision, slot: &SlotKey, reference: &str) -> Option<Digest> {
        let memory = self.read();
        let carriers = memory.siblings.get(revision)?.get(slot)?.get(reference)?.iter();
        let counting = carriers.filter(|carrier| carrier.counts_for_controller(&self.workloads));
        counting.min_by_key(|carrier| (carrier.proof, carrier.age_order()))?.digest()
    }

    fn first_seen(&self, revision: &Revision, now: Instant) -> Option<Instant> {
        self.workloads.first_seen(revision, now)
    }
}

impl Seeds for Pods {
    /// Chooses, among several digests, the digest of the revision whose first pod is the youngest: a new pod
    /// of an old revision carries an old digest.
    fn last_known(&self, image: &ImageRef, asker: &Asker, now: Timestamp) -> Option<LastKnown> {
        let key = SeedKey::new(&asker.namespace, image)?;
        let Secrets::Known(secrets) = &asker.secrets else { return None };
        let mut secrets = secrets.clone();
        secrets.sort_unstable();
        let memory = self.read();
        let carriers = memory.seeds.get(&key)?.iter().filter(|carrier| {
            let mut theirs = carrier.pod.workload.pull_secrets.clone();
            theirs.sort_unstable();
            theirs == secrets
        });
        let mut carriers = carriers.collect::<Vec<_>>();
        let best = carriers.iter().map(|carrier| carrier.proof).min()?;
        carriers.retain(|carrier| carrier.proof == best);
        let mut firsts: HashMap<(Option<Revision>, &str), &Carrier> = HashMap::new();
        for carrier in &carriers {
            let revision = carrier.pod.workload.revision();
            let bare = if revision.is_none() { carrier.pod.workload.uid.as_str() } else { "" };
            let first = firsts.entry((revision, bare)).or_insert(carrier);
            if carrier.age_order() < first.age_order() {
                *first = carrier;
            }
        }
        let digest = firsts.into_values().max_by_key(|carrier| carrier.age_order())?.digest()?;
        let same = carriers.iter().filter(|carrier| carrier.digest().as_ref() == Some(&digest));
        let youngest = same.map(|carrier| carrier.pod.created).max()?;
        // A creation time ahead of our clock counts as now.
        let age = Duration::try_from(now.duration_since(youngest)).unwrap_or_default();
        Some(LastKnown { digest, age, artifact: false })
    }
}

impl Sink<Slim> for Pods {
    type Item = Stored;

    fn parse(&self, object: Slim) -> Result<Option<Stored>, Box<Unreadable>> {
        let Some(pod) = Stored::new(&self.kinds, &PODS, &object)? else { return Ok(None) };
        let before = self.get(&pod.workload.uid);
        pod.charged(&self.budget, before.as_deref(), &object.metadata).map(Some)
    }

    fn apply(&self, pod: Stored) {
        self.apply(pod);
    }

    fn delete(&self, gone: &Identity) {
        self.delete(&gone.uid);
    }

    fn replace(&self, pods: Vec<Stored>, _: &[Unreadable]) {
        self.replace(pods);
    }

    fn lose(&self, object: &Identity) {
        self.delete(&object.uid);
    }
}
