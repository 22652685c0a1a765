//! Sample entries: one box that names the codec and holds its configuration record.
//!
//! Not here: the records' contents (`record`).

use bytes::BytesMut;

use super::boxes::BoxWriter;
use super::{Fmp4Error, record};
use crate::codec::{Codec, CodecError, Resolution};

/// The sample entry of `codec`, a whole box.
pub(super) fn sample_entry(codec: &Codec) -> Result<BytesMut, Fmp4Error> {
    Ok(match codec {
        Codec::H264(config) => visual(b"avc1", config.resolution, b"avcC", &record::avcc(config)?),
        Codec::H265(config) => visual(b"hvc1", config.resolution, b"hvcC", &record::hvcc(config)?),
        Codec::Av1(config) => visual(b"av01", config.resolution, b"av1C", &config.to_av1c()),
        Codec::Vp9(config) => visual(b"vp09", config.resolution, b"vpcC", &record::vpcc(config)),
        Codec::Aac(config) => {
            let specific = u32::try_from(config.asc.len()).ok().filter(|&len| len <= ASC_BYTES_MAX);
            let specific = specific.ok_or(CodecError::Invalid {
                what: "length of AudioSpecificConfig",
                value: config.asc.len() as u64,
            })?;
            audio(b"mp4a", config.channels, config.sample_rate, |w| {
                w.full(b"esds", 0, 0, |w| elementary_stream_descriptor(w, &config.asc, specific));
            })
        }
        Codec::Opus(config) => audio(b"Opus", config.channels, 48_000, |w| {
            w.boxed(b"dOps", |w| w.bytes(&config.to_dops()));
        }),
        Codec::Vp8(_) => return Err(Fmp4Error::Codec(codec.name())),
    })
}

/// `VisualSampleEntry` (ISO/IEC 14496-12 §12.1.3).
fn visual(fourcc: &[u8; 4], size: Resolution, record: &[u8; 4], body: &[u8]) -> BytesMut {
    let mut w = BoxWriter::with_capacity(96 + body.len());
    w.boxed(fourcc, |w| {
        w.zeros(6);
        w.u16(1); // data reference
        w.zeros(16);
        w.u16(u16::try_from(size.width).unwrap_or(u16::MAX));
        w.u16(u16::try_from(size.height).unwrap_or(u16::MAX));
        w.u32(0x0048_0000); // 72 dpi
        w.u32(0x0048_0000);
        w.u32(0);
        w.u16(1); // a frame a sample
        w.zeros(32); // compressor name
        w.u16(24); // depth
        w.u16(0xffff);
        w.boxed(record, |w| w.bytes(body));
    });
    w.finish()
}

/// `AudioSampleEntry` (ISO/IEC 14496-12 §12.2.3).
fn audio(
    fourcc: &[u8; 4],
    channels: u8,
    rate: u32,
    record: impl FnOnce(&mut BoxWriter),
) -> BytesMut {
    let mut w = BoxWriter::with_capacity(160);
    w.boxed(fourcc, |w| {
        w.zeros(6);
        w.u16(1); // data reference
        w.zeros(8);
        w.u16(u16::from(channels));
        w.u16(16); // bits a sample
        w.zeros(4);
        // 16.16; a rate above 65535 Hz is written as 0 and read from the record.
        w.u32(u16::try_from(rate).map_or(0, |rate| u32::from(rate) << 16));
        record(w);
    });
    w.finish()
}

/// Descriptor tags and values of ISO/IEC 14496-1 §7.2.6.
mod esds {
    pub(super) const ES: u8 = 3;
    pub(super) const DECODER_CONFIG: u8 = 4;
    pub(super) const DECODER_SPECIFIC: u8 = 5;
    pub(super) const SL_CONFIG: u8 = 6;
    pub(super) const OBJECT_TYPE_MPEG4_AUDIO: u8 = 0x40;
    /// Stream type 5 (audio), not upstream, and the reserved bit.
    pub(super) const STREAM_AUDIO: u8 = 5 << 2 | 1;
    /// The `SLConfigDescriptor` that ISO/IEC 14496-14 prescribes.
    pub(super) const SL_MP4: u8 = 2;
    /// Bytes of a tag with a length of four bytes.
    pub(super) const HEAD: u32 = 5;
}

fn elementary_stream_descriptor(w: &mut BoxWriter, asc: &[u8], specific: u32) {
    let decoder = 13 + esds::HEAD + specific;
    descriptor(w, esds::ES, 3 + esds::HEAD + decoder + esds::HEAD + 1);
    w.u16(0); // ES_ID: the track's number stands in
    w.u8(0);
    descriptor(w, esds::DECODER_CONFIG, decoder);
    w.u8(esds::OBJECT_TYPE_MPEG4_AUDIO);
    w.u8(esds::STREAM_AUDIO);
    w.zeros(3); // buffer size
    w.zeros(8); // maximum and average bit rate: unknown
    descriptor(w, esds::DECODER_SPECIFIC, specific);
    w.bytes(asc);
    descriptor(w, esds::SL_CONFIG, 1);
    w.u8(esds::SL_MP4);
}

/// Longest AudioSpecificConfig written. Real ones have 2 to 7 bytes, with a program configuration
/// element some dozens.
const ASC_BYTES_MAX: u32 = 1 << 12;

/// A tag and a length in four groups of seven bits.
fn descriptor(w: &mut BoxWriter, tag: u8, length: u32) {
    w.u8(tag);
    let group = |shift: u32| (length >> shift & 0x7f) as u8;
    w.bytes(&[group(21) | 0x80, group(14) | 0x80, group(7) | 0x80, group(0)]);
}
