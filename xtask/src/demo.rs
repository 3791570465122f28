//! Shows the main job of tagpin on a cluster of its own. Each step prints the command that a person would type, and the
//! answer of the cluster. A wrong answer ends the demo with a failure.

use std::env;
use std::io::{IsTerminal, Write as _, stdout};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

/// The namespace of all objects that the demo creates. Nothing else is in it.
const NAMESPACE: &str = "demo";
/// The namespace of tagpin.
const HOME: &str = "tagpin-system";

/// The result of a command, with its output as a terminal shows it.
struct Answer {
    ok: bool,
    text: String,
    seconds: f32,
}

/// Starts the rig, installs tagpin, and shows what tagpin is for.
pub(crate) fn run() -> Result<ExitCode> {
    let started = Instant::now();
    title("A cluster of its own");
    say(
        "A real Kubernetes on this machine, in namespaces of its own, with a registry behind a docker.io mirror.",
    );
    watch_it("cargo xtask rig up")?;
    install()?;
    pinned()?;
    refused()?;
    outage()?;
    namespaced()?;
    hidden()?;
    title("That was it");
    say(&format!("It took {} s. The cluster stays up. To look around:", started.elapsed().as_secs()));
    println!("  make shell                                         a shell inside, with kubectl and helm");
    println!("  cargo xtask rig exec -- kubectl get pods -A        one command inside");
    println!("  cargo xtask rig exec -- kubectl explain clusterimagepolicies.tagpin.dev.spec");
    say("To stop it:");
    println!("  make rig-down                                      its data stays");
    println!("  cargo xtask rig down --purge                       nothing stays");
    Ok(ExitCode::SUCCESS)
}

fn install() -> Result<()> {
    title("tagpin, installed by its chart with two replicas");
    // A second run of the demo starts with nothing, too.
    inside(&format!("kubectl delete namespace {NAMESPACE} --ignore-not-found"))?;
    watch_it("cargo xtask rig install")?;
    say("The leader registers the webhooks once both replicas answer, and keeps a first policy in place:");
    kubectl("kubectl wait --for=condition=Ready --timeout=90s clusterimagepolicy/baseline")?;
    kubectl("kubectl get clusterimagepolicies.tagpin.dev")?;
    kubectl(&format!("kubectl -n {HOME} get pods"))?;
    Ok(())
}

fn pinned() -> Result<()> {
    title("1. Pods run a digest, the Deployment keeps its tag");
    kubectl(&format!("kubectl create namespace {NAMESPACE}"))?;
    kubectl("kubectl -n demo apply -f examples/workloads/web.yaml")?;
    kubectl("kubectl -n demo rollout status deployment/web --timeout=90s")?;
    let images = kubectl(
        "kubectl -n demo get pods -l app=web -o custom-columns=POD:.metadata.name,IMAGE:.spec.containers[0].image",
    )?;
    say("What the registry says that this tag names:");
    let digest = type_it("cargo xtask rig digest docker.io/library/web:1.4.2")?;
    let pinned = format!("web:1.4.2@{}", digest.trim());
    ensure!(images.matches(&pinned).count() == 2, "not both pods carry {pinned}");
    say("The Deployment is as it was written:");
    let template = kubectl(
        "kubectl -n demo get deployment web -o jsonpath='{.spec.template.spec.containers[0].image}{\"\\n\"}'",
    )?;
    ensure!(template.trim() == "web:1.4.2", "the Deployment was changed");
    // A later step needs a second tag that tagpin has seen.
    kubectl("kubectl -n demo run before --image=web:1.4.1")?;
    kubectl("kubectl -n demo wait --for=condition=Ready --timeout=90s pod/before")?;
    Ok(())
}

fn refused() -> Result<()> {
    title("2. What should not run is refused, with what to type instead");
    for (name, image, code) in [
        ("latest", "web:latest", "TagForbidden"),
        ("omitted", "web", "TagForbidden"),
        ("typo", "web:9.9.9", "TagNotFound"),
    ] {
        let command = format!("kubectl -n {NAMESPACE} create deployment {name} --image={image}");
        let said = type_in(&command, Expect::Refusal)?;
        ensure!(said.contains(&format!("[{code}]")), "refused, but not with {code}");
    }
    Ok(())
}

fn outage() -> Result<()> {
    title("3. The registry is gone, and what runs still scales");
    type_it("cargo xtask rig stop registry-mirror")?;
    say("tagpin itself is replaced too: all that the new replicas know is what the pods carry.");
    kubectl(&format!("kubectl -n {HOME} delete pods --all"))?;
    kubectl(&format!("kubectl -n {HOME} rollout status deployment/tagpin --timeout=120s"))?;
    let outcome = without_registry();
    say("The registry comes back.");
    type_it("cargo xtask rig start registry-mirror")?;
    outcome
}

fn without_registry() -> Result<()> {
    kubectl("kubectl -n demo scale deployment web --replicas=4")?;
    kubectl("kubectl -n demo rollout status deployment/web --timeout=90s")?;
    let images = kubectl(
        "kubectl -n demo get pods -l app=web -o custom-columns=POD:.metadata.name,IMAGE:.spec.containers[0].image",
    )?;
    ensure!(images.matches("web:1.4.2@sha256:").count() == 4, "not all pods are pinned");
    say("Another tag that was seen before still resolves; the audit log says how old that knowledge is:");
    kubectl("kubectl -n demo run again --image=web:1.4.1")?;
    let again = kubectl("kubectl -n demo get pod again -o jsonpath='{.spec.containers[0].image}{\"\\n\"}'")?;
    ensure!(again.contains("web:1.4.1@sha256:"), "not pinned");
    let stale = kubectl(
        "grep -o '\"pin.tagpin.dev/stale-seconds\":\"[0-9]*\"' \"$TAGPIN_RIG_HOME/$TAGPIN_RIG/logs/audit.log\" | tail -1",
    )?;
    ensure!(stale.contains("stale-seconds"), "not marked stale");
    say("A tag that nobody has seen gets what the policy says for that, here a warning:");
    let unknown = type_in("kubectl -n demo run unseen --image=multi:2.0.1", Expect::Success)?;
    ensure!(unknown.contains("[RegistryUnavailable]"), "no warning");
    Ok(())
}

fn namespaced() -> Result<()> {
    title("4. A namespace asks for more, first as a warning");
    kubectl("kubectl -n demo apply -f examples/policies/retire-old-versions.yaml")?;
    kubectl("kubectl -n demo wait --for=condition=Ready --timeout=60s imagepolicy/retire-old-versions")?;
    let said = kubectl("kubectl -n demo create deployment old --image=web:1.4.1")?;
    ensure!(said.contains("[TagForbidden]"), "no warning");
    say("What a policy has seen is in its status; the pod from the outage is the one that is not pinned:");
    kubectl(
        "kubectl wait --for=jsonpath='{.status.summary.unpinned}'=1 --timeout=60s clusterimagepolicy/baseline",
    )?;
    kubectl("kubectl get cipol -o wide")?;
    kubectl("kubectl -n demo get ipol -o wide")?;
    Ok(())
}

fn hidden() -> Result<()> {
    title("5. A registry that hides what is private");
    let image = "hiding.registry.test:8443/team/api";
    say(
        "It answers 404 to those who may not see an image. So nobody knows if the image exists, and tagpin says so:",
    );
    let said = kubectl(&format!("kubectl -n demo run hidden --image={image}:1.0.0"))?;
    ensure!(said.contains("[RepositoryMissingOrPrivate]"), "no warning");
    say("With the pull secret of its pod the image is pinned and runs:");
    kubectl(
        "kubectl -n demo create secret docker-registry pull --docker-server=hiding.registry.test:8443 \
         --docker-username=rig --docker-password=\"$(cat \"$TAGPIN_RIG_HOME/$TAGPIN_RIG/private-registry/password\")\"",
    )?;
    let secret = r#"--overrides='{"spec":{"imagePullSecrets":[{"name":"pull"}]}}'"#;
    kubectl(&format!("kubectl -n demo run shown --image={image}:1.0.0 {secret}"))?;
    kubectl("kubectl -n demo wait --for=condition=Ready --timeout=90s pod/shown")?;
    let pinned = kubectl("kubectl -n demo get pod shown -o jsonpath='{.spec.containers[0].image}{\"\\n\"}'")?;
    ensure!(pinned.contains(&format!("{image}:1.0.0@sha256:")), "not pinned");
    say("A tag that does not exist is refused now, because the registry shows the repository to this pod:");
    let typo = format!("kubectl -n demo run typo --image={image}:9.9.9 {secret}");
    let said = type_in(&typo, Expect::Refusal)?;
    ensure!(said.contains("[TagNotFound]"), "refused, but not with TagNotFound");
    Ok(())
}

/// The result that a command must have for the demo to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Success,
    Refusal,
}

/// Types a command inside the rig that must succeed.
fn kubectl(command: &str) -> Result<String> {
    type_in(command, Expect::Success)
}

/// Types a command inside the rig that must have this result.
fn type_in(command: &str, expect: Expect) -> Result<String> {
    shown(command, expect, || inside(command))
}

/// Types a command on this machine that must succeed.
fn type_it(command: &str) -> Result<String> {
    shown(command, Expect::Success, || run_it(&mut task(command)?))
}

/// Types a command on this machine that takes a while, and shows its progress.
fn watch_it(command: &str) -> Result<()> {
    prompt(command)?;
    ensure!(task(command)?.stdin(Stdio::null()).status()?.success(), "`{command}` failed");
    Ok(())
}

/// Returns the command for `cargo xtask …`, which this program runs itself.
fn task(command: &str) -> Result<Command> {
    let words =
        command.strip_prefix("cargo xtask ").context("only tasks of this repository are typed outside")?;
    let mut task = Command::new(env::current_exe()?);
    task.args(words.split(' '));
    Ok(task)
}

fn shown(command: &str, expect: Expect, run: impl FnOnce() -> Result<Answer>) -> Result<String> {
    prompt(command)?;
    let answer = run()?;
    if !answer.text.trim_end().is_empty() {
        println!("{}", answer.text.trim_end());
    }
    match expect {
        Expect::Success if !answer.ok => bail!("`{command}` failed"),
        Expect::Refusal if answer.ok => bail!("`{command}` was not refused"),
        Expect::Refusal => say(&format!("(refused after {:.1} s)", answer.seconds)),
        Expect::Success => {}
    }
    Ok(answer.text)
}

fn prompt(command: &str) -> Result<()> {
    let (bold, plain) = if stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{bold}$ {command}{plain}");
    Ok(stdout().flush()?)
}

fn inside(command: &str) -> Result<Answer> {
    run_it(Command::new(env::current_exe()?).args(["rig", "exec", "--", "sh", "-c", command]))
}

/// Runs a command with both output streams in one, as on a terminal.
fn run_it(command: &mut Command) -> Result<Answer> {
    let started = Instant::now();
    let (mut reader, writer) = std::io::pipe()?;
    let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds our ends of the pipe, so they are closed with it.
    *command = Command::new("true");
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut text)?;
    let ok = child.wait()?.success();
    Ok(Answer {
        ok,
        text: String::from_utf8_lossy(&text).into_owned(),
        seconds: started.elapsed().as_secs_f32(),
    })
}

fn title(text: &str) {
    println!("\n{text}\n{}", "=".repeat(text.len()));
}

fn say(text: &str) {
    println!("\n# {text}");
}
