//! Writes the multivariant playlist: one variant for each video rendition and audio codec.
//!
//! A player takes the first variant that it can play, so AAC, which every player has, comes
//! before Opus. Not here: which renditions exist and when they are ready (`stream`).

use std::fmt::Write as _;

use headwater_media::Codec;

use super::snapshot::Snapshot;

/// `[hls] audio`: in which codecs a stream's sound is offered, whatever it was published in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AudioChoice {
    /// Opus alone: the better codec at low rates; not every player has it.
    Opus,
    /// AAC alone.
    Aac,
    /// A group for each; the player chooses.
    #[default]
    Both,
}

impl AudioChoice {
    /// Whether audio of `codec` is listed.
    #[must_use]
    pub fn lists(self, codec: &Codec) -> bool {
        match codec {
            Codec::Aac(_) => self != Self::Opus,
            Codec::Opus(_) => self != Self::Aac,
            _ => false,
        }
    }
}

/// A rendition as the multivariant playlist sees it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its codec.
    pub codec: Codec,
    /// `BANDWIDTH`, bits a second.
    pub peak: u64,
    /// `AVERAGE-BANDWIDTH`, bits a second.
    pub average: u64,
    /// Frames a second.
    pub frame_rate: Option<f64>,
}

/// What a video rendition is taken for before it has been measured, bits a second.
const VIDEO_FLOOR: u64 = 100_000;
/// The same for audio.
const AUDIO_FLOOR: u64 = 16_000;

impl Entry {
    /// The rendition `name` as `snapshot` shows it; none before its first group, and none where
    /// HLS cannot carry its codec.
    #[must_use]
    pub fn of(name: &str, snapshot: &Snapshot) -> Option<Self> {
        if snapshot.unsupported.is_some() || !snapshot.is_ready() {
            return None;
        }
        let config = snapshot.config.as_ref()?;
        let codec = config.codec.clone();
        let floor = if codec.audio().is_some() { AUDIO_FLOOR } else { VIDEO_FLOOR };
        let declared = codec.frame_rate().filter(|rate| rate.den > 0);
        let declared = declared.map(|rate| f64::from(rate.num) / f64::from(rate.den));
        let planned = f64::from(config.rate.hz()) / f64::from(config.parts.frame_ticks.max(1));
        Some(Self {
            name: name.to_owned(),
            peak: snapshot.rates.peak(floor),
            average: snapshot.rates.average(floor),
            frame_rate: snapshot.rates.frame_rate().or(declared).or(Some(planned)),
            codec,
        })
    }

    fn is_audio(&self) -> bool {
        self.codec.audio().is_some()
    }
}

/// The multivariant playlist of `entries`; none where nothing is left to list.
#[must_use]
pub fn render(entries: &[Entry], audio: AudioChoice) -> Option<String> {
    let (sound, pictures): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|e| e.is_audio());
    let chosen: Vec<&Entry> = sound.iter().copied().filter(|e| audio.lists(&e.codec)).collect();
    // Where the codec asked for is not there (nothing transcodes), the sound that is there is
    // better than none.
    let sound = if chosen.is_empty() { sound } else { chosen };
    let groups = groups(&sound);
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:9\n");
    if pictures.is_empty() {
        for entry in groups.iter().flat_map(|(_, members)| members) {
            variant(&mut out, entry, None);
        }
        return (!groups.is_empty()).then_some(out);
    }
    for (group, members) in &groups {
        for (at, entry) in members.iter().enumerate() {
            media(&mut out, group, entry, at == 0);
        }
    }
    for entry in &pictures {
        if groups.is_empty() {
            variant(&mut out, entry, None);
        }
        for group in &groups {
            variant(&mut out, entry, Some(group));
        }
    }
    Some(out)
}

type Group<'a> = (&'static str, Vec<&'a Entry>);

/// Audio renditions by codec, AAC first.
fn groups<'a>(sound: &[&'a Entry]) -> Vec<Group<'a>> {
    let of = |name: &'static str| {
        let members = sound.iter().copied().filter(|entry| entry.codec.name() == name);
        (name, members.collect::<Vec<_>>())
    };
    [of("aac"), of("opus")].into_iter().filter(|(_, members)| !members.is_empty()).collect()
}

fn media(out: &mut String, group: &str, entry: &Entry, default: bool) {
    let yes = if default { "YES" } else { "NO" };
    let _ = write!(
        out,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"{}\",DEFAULT={yes},AUTOSELECT=YES",
        entry.name
    );
    if let Some((_, channels)) = entry.codec.audio() {
        let _ = write!(out, ",CHANNELS=\"{channels}\"");
    }
    let _ = writeln!(out, ",URI=\"-/{}/index.m3u8\"", entry.name);
}

fn variant(out: &mut String, entry: &Entry, group: Option<&Group<'_>>) {
    let members = || group.iter().flat_map(|(_, members)| members);
    let peak = entry.peak + members().map(|member| member.peak).max().unwrap_or(0);
    let average = entry.average + members().map(|member| member.average).max().unwrap_or(0);
    let mut codecs = entry.codec.codecs_string();
    let mut sound: Vec<String> = members().map(|member| member.codec.codecs_string()).collect();
    sound.sort();
    sound.dedup();
    for codec in sound {
        codecs.push(',');
        codecs.push_str(&codec);
    }
    let _ = write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={average},CODECS=\"{codecs}\"",
        peak.max(average)
    );
    if let Some(size) = entry.codec.resolution() {
        let _ = write!(out, ",RESOLUTION={}x{}", size.width, size.height);
        if let Some(rate) = entry.frame_rate {
            let _ = write!(out, ",FRAME-RATE={rate:.3}");
        }
    }
    if let Some((group, _)) = group {
        let _ = write!(out, ",AUDIO=\"{group}\"");
    }
    let _ = writeln!(out, "\n-/{}/index.m3u8", entry.name);
}
