//! Tests of identities: files, certificates, renewal.
//!
//! Not here: the same over real connections (`endpoint`'s tests).

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::*;
use crate::test_folder::TestFolder;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// What an origin with the CA's key gives to a joiner.
fn given(of: &Identity, pending: &PendingKey, node: u64, role: Role) -> Given {
    let authority = of.authority().unwrap();
    let subject = Subject { cluster: of.subject().cluster, node: NodeId(node), role };
    let request = Request::read(pending.request()).unwrap();
    Given {
        certificate: authority.sign(&request, &subject, now(), VALIDITY).unwrap().to_vec(),
        authority: authority.certificate().to_vec(),
        authority_key: Some(authority.key_pem()),
        peers: vec![Peer { node: NodeId(1), address: "127.0.0.1:4443".into() }],
    }
}

#[test]
fn a_cluster_id_is_read_back_from_its_text_and_nothing_else_is() {
    let id = ClusterId::from_bytes([0xab; 16]);
    assert_eq!(id.to_string().parse::<ClusterId>().unwrap(), id);
    for bad in ["", "ab", &"AB".repeat(16), &"+a".repeat(16), &"ab".repeat(17)] {
        assert!(bad.parse::<ClusterId>().is_err(), "{bad}");
    }
}

#[test]
fn a_first_node_is_read_back_with_a_higher_incarnation_at_each_start() {
    let data = TestFolder::new();
    let first = Identity::init(data.path(), now()).unwrap();
    assert_eq!(first.incarnation(), crate::id::Incarnation(1));
    assert_eq!(first.node(), NodeId(1));
    assert!(first.authority().is_ok());
    let subject = first.subject();
    assert!(matches!(Identity::open(data.path()), Err(IdentityError::InUse(_))));
    drop(first);
    let again = Identity::open(data.path()).unwrap();
    assert_eq!(again.subject(), subject);
    assert_eq!(again.incarnation(), crate::id::Incarnation(2));
    assert!(matches!(Identity::init(data.path(), now()), Err(IdentityError::NotEmpty(_))));
}

#[test]
fn an_origin_gets_the_ca_key_and_a_relay_does_not() {
    let (one, two, three) = (TestFolder::new(), TestFolder::new(), TestFolder::new());
    let first = Identity::init(one.path(), now()).unwrap();
    let pending = PendingKey::create().unwrap();
    let origin =
        Identity::create(two.path(), &pending, given(&first, &pending, 2, Role::Origin)).unwrap();
    assert!(origin.authority().is_ok());
    assert_eq!(origin.peers()[0].address, "127.0.0.1:4443");
    let pending = PendingKey::create().unwrap();
    let relay =
        Identity::create(three.path(), &pending, given(&origin, &pending, 3, Role::Relay)).unwrap();
    assert!(matches!(relay.authority(), Err(IdentityError::NoAuthority)));
    assert!(!three.path().join("cluster/ca-key.pem").exists());
    assert_eq!(relay.subject().cluster, first.subject().cluster);
}

#[cfg(unix)]
#[test]
fn secrets_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = TestFolder::new();
    let _identity = Identity::init(data.path(), now()).unwrap();
    for file in ["ca-key.pem", "node.pem"] {
        let mode = std::fs::metadata(data.path().join("cluster").join(file)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    let data = TestFolder::new();
    let identity = Identity::init(data.path(), now()).unwrap();
    assert!(!identity.is_renewal_due(now()));
    assert!(!identity.is_renewal_due(now() + (VALIDITY - RENEW_BEFORE)));
    let late = now() + (VALIDITY - RENEW_BEFORE) + Duration::from_secs(1);
    assert!(identity.is_renewal_due(late));
    let pending = PendingKey::create().unwrap();
    let request = Request::read(pending.request()).unwrap();
    let sign = |subject: &Subject| {
        identity.authority().unwrap().sign(&request, subject, late, VALIDITY).unwrap()
    };
    let other = Subject { node: NodeId(9), ..identity.subject() };
    assert!(identity.renew(&pending, &sign(&other)).is_err());
    let other_key = PendingKey::create().unwrap();
    assert!(identity.renew(&other_key, &sign(&identity.subject())).is_err());
    assert!(identity.is_renewal_due(late));
    identity.renew(&pending, &sign(&identity.subject())).unwrap();
    assert!(!identity.is_renewal_due(late));
    drop(identity);
    assert!(!Identity::open(data.path()).unwrap().is_renewal_due(late));
}

#[test]
fn damaged_files_are_refused_and_named() {
    let cases: [(&str, &str); 6] = [
        ("format", "2\n"),
        ("incarnation", "many\n"),
        ("incarnation", "18446744073709551615\n"),
        ("node.json", "{}"),
        ("node.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("ca.pem", ""),
    ];
    for (file, text) in cases {
        let data = TestFolder::new();
        drop(Identity::init(data.path(), now()).unwrap());
        let path: PathBuf = data.path().join("cluster").join(file);
        std::fs::write(&path, text).unwrap();
        let error = Identity::open(data.path()).unwrap_err();
        assert!(error.to_string().contains(&data.path().display().to_string()), "{error}");
    }
}

#[test]
fn an_init_that_was_cut_short_is_begun_anew() {
    let data = TestFolder::new();
    std::fs::create_dir_all(data.path().join("cluster.new")).unwrap();
    std::fs::write(data.path().join("cluster.new/node.json"), "half").unwrap();
    std::fs::create_dir_all(data.path().join("cluster")).unwrap();
    assert!(!Folder::exists(data.path()));
    Identity::init(data.path(), now()).unwrap();
}

#[test]
fn garbage_is_no_request_for_a_certificate() {
    let good = PendingKey::create().unwrap();
    let hash = Request::read(good.request()).unwrap().key_hash();
    for end in 0..good.request().len() {
        assert!(Request::read(&good.request()[..end]).is_err());
    }
    for at in 0..good.request().len() {
        let mut bad = good.request().to_vec();
        bad[at] ^= 0x55;
        // Where a byte does not count (an algorithm's parameters), the key is still the signed one.
        let same = |request: Request| request.key_hash() == hash;
        assert!(Request::read(&bad).map_or(true, same), "byte {at}");
    }
    assert!(Request::read(&vec![0x30; 100_000]).is_err());
}
