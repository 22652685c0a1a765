use super::*;

const MAX: usize = 64 << 10;

fn head() -> String {
    String::from(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
         a=fingerprint:sha-256 00:11\r\na=setup:actpass\r\n",
    )
}

fn audio(direction: &str) -> String {
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na={direction}\r\n\
         a=rtpmap:111 opus/48000/2\r\na=candidate:1 1 udp 1 x.local 9 typ host\r\n"
    )
}

fn video(direction: &str, codec: &str) -> String {
    format!(
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na={direction}\r\na=rtpmap:96 {codec}/90000\r\n"
    )
}

#[test]
fn a_publishers_sendrecv_is_made_sendonly_and_candidates_are_left_out() {
    let text = head() + &audio("sendrecv") + &video("sendonly", "VP8");
    let mut offer = Offer::parse(&text, MAX).unwrap();
    plan_publisher(&mut offer).unwrap();
    let rendered = offer.render();
    assert_eq!(rendered.matches("a=sendonly").count(), 2, "{rendered}");
    assert!(!rendered.contains("candidate"), "{rendered}");
    assert!(rendered.contains("a=group:BUNDLE 0 1\r\n"));
}

#[test]
fn an_offer_without_a_usable_codec_is_not_acceptable() {
    let head = || head().replace("BUNDLE 0 1", "BUNDLE 0");
    for lines in [
        video("sendonly", "H265"),
        video("recvonly", "VP8"),
        audio("inactive"),
        video("sendonly", "VP8").replace("m=video 9", "m=video 0"),
    ] {
        let mut offer = Offer::parse(&(head() + &lines), MAX).unwrap();
        let refused = plan_publisher(&mut offer);
        assert!(matches!(refused, Err(SfuError::NotAcceptable(_))), "{lines}");
    }
}

#[test]
fn bad_offers_are_refused_with_a_reason() {
    let good = head() + &audio("sendonly") + &video("sendonly", "VP8");
    let long_line = format!("a=x:{}\r\n", "y".repeat(5_000));
    for (name, text) in [
        ("empty", String::new()),
        ("not sdp", String::from("{\"sdp\": 1}")),
        ("no m-line", head()),
        ("no ice", good.replace("a=ice-ufrag:abcd\r\n", "")),
        ("short ufrag", good.replace("abcd", "abc")),
        ("short password", good.replace("0123456789012345678901", "x")),
        ("no fingerprint", good.replace("a=fingerprint", "a=print")),
        ("no bundle", good.replace("a=group:BUNDLE 0 1\r\n", "")),
        ("mid twice", good.replace("a=mid:1", "a=mid:0")),
        ("odd mid", good.replace("a=mid:1", "a=mid:%%%")),
        ("plain rtp", good.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP")),
        ("text m-line", good.replace("m=audio", "m=text")),
        ("pt 200", good.replace("rtpmap:96", "rtpmap:200")),
        ("pt twice", good.replace("SAVPF 96", "SAVPF 96 96")),
        ("no equals", good.clone() + "nonsense\r\n"),
        ("long line", good.clone() + &long_line),
        ("many m-lines", good.clone() + &video("sendonly", "VP8").repeat(40)),
        ("many attributes", good.clone() + &"a=x\r\n".repeat(2_000)),
        ("too long", good.clone() + &"a=x\r\n".repeat(20_000)),
        ("nul", good.replace("abcd", "ab\0d")),
    ] {
        let result = Offer::parse(&text, MAX);
        assert!(matches!(result, Err(SfuError::MalformedSdp(_))), "{name}: {result:?}");
    }
    assert!(Offer::parse(&good, MAX).is_ok());
}

#[test]
fn h264_needs_packetization_mode_1_to_be_played() {
    let line = video("recvonly", "H264");
    for (fmtp, expected) in [
        ("", false),
        ("a=fmtp:96 profile-level-id=42e01f;packetization-mode=0\r\n", false),
        ("a=fmtp:9 packetization-mode=1\r\n", false),
        ("a=fmtp:96 profile-level-id=42e01f;packetization-mode=1\r\n", true),
    ] {
        let offer = Offer::parse(&(head() + &line + fmtp), MAX).unwrap();
        let codecs = offer.lines.first().unwrap().codecs;
        assert!(codecs.h264);
        assert_eq!(codecs.h264_mode_1, expected, "{fmtp}");
    }
}

#[test]
fn a_fragment_needs_credentials_and_its_candidates_are_counted() {
    let good = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\n\
                a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n";
    let fragment = Fragment::parse(good, MAX).unwrap();
    assert_eq!((fragment.ufrag.as_str(), fragment.candidates), ("EsAw", 1));
    for bad in [
        "",
        "nonsense",
        "a=ice-ufrag:EsAw\r\n",
        "a=ice-ufrag:E\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n",
        &(good.to_owned() + &"a=candidate:1\r\n".repeat(300)),
    ] {
        assert!(matches!(Fragment::parse(bad, MAX), Err(SfuError::MalformedFragment(_))), "{bad}");
    }
}

#[test]
fn the_restart_answer_has_credentials_and_the_first_lines_candidates() {
    let answer = "v=0\r\na=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:QQQQ\r\n\
                  a=ice-pwd:w\r\na=mid:0\r\na=candidate:7 1 udp 1 127.0.0.1 9 typ host\r\n\
                  m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=candidate:8\r\n";
    let fragment = answer_fragment(answer);
    assert!(fragment.contains("a=ice-ufrag:QQQQ\r\n") && fragment.contains("candidate:7"));
    assert!(!fragment.contains("candidate:8") && !fragment.contains("rtpmap"));
}

#[test]
fn lines_outside_the_first_bundle_are_rejected() {
    let text = head().replace("BUNDLE 0 1", "BUNDLE 1") + &audio("sendonly");
    let mut offer = Offer::parse(&(text + &video("sendonly", "VP8")), MAX).unwrap();
    plan_publisher(&mut offer).unwrap();
    let rendered = offer.render();
    assert!(rendered.contains("a=group:BUNDLE 1\r\n"), "{rendered}");
    assert!(rendered.contains("m=audio 0 ") && rendered.contains("m=video 9 "), "{rendered}");
}

#[test]
fn a_single_line_that_was_not_bundled_is_not_bundled_in_the_answer() {
    let text = head().replace("a=group:BUNDLE 0 1\r\n", "") + &video("sendonly", "VP8");
    assert!(!Offer::parse(&text, MAX).unwrap().bundled);
    assert_eq!(unbundled("v=0\r\na=group:BUNDLE 0\r\nm=x\r\n"), "v=0\r\nm=x\r\n");
}

#[test]
fn all_tracks_of_a_viewer_belong_to_one_stream() {
    let offered = audio("recvonly") + "a=msid:theirs a\r\n" + &video("recvonly", "VP8");
    let rendered = Offer::parse(&(head() + &offered), MAX).unwrap().render();
    assert_eq!(rendered.matches("a=msid:headwater ").count(), 2, "{rendered}");
    assert!(!rendered.contains("theirs"), "{rendered}");
}

#[test]
fn an_answers_accepted_lines_have_a_port() {
    let answer = "v=0\r\nm=audio 9 X 1\r\na=mid:0\r\nm=video 0 X 2\r\nm=video\r\n";
    assert_eq!(accepted(answer), [true, false, false]);
}

#[test]
fn a_restarts_answer_names_the_mid_before_its_candidates() {
    let answer = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=candidate:7 1 udp\r\na=mid:0\r\n";
    let fragment = answer_fragment(answer);
    let place = |what: &str| fragment.find(what).unwrap();
    assert!(place("m=audio") < place("a=mid:0") && place("a=mid:0") < place("a=candidate:7"));
}
