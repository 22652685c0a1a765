//! Reads a multivariant playlist, and chooses what a player begins with.
//!
//! Not here: media playlists (`playlist`); changing to another variant, which a viewer here never
//! does.

use super::attributes::{attribute, yes};

/// The playlists that a player begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// URI of the variant's own playlist.
    pub video: String,
    /// URI of its sound's playlist; none where the variant carries its own sound, or none.
    pub audio: Option<String>,
}

/// Whether a text is a multivariant playlist: a URL may lead to a media playlist at once.
#[must_use]
pub fn is_multivariant(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("#EXT-X-STREAM-INF"))
}

/// The first variant, which is the author's choice for players that know nothing of the network
/// yet, with the default rendition of its audio group. None where there is no variant.
#[must_use]
pub fn choose(text: &str) -> Option<Chosen> {
    let mut lines = text.lines().map(str::trim_end);
    let variant = lines.find_map(|line| line.strip_prefix("#EXT-X-STREAM-INF:"))?;
    let video = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?.to_owned();
    let audio = attribute(variant, "AUDIO").and_then(|group| audio(text, group));
    Some(Chosen { video, audio })
}

fn audio(text: &str, group: &str) -> Option<String> {
    let members = || {
        let media = text.lines().filter_map(|line| line.strip_prefix("#EXT-X-MEDIA:"));
        media.filter(|list| {
            attribute(list, "TYPE") == Some("AUDIO") && attribute(list, "GROUP-ID") == Some(group)
        })
    };
    let chosen = members().find(|list| yes(list, "DEFAULT")).or_else(|| members().next())?;
    attribute(chosen.trim_end(), "URI").map(str::to_owned)
}

/// The path that `uri` leads to from the playlist at `base`, both of one server (RFC 3986 §5.2).
#[must_use]
pub fn resolve(base: &str, uri: &str) -> String {
    let of_server = uri.split_once("://").map(|(_, rest)| match rest.find('/') {
        Some(path) => rest.get(path..).unwrap_or("/"),
        None => "/",
    });
    if let Some(path) = of_server {
        return path.to_owned();
    }
    if uri.starts_with('/') {
        return uri.to_owned();
    }
    let base = base.split(['?', '#']).next().unwrap_or(base);
    let mut folders: Vec<&str> = base.split('/').collect();
    folders.pop();
    let (path, query) = match uri.find('?') {
        Some(at) => uri.split_at(at),
        None => (uri, ""),
    };
    for step in path.split('/') {
        match step {
            "." => {}
            // The first, empty one stands for the root.
            ".." if folders.len() > 1 => {
                folders.pop();
            }
            ".." => {}
            step => folders.push(step),
        }
    }
    format!("{}{query}", folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#EXTM3U\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"x\",DEFAULT=NO,URI=\"-/x/index.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"y\",DEFAULT=YES,URI=\"-/y/index.m3u8\"\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1,mp4a\",AUDIO=\"aac\"\n\n-/video/index.m3u8\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2\n-/low/index.m3u8\n";

    #[test]
    fn the_first_variant_is_taken_with_the_default_sound_of_its_group() {
        assert!(is_multivariant(TEXT) && !is_multivariant("#EXTM3U\n#EXTINF:1,\na.ts\n"));
        let chosen = choose(TEXT).unwrap();
        assert_eq!(chosen.video, "-/video/index.m3u8");
        assert_eq!(chosen.audio.as_deref(), Some("-/y/index.m3u8"));
    }

    #[test]
    fn a_variant_without_a_group_has_no_sound_of_its_own() {
        let text = TEXT.replace(",AUDIO=\"aac\"", "");
        assert_eq!(choose(&text).unwrap().audio, None);
        assert_eq!(choose("#EXTM3U\n"), None);
    }

    #[test]
    fn uris_are_resolved_against_the_playlists_path() {
        for (uri, path) in [
            ("7.1.m4s", "/hls/a/-/video/7.1.m4s"),
            ("../audio/index.m3u8?x=../1", "/hls/a/-/audio/index.m3u8?x=../1"),
            ("./a", "/hls/a/-/video/a"),
            ("../../../../../../a", "/a"),
            ("/b/c?d", "/b/c?d"),
            ("http://127.0.0.1:80/b", "/b"),
            ("http://127.0.0.1:80", "/"),
        ] {
            assert_eq!(resolve("/hls/a/-/video/index.m3u8?token=a/b", uri), path);
        }
    }
}
