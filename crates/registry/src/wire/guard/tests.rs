use super::*;

fn permitted(text: &str) -> (bool, bool) {
    let url = Url::parse(&format!("https://{text}/")).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert!(!matches!(url.host(), Some(Host::Domain(_))), "{text} is read as a name");
    (Reach::Public.check_literal(&url).is_ok(), Reach::Private.check_literal(&url).is_ok())
}

#[test]
fn every_spelling_of_loopback_needs_allow_private() {
    for text in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "127.255.255.254",
        "%31%32%37.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:808:808::80ff:fffe]",
    ] {
        assert_eq!(permitted(text), (false, true), "{text}");
    }
}

#[test]
fn private_ranges_need_allow_private() {
    for text in [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "198.18.0.1",
        "192.0.2.1",
        "[fc00::1]",
        "[fd00::1]",
        "[fd12:3456:789a::1]",
        "[::ffff:10.0.0.1]",
        "[2001:db8::1]",
        "[64:ff9b::a00:1]",
    ] {
        assert_eq!(permitted(text), (false, true), "{text}");
    }
}

#[test]
fn link_local_metadata_and_unassigned_addresses_are_never_reached() {
    for text in [
        "169.254.169.254",
        "169.254.0.1",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[2001:0:a9fe:a9fe::1]",
        "[2001:0:808:808::5601:5601]",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",
        "0",
        "[::]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[100::1]",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        assert_eq!(permitted(text), (false, false), "{text}");
    }
}

#[test]
fn public_addresses_are_reached_either_way() {
    for text in ["8.8.8.8", "172.32.0.1", "172.15.0.1", "100.128.0.1", "[2606:4700::1]", "[64:ff9b::808:808]"]
    {
        assert_eq!(permitted(text), (true, true), "{text}");
    }
}

#[test]
fn of_several_addresses_only_those_within_reach_remain() {
    let addresses = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
    let mixed = addresses(&["169.254.169.254", "8.8.8.8", "10.0.0.1"]);
    assert_eq!(Reach::Public.filter(mixed.clone()), Ok(addresses(&["8.8.8.8"])));
    assert_eq!(Reach::Private.filter(mixed), Ok(addresses(&["8.8.8.8", "10.0.0.1"])));
    assert_eq!(Reach::Public.filter(addresses(&["10.0.0.1", "::1"])), Err(Forbidden { never: false }));
    assert_eq!(Reach::Private.filter(addresses(&["fd00:ec2::254"])), Err(Forbidden { never: true }));
    let some = addresses(&["10.0.0.1", "169.254.169.254"]);
    assert_eq!(Reach::Public.filter(some), Err(Forbidden { never: false }));
}

fn own() -> Reach {
    let nets = ["10.20.0.0/16", "fd12:3456::/32", "100.64.0.0/10"].map(|net| IpNet::parse(net).unwrap());
    Reach::Own(nets.into())
}

#[test]
fn own_ranges_open_themselves_and_nothing_that_is_never_opened() {
    for (address, opened) in [
        ("10.20.3.4", true),
        ("::ffff:10.20.3.4", true),
        ("fd12:3456::1", true),
        ("100.64.0.1", true),
        ("8.8.8.8", true),
        ("10.21.0.1", false),
        ("192.168.0.1", false),
        ("127.0.0.1", false),
        ("::1", false),
        ("169.254.169.254", false),
        // Metadata of Alibaba, inside one of the ranges.
        ("100.100.100.200", false),
    ] {
        assert_eq!(own().permits(address.parse().unwrap()), opened, "{address}");
    }
    assert!(!own().is_own("8.8.8.8".parse().unwrap()));
}

#[test]
fn a_private_network_is_not_this_machine() {
    for (address, opened) in [
        ("10.0.0.1", true),
        ("fd00::1", true),
        ("8.8.8.8", true),
        ("127.0.0.1", false),
        ("127.9.9.9", false),
        ("::1", false),
        ("::ffff:127.0.0.1", false),
        ("64:ff9b::7f00:1", false),
        ("2002:7f00:1::", false),
        ("169.254.1.1", false),
        ("fd00:ec2::254", false),
        ("fd00:ec2::23", false),
    ] {
        assert_eq!(Reach::PrivateNetwork.permits(address.parse().unwrap()), opened, "{address}");
    }
}

#[test]
fn only_private_ranges_that_are_not_too_large_can_be_own() {
    for (range, right) in [
        ("10.0.0.0/8", true),
        ("172.16.0.0/12", true),
        ("192.168.1.0/24", true),
        ("100.64.0.0/10", true),
        ("fd12:3456::/32", true),
        ("fd12:3456:789a::/48", true),
        ("127.0.0.0/8", false),
        ("127.0.0.1/32", false),
        ("169.254.0.0/16", false),
        ("169.254.169.254/32", false),
        ("100.100.100.200/32", false),
        ("172.0.0.0/8", false),
        ("192.0.0.0/8", false),
        ("8.8.8.0/24", false),
        ("0.0.0.0/0", false),
        ("0.0.0.0/8", false),
        ("fc00::/7", false),
        ("fe80::/64", false),
        ("::1/128", false),
        ("::ffff:10.0.0.0/104", false),
        ("2001:4860::/32", false),
        ("fd00:ec2::254/128", false),
    ] {
        assert_eq!(check_own(&IpNet::parse(range).unwrap()).is_ok(), right, "{range}");
    }
}
