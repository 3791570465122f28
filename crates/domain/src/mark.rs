//! The annotation `tagpin.dev/mark` of pods: the proof that tagpin itself chose the digest of a pin.
//!
//! Anybody who may create or patch pods can write `tagpin.dev/original` and any digest beside it. Such a pin
//! counts for that one pod only: the digests of other pods, and the last known digest of a tag, come only
//! from pins with a valid mark. A mark holds nothing about the single pod, so all pods of a revision carry
//! the same one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;

use crate::digest::Digest;
use crate::entries;
use crate::pin::Revision;
use crate::slot::SlotKey;

/// The annotation's key.
pub const ANNOTATION: &str = "tagpin.dev/mark";

/// Number of bytes of a seal.
const SEAL: usize = 16;
/// Prefix of everything that is signed, so that no other use of a key can produce a mark.
const PURPOSE: &str = "tagpin.dev/mark 1";
/// Minimum age of a key that signs. Other replicas may not know a younger key.
const SIGNS_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// The identifier of a key: the time when it was made, in seconds since 1970.
pub type KeyId = i64;

/// HMAC-SHA256 over a [`Claim`], cut to 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal([u8; SEAL]);

/// The statement that a mark proves: tagpin chose this digest.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The namespace of the pod.
    pub namespace: &'a str,
    /// The UID of the pod's controller; empty for a bare pod.
    pub owner: &'a str,
    /// The hash of the revision ([`Revision::hash`]); empty for a bare pod.
    pub hash: &'a str,
    /// The slot.
    pub slot: &'a SlotKey,
    /// The reference as its author wrote it, without a digest.
    pub reference: &'a str,
    /// The digest.
    pub digest: &'a Digest,
}

/// One entry of the annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The identifier of the key that signed.
    pub key: KeyId,
    /// The signature.
    pub seal: Seal,
    /// The digest that tagpin chose, even if a later webhook removed it from the slot.
    pub digest: Digest,
    /// The UID of the pod's controller at that time; empty for a bare pod.
    pub owner: Box<str>,
}

/// The entries of the annotation: slot to mark, sorted by the slot's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(Vec<(String, String)>);

/// One key with which marks are made.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    hmac: Hmac<Sha256>,
}

/// The keys of this cluster. All of them verify; one signs.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The keys, the oldest first.
    keys: Vec<Key>,
    since: Timestamp,
}

/// The facts that decide which pins of one pod tagpin made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Provenance<'a> {
    /// The keys that prove pins; none while there is no key, and then every pin counts.
    pub keys: Option<&'a Keys>,
    /// The namespace of the pod.
    pub namespace: &'a str,
    /// The revision of the pod; none for a bare pod.
    pub revision: Option<&'a Revision>,
    /// True if the pod is older than the first mark, so that its pins count without one.
    pub older: bool,
}

/// The error for a text that is not an entry of the annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mark: expected KEY SEAL DIGEST OWNER")]
pub struct MarkError;

impl<'a> Claim<'a> {
    /// Returns the claim about a pod of this revision. A bare pod has no revision.
    #[must_use]
    pub fn new(
        namespace: &'a str,
        revision: Option<&'a Revision>,
        slot: &'a SlotKey,
        reference: &'a str,
        digest: &'a Digest,
    ) -> Self {
        let (owner, hash) = revision.map_or(("", ""), |revision| (&*revision.controller, &*revision.hash));
        Self { namespace, owner, hash, slot, reference, digest }
    }

    /// Feeds the claim to a signature. Each part has its length before it, so no two claims give the same
    /// bytes.
    fn feed(&self, hmac: &mut Hmac<Sha256>) {
        let [list, _, name] = self.slot.parts();
        let digest = self.digest.as_str();
        for part in [PURPOSE, self.namespace, self.owner, self.hash, list, name, self.reference, digest] {
            hmac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hmac.update(part.as_bytes());
        }
    }
}

impl Key {
    /// Makes the mark of a claim.
    #[must_use]
    pub fn mark(&self, claim: &Claim<'_>) -> Mark {
        let mut hmac = self.hmac.clone();
        claim.feed(&mut hmac);
        let mut seal = [0; SEAL];
        seal.iter_mut().zip(hmac.finalize().into_bytes()).for_each(|(kept, byte)| *kept = byte);
        Mark { key: self.id, seal: Seal(seal), digest: claim.digest.clone(), owner: claim.owner.into() }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// Returns the keys with their identifiers, and the time since when pods are marked; none if there is no
    /// key.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = (KeyId, &'a [u8])>, since: Timestamp) -> Option<Self> {
        let keyed = |(id, secret)| Some(Key { id, hmac: Hmac::new_from_slice(secret).ok()? });
        let mut keys: Vec<Key> = secrets.into_iter().filter_map(keyed).collect();
        keys.sort_by_key(|key| key.id);
        (!keys.is_empty()).then_some(Self { keys, since })
    }

    /// Returns the time since when pods are marked. The pins of older pods count without a mark.
    #[must_use]
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// Returns the number of keys.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.keys.len()
    }

    /// Returns the key that signs: the newest key that every replica has had time to learn, else the oldest.
    #[must_use]
    pub fn signer(&self, now: Timestamp) -> Option<&Key> {
        let heard_of = |key: &&Key| now.as_second().saturating_sub(key.id) >= SIGNS_AFTER.as_secs();
        self.keys.iter().rev().find(heard_of).or_else(|| self.keys.first())
    }

    /// Returns true if one of these keys made this seal for this claim.
    #[must_use]
    pub fn verify(&self, claim: &Claim<'_>, key: KeyId, seal: Seal) -> bool {
        let Some(key) = self.keys.iter().find(|held| held.id == key) else { return false };
        let mut hmac = key.hmac.clone();
        claim.feed(&mut hmac);
        hmac.verify_truncated_left(&seal.0).is_ok()
    }
}

impl Provenance<'_> {
    /// Returns true if tagpin chose the digest that this mark names for this reference in this slot.
    #[must_use]
    pub fn proves(&self, slot: &SlotKey, reference: &str, mark: Option<&Mark>) -> bool {
        let Some(keys) = self.keys.filter(|_| !self.older) else { return true };
        mark.is_some_and(|mark| {
            let claim = Claim::new(self.namespace, self.revision, slot, reference, &mark.digest);
            *mark.owner == *claim.owner && keys.verify(&claim, mark.key, mark.seal)
        })
    }
}

impl Marks {
    /// Parses the annotation's value. Anybody can write it: a value that is not a JSON object of strings has
    /// no entries.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let entries: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
        Self(entries.into_iter().collect())
    }

    /// Returns the mark of this slot, if its entry is a mark.
    #[must_use]
    pub fn of(&self, slot: &SlotKey) -> Option<Mark> {
        if self.0.is_empty() {
            return None;
        }
        let slot = slot.text();
        let at = self.0.binary_search_by(|(held, _)| held.as_str().cmp(&slot)).ok()?;
        self.0.get(at)?.1.parse().ok()
    }
}

/// Returns the annotation's value, a JSON object with sorted keys and without white space; none if there is
/// no mark. If two entries are of the same slot, the later one counts.
#[must_use]
pub fn annotation(entries: Vec<(&SlotKey, Mark)>) -> Option<String> {
    entries::json(entries, Mark::write)
}

impl Mark {
    /// Appends the entry as it is written in the annotation: `KEY SEAL DIGEST OWNER`, with the seal in base64url.
    fn write(&self, text: &mut String) {
        let Self { key, seal, digest, owner } = self;
        text.push_str(&key.to_string());
        text.push(' ');
        URL_SAFE_NO_PAD.encode_string(seal.0, text);
        for part in [digest.as_str(), owner] {
            text.push(' ');
            text.push_str(part);
        }
    }
}

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Self, MarkError> {
        let mut parts = text.splitn(4, ' ');
        let mut part = || parts.next().ok_or(MarkError);
        let key = part()?.parse().map_err(|_| MarkError)?;
        let seal = URL_SAFE_NO_PAD.decode(part()?).map_err(|_| MarkError)?;
        let seal = Seal(seal.try_into().map_err(|_| MarkError)?);
        let digest = Digest::parse(part()?).map_err(|_| MarkError)?;
        Ok(Self { key, seal, digest, owner: part()?.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn digest(digit: char) -> Digest {
        Digest::parse(&format!("sha256:{}", String::from(digit).repeat(64))).unwrap()
    }

    fn keys(ids: &[KeyId]) -> Keys {
        Keys::new(ids.iter().map(|id| (*id, SECRET)), Timestamp::UNIX_EPOCH).unwrap()
    }

    fn slot(text: &str) -> SlotKey {
        text.parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_mark_holds_for_its_claim_and_for_no_other() {
        let (web, init, one, two) =
            (slot("containers/web"), slot("initContainers/web"), digest('1'), digest('2'));
        let claim = Claim {
            namespace: "shop",
            owner: "rs",
            hash: "h1",
            slot: &web,
            reference: "web:1",
            digest: &one,
        };
        let keys = keys(&[7]);
        let mark = keys.signer(at(100)).unwrap().mark(&claim);
        let holds = |claim: Claim<'_>| keys.verify(&claim, mark.key, mark.seal);
        assert!(holds(claim));
        for (what, other) in [
            ("another namespace", Claim { namespace: "other", ..claim }),
            ("another owner", Claim { owner: "rs2", ..claim }),
            ("a bare pod", Claim { owner: "", hash: "", ..claim }),
            ("another revision", Claim { hash: "h2", ..claim }),
            ("another slot", Claim { slot: &init, ..claim }),
            ("another reference", Claim { reference: "web:2", ..claim }),
            ("another digest", Claim { digest: &two, ..claim }),
            ("characters that moved to the next part", Claim { namespace: "sho", owner: "prs", ..claim }),
        ] {
            assert!(!holds(other), "{what}");
        }
        assert!(!keys.verify(&claim, 8, mark.seal), "a key that is not held");
        let other = Keys::new([(7, b"another".as_slice())], Timestamp::UNIX_EPOCH).unwrap();
        assert!(!other.verify(&claim, mark.key, mark.seal), "another key of the same identifier");
    }

    #[test]
    fn the_newest_key_signs_once_all_have_heard_of_it_and_all_verify() {
        let keys = keys(&[1000, 7]);
        let key = |now| keys.signer(at(now)).unwrap().id;
        assert_eq!((key(0), key(1059), key(1060)), (7, 7, 1000));
        let (slot, digest) = (slot("containers/web"), digest('1'));
        let claim = Claim::new("shop", None, &slot, "web:1", &digest);
        for now in [0, 1060] {
            let mark = keys.signer(at(now)).unwrap().mark(&claim);
            assert!(keys.verify(&claim, mark.key, mark.seal), "{now}");
        }
    }

    #[test]
    fn marks_are_written_sorted_and_read_back() {
        let (web, app, one) = (slot("containers/web"), slot("containers/app"), digest('1'));
        let revision = Revision { namespace: "shop".into(), controller: "a b:c".into(), hash: "h".into() };
        let keys = keys(&[7]);
        let mark = |slot| {
            keys.signer(at(0)).unwrap().mark(&Claim::new("shop", Some(&revision), slot, "web:1", &one))
        };
        let text = annotation(vec![(&web, mark(&web)), (&app, mark(&app))]).unwrap();
        assert!(text.starts_with(r#"{"containers/app":"7 "#), "{text}");
        let read = Marks::parse(&text);
        assert_eq!((read.of(&web), read.of(&app)), (Some(mark(&web)), Some(mark(&app))));
        assert_eq!(read.of(&slot("containers/other")), None);
        assert_eq!(annotation(Vec::new()), None);
    }

    #[test]
    fn what_is_no_mark_counts_for_nothing() {
        let seal = URL_SAFE_NO_PAD.encode([0; SEAL]);
        let good = format!("7 {seal} {} owner", digest('1'));
        let mut written = String::new();
        good.parse::<Mark>().unwrap().write(&mut written);
        assert_eq!(written, good);
        for bad in [
            String::new(),
            format!("7 {seal} {}", digest('1')),
            format!("x {seal} {} owner", digest('1')),
            format!("7 AAAA {} owner", digest('1')),
            format!("7 {seal}== {} owner", digest('1')),
            format!("7 {seal} sha256:0 owner"),
        ] {
            assert_eq!(bad.parse::<Mark>(), Err(MarkError), "{bad}");
        }
        for text in ["", "null", "[]", "{", r#"{"containers/web":1}"#] {
            assert_eq!(Marks::parse(text), Marks::default(), "{text}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let secret = "sixteen-letters!";
        let keys = Keys::new([(7, secret.as_bytes())], Timestamp::UNIX_EPOCH).unwrap();
        let shown = format!("{keys:?}");
        assert!(shown.contains("id: 7") && !shown.contains("hmac"), "{shown}");
    }
}
