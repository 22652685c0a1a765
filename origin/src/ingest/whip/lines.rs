//! Which m-lines of an SDP answer will bring media.
//!
//! Not here: offers and what is answered to them (`headwater-sfu`).

use headwater_media::MediaKind;

/// An m-line that the publisher may send on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) kind: MediaKind,
    /// Its place in the answer, from 0.
    pub(super) index: usize,
    /// The first simulcast layer, the one the publisher prefers (RFC 8853 §5.1); none without
    /// simulcast.
    pub(super) first_layer: Option<String>,
}

impl Line {
    /// Whether this is the line's main stream: the only one, or the first layer.
    pub(super) fn takes(&self, index: usize, rid: Option<&str>) -> bool {
        self.index == index
            && match (&self.first_layer, rid) {
                (Some(first), Some(rid)) => first == rid,
                (None, _) | (_, None) => true,
            }
    }
}

/// The m-lines that were answered with `recvonly`. Reads our own answers, leniently.
pub(super) fn accepted_lines(answer: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut current: Option<Line> = None;
    let mut receives = false;
    let mut index = 0;
    for text in answer.lines().map(str::trim_end).chain(["m=end"]) {
        if let Some(media) = text.strip_prefix("m=") {
            lines.extend(current.take().filter(|_| receives));
            let mut words = media.split(' ');
            let kind = match words.next() {
                Some("video") => Some(MediaKind::Video),
                Some("audio") => Some(MediaKind::Audio),
                _ => None,
            };
            let rejected = words.next() == Some("0");
            current =
                kind.filter(|_| !rejected).map(|kind| Line { kind, index, first_layer: None });
            receives = false;
            index += 1;
        } else if text == "a=recvonly" {
            receives = true;
        } else if let Some(layers) = text.strip_prefix("a=simulcast:recv ")
            && let Some(line) = &mut current
        {
            let first = layers.split([';', ',', ' ']).next().unwrap_or("");
            line.first_layer = Some(first.trim_start_matches('~').to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_lines_are_those_that_receive() {
        let answer = "v=0\r\na=group:BUNDLE 0 1 2 3\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
            a=mid:0\r\na=recvonly\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=inactive\r\n\
            m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=recvonly\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n\
            a=recvonly\r\na=rid:h recv\r\na=simulcast:recv h;m;l\r\nm=application 9 x 1\r\n\
            a=recvonly\r\n";
        let audio = Line { kind: MediaKind::Audio, index: 0, first_layer: None };
        let layers = Line { kind: MediaKind::Video, index: 3, first_layer: Some("h".into()) };
        assert_eq!(accepted_lines(answer), [audio, layers.clone()]);
        assert!(layers.takes(3, Some("h")) && layers.takes(3, None));
        assert!(!layers.takes(3, Some("l")) && !layers.takes(1, Some("h")));
        assert_eq!(accepted_lines("garbage"), []);
    }
}
