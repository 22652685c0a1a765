//! Reads what a request under `/hls/` asks for: the path's grammar and the `_HLS_` directives.
//!
//! Not here: whether it exists (`serve`).

use headwater_media::StreamName;

use crate::http::names::percent_decoded;

/// A request's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) stream: StreamName,
    pub(super) resource: Resource,
}

/// What of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// `index.m3u8`
    Multivariant,
    /// `-/{rendition}/index.m3u8`
    Playlist { rendition: String },
    /// `-/{rendition}/init-{n}.mp4`
    Init { rendition: String, version: u32 },
    /// `-/{rendition}/{msn}.m4s`
    Segment { rendition: String, msn: u64 },
    /// `-/{rendition}/{msn}.{part}.m4s`
    Part { rendition: String, msn: u64, part: u64 },
}

impl Resource {
    /// The kind of route, for metrics.
    pub(super) fn route(&self) -> Route {
        match self {
            Self::Multivariant => Route::Multivariant,
            Self::Playlist { .. } => Route::Playlist,
            Self::Init { .. } => Route::Init,
            Self::Segment { .. } => Route::Segment,
            Self::Part { .. } => Route::Part,
        }
    }
}

/// A kind of resource, as metrics tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    Multivariant,
    Playlist,
    Init,
    Segment,
    Part,
    /// A path that leads nowhere.
    Unknown,
}

impl Route {
    /// How many there are.
    pub(super) const COUNT: usize = 6;

    /// Its label in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Multivariant => "multivariant",
            Self::Playlist => "playlist",
            Self::Init => "init",
            Self::Segment => "segment",
            Self::Part => "part",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathError {
    /// 400: the stream's name is not one.
    Name(String),
    /// 404: no such route.
    Unknown,
}

/// The longest path worth reading: eight segments of a name of 64 characters, a rendition and a
/// file, all of it escaped.
const PATH_BYTES_MAX: usize = 2_048;

impl Target {
    /// Reads a path that begins with `/hls/`.
    pub(super) fn parse(path: &str) -> Result<Self, PathError> {
        let rest = path.strip_prefix("/hls/").ok_or(PathError::Unknown)?;
        if rest.len() > PATH_BYTES_MAX {
            let why = format!("a path under /hls/ has at most {PATH_BYTES_MAX} characters");
            return Err(PathError::Name(why));
        }
        // Clients may escape what they need not (RFC 3986 §2.4).
        let rest = &*percent_decoded(rest);
        let (name, resource) = match rest.split_once("/-/") {
            Some((name, inner)) => (name, Resource::parse(inner).ok_or(PathError::Unknown)?),
            None => {
                let name = rest.strip_suffix("/index.m3u8").ok_or(PathError::Unknown)?;
                (name, Resource::Multivariant)
            }
        };
        let stream = StreamName::parse(name).map_err(|error| PathError::Name(error.to_string()))?;
        Ok(Self { stream, resource })
    }
}

impl Resource {
    fn parse(inner: &str) -> Option<Self> {
        let (rendition, file) = inner.split_once('/')?;
        let rendition = rendition.to_owned();
        if file == "index.m3u8" {
            return Some(Self::Playlist { rendition });
        }
        if let Some(version) = file.strip_prefix("init-").and_then(|f| f.strip_suffix(".mp4")) {
            let version = u32::try_from(number(version)?).ok()?;
            return Some(Self::Init { rendition, version });
        }
        let numbers = file.strip_suffix(".m4s")?;
        Some(match numbers.split_once('.') {
            Some((msn, part)) => Self::Part { rendition, msn: number(msn)?, part: number(part)? },
            None => Self::Segment { rendition, msn: number(numbers)? },
        })
    }
}

/// A decimal number in its one canonical form, so that a resource has one name and caches keep
/// it once.
fn number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// The query of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) token: Option<String>,
    pub(super) msn: Option<u64>,
    pub(super) part: Option<u64>,
    pub(super) skip: bool,
}

impl Query {
    /// Reads a query; names that mean nothing here are passed over.
    ///
    /// The error says what to write instead.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => directive(&mut read.msn, name, value)?,
                "_HLS_part" => directive(&mut read.part, name, value)?,
                // `v2` asks for more than is offered here: it means what YES means.
                "_HLS_skip" => read.skip = matches!(value, "YES" | "v2"),
                "token" => read.token = Some(percent_decoded(value).into_owned()),
                _ => {}
            }
        }
        Ok(read)
    }
}

fn directive(slot: &mut Option<u64>, name: &str, value: &str) -> Result<(), String> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits).ok_or_else(|| {
        let shown: String = value.chars().take(40).collect();
        format!("{name} must be a decimal number of at most 64 bits, not {shown:?}")
    })?;
    match slot.replace(number) {
        Some(_) => Err(format!("{name} may be given once only")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_contract() {
        let of = |path: &str| Target::parse(path).map(|t| (t.stream.to_string(), t.resource));
        let video = || "video".to_owned();
        let name = || "auction/lot-7".to_owned();
        for (file, resource) in [
            ("/index.m3u8", Resource::Multivariant),
            ("/-/video/index.m3u8", Resource::Playlist { rendition: video() }),
            ("/-/video/init-3.mp4", Resource::Init { rendition: video(), version: 3 }),
            ("/-/video/12.m4s", Resource::Segment { rendition: video(), msn: 12 }),
            ("/-/video/12.0.m4s", Resource::Part { rendition: video(), msn: 12, part: 0 }),
            ("/-/video/12%2e0.m4s", Resource::Part { rendition: video(), msn: 12, part: 0 }),
        ] {
            assert_eq!(of(&format!("/hls/auction/lot-7{file}")), Ok((name(), resource)), "{file}");
        }
    }

    #[test]
    fn escaped_names_mean_what_they_escape() {
        let of = |path: &str| Target::parse(path).map(|t| t.stream.to_string());
        assert_eq!(of("/hls/%61uction%2Flot%2d7/index.m3u8"), Ok("auction/lot-7".to_owned()));
        for bad in ["/hls/a%/index.m3u8", "/hls/a%2/index.m3u8", "/hls/%ff/index.m3u8"] {
            assert!(matches!(of(bad), Err(PathError::Name(_))), "{bad}");
        }
    }

    #[test]
    fn paths_that_lead_nowhere_are_refused() {
        for path in [
            "",
            "/",
            "/hls",
            "/hls/",
            "/hls/a",
            "/hls/a/index.m3u",
            "/hls/a/-/video",
            "/hls/a/-/video/",
            "/hls/a/-/video/x/index.m3u8",
            "/hls/a/-/video/01.m4s",
            "/hls/a/-/video/1.01.m4s",
            "/hls/a/-/video/-1.m4s",
            "/hls/a/-/video/+1.m4s",
            "/hls/a/-/video/1..m4s",
            "/hls/a/-/video/1.2.3.m4s",
            "/hls/a/-/video/.m4s",
            "/hls/a/-/video/18446744073709551616.m4s",
            "/hls/a/-/video/init-4294967296.mp4",
            "/hls/a/-/video/init-.mp4",
        ] {
            assert_eq!(Target::parse(path), Err(PathError::Unknown), "{path}");
        }
        for path in ["/hls//index.m3u8", "/hls/a/../b/index.m3u8", "/hls/a%20b/index.m3u8"] {
            assert!(matches!(Target::parse(path), Err(PathError::Name(_))), "{path}");
        }
        let long = format!("/hls/{}/index.m3u8", "a/".repeat(2_000));
        assert!(matches!(Target::parse(&long), Err(PathError::Name(_))));
        let segment = "%61".repeat(64);
        let longest =
            format!("/hls/{}/-/video-720p/18446744073709551615.m4s", [&*segment; 8].join("%2f"));
        assert!(Target::parse(&longest).is_ok(), "{} bytes", longest.len());
    }

    #[test]
    fn directives_are_read_and_bad_ones_refused() {
        let read = Query::parse("x=1&_HLS_msn=12&_HLS_part=3&_HLS_skip=v2&token=a%2eb%zz");
        let token = Some("a.b%zz".to_owned());
        assert_eq!(read, Ok(Query { token, msn: Some(12), part: Some(3), skip: true }));
        assert_eq!(Query::parse(""), Ok(Query::default()));
        for bad in [
            "_HLS_msn",
            "_HLS_msn=",
            "_HLS_msn=-1",
            "_HLS_msn=+1",
            "_HLS_msn=1.5",
            "_HLS_msn=0x1",
            "_HLS_msn=18446744073709551616",
            "_HLS_part=a",
            "_HLS_msn=1&_HLS_msn=1",
        ] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
