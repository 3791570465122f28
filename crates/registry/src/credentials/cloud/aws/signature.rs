//! Signature Version 4, for POST, and for GET without dots in the path.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::hmac::{HMAC_SHA256, Key, sign as hmac};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use url::Url;

use super::keys::Keys;
use crate::credentials::cloud::exchange::Ask;
use crate::observe::Method;
use crate::profile::host::authority;

/// Adds the headers that sign the request.
pub(super) fn sign(ask: Ask, body: &[u8], keys: &Keys, region: &str, service: &str, now: SystemTime) -> Ask {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default();
    let time = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut ask = ask.with("x-amz-date", &*time);
    if let Some(session) = &keys.session {
        ask = ask.with("x-amz-security-token", session.expose_secret());
    }
    let host = authority(&ask.url);
    let mut headers: Vec<(&str, &str)> = vec![("host", &host)];
    headers.extend(ask.headers.iter().map(|(name, value)| (*name, value.as_str())));
    if let Some(body) = &ask.body {
        headers.push(("content-type", body.content_type()));
    }
    headers.sort_unstable();
    let method = match ask.method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
    };
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let request = format!(
        "{method}\n{}\n{}\n{lines}\n{names}\n{}",
        ask.url.path(),
        query(&ask.url),
        hex(&Sha256::digest(body))
    );
    let day = time.get(..8).unwrap_or_default();
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let secret = format!("AWS4{}", keys.secret.expose_secret());
    let key = [day, region, service, "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| step(&key, part.as_bytes()));
    let signature = hex(&step(&key, text.as_bytes()));
    let proof = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.id
    );
    ask.with("authorization", proof)
}

fn step(key: &[u8], part: &[u8]) -> Vec<u8> {
    hmac(&Key::new(HMAC_SHA256, key), part).as_ref().to_vec()
}

/// Returns the query sorted by name; it is already encoded.
fn query(url: &Url) -> String {
    let mut pairs: Vec<&str> =
        url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::guard::Reach;
    use crate::wire::message::Body;

    /// 2015-08-30T12:36:00Z, as in Amazon's test suite.
    fn then() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_440_938_160)
    }

    fn keys(session: Option<&str>) -> Keys {
        Keys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session: session.map(Into::into),
        }
    }

    fn signed(ask: Ask, body: &str, service: &str) -> String {
        let ask = sign(ask, body.as_bytes(), &keys(None), "us-east-1", service, then());
        ask.headers.into_iter().find(|(name, _)| *name == "authorization").unwrap().1
    }

    fn get(url: &str) -> Ask {
        Ask::get("the test", Url::parse(url).unwrap(), Reach::Public)
    }

    /// `get-vanilla`, `get-vanilla-query-order-key-case` and `post-vanilla` of the suite, and the example of the
    /// documentation of IAM.
    #[test]
    fn published_vectors_are_signed_as_published() {
        let host = "https://example.amazonaws.com/";
        let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature=";
        for (ask, signature) in [
            (get(host), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                get(&format!("{host}?Param2=value2&Param1=value1")),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                Ask { method: Method::Post, ..get(host) },
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
        ] {
            assert_eq!(signed(ask, "", "service"), format!("{start}{signature}"));
        }
        let iam = get("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08")
            .with("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        assert!(
            signed(iam, "", "iam")
                .ends_with("Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")
        );
    }

    #[test]
    fn the_session_the_port_and_the_body_are_part_of_what_is_signed() {
        let url = Url::parse("http://127.0.0.1:5000/").unwrap();
        let ask = Ask::post("the test", url, Body::json("application/x-amz-json-1.1", "{}"));
        let ask = sign(ask, b"{}", &keys(Some("session")), "us-east-1", "ecr", then());
        let header = |name: &str| ask.headers.iter().find(|(key, _)| *key == name).unwrap().1.clone();
        assert_eq!(header("x-amz-security-token"), "session");
        let names = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token,";
        assert!(header("authorization").contains(names), "{}", header("authorization"));
        assert_eq!(authority(&ask.url), "127.0.0.1:5000");
    }
}
