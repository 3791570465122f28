//! The binary as a process: its output and its exit codes.

use std::fs;
use std::process::{Command, Output};

fn tagpin(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tagpin")).args(args).env_clear().output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_teaches_the_exit_codes() {
    let output = tagpin(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("3  could not find out"), "{help}");
}

#[test]
fn an_unknown_word_is_wrong_use() {
    assert_eq!(tagpin(&["sevre"]).status.code(), Some(2));
}

#[test]
fn a_file_that_cannot_be_read_is_wrong_use_and_named() {
    let output = tagpin(&["serve", "--namespace=x", "--pod=y", "--baseline=/does/not/exist"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("read /does/not/exist"), "{}", stderr(&output));
}

#[test]
fn a_collector_is_named_by_its_url() {
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("baseline.yaml");
    fs::write(&baseline, "{enabled: true, mode: Warn, pin: true}").unwrap();
    let baseline = format!("--baseline={}", baseline.display());
    for endpoint in ["collector:4318", "ftp://collector", "http://collector:4318/v1/traces", "http://c/?a=b"]
    {
        let otlp = format!("--otlp-endpoint={endpoint}");
        let output = tagpin(&["serve", "--namespace=x", "--pod=y", &baseline, &otlp]);
        assert_eq!(output.status.code(), Some(2), "{endpoint}");
        assert!(stderr(&output).contains("http://10.0.0.7:4318"), "{}", stderr(&output));
    }
}

#[test]
fn an_authority_of_the_api_servers_certificate_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (baseline, empty) = (folder.path().join("baseline.yaml"), folder.path().join("ca.crt"));
    fs::write(&baseline, "{enabled: true, mode: Warn, pin: true}").unwrap();
    fs::write(&empty, "").unwrap();
    let baseline = format!("--baseline={}", baseline.display());
    for (file, words) in [(empty, "there is no certificate"), (folder.path().join("missing"), "No such file")]
    {
        let ca = format!("--client-ca={}", file.display());
        let output = tagpin(&["serve", "--namespace=x", "--pod=y", &baseline, &ca]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains(file.to_str().unwrap()) && said.contains(words), "{said}");
    }
}

#[test]
fn without_a_cluster_it_cannot_find_out() {
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("baseline.yaml");
    fs::write(&baseline, "{enabled: true, mode: Warn, pin: true}").unwrap();
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.args(["serve", "--namespace=x", "--pod=y", "--admin-port=0", "--webhook-port=0"]);
    let output =
        tagpin.arg("--baseline").arg(baseline).env_clear().env("HOME", folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("find the API server"), "{}", stderr(&output));
}

#[test]
fn every_shell_gets_completions_of_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = tagpin(&["completions", shell]);
        assert!(output.status.success(), "{shell}: {}", stderr(&output));
        let script = String::from_utf8(output.stdout).unwrap();
        for command in ["serve", "resolve", "crds", "completions", "man"] {
            assert!(script.contains(command), "{shell} does not complete {command}");
        }
    }
    assert_eq!(tagpin(&["completions", "cmd"]).status.code(), Some(2));
}

#[test]
fn bash_completes_a_subcommand() {
    let script = String::from_utf8(tagpin(&["completions", "bash"]).stdout).unwrap();
    let complete =
        r#"COMP_WORDS=(tagpin res); COMP_CWORD=1; _tagpin tagpin res tagpin; echo "${COMPREPLY[@]}""#;
    let output = Command::new("bash").arg("-c").arg(format!("{script}\n{complete}")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "resolve", "{}", stderr(&output));
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let page = String::from_utf8(tagpin(&["man"]).stdout).unwrap();
    assert!(page.contains(".TH tagpin 1") && page.contains("could not find out"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    assert!(tagpin(&["man", "--folder", place]).status.success());
    for command in ["tagpin", "tagpin-serve", "tagpin-resolve", "tagpin-crds"] {
        let page = fs::read_to_string(folder.path().join(format!("{command}.1"))).unwrap();
        assert!(page.contains(".SH OPTIONS"), "{page}");
    }
    let output = tagpin(&["man", "--folder", "/does/not/exist"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("write the manual pages into /does/not/exist"), "{}", stderr(&output));
}

#[test]
fn doctor_without_a_cluster_cannot_find_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    let output = tagpin.arg("doctor").env_clear().env("HOME", folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("find the API server"), "{}", stderr(&output));
}

#[test]
fn doctors_help_names_the_rights_that_it_needs() {
    let output = tagpin(&["doctor", "--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    for right in
        ["pods/portforward", "subjectaccessreviews.authorization.k8s.io", "secrets/tagpin-webhook-tls"]
    {
        assert!(help.contains(right), "{right}: {help}");
    }
}

#[test]
fn in_a_pod_of_the_chart_registries_are_asked_as_the_operator_asks_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registries.yaml");
    fs::write(&file, "registries: [{ match: airgap.local, offline: true }]").unwrap();
    for command in ["resolve", "tags"] {
        let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
        tagpin.args([command, "airgap.local/web", "--output=json"]).env_clear();
        let output = tagpin.env("TAGPIN_REGISTRIES", &file).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("\"outcome\": \"Offline\""), "{command}: {said}");
    }
}

#[test]
fn a_configuration_of_registries_is_checked_as_it_is_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registries.yaml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        tagpin(&["registries", "check", file.to_str().unwrap()])
    };
    let output = check(
        "registries:
        - { match: '*.example.com', credentials: { secretRef: { namespace: ops, name: pull } } }
        - { match: airgap.local, offline: true }
        - match: docker.io
          resolveFrom: mirrors-then-upstream
          tls: { insecureSkipVerify: true }
          mirrors: [{ url: https://mirror.example }]
        ",
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    for line in [
        "registries.yaml: can be used",
        "*.example.com: each registry that matches, by the rules of the entry",
        "airgap.local: never asked",
        "docker.io: https://mirror.example/v2 anonymously, then https://registry-1.docker.io/v2 with the asker's credentials",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(stderr(&output).contains("note: registries[2]: the certificate of docker.io is not verified"));

    let output = check("registries: [{ match: '10.0.0.5:5000', notFoundIsProof: true }]");
    assert!(stderr(&output).contains("add allowPrivate: true to the entry"), "{}", stderr(&output));
    let output = check("registries: [{ match: a.example, allowPrivate: yes }]");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = tagpin(&["registries", "check", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("read /dev/zero: this is not a regular file"), "{}", stderr(&output));

    let output = check("registries:\n- match: docker.io\n  mirror: []\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("registries.yaml:3:3: registries[0].mirror: unknown key"),
        "{}",
        stderr(&output)
    );

    // `tagpin serve` reports the same mistake, before it looks for a cluster.
    let baseline = folder.path().join("baseline.yaml");
    fs::write(&baseline, "{enabled: true, mode: Warn, pin: true}").unwrap();
    let (file, baseline) = (file.to_str().unwrap(), baseline.to_str().unwrap());
    let output = tagpin(&["serve", "--namespace=x", "--pod=y", "--registries", file, "--baseline", baseline]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("registries.yaml:3:3: registries[0].mirror: unknown key"),
        "{}",
        stderr(&output)
    );
}
