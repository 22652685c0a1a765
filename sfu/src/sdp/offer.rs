//! An SDP offer as this server reads and rewrites it (RFC 8866, RFC 8829, RFC 9143).
//!
//! Not here: which m-line is used for what (`super`).

use headwater_media::MediaKind;
use headwater_media::codec::Codec;

use crate::error::SfuError;

/// Most m-lines in an offer. Browsers that renegotiate a lot have some tens.
const LINES_MAX: usize = 32;
/// Most attribute lines in one section: a browser's video section has about 150.
const ATTRIBUTES_MAX: usize = 1_024;
/// Longest line taken; data in SDP (fingerprints, fmtp) is far shorter.
const LINE_BYTES_MAX: usize = 4_096;

/// The name of the media stream that all tracks belong to.
const STREAM_ID: &str = "headwater";

/// What an m-line is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LineKind {
    Media(MediaKind),
    /// A data channel.
    Application,
}

/// The offerer's side of an m-line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub(crate) fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    fn parse(attribute: &str) -> Option<Self> {
        match attribute {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// Which of our codecs an m-line offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Codecs {
    pub(crate) h264: bool,
    /// H.264 with packetization-mode 1 (RFC 6184), without which large frames cannot be sent.
    pub(crate) h264_mode_1: bool,
    pub(crate) vp8: bool,
    pub(crate) vp9: bool,
    pub(crate) av1: bool,
    pub(crate) opus: bool,
}

impl Codecs {
    /// Whether there is any codec that a publisher may send.
    pub(crate) fn any(self) -> bool {
        self.h264 || self.vp8 || self.vp9 || self.av1 || self.opus
    }

    /// Whether a track of `codec` can be sent; while the codec is not known, whether anything
    /// of that kind can.
    pub(crate) fn fits(self, codec: Option<&Codec>, kind: MediaKind) -> bool {
        match (codec, kind) {
            (Some(Codec::H264(_)), _) => self.h264_mode_1,
            (Some(Codec::Vp8(_)), _) => self.vp8,
            (Some(Codec::Vp9(_)), _) => self.vp9,
            (Some(Codec::Av1(_)), _) => self.av1,
            (Some(Codec::Opus(_)), _) => self.opus,
            (Some(Codec::H265(_) | Codec::Aac(_)), _) => false,
            (None, MediaKind::Video) => self.h264_mode_1 || self.vp8 || self.vp9 || self.av1,
            (None, MediaKind::Audio) => self.opus,
        }
    }
}

/// One m-line with its section.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) kind: LineKind,
    pub(crate) mid: String,
    /// Port 0 and not in the bundle.
    pub(crate) rejected: bool,
    pub(crate) direction: Direction,
    pub(crate) codecs: Codecs,
    /// The `m=` line without its prefix.
    media: String,
    /// Attributes without `a=`, but for those that are written anew.
    attributes: Vec<String>,
}

impl Line {
    pub(crate) fn is_media(&self) -> bool {
        matches!(self.kind, LineKind::Media(_))
    }

    pub(crate) fn is(&self, kind: MediaKind) -> bool {
        self.kind == LineKind::Media(kind)
    }
}

/// A whole offer.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    attributes: Vec<String>,
    pub(crate) lines: Vec<Line>,
    /// Whether the offer bundles its m-lines; a single one need not be.
    pub(crate) bundled: bool,
    ufrag: String,
    password: String,
}

fn malformed(why: impl Into<String>) -> SfuError {
    SfuError::MalformedSdp(why.into())
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// [`SfuError::MalformedSdp`] says what is wrong.
    pub(crate) fn parse(text: &str, bytes_max: usize) -> Result<Self, SfuError> {
        if text.len() > bytes_max {
            return Err(malformed(format!("it is longer than {bytes_max} bytes")));
        }
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return Err(malformed("it does not begin with v=0"));
        }
        let (mut session, mut sections) = (Vec::new(), Vec::<Section>::new());
        for line in lines {
            if line.len() > LINE_BYTES_MAX || line.bytes().any(|b| b < b' ' && b != b'\t') {
                return Err(malformed("a line is too long or has control characters"));
            }
            let (key, value) = line
                .split_once('=')
                .filter(|(key, _)| key.len() == 1)
                .ok_or_else(|| malformed("a line is not of the form x=value"))?;
            if key == "m" {
                if sections.len() == LINES_MAX {
                    return Err(malformed(format!("it has more than {LINES_MAX} m-lines")));
                }
                sections.push(Section { media: value.to_owned(), attributes: Vec::new() });
                continue;
            }
            match (key, sections.last_mut()) {
                ("a", Some(section)) => section.attributes.push(value.to_owned()),
                ("a", None) => session.push(value.to_owned()),
                _ => {}
            }
            let count = sections.last().map_or(session.len(), |s| s.attributes.len());
            if count > ATTRIBUTES_MAX {
                return Err(malformed("a section has too many attributes"));
            }
        }
        Self::build(session, sections)
    }

    fn build(session: Vec<String>, sections: Vec<Section>) -> Result<Self, SfuError> {
        if sections.is_empty() {
            return Err(malformed("it has no m-line"));
        }
        let find = |name: &str| {
            let all = session.iter().chain(sections.iter().flat_map(|s| &s.attributes));
            let mut values = all.filter_map(move |a| a.strip_prefix(name)?.strip_prefix(':'));
            values.next().map(|value| value.trim().to_owned())
        };
        let (ufrag, password) = find("ice-ufrag")
            .zip(find("ice-pwd"))
            .ok_or_else(|| malformed("it has no a=ice-ufrag and a=ice-pwd"))?;
        check_credentials(&ufrag, &password).map_err(malformed)?;
        if find("fingerprint").is_none() {
            return Err(malformed("it has no a=fingerprint: WebRTC needs DTLS"));
        }
        let bundle = session.iter().find_map(|a| a.strip_prefix("group:BUNDLE"));
        if bundle.is_none() && sections.len() > 1 {
            return Err(malformed("it has several m-lines but no a=group:BUNDLE"));
        }
        let group: Option<Vec<&str>> = bundle.map(|mids| mids.split_ascii_whitespace().collect());
        let lines = sections
            .iter()
            .enumerate()
            .map(|(index, section)| section.line(index, group.as_deref()))
            .collect::<Result<Vec<_>, _>>()?;
        for (index, line) in lines.iter().enumerate() {
            if lines.iter().skip(index + 1).any(|other| other.mid == line.mid) {
                return Err(malformed(format!("a=mid:{} is used twice", line.mid)));
            }
        }
        let bundled = group.is_some();
        let attributes = session.into_iter().filter(|a| keeps(a)).collect();
        Ok(Self { attributes, lines, bundled, ufrag, password })
    }

    /// The offerer's ICE user name and password.
    pub(crate) fn credentials(&self) -> (&str, &str) {
        (&self.ufrag, &self.password)
    }

    /// Takes the credentials of a new ICE generation.
    pub(crate) fn restart(&mut self, ufrag: &str, password: &str) {
        ufrag.clone_into(&mut self.ufrag);
        password.clone_into(&mut self.password);
    }

    /// Writes the offer in the strict shape the engine takes.
    pub(crate) fn render(&self) -> String {
        let mut text = String::from("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
        let mut put = |parts: &[&str]| {
            for part in parts {
                text.push_str(part);
            }
            text.push_str("\r\n");
        };
        let mids: Vec<&str> =
            self.lines.iter().filter(|l| !l.rejected).map(|l| l.mid.as_str()).collect();
        put(&["a=group:BUNDLE ", &mids.join(" ")]);
        put(&["a=ice-ufrag:", &self.ufrag]);
        put(&["a=ice-pwd:", &self.password]);
        for attribute in &self.attributes {
            put(&["a=", attribute]);
        }
        for line in &self.lines {
            put(&["m=", &line.media]);
            put(&["c=IN IP4 0.0.0.0"]);
            put(&["a=mid:", &line.mid]);
            if line.is_media() {
                put(&["a=", line.direction.word()]);
                // The engine answers with the same: players line up the sound and the picture of
                // one stream (RFC 8830).
                put(&["a=msid:", STREAM_ID, " ", &line.mid]);
            }
            for attribute in &line.attributes {
                put(&["a=", attribute]);
            }
        }
        text
    }
}

/// An m-line and its attributes, as read.
struct Section {
    media: String,
    attributes: Vec<String>,
}

impl Section {
    /// `group` names the m-lines of the offer's first bundle; only those share the one transport
    /// that an answer has (RFC 9143 §7.3), so any other is rejected.
    fn line(&self, index: usize, group: Option<&[&str]>) -> Result<Line, SfuError> {
        let mut words = self.media.split_ascii_whitespace();
        let kind = match words.next() {
            Some("audio") => LineKind::Media(MediaKind::Audio),
            Some("video") => LineKind::Media(MediaKind::Video),
            Some("application") => LineKind::Application,
            other => {
                let other = other.unwrap_or("nothing");
                return Err(malformed(format!(
                    "an m-line is for {other}; only audio, video and application are known"
                )));
            }
        };
        let port = words.next().ok_or_else(|| malformed("an m-line has no port"))?;
        let protocol = words.next().ok_or_else(|| malformed("an m-line has no protocol"))?;
        let fits = match kind {
            LineKind::Media(_) => protocol == "UDP/TLS/RTP/SAVPF",
            LineKind::Application => matches!(protocol, "UDP/DTLS/SCTP" | "DTLS/SCTP"),
        };
        if !fits {
            return Err(malformed(format!("protocol {protocol} is not one of WebRTC")));
        }
        let mid = self.value("mid").map_or_else(|| index.to_string(), str::to_owned);
        if mid.is_empty()
            || mid.len() > 16
            || !mid.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        {
            return Err(malformed("an a=mid is not 1 to 16 letters, digits, '-', '_' and '.'"));
        }
        let formats: Vec<&str> = words.collect();
        self.check_formats(&formats)?;
        let direction = self.attributes.iter().find_map(|a| Direction::parse(a));
        let rejected = match group {
            Some(group) => !group.contains(&mid.as_str()),
            None => port == "0",
        };
        let media = if rejected { self.media.replacen(port, "0", 1) } else { self.media.clone() };
        Ok(Line {
            kind,
            rejected,
            mid,
            direction: direction.unwrap_or(Direction::SendRecv),
            codecs: self.codecs(&formats),
            media,
            attributes: self.attributes.iter().filter(|a| keeps(a)).cloned().collect(),
        })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// A payload type must be a number below 128 and have one meaning.
    fn check_formats(&self, formats: &[&str]) -> Result<(), SfuError> {
        for attribute in &self.attributes {
            let Some(map) = attribute.strip_prefix("rtpmap:") else { continue };
            let pt = map.split_ascii_whitespace().next().unwrap_or_default();
            if !pt.parse::<u8>().is_ok_and(|pt| pt < 128) {
                return Err(malformed(format!("payload type {pt:?} is not below 128")));
            }
        }
        for (index, format) in formats.iter().enumerate() {
            if formats.iter().skip(index + 1).any(|other| other == format) {
                return Err(malformed(format!("payload type {format} is listed twice")));
            }
        }
        Ok(())
    }

    fn codecs(&self, formats: &[&str]) -> Codecs {
        let mut codecs = Codecs::default();
        for attribute in &self.attributes {
            let Some((pt, coding)) =
                attribute.strip_prefix("rtpmap:").and_then(|map| map.split_once(' '))
            else {
                continue;
            };
            if !formats.contains(&pt) {
                continue;
            }
            let name = coding.split('/').next().unwrap_or_default().trim().to_ascii_lowercase();
            match name.as_str() {
                "h264" => {
                    codecs.h264 = true;
                    codecs.h264_mode_1 |= self.fmtp(pt).contains("packetization-mode=1");
                }
                "vp8" => codecs.vp8 = true,
                "vp9" => codecs.vp9 = true,
                "av1" => codecs.av1 = true,
                "opus" => codecs.opus = true,
                _ => {}
            }
        }
        codecs
    }

    fn fmtp(&self, pt: &str) -> &str {
        let of = |a: &'_ String| a.strip_prefix("fmtp:").is_some_and(|f| f.starts_with(pt));
        let fitting = self.attributes.iter().filter(|a| of(a));
        fitting
            .filter_map(|a| a.strip_prefix("fmtp:")?.split_once(' '))
            .find_map(|(of, value)| (of == pt).then_some(value))
            .unwrap_or_default()
    }
}

/// Whether an attribute is passed on as it is; the others are written anew or not needed.
fn keeps(attribute: &str) -> bool {
    const DROPPED: [&str; 16] = [
        "group",
        "mid",
        "msid",
        "msid-semantic",
        "ice-ufrag",
        "ice-pwd",
        "ice-lite",
        "candidate",
        "end-of-candidates",
        "remote-candidates",
        "sendrecv",
        "sendonly",
        "recvonly",
        "inactive",
        "sctp-init",
        "bundle-only",
    ];
    let name = attribute.split(':').next().unwrap_or_default().trim();
    !DROPPED.contains(&name)
}

/// ICE credentials as RFC 8839 §5.4 allows them.
pub(super) fn check_credentials(ufrag: &str, password: &str) -> Result<(), &'static str> {
    let ice_char = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    // `-` and `_` are outside the grammar, yet some clients use base64url.
    if !(4..=256).contains(&ufrag.len()) || !ufrag.bytes().all(ice_char) {
        return Err("its a=ice-ufrag is not 4 to 256 ICE characters");
    }
    if !(22..=256).contains(&password.len()) || !password.bytes().all(ice_char) {
        return Err("its a=ice-pwd is not 22 to 256 ICE characters");
    }
    Ok(())
}
