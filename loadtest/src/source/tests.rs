use std::io::Write as _;
use std::process::{Command, Stdio};

use headwater_media::codec::h264::unit_type;

use super::*;
use crate::stamp::Stamp;

fn unit(settings: Settings, frames: u64) -> Vec<AccessUnit> {
    let mut video = Video::new(settings, 3, 7);
    (0..frames).map(|n| video.next_unit(1_000_000 + n)).collect()
}

/// The same settings as shapes that a decoder may trip over.
fn shapes() -> Vec<Settings> {
    let base = Settings::default();
    vec![
        base,
        Settings { b_frames: true, ..base },
        Settings { stamp: StampPlace::Slice, ..base },
        Settings { width: 640, height: 360, bitrate: 800_000, fps: (30_000, 1_001), ..base },
        Settings { width: 176, height: 144, bitrate: 3_000_000, b_frames: true, ..base },
        Settings { width: 1_920, height: 1_080, bitrate: 6_000_000, fps: (60, 1), ..base },
        Settings { width: 320, height: 180, bitrate: 100_000, gop_s: 0.5, ..base },
    ]
}

#[test]
fn every_picture_bears_its_stamp_before_its_slice() {
    for (n, unit) in unit(Settings::default(), 100).iter().enumerate() {
        let bytes = unit.annex_b();
        let (stamp, after) = Stamp::find(&bytes).unwrap();
        assert_eq!(stamp, unit.stamp);
        let n = n as u64;
        assert_eq!(stamp, Stamp { stream: 3, sequence: n, sent_us: 1_000_000 + n });
        assert!(after < 140, "the stamp is in the first packet");
        assert_eq!(unit.keyframe, n.is_multiple_of(60));
        let types: Vec<_> = unit.units.iter().map(|unit| unit_type(unit)).collect();
        assert_eq!(types, if unit.keyframe { vec![7, 8, 6, 5] } else { vec![6, 1] });
    }
}

#[test]
fn a_stamp_in_the_slice_stands_in_its_first_packet() {
    let settings = Settings { stamp: StampPlace::Slice, b_frames: true, ..Settings::default() };
    for unit in unit(settings, 100) {
        let slice = unit.units.last().unwrap();
        let (stamp, after) = Stamp::find(slice).unwrap();
        assert_eq!(stamp, unit.stamp);
        assert!(after < 100, "{after}");
        assert!(!unit.units.iter().any(|unit| unit_type(unit) == 6));
    }
    // Pictures too small for raw samples keep their SEI message.
    let small = Settings { bitrate: 50_000, width: 320, height: 180, ..settings };
    assert!(unit(small, 100).iter().all(|unit| Stamp::find(&unit.annex_b()).is_some()));
}

#[test]
fn the_bit_rate_is_what_was_asked_for() {
    for settings in shapes() {
        let (num, den) = settings.fps;
        let frames = 20 * u64::from(num) / u64::from(den);
        let bytes: usize = unit(settings, frames).iter().map(|unit| unit.annex_b().len()).sum();
        let bitrate = bytes as f64 * 8.0 / 20.0;
        let ratio = bitrate / settings.bitrate as f64;
        assert!((ratio - 1.0).abs() < 0.03, "{settings:?}: {bitrate:.0} b/s");
    }
}

#[test]
fn parameter_sets_say_what_the_settings_say() {
    for settings in shapes() {
        let config = Video::new(settings, 0, 1).config().unwrap();
        assert_eq!(config.resolution.width, settings.width);
        assert_eq!(config.resolution.height, settings.height);
        let rate = config.frame_rate.unwrap();
        assert_eq!((rate.num, rate.den), settings.fps);
        assert_eq!(config.reorder_frames, u8::from(settings.b_frames));
        assert_eq!(config.profile, if settings.b_frames { 77 } else { 66 });
    }
}

#[test]
fn b_frames_are_shown_in_another_order_than_decoded_and_never_before() {
    let units = unit(Settings { b_frames: true, ..Settings::default() }, 300);
    assert!(units.iter().all(|unit| unit.pts >= unit.dts));
    let mut shown: Vec<_> = units.iter().map(|unit| unit.pts).collect();
    assert!(!shown.is_sorted());
    shown.sort_unstable();
    shown.dedup();
    assert_eq!(shown.len(), 300);
    let steps = || shown.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps().all(|step| step == 3_000), "no gap in what is shown");
}

#[test]
fn a_keyframe_comes_when_asked_for() {
    let mut video = Video::new(Settings::default(), 0, 1);
    (0..10).for_each(|_| assert_eq!(video.next_unit(0).keyframe, video.due_us() == 33_333));
    video.want_keyframe();
    assert!(video.next_unit(0).keyframe);
    assert!(!video.next_unit(0).keyframe);
}

#[test]
fn keyframes_on_request_come_unasked_only_after_long() {
    let mut video = Video::new(Settings::default(), 0, 1);
    video.keyframes_on_request();
    let keys = (0..700).filter(|_| video.next_unit(0).keyframe).count();
    assert_eq!(keys, 3, "at 0, 300 and 600");
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    assert_eq!(unit(Settings::default(), 70), unit(Settings::default(), 70));
}

#[test]
fn picture_and_sound_are_due_in_order() {
    for codec in [AudioCodec::Opus, AudioCodec::Aac] {
        let mut program = Program::new(Settings::default(), codec, 0, 1);
        let (mut last, mut pictures, mut packets) = (0, 0, 0);
        while program.due_us() < 10_000_000 {
            assert!(program.due_us() >= last);
            last = program.due_us();
            match program.next_item(0) {
                Item::Video(_) => pictures += 1,
                Item::Audio { .. } => packets += 1,
            }
        }
        assert_eq!(pictures, 300);
        assert_eq!(packets, 480_000_u64.div_ceil(codec.packet_samples()));
    }
}

/// ffmpeg, where it is installed, decodes what `format` is without a complaint.
fn decodes(format: &[&str], bytes: &[u8], frames: usize) {
    let child = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "warning"])
        .args(format)
        .args(["-i", "pipe:0", "-f", "framecrc", "pipe:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("ffmpeg is not installed: not tried");
        return;
    };
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
    let lines = String::from_utf8_lossy(&output.stdout);
    let got = lines.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(got, frames, "{lines}");
}

#[test]
fn ffmpeg_decodes_every_picture_without_a_complaint() {
    for settings in shapes() {
        let bytes: Vec<_> = unit(settings, 130).iter().flat_map(AccessUnit::annex_b).collect();
        let (num, den) = settings.fps;
        let rate = format!("{num}/{den}");
        decodes(&["-f", "h264", "-framerate", &rate], &bytes, 130);
    }
}

#[test]
fn ffmpeg_decodes_the_silence() {
    let config = headwater_media::codec::aac::AacConfig::lc(48_000, 2).unwrap();
    let packet = AudioCodec::Aac.packet();
    let header = headwater_media::codec::aac::adts::write_adts_header(&config, packet.len());
    let frame = [&header.unwrap()[..], packet].concat();
    decodes(&["-f", "aac"], &frame.repeat(50), 50);
}
