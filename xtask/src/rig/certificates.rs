//! Keys and certificates of a rig, which are made at its first start and kept with its data.

use std::fs;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::node::{ADDRESS, API_SERVICE, Node};
use super::registries::{HIDING_HOST, PRIVATE_HOST};
use super::state::{State, write};

/// The identity in a client certificate: the user and the group that RBAC and tagpin see.
struct Client {
    file: String,
    user: String,
    group: Option<&'static str>,
}

/// Makes the keys and certificates that are missing.
pub(crate) fn ensure(state: &State, nodes: u8) -> Result<()> {
    let cluster = Authority::ensure(state, "ca", "the rig's cluster CA")?;
    cluster.serve(
        state,
        "kube-apiserver",
        &[
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            &ADDRESS.to_string(),
            &API_SERVICE.to_string(),
        ],
    )?;
    for client in clients(nodes) {
        cluster.introduce(state, &client)?;
    }
    for node in Node::all(nodes) {
        let name = node.name();
        cluster.serve(state, &format!("kubelet-{name}-serving"), &[&name, &node.address().to_string()])?;
    }
    service_account_key(state)?;
    let private = Authority::ensure(state, "private-ca", "the private registry's own CA")?;
    private.serve(state, "private-registry", &[PRIVATE_HOST])?;
    private.serve(state, "hiding-registry", &[HIDING_HOST])
}

fn clients(nodes: u8) -> Vec<Client> {
    let client =
        |file: &str, user: &str, group| Client { file: file.to_owned(), user: user.to_owned(), group };
    let mut clients = vec![
        client("admin", "rig-admin", Some("system:masters")),
        client("kube-apiserver-kubelet", "kube-apiserver", Some("system:masters")),
        client("kube-controller-manager", "system:kube-controller-manager", None),
        client("kube-scheduler", "system:kube-scheduler", None),
        client("kube-proxy", "system:kube-proxy", None),
    ];
    clients.extend(Node::all(nodes).map(|node| {
        client(
            &format!("kubelet-{}", node.name()),
            &format!("system:node:{}", node.name()),
            Some("system:nodes"),
        )
    }));
    clients
}

/// Makes the key pair that signs and checks the tokens of service accounts.
fn service_account_key(state: &State) -> Result<()> {
    if state.pki("service-account.key").exists() {
        return Ok(());
    }
    let key = KeyPair::generate()?;
    write(&state.pki("service-account.pub"), key.public_key_pem().as_bytes())?;
    write(&state.pki("service-account.key"), key.serialize_pem().as_bytes())
}

/// A certificate authority in the rig's folder.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn ensure(state: &State, file: &str, name: &str) -> Result<Self> {
        let (certificate, key) = (state.pki(&format!("{file}.crt")), state.pki(&format!("{file}.key")));
        if !certificate.exists() {
            let fresh = KeyPair::generate()?;
            let mut params = named(&[], name)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            write(&key, fresh.serialize_pem().as_bytes())?;
            write(&certificate, params.self_signed(&fresh)?.pem().as_bytes())?;
        }
        let pem = fs::read_to_string(&certificate)?;
        let key = KeyPair::from_pem(&fs::read_to_string(&key)?)?;
        let issuer =
            Issuer::from_ca_cert_pem(&pem, key).with_context(|| format!("{}", certificate.display()))?;
        Ok(Self { issuer })
    }

    /// Makes a server certificate for these names and addresses.
    fn serve(&self, state: &State, file: &str, names: &[&str]) -> Result<()> {
        let common = names.first().copied().unwrap_or(file);
        let mut params = named(names, common)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(state, file, params)
    }

    /// Makes a client certificate.
    fn introduce(&self, state: &State, client: &Client) -> Result<()> {
        let mut params = named(&[], &client.user)?;
        if let Some(group) = client.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(state, &client.file, params)
    }

    fn sign(&self, state: &State, file: &str, mut params: CertificateParams) -> Result<()> {
        let certificate = state.pki(&format!("{file}.crt"));
        if certificate.exists() {
            return Ok(());
        }
        let key = KeyPair::generate()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        write(&state.pki(&format!("{file}.key")), key.serialize_pem().as_bytes())?;
        write(&certificate, params.signed_by(&key, &self.issuer)?.pem().as_bytes())
    }
}

fn named(names: &[&str], common: &str) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, common);
    // A rig may be kept for a long time, and no test is about its certificates.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    Ok(params)
}
