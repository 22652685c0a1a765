//! The initialisation section: `ftyp` and `moov` of one track (ISO/IEC 23000-19 §7.3.1).
//!
//! Not here: sample entries (`entry`).

use bytes::Bytes;

use super::boxes::BoxWriter;
use super::{Fmp4Error, TRACK_ID, entry};
use crate::codec::{Codec, MediaKind};
use crate::track::TrackConfig;

/// The unity matrix of `mvhd` and `tkhd`.
const MATRIX: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];
/// The language code `und`: three letters of five bits each, counted from 0x60.
const LANGUAGE_UNDETERMINED: u16 = 0x55c4;
/// Track enabled, in the movie, in the preview.
const TKHD_FLAGS: u32 = 7;
/// The media is in the same file.
const URL_SELF_CONTAINED: u32 = 1;

/// The init section of a track: a pure function of its configuration. The timescale is
/// `config.rate`, the track number [`TRACK_ID`].
///
/// Brands: `iso6` (fragments relative to their `moof`), `cmfc` (a CMAF track), and `av01` where it
/// applies. `cmf2` is not claimed: it promises composition times that start at the decoding time,
/// and frames keep the times that the publisher gave them.
///
/// # Errors
/// VP8, and headers that cannot be written as a configuration record.
pub fn init_section(config: &TrackConfig) -> Result<Bytes, Fmp4Error> {
    let entry = entry::sample_entry(&config.codec)?;
    let mut w = BoxWriter::with_capacity(640 + entry.len());
    w.boxed(b"ftyp", |w| {
        w.bytes(b"iso6");
        w.u32(0);
        w.bytes(b"iso6cmfc");
        if matches!(config.codec, Codec::Av1(_)) {
            w.bytes(b"av01");
        }
    });
    w.boxed(b"moov", |w| {
        movie_header(w, config);
        w.boxed(b"trak", |w| track(w, config, &entry));
        w.boxed(b"mvex", |w| {
            w.full(b"trex", 0, 0, |w| {
                w.u32(TRACK_ID);
                w.u32(1); // sample description; every other default is in the fragments
                w.zeros(12);
            });
        });
    });
    Ok(w.finish().freeze())
}

fn movie_header(w: &mut BoxWriter, config: &TrackConfig) {
    w.full(b"mvhd", 0, 0, |w| {
        w.zeros(8); // creation and modification time
        w.u32(config.rate.hz());
        w.u32(0); // duration: live
        w.u32(0x0001_0000); // rate 1.0
        w.u16(0x0100); // volume 1.0
        w.zeros(10);
        MATRIX.into_iter().for_each(|value| w.u32(value));
        w.zeros(24);
        w.u32(TRACK_ID + 1); // next track
    });
}

fn track(w: &mut BoxWriter, config: &TrackConfig, entry: &[u8]) {
    let video = config.codec.kind() == MediaKind::Video;
    w.full(b"tkhd", 0, TKHD_FLAGS, |w| {
        w.zeros(8);
        w.u32(TRACK_ID);
        w.zeros(4);
        w.u32(0); // duration
        w.zeros(8);
        w.u16(0); // layer
        w.u16(0); // alternate group
        w.u16(if video { 0 } else { 0x0100 }); // volume
        w.u16(0);
        MATRIX.into_iter().for_each(|value| w.u32(value));
        let (width, height) =
            config.codec.resolution().map_or((0, 0), |size| (size.width, size.height));
        w.u32(width.min(0xffff) << 16);
        w.u32(height.min(0xffff) << 16);
    });
    w.boxed(b"mdia", |w| {
        w.full(b"mdhd", 0, 0, |w| {
            w.zeros(8);
            w.u32(config.rate.hz());
            w.u32(0); // duration
            w.u16(LANGUAGE_UNDETERMINED);
            w.u16(0);
        });
        w.full(b"hdlr", 0, 0, |w| {
            w.u32(0);
            w.bytes(if video { b"vide" } else { b"soun" });
            w.zeros(12);
            w.u8(0); // an empty name
        });
        w.boxed(b"minf", |w| media_information(w, video, entry));
    });
}

fn media_information(w: &mut BoxWriter, video: bool, entry: &[u8]) {
    if video {
        w.full(b"vmhd", 0, 1, |w| w.zeros(8));
    } else {
        w.full(b"smhd", 0, 0, |w| w.zeros(4));
    }
    w.boxed(b"dinf", |w| {
        w.full(b"dref", 0, 0, |w| {
            w.u32(1);
            w.full(b"url ", 0, URL_SELF_CONTAINED, |_| {});
        });
    });
    w.boxed(b"stbl", |w| {
        w.full(b"stsd", 0, 0, |w| {
            w.u32(1);
            w.bytes(entry);
        });
        // The samples are all in fragments; the tables stay empty.
        w.full(b"stts", 0, 0, |w| w.u32(0));
        w.full(b"stsc", 0, 0, |w| w.u32(0));
        w.full(b"stsz", 0, 0, |w| w.zeros(8));
        w.full(b"stco", 0, 0, |w| w.u32(0));
    });
}
