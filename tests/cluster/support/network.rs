//! Cuts in the rig's network: packets that go nowhere.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

/// What is cut heals when this goes.
pub(crate) struct Cut(());

impl Cut {
    /// The API server does not reach the webhook's port on any pod; pods still reach each other.
    pub(crate) fn between_api_server_and_webhooks() -> Self {
        Self::new("hook output", "ip daddr 10.42.0.0/16 tcp dport 10250 drop")
    }

    /// Pods on the first node do not reach the registries.
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

/// `nft` with this on its standard input, in the network of the API server.
fn nft(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}
