//! Real endpoints on loopback, and those who are not let in.
//!
//! Not here: the same for a whole cluster (`tests/cluster.rs`).

use std::time::{Duration, Instant, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;
use crate::command::Role;
use crate::identity::{Authority, ClusterId, Given, PendingKey, Request, VALIDITY};
use crate::test_folder::TestFolder;

fn now() -> SystemTime {
    #[allow(clippy::disallowed_methods)]
    SystemTime::now()
}

struct Everybody;

impl Admit for Everybody {
    fn admit(&self, subject: &Subject, _alpn: Alpn) -> Result<(), Refusal> {
        match subject.node {
            NodeId(66) => Err(Refusal::RemovedNode),
            _ => Ok(()),
        }
    }
}

struct Node {
    identity: Arc<Identity>,
    endpoint: Endpoint,
    queues: InboundQueues,
    _data: TestFolder,
}

impl Node {
    fn open(identity: Identity, data: TestFolder) -> Node {
        let identity = Arc::new(identity);
        let mut options = EndpointOptions::new("127.0.0.1:0".parse().unwrap());
        options.connections_per_node_max = 3;
        let (endpoint, queues) =
            Endpoint::open(identity.clone(), options, Arc::new(Everybody)).unwrap();
        Node { identity, endpoint, queues, _data: data }
    }

    fn first() -> Node {
        let data = TestFolder::new();
        Node::open(Identity::init(data.path(), now()).unwrap(), data)
    }

    /// Another node of the same cluster, whose certificate was made at `signed`.
    fn another(&self, node: u64, signed: SystemTime) -> Node {
        let data = TestFolder::new();
        let authority = self.identity.authority().unwrap();
        let identity = identity(authority, self.identity.subject().cluster, node, signed, &data);
        Node::open(identity, data)
    }

    fn address(&self) -> String {
        self.endpoint.local_address().unwrap().to_string()
    }

    async fn refuses(&self, refusal: Refusal) {
        let end = now_instant() + Duration::from_secs(5);
        while self.endpoint.refused().count(refusal) == 0 {
            assert!(now_instant() < end, "{:?} has no {refusal}", self.endpoint.refused());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn now_instant() -> Instant {
    #[allow(clippy::disallowed_methods)]
    Instant::now()
}

fn identity(
    authority: &Authority,
    cluster: ClusterId,
    node: u64,
    signed: SystemTime,
    data: &TestFolder,
) -> Identity {
    let pending = PendingKey::create().unwrap();
    let subject = Subject { cluster, node: NodeId(node), role: Role::Origin };
    let request = Request::read(pending.request()).unwrap();
    let given = Given {
        certificate: authority.sign(&request, &subject, signed, VALIDITY).unwrap().to_vec(),
        authority: authority.certificate().to_vec(),
        authority_key: None,
        peers: vec![],
    };
    Identity::create(data.path(), &pending, given).unwrap()
}

/// Believes every server: an attacker wants in, whoever it is.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Knocks at `at` with a certificate, or none, without caring who answers; gives how it ended.
async fn knock(at: &Endpoint, shown: Option<&Identity>, alpn: &[u8]) -> ConnectionError {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut tls = match shown {
        Some(identity) => builder.with_client_cert_resolver(identity.presented()),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let quic = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = client(tls, TransportConfig::default()).unwrap();
    let target = at.local_address().unwrap();
    match quic.connect_with(client, target, "x.invalid").unwrap().await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    }
}

const RAFT: &[u8] = b"headwater-raft/1";

#[tokio::test]
async fn two_nodes_of_a_cluster_know_each_other_by_their_certificates() {
    let mut one = Node::first();
    let two = one.another(2, now());
    for alpn in Alpn::ALL {
        let out = two.endpoint.connect(&one.address(), alpn, Some(NodeId(1))).await.unwrap();
        assert_eq!(peer_of(&out).unwrap(), one.identity.subject());
        let queue = match alpn {
            Alpn::Raft => &mut one.queues.raft,
            Alpn::Control => &mut one.queues.control,
            Alpn::Relay => &mut one.queues.relay,
            Alpn::Join => &mut one.queues.join,
        };
        let inbound = queue.recv().await.unwrap();
        assert_eq!(inbound.peer, Some(two.identity.subject()), "{alpn:?}");
    }
    assert_eq!(one.endpoint.refused().total(), 0);
}

#[tokio::test]
async fn a_caller_refuses_a_node_that_is_not_the_one_it_called() {
    let one = Node::first();
    let two = one.another(2, now());
    let three = one.another(3, now());
    let called = two.endpoint.connect(&three.address(), Alpn::Raft, Some(NodeId(1))).await;
    let Err(ConnectError::Refused { refusal, .. }) = called else { panic!("{called:?}") };
    assert_eq!(refusal, Refusal::OtherNode);
    assert_eq!(two.endpoint.refused().count(Refusal::OtherNode), 1);
    // Its own address, by a slip in the configuration.
    let called = two.endpoint.connect(&two.address(), Alpn::Raft, Some(NodeId(1))).await;
    assert!(matches!(called, Err(ConnectError::Refused { .. })), "{called:?}");
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_by_both_sides() {
    let one = Node::first();
    let foreign = Node::first();
    let called = foreign.endpoint.connect(&one.address(), Alpn::Raft, Some(NodeId(1))).await;
    let Err(ConnectError::Refused { refusal, .. }) = called else { panic!("{called:?}") };
    assert_eq!(refusal, Refusal::ForeignCertificate);
    let end = knock(&one.endpoint, Some(&foreign.identity), RAFT).await;
    assert_eq!(refusal_of(&end).unwrap().0, Refusal::ForeignCertificate, "{end:?}");
    one.refuses(Refusal::ForeignCertificate).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let one = Node::first();
    let late = one.another(2, now() - VALIDITY - Duration::from_secs(60));
    let end = knock(&one.endpoint, Some(&late.identity), RAFT).await;
    assert_eq!(refusal_of(&end).unwrap().0, Refusal::ExpiredCertificate, "{end:?}");
    one.refuses(Refusal::ExpiredCertificate).await;
    let called = one.endpoint.connect(&late.address(), Alpn::Raft, Some(NodeId(2))).await;
    let Err(ConnectError::Refused { refusal, .. }) = called else { panic!("{called:?}") };
    assert_eq!(refusal, Refusal::ExpiredCertificate);
}

#[tokio::test]
async fn a_certificate_of_a_false_ca_of_the_same_name_is_refused() {
    let one = Node::first();
    let cluster = one.identity.subject().cluster;
    let false_ca = Authority::create(cluster, now()).unwrap();
    let data = TestFolder::new();
    let forged = identity(&false_ca, cluster, 1, now(), &data);
    let end = knock(&one.endpoint, Some(&forged), RAFT).await;
    assert!(refusal_of(&end).is_some(), "{end:?}");
    one.refuses(Refusal::ForgedCertificate).await;
}

#[tokio::test]
async fn a_certificate_of_the_ca_that_names_another_cluster_is_refused() {
    let one = Node::first();
    let authority = one.identity.authority().unwrap();
    let data = TestFolder::new();
    let odd = identity(authority, ClusterId::from_bytes([1; 16]), 2, now(), &data);
    let end = knock(&one.endpoint, Some(&odd), RAFT).await;
    assert_eq!(refusal_of(&end).unwrap().0, Refusal::WrongSubject, "{end:?}");
    one.refuses(Refusal::WrongSubject).await;
}

#[tokio::test]
async fn without_a_certificate_nothing_but_joining_is_possible() {
    let mut one = Node::first();
    for alpn in [Alpn::Raft, Alpn::Control, Alpn::Relay] {
        let end = knock(&one.endpoint, None, alpn.name().as_bytes()).await;
        assert_eq!(refusal_of(&end).unwrap().0, Refusal::NoCertificate, "{end:?}");
    }
    assert_eq!(one.endpoint.refused().count(Refusal::NoCertificate), 3);
    let joiner = knock(&one.endpoint, None, Alpn::Join.name().as_bytes());
    let inbound = async {
        let inbound = one.queues.join.recv().await.unwrap();
        assert_eq!(inbound.peer, None);
    };
    tokio::select! {
        biased;
        () = inbound => {}
        end = joiner => panic!("{end:?}"),
    }
}

#[tokio::test]
async fn another_version_of_a_protocol_is_refused_by_its_name() {
    let one = Node::first();
    let two = one.another(2, now());
    let end = knock(&one.endpoint, Some(&two.identity), b"headwater-raft/9").await;
    assert_eq!(refusal_of(&end).unwrap().0, Refusal::Version, "{end:?}");
    one.refuses(Refusal::Version).await;
}

#[tokio::test]
async fn a_removed_node_is_refused_though_its_certificate_still_holds() {
    let one = Node::first();
    let removed = one.another(66, now());
    let connection =
        removed.endpoint.connect(&one.address(), Alpn::Control, Some(NodeId(1))).await.unwrap();
    let end = connection.closed().await;
    assert_eq!(refusal_of(&end).unwrap().0, Refusal::RemovedNode, "{end:?}");
    one.refuses(Refusal::RemovedNode).await;
}

#[tokio::test]
async fn one_node_has_only_so_many_connections() {
    let mut one = Node::first();
    let two = one.another(2, now());
    let mut held = Vec::new();
    for _ in 0..3 {
        let out = two.endpoint.connect(&one.address(), Alpn::Raft, None).await.unwrap();
        held.push((out, one.queues.raft.recv().await.unwrap()));
    }
    let one_more = two.endpoint.connect(&one.address(), Alpn::Raft, None).await.unwrap();
    let end = one_more.closed().await;
    assert_eq!(refusal_of(&end).unwrap().0, Refusal::TooManyConnections, "{end:?}");
    held.pop();
    let _again = two.endpoint.connect(&one.address(), Alpn::Raft, None).await.unwrap();
    assert!(one.queues.raft.recv().await.is_some());
}

#[tokio::test]
async fn datagrams_of_garbage_harm_nothing() {
    let mut one = Node::first();
    let two = one.another(2, now());
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut seed = 7_u64;
    for length in (0..1_400).step_by(7) {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        })
        .take(length)
        .collect();
        socket.send_to(&noise, one.address()).await.unwrap();
    }
    let _out = two.endpoint.connect(&one.address(), Alpn::Raft, Some(NodeId(1))).await.unwrap();
    assert!(one.queues.raft.recv().await.is_some());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_the_next_handshake() {
    let mut one = Node::first();
    let two = one.another(2, now() - VALIDITY + Duration::from_secs(3_600));
    assert!(two.identity.is_renewal_due(now()));
    let pending = PendingKey::create().unwrap();
    let request = Request::read(pending.request()).unwrap();
    let authority = one.identity.authority().unwrap();
    let fresh = authority.sign(&request, &two.identity.subject(), now(), VALIDITY).unwrap();
    two.identity.renew(&pending, &fresh).unwrap();
    let _out = two.endpoint.connect(&one.address(), Alpn::Raft, Some(NodeId(1))).await.unwrap();
    let inbound = one.queues.raft.recv().await.unwrap();
    let chain = inbound.connection.peer_identity().unwrap();
    let chain = chain.downcast::<Vec<CertificateDer<'static>>>().unwrap();
    assert_eq!(chain[0], fresh);
}

#[test]
fn refusals_are_told_by_codes_that_do_not_change() {
    for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(refusal.index(), index);
        assert_eq!(Refusal::of_code(u64::from(refusal.code())), Some(refusal));
    }
    assert_eq!(Refusal::of_code(0), None);
    assert_eq!(Refusal::of_code(u64::MAX), None);
}
