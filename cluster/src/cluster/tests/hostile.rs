//! Bad input on the cluster port, from strangers and from members: each is refused, counted, and
//! harms nothing.
//!
//! Not here: bad certificates (`endpoint::tests`).

use headwater_media::id::{DiscontinuitySeq, Epoch};
use quinn::VarInt;

use super::*;
use crate::command::{Claim, Role};
use crate::control::join::JoinError;
use crate::control::messages::{JOIN_VERSION, JoinResponse, Request, Response};
use crate::endpoint::{InboundQueues, refusal_of};
use crate::identity::{
    Given, PendingKey, Refusal, Request as CertificateRequest, Subject, VALIDITY,
};
use crate::transport::hello::Hello;
use crate::transport::raft_client::RaftRequest;
use crate::transport::wire;

/// A member that does as it likes: a certificate of the cluster, and no code of ours behind it.
struct Rogue {
    endpoint: Endpoint,
    registry: Registry,
    _queues: InboundQueues,
    _data: TestFolder,
}

struct Anybody;

impl crate::endpoint::Admit for Anybody {
    fn admit(&self, _: &Subject, _: Alpn) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Rogue {
    fn of(nodes: &Nodes, node: u64, role: Role) -> Rogue {
        let us = &nodes.clusters[0].inner;
        let data = TestFolder::new();
        let pending = PendingKey::create().unwrap();
        let authority = us.identity().authority().unwrap();
        let subject =
            Subject { cluster: us.identity().subject().cluster, node: NodeId(node), role };
        let request = CertificateRequest::read(pending.request()).unwrap();
        let certificate =
            authority.sign(&request, &subject, us.wall_clock(), VALIDITY).unwrap().to_vec();
        let given = Given {
            certificate,
            authority: authority.certificate().to_vec(),
            authority_key: None,
            peers: vec![],
        };
        let identity = Arc::new(Identity::create(data.path(), &pending, given).unwrap());
        let options = EndpointOptions::new("127.0.0.1:0".parse().unwrap());
        let (endpoint, queues) =
            Endpoint::open(identity.clone(), options, Arc::new(Anybody)).unwrap();
        let registry = Registry::new(
            NodeId(node),
            Incarnation(1),
            endpoint.refused().clone(),
            Duration::from_millis(100),
        )
        .unwrap();
        Rogue { endpoint, registry, _queues: queues, _data: data }
    }

    async fn call(&self, nodes: &Nodes, alpn: Alpn) -> quinn::Connection {
        let address = nodes.clusters[0].local_address().unwrap().to_string();
        self.endpoint.connect(&address, alpn, Some(NodeId(1))).await.unwrap()
    }

    /// Calls and says hello, as a member does.
    async fn greet(&self, nodes: &Nodes, alpn: Alpn) -> quinn::Connection {
        let connection = self.call(nodes, alpn).await;
        self.registry.greet(&connection, "").await.unwrap();
        connection
    }
}

async fn say(connection: &quinn::Connection, bytes: &[u8]) -> Option<Refusal> {
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    refused(connection).await
}

async fn refused(connection: &quinn::Connection) -> Option<Refusal> {
    let end = tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
    refusal_of(&end).map(|(refusal, _)| refusal)
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    frame
}

async fn still_works(nodes: &Nodes, stream: &str) {
    nodes.clusters[0].claim(wish(&nodes.clusters[0], stream)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_oversized_frames_of_a_member_end_its_connection_and_nothing_else() {
    let nodes = Nodes::open(1).await;
    let rogue = Rogue::of(&nodes, 9, Role::Origin);
    for alpn in [Alpn::Raft, Alpn::Control] {
        // Instead of a hello.
        let connection = rogue.call(&nodes, alpn).await;
        assert_eq!(say(&connection, &framed(&[0xff; 300])).await, Some(Refusal::Malformed));
        let connection = rogue.call(&nodes, alpn).await;
        assert_eq!(say(&connection, &[0xff; 64]).await, Some(Refusal::Malformed));
        // Behind a hello that is in order.
        for bytes in [framed(&[0xee; 40]), framed(&[]), u32::MAX.to_be_bytes().to_vec()] {
            let connection = rogue.greet(&nodes, alpn).await;
            assert_eq!(say(&connection, &bytes).await, Some(Refusal::Malformed), "{bytes:?}");
        }
        // A frame that never ends holds nothing but itself up.
        let connection = rogue.greet(&nodes, alpn).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&1_000_u32.to_be_bytes()).await.unwrap();
        still_works(&nodes, &format!("beside/{}", alpn.name().replace('/', "-"))).await;
        assert!(connection.close_reason().is_none());
        connection.close(VarInt::from_u32(0), b"");
    }
    assert_eq!(nodes.refused(0, Refusal::Malformed), 10);
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_node_id_is_refused_in_hello_vote_and_command() {
    let nodes = Nodes::open(1).await;
    let rogue = Rogue::of(&nodes, 9, Role::Origin);
    // In the hello: it says to be 8.
    let eight =
        Registry::new(NodeId(8), Incarnation(1), Refused::default(), Duration::from_millis(100))
            .unwrap();
    let connection = rogue.call(&nodes, Alpn::Control).await;
    assert!(eight.greet(&connection, "").await.is_err());
    assert_eq!(refused(&connection).await, Some(Refusal::ForgedNodeId));
    // In a vote and in an append: it speaks for node 1.
    let term = nodes.clusters[0].status().term;
    let vote = crate::raft::Vote::new(term + 100, NodeId(1));
    let campaign = openraft::raft::VoteRequest::new(vote, None);
    let append = openraft::raft::AppendEntriesRequest {
        vote: crate::raft::Vote::new_committed(term + 100, NodeId(1)),
        prev_log_id: None,
        entries: vec![],
        leader_commit: None,
    };
    for request in [RaftRequest::Vote(campaign), RaftRequest::Append(append)] {
        let connection = rogue.greet(&nodes, Alpn::Raft).await;
        let bytes = framed(&postcard::to_stdvec(&request).unwrap());
        assert_eq!(say(&connection, &bytes).await, Some(Refusal::ForgedNodeId));
    }
    // In a command: it claims for node 1.
    let claim = Claim {
        stream: StreamName::parse("stolen").unwrap(),
        node: NodeId(1),
        incarnation: nodes.clusters[0].incarnation(),
        session: SessionId::from_random(rand()),
        expects: Epoch(0),
        takeover: true,
        owner_answered: true,
        first_group: GroupSeq(0),
        discontinuity: DiscontinuitySeq(0),
        cut: vec![],
        now: nodes.clusters[0].inner.wall_time(),
    };
    let connection = rogue.greet(&nodes, Alpn::Control).await;
    let propose = Request::Propose(Command::Claim(claim));
    let bytes = framed(&postcard::to_stdvec(&propose).unwrap());
    assert_eq!(say(&connection, &bytes).await, Some(Refusal::ForgedNodeId));
    assert_eq!(nodes.refused(0, Refusal::ForgedNodeId), 4);
    assert_eq!(nodes.clusters[0].status().term, term);
    assert_eq!(nodes.clusters[0].view().borrow().owned_streams_count(), 0);
    still_works(&nodes, "fine").await;
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_may_not_speak_raft_nor_change_the_directory() {
    let nodes = Nodes::open(1).await;
    let relay = Rogue::of(&nodes, 9, Role::Relay);
    let connection = relay.call(&nodes, Alpn::Raft).await;
    assert_eq!(refused(&connection).await, Some(Refusal::NotAnOrigin));
    for request in [
        Request::Propose(Command::RemoveNode { id: NodeId(1) }),
        Request::Suspect(vec![(NodeId(1), Incarnation(1))]),
    ] {
        let connection = relay.greet(&nodes, Alpn::Control).await;
        let bytes = framed(&postcard::to_stdvec(&request).unwrap());
        assert_eq!(say(&connection, &bytes).await, Some(Refusal::NotAnOrigin));
    }
    assert_eq!(nodes.refused(0, Refusal::NotAnOrigin), 3);
    still_works(&nodes, "fine").await;
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_requests_do_no_harm() {
    let nodes = Nodes::open(1).await;
    let rogue = Rogue::of(&nodes, 9, Role::Origin);
    let connection = rogue.greet(&nodes, Alpn::Control).await;
    let token = Command::PutJoinToken {
        token: [7; 32],
        expires: nodes.clusters[0].inner.wall_time().plus_ms(60_000),
        now: nodes.clusters[0].inner.wall_time(),
    };
    let bytes = framed(&postcard::to_stdvec(&Request::Propose(token)).unwrap());
    for _ in 0..3 {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let answer: Response = wire::read(&mut receive, wire::CONTROL_MAX).await.unwrap();
        assert!(matches!(answer, Response::Answer(Answer::Done)), "{answer:?}");
    }
    // An old leader's message, sent again: its term is over.
    let vote = crate::raft::Vote::new_committed(0, NodeId(9));
    let append = openraft::raft::AppendEntriesRequest {
        vote,
        prev_log_id: None,
        entries: vec![],
        leader_commit: None,
    };
    let connection = rogue.greet(&nodes, Alpn::Raft).await;
    let bytes = framed(&postcard::to_stdvec(&RaftRequest::Append(append)).unwrap());
    for _ in 0..3 {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let answer = wire::read(&mut receive, wire::RAFT_MAX).await.unwrap();
        let crate::transport::raft_client::RaftResponse::Append(answer) = answer else { panic!() };
        assert!(!answer.is_success(), "{answer:?}");
    }
    assert!(nodes.clusters[0].is_leader());
    still_works(&nodes, "fine").await;
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_token_lets_one_node_in_once_and_in_time() {
    let nodes = Nodes::open(1).await;
    let first = &nodes.clusters[0];
    let address = first.local_address().unwrap().to_string();
    let ask = async |token: &JoinToken| {
        let pending = PendingKey::create().unwrap();
        crate::control::join::ask(&address, token, Role::Origin, &pending).await
    };
    let token = first.join_token(Duration::from_secs(60)).await.unwrap();
    let given = ask(&token).await.unwrap();
    assert!(given.authority_key.is_some());
    let again = ask(&token).await;
    assert!(matches!(&again, Err(JoinError::Refused(why)) if why.contains("used")));
    // One that nobody made, of the right cluster and CA.
    let identity = first.inner.identity();
    let made_up =
        JoinToken::create(identity.subject().cluster, identity.authority_certificate()).unwrap();
    assert!(matches!(ask(&made_up).await, Err(JoinError::Refused(_))));
    // One that has ended.
    let short = first.join_token(Duration::from_millis(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(matches!(ask(&short).await, Err(JoinError::Refused(_))));
    assert_eq!(nodes.refused(0, Refusal::JoinToken), 3);
    // One of another cluster: the joiner itself turns away, and its secret is not shown.
    let other = Nodes::open(1).await;
    let foreign = other.clusters[0].join_token(Duration::from_secs(60)).await.unwrap();
    let Err(JoinError::Connect(ConnectError::Refused { refusal, .. })) = ask(&foreign).await else {
        panic!()
    };
    assert_eq!(refusal, Refusal::ForeignCertificate);
    other.close().await;
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_wants_to_join_with_garbage_is_refused() {
    let nodes = Nodes::open(1).await;
    let first = &nodes.clusters[0];
    let address = first.local_address().unwrap().to_string();
    let token = first.join_token(Duration::from_secs(60)).await.unwrap();
    let index = first.status().applied;
    let (_quic, connection) = crate::endpoint::call_to_join(&address, &token).await.unwrap();
    assert_eq!(say(&connection, &framed(&[0xaa; 20])).await, Some(Refusal::Malformed));
    let (_quic, connection) = crate::endpoint::call_to_join(&address, &token).await.unwrap();
    assert_eq!(say(&connection, &[0xff; 8]).await, Some(Refusal::Malformed));
    assert_eq!(nodes.refused(0, Refusal::Malformed), 2);
    // A joiner of a later version is told which one this is.
    let (_quic, connection) = crate::endpoint::call_to_join(&address, &token).await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let request = crate::control::messages::JoinRequest {
        version: JOIN_VERSION + 1,
        program: "headwater 9".into(),
        cluster: token.cluster,
        secret: [0; 32],
        role: Role::Origin,
        request: vec![],
    };
    let mut bytes = postcard::to_stdvec(&request).unwrap();
    bytes.extend_from_slice(b"what a later version has to say, too");
    send.write_all(&framed(&bytes)).await.unwrap();
    send.finish().unwrap();
    let answer: JoinResponse = wire::read(&mut receive, wire::JOIN_MAX).await.unwrap();
    assert!(matches!(answer, JoinResponse::Version { version: JOIN_VERSION, .. }));
    assert_eq!(first.status().applied, index, "nothing of it reached the log");
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_does_not_fit_says_so_on_both_sides() {
    let nodes = Nodes::open(1).await;
    let rogue = Rogue::of(&nodes, 9, Role::Origin);
    let connection = rogue.call(&nodes, Alpn::Control).await;
    let hello = Hello::for_test(NodeId(9), (7, 9));
    let mut bytes = postcard::to_stdvec(&hello).unwrap();
    bytes.extend_from_slice(b"fields of the future");
    assert_eq!(say(&connection, &framed(&bytes)).await, Some(Refusal::Version));
    let end = connection.closed().await;
    let (_, text) = refusal_of(&end).unwrap();
    let (oldest, newest) = crate::transport::hello::PROTOCOL;
    let ours = format!("{oldest} to {newest}");
    assert!(text.contains(&ours) && text.contains("7 to 9"), "{text}");
    assert_eq!(nodes.refused(0, Refusal::Version), 1);
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_with_one_id_the_second_is_refused_and_told() {
    let nodes = Nodes::open(3).await;
    // A copy of the third node's folder, as a careless operator makes one.
    let copy = TestFolder::new();
    let (from, to) = (nodes.folders[2].path().join("cluster"), copy.path().join("cluster"));
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let second = Cluster::open(with_endpoint(copy.path().to_owned())).await.unwrap();
    assert_eq!(second.node(), nodes.clusters[2].node());
    let fault = second.fault();
    until("it learns of its double", || *fault.borrow() == Some(Fault::Duplicate)).await;
    let counted: u64 = (0..3).map(|at| nodes.refused(at, Refusal::DuplicateNode)).sum();
    assert!(counted > 0);
    // The first one goes on, and its entry is untouched.
    nodes.clusters[2].claim(wish(&nodes.clusters[2], "mine")).await.unwrap();
    let view = nodes.clusters[0].view();
    let known = view.borrow().node(NodeId(3)).unwrap().info.clone();
    assert_eq!(known.incarnation, nodes.clusters[2].incarnation());
    assert_eq!(known.address, nodes.clusters[2].local_address().unwrap().to_string());
    second.inner.stop.cancel();
    second.shutdown().await;
    nodes.close().await;
}
