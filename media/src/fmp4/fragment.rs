//! Fragments: `moof` and the header of `mdat`, with the payloads as they are on the bus.
//!
//! Not here: which frames make a fragment (the packager).

use bytes::Bytes;

use super::boxes::BoxWriter;
use super::{Fmp4Error, TRACK_ID};
use crate::codec::MediaKind;
use crate::frame::Frame;
use crate::track::TrackConfig;

/// A fragment as a list of shared byte ranges: `head`, then every payload in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// `moof` and the eight bytes of header of `mdat`.
    pub head: Bytes,
    /// The samples, shared with the bus.
    pub payloads: Vec<Bytes>,
    /// Bytes in all.
    pub len: usize,
}

impl Fragment {
    /// All byte ranges in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.head).chain(&self.payloads)
    }

    /// The fragment in one piece: a copy.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.len);
        self.chunks().for_each(|chunk| out.extend_from_slice(chunk));
        out.into()
    }
}

/// `sample_depends_on` 2: depends on no other sample.
const FLAGS_SYNC: u32 = 0x0200_0000;
/// `sample_depends_on` 1, `sample_is_non_sync_sample`.
const FLAGS_NON_SYNC: u32 = 0x0101_0000;

const TFHD_DEFAULT_DURATION: u32 = 0x00_0008;
const TFHD_DEFAULT_SIZE: u32 = 0x00_0010;
const TFHD_DEFAULT_FLAGS: u32 = 0x00_0020;
const TFHD_DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;

const TRUN_DATA_OFFSET: u32 = 0x0001;
const TRUN_FIRST_FLAGS: u32 = 0x0004;
const TRUN_DURATION: u32 = 0x0100;
const TRUN_SIZE: u32 = 0x0200;
const TRUN_FLAGS: u32 = 0x0400;
const TRUN_COMPOSITION: u32 = 0x0800;

/// Header of `mdat`.
const MDAT_HEADER_BYTES: u32 = 8;
/// `moof`, `mfhd`, `traf`, `tfhd` with default flags alone, `tfdt`, `trun` without rows.
const MOOF_BYTES_MIN: usize = 8 + 16 + 8 + 20 + 20 + 20;

struct Sample {
    duration: u32,
    size: u32,
    flags: u32,
    composition: i32,
}

/// One fragment of `frames`, which follow one another without a gap. A pure function: the same
/// frames and number give the same bytes. Payloads are shared, not copied.
///
/// `sequence_number` (of `mfhd`) is the caller's function of the group's and the part's number.
/// The decoding time is written as it is on the track; columns of `trun` that are the same for
/// all samples are left out in favour of defaults in `tfhd`.
///
/// # Errors
/// No frame, a negative or unsteady decoding time, a foreign rate, or a value that does not fit
/// its field.
pub fn fragment<'a, F>(
    sequence_number: u32,
    frames: F,
    config: &TrackConfig,
) -> Result<Fragment, Fmp4Error>
where
    F: IntoIterator<Item = &'a Frame>,
{
    let kind = config.codec.kind();
    let (mut samples, mut payloads) = (Vec::new(), Vec::new());
    let (mut start, mut end) = (0u64, 0i64);
    let mut payload_bytes = 0u32;
    for (index, frame) in frames.into_iter().enumerate() {
        if frame.dts.rate() != config.rate {
            return Err(Fmp4Error::Rate { index, got: frame.dts.rate(), want: config.rate });
        }
        let dts = frame.dts.ticks();
        if index == 0 {
            start = u64::try_from(dts).map_err(|_| Fmp4Error::NegativeTime(dts))?;
        } else if dts != end {
            return Err(Fmp4Error::Gap { index, got: dts, want: end });
        }
        let sample = sample(index, frame, kind)?;
        end = dts.saturating_add(i64::from(sample.duration));
        payload_bytes = payload_bytes.checked_add(sample.size).ok_or(Fmp4Error::TooLarge)?;
        samples.push(sample);
        payloads.push(frame.payload.clone());
    }
    let head = head(sequence_number, start, &samples, payload_bytes)?;
    let len = head.len() + payload_bytes as usize;
    Ok(Fragment { head, payloads, len })
}

fn sample(index: usize, frame: &Frame, kind: MediaKind) -> Result<Sample, Fmp4Error> {
    let range = |field, value| Fmp4Error::Range { index, field, value };
    let duration = frame.duration.ticks();
    let composition = frame.pts.since(frame.dts).ticks();
    let sync = frame.keyframe || kind == MediaKind::Audio;
    Ok(Sample {
        duration: u32::try_from(duration).map_err(|_| range("duration", duration))?,
        size: u32::try_from(frame.payload.len()).map_err(|_| Fmp4Error::TooLarge)?,
        flags: if sync { FLAGS_SYNC } else { FLAGS_NON_SYNC },
        composition: i32::try_from(composition)
            .map_err(|_| range("composition offset", composition))?,
    })
}

/// Which columns `trun` has, and the defaults that stand for the others.
struct Columns {
    trun: u32,
    default_duration: Option<u32>,
    default_size: Option<u32>,
    default_flags: u32,
}

impl Columns {
    fn of(first: &Sample, samples: &[Sample]) -> Self {
        let rest = samples.get(1..).unwrap_or(&[]);
        let mut trun = TRUN_DATA_OFFSET;
        let uniform = |field: fn(&Sample) -> u32, flag: u32, trun: &mut u32| {
            if rest.iter().all(|sample| field(sample) == field(first)) {
                return Some(field(first));
            }
            *trun |= flag;
            None
        };
        let default_duration = uniform(|sample| sample.duration, TRUN_DURATION, &mut trun);
        let default_size = uniform(|sample| sample.size, TRUN_SIZE, &mut trun);
        let default_flags = rest.first().unwrap_or(first).flags;
        if rest.iter().any(|sample| sample.flags != default_flags) {
            trun |= TRUN_FLAGS;
        } else if first.flags != default_flags {
            trun |= TRUN_FIRST_FLAGS;
        }
        if samples.iter().any(|sample| sample.composition != 0) {
            trun |= TRUN_COMPOSITION;
        }
        Self { trun, default_duration, default_size, default_flags }
    }

    fn row_bytes(&self) -> usize {
        4 * (self.trun & (TRUN_DURATION | TRUN_SIZE | TRUN_FLAGS | TRUN_COMPOSITION)).count_ones()
            as usize
    }
}

fn head(
    sequence_number: u32,
    start: u64,
    samples: &[Sample],
    payload_bytes: u32,
) -> Result<Bytes, Fmp4Error> {
    let first = samples.first().ok_or(Fmp4Error::Empty)?;
    let count = u32::try_from(samples.len()).map_err(|_| Fmp4Error::TooLarge)?;
    let mdat_bytes = payload_bytes.checked_add(MDAT_HEADER_BYTES).ok_or(Fmp4Error::TooLarge)?;
    let columns = Columns::of(first, samples);
    let defaults = [columns.default_duration, columns.default_size];
    let optional =
        defaults.iter().flatten().count() + usize::from(columns.trun & TRUN_FIRST_FLAGS != 0);
    let moof_bytes = MOOF_BYTES_MIN + 4 * optional + columns.row_bytes() * samples.len();
    let data_offset = i32::try_from(moof_bytes)
        .ok()
        .and_then(|bytes| bytes.checked_add(MDAT_HEADER_BYTES as i32))
        .ok_or(Fmp4Error::TooLarge)?;

    let mut w = BoxWriter::with_capacity(moof_bytes + MDAT_HEADER_BYTES as usize);
    w.boxed(b"moof", |w| {
        w.full(b"mfhd", 0, 0, |w| w.u32(sequence_number));
        w.boxed(b"traf", |w| {
            track_fragment_header(w, &columns);
            w.full(b"tfdt", 1, 0, |w| w.u64(start));
            w.full(b"trun", 1, columns.trun, |w| {
                w.u32(count);
                w.i32(data_offset);
                if columns.trun & TRUN_FIRST_FLAGS != 0 {
                    w.u32(first.flags);
                }
                samples.iter().for_each(|sample| row(w, columns.trun, sample));
            });
        });
    });
    debug_assert_eq!(w.len(), moof_bytes);
    w.u32(mdat_bytes);
    w.bytes(b"mdat");
    Ok(w.finish().freeze())
}

fn track_fragment_header(w: &mut BoxWriter, columns: &Columns) {
    let mut flags = TFHD_DEFAULT_BASE_IS_MOOF | TFHD_DEFAULT_FLAGS;
    if columns.default_duration.is_some() {
        flags |= TFHD_DEFAULT_DURATION;
    }
    if columns.default_size.is_some() {
        flags |= TFHD_DEFAULT_SIZE;
    }
    w.full(b"tfhd", 0, flags, |w| {
        w.u32(TRACK_ID);
        if let Some(duration) = columns.default_duration {
            w.u32(duration);
        }
        if let Some(size) = columns.default_size {
            w.u32(size);
        }
        w.u32(columns.default_flags);
    });
}

fn row(w: &mut BoxWriter, columns: u32, sample: &Sample) {
    if columns & TRUN_DURATION != 0 {
        w.u32(sample.duration);
    }
    if columns & TRUN_SIZE != 0 {
        w.u32(sample.size);
    }
    if columns & TRUN_FLAGS != 0 {
        w.u32(sample.flags);
    }
    if columns & TRUN_COMPOSITION != 0 {
        w.i32(sample.composition);
    }
}
