use super::playlist::Playlist;
use super::rules::{Complaints, check_alone, check_pair, hint_came_true};

/// A good playlist: two whole segments and two parts of a third.
const GOOD: &str = "#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:1
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6.0,PART-HOLD-BACK=1.5
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI=\"init-0.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T22:00:00.000Z
#EXT-X-PART:DURATION=0.5,URI=\"0.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.5,URI=\"0.1.m4s\"
#EXTINF:1.0,
0.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T22:00:01.000Z
#EXT-X-PART:DURATION=0.5,URI=\"1.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.4,URI=\"1.1.m4s\"
#EXTINF:0.9,
1.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T22:00:01.900Z
#EXT-X-PART:DURATION=0.5,URI=\"2.0.m4s\",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"2.1.m4s\"
#EXT-X-RENDITION-REPORT:URI=\"../audio/index.m3u8\",LAST-MSN=2,LAST-PART=0
";

fn complaints(text: &str) -> Vec<String> {
    let mut out = Complaints::default();
    check_alone(&Playlist::parse(text).unwrap(), &mut out);
    out.0
}

#[test]
fn a_good_playlist_breaks_no_rule() {
    assert_eq!(complaints(GOOD), Vec::<String>::new());
    let list = Playlist::parse(GOOD).unwrap();
    assert_eq!(list.next_part(), (2, 1));
    assert!(list.reaches(2, 0) && list.reaches(1, 9) && !list.reaches(2, 1));
}

#[test]
fn every_planted_fault_is_found() {
    for (good, bad) in [
        ("VERSION:9", "VERSION:6"),
        ("CAN-BLOCK-RELOAD=YES", "CAN-BLOCK-RELOAD=NO"),
        ("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.4"),
        ("CAN-SKIP-UNTIL=6.0", "CAN-SKIP-UNTIL=5.0"),
        ("EXTINF:1.0,", "EXTINF:1.6,"),
        ("DURATION=0.5,URI=\"0.1.m4s\"", "DURATION=0.6,URI=\"0.1.m4s\""),
        ("DURATION=0.5,URI=\"1.0.m4s\"", "DURATION=0.4,URI=\"1.0.m4s\""),
        ("DURATION=0.5,URI=\"2.0.m4s\"", "DURATION=0.3,URI=\"2.0.m4s\""),
        ("#EXT-X-MAP:URI=\"init-0.mp4\"\n", ""),
        ("#EXT-X-PROGRAM-DATE-TIME:2026-11-22T22:00:01.000Z\n", ""),
        ("22:00:01.900Z", "22:00:02.400Z"),
        ("URI=\"2.1.m4s\"", "URI=\"2.2.m4s\""),
        ("URI=\"2.1.m4s\"", "URI=\"2.0.m4s\""),
        ("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"2.1.m4s\"\n", ""),
        ("MEDIA-SEQUENCE:0", "MEDIA-SEQUENCE:1"),
        (
            "#EXT-X-PART:DURATION=0.5,URI=\"1.0.m4s\",INDEPENDENT=YES\n\
             #EXT-X-PART:DURATION=0.4,URI=\"1.1.m4s\"\n",
            "",
        ),
    ] {
        let planted = GOOD.replacen(good, bad, 1);
        assert_ne!(planted, GOOD, "{good}");
        assert!(!complaints(&planted).is_empty(), "{good} made {bad} is not found");
    }
}

#[test]
fn what_changes_from_one_playlist_to_the_next_is_found() {
    let before = Playlist::parse(GOOD).unwrap();
    let next = "URI=\"2.0.m4s\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.5,URI=\"2.1.m4s\"";
    let grown = GOOD
        .replace("URI=\"2.1.m4s\"", "URI=\"2.2.m4s\"")
        .replace("URI=\"2.0.m4s\",INDEPENDENT=YES", next);
    let after = Playlist::parse(&grown).unwrap();
    let found = |before: &Playlist, after: &Playlist| {
        let mut out = Complaints::default();
        check_pair(before, after, &mut out);
        out.0
    };
    assert_eq!(found(&before, &after), Vec::<String>::new());
    assert_eq!(hint_came_true(&before, &after), Some(true));
    assert!(!found(&after, &before).is_empty(), "it went back");
    for (good, bad) in [
        ("TARGETDURATION:1", "TARGETDURATION:2"),
        ("PART-TARGET=0.5", "PART-TARGET=0.6"),
        ("DISCONTINUITY-SEQUENCE:0", "DISCONTINUITY-SEQUENCE:1"),
        ("EXTINF:1.0", "EXTINF:1.1"),
        ("22:00:01.000Z", "22:00:01.001Z"),
        ("DURATION=0.5,URI=\"0.1.m4s\"", "DURATION=0.49,URI=\"0.1.m4s\""),
    ] {
        let planted = Playlist::parse(&grown.replacen(good, bad, 1)).unwrap();
        assert!(!found(&before, &planted).is_empty(), "{good} made {bad} is not found");
    }
}

#[test]
fn a_delta_update_merges_into_the_full_playlist() {
    let before = Playlist::parse(GOOD).unwrap();
    let start = GOOD.find("#EXT-X-MAP").unwrap();
    let end = GOOD.find("0.m4s\n#EXT-X-PROGRAM").unwrap() + "0.m4s\n".len();
    let mut delta = GOOD.to_owned();
    delta.replace_range(start..end, "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n");
    let delta = Playlist::parse(&delta).unwrap();
    assert_eq!(delta.merged(&before), Ok(before.clone()));
    assert!(delta.merged(&delta).is_err(), "the skipped segment is not known");
}

#[test]
fn what_is_not_a_playlist_is_refused() {
    for (good, bad) in [
        ("#EXTM3U\n", ""),
        ("#EXTINF:1.0,\n", ""),
        ("#EXTINF:1.0,", "#EXTINF:x,"),
        ("TYPE=PART", "TYPE=MAP"),
        ("PART-TARGET=0.5", "PART-TARGE=0.5"),
        ("#EXT-X-VERSION:9", "#EXT-X-VERSION:9\n#EXT-X-VERSION:9"),
        ("#EXT-X-VERSION:9", "#EXT-X-NOBODY:9"),
        ("URI=\"init-0.mp4\"", "URI=\"init-0.mp4"),
    ] {
        assert!(Playlist::parse(&GOOD.replacen(good, bad, 1)).is_err(), "{bad}");
    }
}
