use bytes::BytesMut;

use super::*;
use crate::ingest::rtmp::testing::{Answers, ClientBytes, Order};

const LIMITS: SessionLimits =
    SessionLimits { message_bytes: 1_000_000, buffered_bytes: 1_500_000, chunk_streams: 16 };

/// A session with its client's view of it.
struct Bench {
    session: Session,
    input: BytesMut,
    answers: Answers,
}

impl Bench {
    fn new() -> Self {
        Self { session: Session::new(LIMITS, 1), input: BytesMut::new(), answers: Answers::new() }
    }

    /// A session that publishes `live/cam`.
    fn live() -> Self {
        let mut bench = Self::new();
        let mut client = ClientBytes::publishing("live", "cam", Order::CreateOnly);
        bench.send(&client.take()).unwrap();
        bench.codes();
        bench
    }

    /// Gives bytes to the session, accepts what it asks, and returns its events.
    fn send(&mut self, bytes: &[u8]) -> Result<Vec<Event>, RtmpError> {
        self.session.received(bytes.len());
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.session.handle(&mut self.input)? {
            if matches!(event, Event::Publish(_)) {
                self.session.accept();
            }
            events.push(event);
        }
        Ok(events)
    }

    fn codes(&mut self) -> Vec<String> {
        let output = self.session.take_output();
        self.answers.codes(&output)
    }
}

fn request(name: &str, token: Option<&str>) -> Event {
    let name = StreamName::parse(name).unwrap();
    Event::Publish(PublishRequest { name, token: token.map(str::to_owned) })
}

#[test]
fn every_order_of_commands_that_encoders_use_leads_to_a_publish() {
    for order in [Order::ReleaseFirst, Order::CreateFirst, Order::CreateOnly] {
        for step in [1, 100, 10_000] {
            let mut bench = Bench::new();
            let mut events = Vec::new();
            for piece in ClientBytes::publishing("live", "cam", order).take().chunks(step) {
                events.extend(bench.send(piece).unwrap());
            }
            assert_eq!(events, [request("live/cam", None)], "{order:?}");
            assert!(bench.session.is_live());
            let codes = bench.codes();
            assert_eq!(codes[0], "NetConnection.Connect.Success");
            assert_eq!(codes.last().unwrap(), "NetStream.Publish.Start");
        }
    }
}

#[test]
fn the_connect_answer_lists_the_enhanced_codecs() {
    let mut bench = Bench::new();
    let mut client = ClientBytes::new();
    client.connect("live");
    bench.send(&client.take()).unwrap();
    let output = bench.session.take_output();
    let messages = bench.answers.read(&output);
    let kinds: Vec<_> = messages.iter().map(|message| message.kind).collect();
    assert_eq!(kinds[..3], [kind::WINDOW_ACK_SIZE, kind::SET_PEER_BANDWIDTH, kind::SET_CHUNK_SIZE]);
    let command = messages.iter().find(|message| message.kind == kind::COMMAND_AMF0).unwrap();
    let values = amf0::decode_all(&command.payload).unwrap();
    assert_eq!(values[0], Value::text("_result"));
    let Some(Value::Array(codecs)) = values[3].get("fourCcList") else { panic!("no list") };
    let codecs: Vec<_> = codecs.iter().filter_map(Value::as_str).collect();
    assert_eq!(codecs, ["avc1", "hvc1", "av01", "vp09", "Opus", "mp4a"]);
    assert_eq!(values[3].get("videoFourCcInfoMap").unwrap().get("hvc1"), Some(&Value::Number(4.0)));
}

#[test]
fn tokens_and_slashes_in_app_and_key_are_understood() {
    for (app, key, expected) in [
        ("live", "cam?token=abc", request("live/cam", Some("abc"))),
        ("live?token=abc", "a/b", request("live/a/b", Some("abc"))),
        ("", "cam", request("cam", None)),
    ] {
        let events =
            Bench::new().send(&ClientBytes::publishing(app, key, Order::CreateOnly).take());
        assert_eq!(events, Ok(vec![expected]));
    }
}

#[test]
fn media_comes_out_with_its_time_and_the_publish_ends_as_asked() {
    let mut bench = Bench::live();
    let mut client = ClientBytes::default();
    client.chunk_size(4_096);
    client.message(kind::VIDEO, 1, 40, &[0x17, 1, 0, 0, 0, 9]);
    client.message(kind::AUDIO, 1, u32::MAX, &[0xaf, 1, 9]);
    client.message(kind::AUDIO, 1, 0, &[]);
    client.metadata(Value::object([("width", Value::Number(640.0))]));
    client.command(0, "FCUnpublish", &[Value::Null, Value::text("cam")]);
    client.message(kind::AUDIO, 1, 50, &[0xaf, 1, 9]);
    client.command(0, "deleteStream", &[Value::Null, Value::Number(1.0)]);
    let events = bench.send(&client.take()).unwrap();
    assert_eq!(
        events,
        [
            Event::Video(40, Bytes::from_static(&[0x17, 1, 0, 0, 0, 9])),
            Event::Audio(u32::MAX, Bytes::from_static(&[0xaf, 1, 9])),
            Event::Metadata(Value::object([("width", Value::Number(640.0))])),
            Event::Unpublished,
        ]
    );
    let codes = bench.codes();
    assert_eq!(codes.iter().filter(|code| *code == "NetStream.Unpublish.Success").count(), 2);
}

#[test]
fn a_connection_may_publish_again_after_it_has_ended_a_stream() {
    let mut bench = Bench::live();
    let mut client = ClientBytes::default();
    client.command(1, "closeStream", &[Value::Null]);
    client.command(0, "createStream", &[Value::Null]);
    client.command(2, "publish", &[Value::Null, Value::text("other")]);
    let events = bench.send(&client.take()).unwrap();
    assert_eq!(events, [Event::Unpublished, request("live/other", None)]);
}

#[test]
fn an_aggregate_message_is_taken_apart() {
    let tag = |kind: u8, time: u8, body: &[u8]| {
        let mut tag = vec![kind, 0, 0, body.len() as u8, 0, 0, time, 0, 0, 0, 0];
        tag.extend_from_slice(body);
        tag.extend([0, 0, 0, 11 + body.len() as u8]);
        tag
    };
    let body = [tag(9, 10, &[1, 2]), tag(18, 10, &[9]), tag(8, 15, &[3])].concat();
    let mut client = ClientBytes::default();
    client.message(kind::AGGREGATE, 1, 1_000, &body);
    let events = Bench::live().send(&client.take()).unwrap();
    let expected = [
        Event::Video(1_000, Bytes::from_static(&[1, 2])),
        Event::Audio(1_005, Bytes::from_static(&[3])),
    ];
    assert_eq!(events, expected);
    client.message(kind::AGGREGATE, 1, 1_000, &body[..body.len() - 5]);
    let cut = Bench::live().send(&client.take());
    assert_eq!(cut, Err(RtmpError::ShortMessage(kind::AGGREGATE)));
}

#[test]
fn refusals_reach_the_client_as_statuses() {
    let mut bench = Bench::new();
    bench.input.extend_from_slice(&ClientBytes::publishing("a", "b", Order::CreateOnly).take());
    assert!(matches!(bench.session.handle(&mut bench.input), Ok(Some(Event::Publish(_)))));
    bench.session.refuse(Refusal::BadName, "taken");
    assert_eq!(bench.codes().last().unwrap(), "NetStream.Publish.BadName");
    assert_eq!(bench.session.handle(&mut BytesMut::zeroed(100)), Ok(None), "deaf once closed");

    for (app, key, code) in [
        ("live", "not a name", "NetStream.Publish.BadName"),
        ("live", "..", "NetStream.Publish.BadName"),
        ("", "", "NetStream.Publish.BadName"),
        ("no app", "x", "NetConnection.Connect.Rejected"),
    ] {
        let mut bench = Bench::new();
        let events = bench.send(&ClientBytes::publishing(app, key, Order::CreateOnly).take());
        assert!(matches!(events.unwrap()[..], [Event::Close(_)]), "{app} {key}");
        assert_eq!(bench.codes().last().unwrap(), code, "{app} {key}");
    }
}

#[test]
fn players_are_told_where_to_go() {
    let mut bench = Bench::new();
    let mut client = ClientBytes::new();
    client.connect("live");
    client.command(0, "createStream", &[Value::Null]);
    client.command(1, "play", &[Value::Null, Value::text("cam")]);
    let events = bench.send(&client.take()).unwrap();
    assert!(matches!(&events[..], [Event::Close(why)] if why.contains("WHEP")));
    assert_eq!(bench.codes().last().unwrap(), "NetStream.Play.Failed");
}

#[test]
fn the_server_ends_a_publish_with_a_status() {
    for (refusal, code) in [
        (None, "NetStream.Unpublish.Success"),
        (Some(Refusal::BadName), "NetStream.Publish.BadName"),
    ] {
        let mut bench = Bench::live();
        bench.session.end(refusal, "over");
        assert_eq!(bench.codes(), [code]);
    }
}

#[test]
fn pings_are_answered_and_bytes_acknowledged() {
    let mut bench = Bench::live();
    let mut client = ClientBytes::default();
    client.message(kind::WINDOW_ACK_SIZE, 0, 0, &5_000u32.to_be_bytes());
    client.message(kind::USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4]);
    bench.send(&client.take()).unwrap();
    client.message(kind::VIDEO, 1, 0, &[0; 3_000]);
    bench.send(&client.take()).unwrap();
    let output = bench.session.take_output();
    let answers = bench.answers.read(&output);
    assert_eq!(answers[0].kind, kind::USER_CONTROL);
    assert_eq!(answers[0].payload, [0u8, 7, 1, 2, 3, 4].as_slice());
    assert_eq!(answers[1].kind, kind::ACKNOWLEDGEMENT);
    let count = u32::from_be_bytes(*answers[1].payload.first_chunk().unwrap());
    assert!((6_000..8_000).contains(&count), "all bytes since the start: {count}");
}

#[test]
fn commands_in_amf3_wrapping_are_understood() {
    let mut bench = Bench::new();
    let mut client = ClientBytes::new();
    let mut payload = BytesMut::from(&[0][..]);
    let object = Value::object([("app", Value::text("live"))]);
    for value in [Value::text("connect"), Value::Number(1.0), object] {
        amf0::encode(&value, &mut payload);
    }
    client.message(kind::COMMAND_AMF3, 0, 0, &payload);
    assert_eq!(bench.send(&client.take()), Ok(vec![]));
    assert_eq!(bench.codes()[0], "NetConnection.Connect.Success");
}

#[test]
fn unknown_commands_are_answered_with_an_error_and_do_no_harm() {
    let mut bench = Bench::live();
    let mut client = ClientBytes::default();
    client.command(1, "releaseTheHounds", &[Value::Null]);
    client.command(1, "publish", &[Value::Null, Value::text("again")]);
    assert_eq!(bench.send(&client.take()), Ok(vec![]));
    assert_eq!(bench.codes(), ["NetConnection.Call.Failed", "NetStream.Publish.BadName"]);
    assert!(bench.session.is_live());
}

#[test]
fn metadata_that_is_not_amf_is_passed_over() {
    let mut client = ClientBytes::default();
    client.message(kind::DATA_AMF0, 1, 0, &[2, 0xff, 0xff]);
    client.message(kind::DATA_AMF3, 1, 0, &[0x11; 40]);
    assert_eq!(Bench::live().send(&client.take()), Ok(vec![]));
}

#[test]
fn input_in_the_wrong_order_or_size_ends_in_clear_errors() {
    type Case = (&'static str, fn(&mut ClientBytes), RtmpError);
    let connected: [Case; 8] = [
        (
            "publish without createStream",
            |client| client.command(1, "publish", &[Value::Null, Value::text("k")]),
            RtmpError::WrongOrder { command: "publish", needs: "createStream" },
        ),
        (
            "media without publish",
            |client| client.message(kind::VIDEO, 1, 0, &[0x17, 0, 0, 0, 0]),
            RtmpError::WrongOrder { command: "media", needs: "publish" },
        ),
        (
            "a second connect",
            |client| client.connect("live"),
            RtmpError::WrongOrder { command: "connect", needs: "a new connection" },
        ),
        (
            "createStream without end",
            |client| (0..17).for_each(|_| client.command(0, "createStream", &[])),
            RtmpError::TooManyStreams(STREAMS_MAX),
        ),
        (
            "commands without end",
            |client| (0..256).for_each(|_| client.command(0, "_checkbw", &[])),
            RtmpError::TooManyCommands(COMMANDS_MAX),
        ),
        (
            "a large message before publish",
            |client| client.message(kind::COMMAND_AMF0, 0, 0, &[2; 70_000]),
            RtmpError::MessageTooLong { length: 70_000, max: COMMAND_BYTES_MAX },
        ),
        (
            "a chunk size of 0",
            |client| client.message(kind::SET_CHUNK_SIZE, 0, 0, &[0; 4]),
            RtmpError::ChunkSize(0),
        ),
        (
            "a ping cut short",
            |client| client.message(kind::USER_CONTROL, 0, 0, &[0, 6, 1]),
            RtmpError::ShortMessage(kind::USER_CONTROL),
        ),
    ];
    for (case, write, expected) in connected {
        let mut client = ClientBytes::new();
        client.connect("live");
        write(&mut client);
        assert_eq!(Bench::new().send(&client.take()), Err(expected), "{case}");
    }
    let mut client = ClientBytes::new();
    client.command(0, "createStream", &[]);
    let error = RtmpError::WrongOrder { command: "a command", needs: "connect" };
    assert_eq!(Bench::new().send(&client.take()), Err(error));
    let mut client = ClientBytes::default();
    client.message(kind::COMMAND_AMF0, 1, 0, &vec![2; 100_000]);
    let error = RtmpError::MessageTooLong { length: 100_000, max: COMMAND_BYTES_MAX };
    assert_eq!(Bench::live().send(&client.take()), Err(error));
    client.message(kind::VIDEO, 1, 0, &vec![0; 1_000_001]);
    let error = RtmpError::MessageTooLong { length: 1_000_001, max: 1_000_000 };
    assert_eq!(Bench::live().send(&client.take()), Err(error));
}
