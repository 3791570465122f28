//! Cuts in the rig's network, by rules that drop packets.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

/// A cut; it is repaired when this is dropped.
pub(crate) struct Cut(());

impl Cut {
    /// Cuts the API server off from the webhook port of all pods; pods still reach each other.
    pub(crate) fn between_api_server_and_webhooks() -> Self {
        Self::new("hook output", "ip daddr 10.42.0.0/16 tcp dport 10250 drop")
    }

    /// Cuts the pods on the first node off from the registries.
    pub(crate) fn between_pods_and_registries() -> Self {
        Self::new("hook input", "ip saddr 10.42.0.0/16 tcp dport 5000 drop")
    }

    fn new(hook: &str, rule: &str) -> Self {
        nft(&format!("table inet tagpin_cut {{ chain cut {{ type filter {hook} priority 0; {rule}; }}; }}"));
        Self(())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let gone = Command::new("nft").args(["delete", "table", "inet", "tagpin_cut"]).status();
        if !thread::panicking() {
            assert!(gone.unwrap().success());
        }
    }
}

/// Runs `nft` with these rules, in the network of the API server.
fn nft(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}
