//! Answers requests under `/hls/`. Driver: awaits what is to come.
//!
//! Not here: the path's grammar (`path`), headers (`reply`), waiting as such (`wait`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_media::{Broadcast, BroadcastState, MediaKind, StreamName};
use http::header::{AUTHORIZATION, RANGE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use super::audience;
use super::body::HlsBody;
use super::crowd::Crowds;
use super::meter::Meter;
use super::path::{PathError, Query, Resource, Route, Target};
use super::reply::{self, Failure, Reply, text};
use super::start;
use super::wait::{Look, Unanswered, Waiting, until};
use crate::auth::{Access, Action, Caller};
use crate::http::names;
use crate::packager::multivariant::{self, AudioChoice, Entry};
use crate::packager::snapshot::{Find, Reload, Snapshot};
use crate::packager::{Flavour, Packager, Rendition, StreamRenditions};

/// How `/hls/` behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HlsOptions {
    /// `[hls] audio` (both): the codecs in which sound is listed.
    pub audio: AudioChoice,
    /// `[limits] hls_waiting` (100,000): requests that may wait at a time for a playlist or a
    /// part; each costs some 5 KiB over HTTP/1.1. Further ones get 503.
    pub waiting: usize,
    /// How long a request waits for a stream that has just begun (3 s).
    pub ready_timeout: Duration,
}

impl Default for HlsOptions {
    fn default() -> Self {
        Self { audio: AudioChoice::Both, waiting: 100_000, ready_timeout: Duration::from_secs(3) }
    }
}

/// A codec for sound that can be made on demand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AudioCodec {
    /// AAC-LC.
    Aac,
    /// Opus.
    Opus,
}

impl AudioCodec {
    fn name(self) -> &'static str {
        match self {
            Self::Aac => "aac",
            Self::Opus => "opus",
        }
    }
}

/// Told what requests want that may not be here yet: a stream of another node, and a stream's sound
/// in some codec, so that it can be made while someone listens.
pub trait Demand: Send + Sync {
    /// Somebody wants `stream`, which is not packaged here: gives it, where it can be had.
    fn find(&self, stream: &StreamName) -> Option<Broadcast>;

    /// Somebody listens to `stream` in `codec`. Returns whether a track in that codec is there or
    /// about to come (`audio-aac`, `audio-opus`, or the source's own). Called often: must be quick.
    fn want(&self, stream: &StreamName, codec: AudioCodec) -> bool;
}

/// Gets nothing and makes nothing: streams are those that are here, with their sound as it was
/// published.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDemand;

impl Demand for NoDemand {
    fn find(&self, _: &StreamName) -> Option<Broadcast> {
        None
    }

    fn want(&self, _: &StreamName, _: AudioCodec) -> bool {
        false
    }
}

/// A running stretch of media after which a track that has been announced but never came is no
/// longer waited for.
const SETTLED_MICROS: i64 = 3_000_000;
/// Blocking requests are given up after this many target durations (the contract).
pub(super) const BLOCKED_TARGETS: u32 = 3;
/// What is assumed while the target duration is not known, in seconds.
pub(super) const TARGET_GUESS_S: u32 = 2;

/// What of a request its answer depends on, besides the target.
#[derive(Clone, Copy)]
struct Asked<'a> {
    uri: &'a Uri,
    headers: &'a HeaderMap,
    /// The answer's body is wanted, not its head alone: whoever asks may be a player.
    body: bool,
}

/// Serves `/hls/`. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct HlsService {
    packager: Packager,
    access: Access,
    demand: Arc<dyn Demand>,
    options: HlsOptions,
    pub(super) waiting: Arc<Waiting>,
    meter: Arc<Meter>,
    pub(super) crowds: Arc<Crowds>,
}

impl HlsService {
    /// A service over the streams of `packager`.
    #[must_use]
    pub fn new(
        packager: Packager,
        access: Access,
        demand: Arc<dyn Demand>,
        options: HlsOptions,
    ) -> Self {
        let (waiting, meter) = (Waiting::new(options.waiting), Arc::<Meter>::default());
        let crowds = Crowds::new(Arc::clone(&waiting), Arc::clone(&meter));
        Self { packager, access, demand, options, waiting, meter, crowds }
    }

    /// The streams that it serves.
    #[must_use]
    pub fn packager(&self) -> &Packager {
        &self.packager
    }

    /// The node shuts down: whoever waits is sent to another node, and nobody waits any more.
    pub fn close(&self) {
        self.waiting.close();
        self.packager.wake();
    }

    /// Answers one request, whose path begins with `/hls/`. Dropping the future gives up waiting.
    pub async fn handle<B>(&self, request: &Request<B>, peer: IpAddr) -> Response<HlsBody> {
        self.reply(request, peer).await.into_response()
    }

    /// The same, before it is a response of the HTTP library.
    pub async fn reply<B>(&self, request: &Request<B>, peer: IpAddr) -> Reply {
        let target = Target::parse(request.uri().path());
        let route = target.as_ref().map_or(Route::Unknown, |target| target.resource.route());
        let (uri, headers) = (request.uri(), request.headers());
        let reply = match *request.method() {
            Method::OPTIONS => reply::preflight(),
            Method::GET => self.get(target, Asked { uri, headers, body: true }, peer).await,
            Method::HEAD => {
                // Ranges are for GET alone (RFC 9110, 14.2).
                let mut headers = headers.clone();
                headers.remove(RANGE);
                let asked = Asked { uri, headers: &headers, body: false };
                reply::without_body(self.get(target, asked, peer).await)
            }
            _ => Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
                "use GET, HEAD or OPTIONS",
            )
            .into_reply(),
        };
        self.meter.count(route, reply.status(), reply.body().rope().len());
        reply
    }

    async fn get(
        &self,
        target: Result<Target, PathError>,
        asked: Asked<'_>,
        peer: IpAddr,
    ) -> Reply {
        let Asked { uri, headers, .. } = asked;
        let answer = async {
            let target = target.map_err(bad_path)?;
            let query = Query::parse(uri.query().unwrap_or(""));
            let token = bearer(headers)
                .or_else(|| query.as_ref().ok().and_then(|query| query.token.as_deref()));
            let nearness = names::nearness(headers, uri);
            self.allow(Caller { peer, token, nearness }, &target.stream)?;
            let query = query.map_err(|why| bad_request("invalid-directive", why))?;
            self.answer(&target, &query, asked).await
        };
        answer.await.unwrap_or_else(Failure::into_reply)
    }

    pub(super) fn allow(&self, caller: Caller<'_>, name: &StreamName) -> Result<(), Failure> {
        self.access.check(caller, Action::Play, Some(name)).map_err(|why| {
            let status = match caller.token {
                Some(_) => StatusCode::FORBIDDEN,
                None => StatusCode::UNAUTHORIZED,
            };
            Failure::new(status, "not-allowed", "Not allowed", why.to_string())
        })
    }

    /// The stream, taken from its owner where that is another node. One that has ended here may have
    /// begun anew there.
    pub(super) fn stream(&self, target: &Target) -> Result<Arc<StreamRenditions>, Failure> {
        let known = self.packager.get(&target.stream);
        if let Some(known) = &known
            && known.broadcast().state() != BroadcastState::Ended
        {
            return Ok(Arc::clone(known));
        }
        let found = self.demand.find(&target.stream).map(|found| self.packager.attach(&found));
        found.or(known).ok_or_else(|| stream_not_found(target))
    }

    async fn answer(
        &self,
        target: &Target,
        query: &Query,
        asked: Asked<'_>,
    ) -> Result<Reply, Failure> {
        let headers = asked.headers;
        let stream = self.stream(target)?;
        match &target.resource {
            Resource::Multivariant => self.multivariant(&stream, headers).await,
            Resource::Playlist { rendition } => {
                let rendition = self.rendition(&stream, rendition).await?;
                if query.msn.is_none() {
                    start::after_video(&self.waiting, &stream, &rendition).await;
                }
                let reply = self.playlist(&stream, &rendition, query, asked).await;
                if query.msn.is_none() {
                    start::placed(&stream, &rendition);
                }
                reply
            }
            Resource::Init { rendition, version } => {
                let rendition = existing(&stream, rendition)?;
                let found = rendition.version().snapshot().init(*version);
                let rope = found.ok_or_else(|| media_not_found("init section"))?;
                Ok(reply::media(&rope, &format!("i{version}"), rendition.kind(), headers))
            }
            Resource::Segment { rendition, msn } => {
                let rendition = existing(&stream, rendition)?;
                let rope = self.media(&rendition, |snapshot| snapshot.segment(*msn)).await?;
                Ok(reply::media(&rope, &msn.to_string(), rendition.kind(), headers))
            }
            Resource::Part { rendition, msn, part } => {
                let rendition = existing(&stream, rendition)?;
                let found = self.media(&rendition, |snapshot| snapshot.part(*msn, *part)).await?;
                let name = format!("{}.{}", found.seq, found.index);
                Ok(reply::media(&found.data, &name, rendition.kind(), headers))
            }
        }
    }

    async fn multivariant(
        &self,
        stream: &StreamRenditions,
        headers: &HeaderMap,
    ) -> Result<Reply, Failure> {
        let wanted = self.wanted(stream);
        let watch = vec![stream.changes()];
        let waited = until(&self.waiting, watch, |changes| {
            let list = stream.list();
            // The first receiver watches the list; one follows for each rendition in it.
            for rendition in list.iter().skip(changes.len() - 1) {
                changes.push(rendition.changes());
            }
            if settled(&list, &wanted, stream) {
                Look::Done(())
            } else {
                Look::Wait(self.options.ready_timeout)
            }
        });
        match waited.await {
            Ok(()) | Err(Unanswered::TimedOut) => {}
            Err(why) => return Err(unanswered(why)),
        }
        start::next_part(&self.waiting, stream).await;
        let list = stream.list();
        let entry = |rendition: &Arc<Rendition>| {
            let entry = || Entry::of(rendition.name().as_str(), rendition.version().snapshot());
            goes_on(stream, rendition).then(entry).flatten()
        };
        let entries: Vec<Entry> = list.iter().filter_map(entry).collect();
        let text = multivariant::render(&entries, self.options.audio)
            .ok_or_else(|| nothing_to_list(&list))?;
        let (text, encoding) = stream.multivariant(text, reply::accepted(headers));
        Ok(reply::playlist(text, encoding, None))
    }

    /// The audio codecs to be listed that are, or are about to be, there.
    fn wanted(&self, stream: &StreamRenditions) -> Vec<AudioCodec> {
        let tracks = stream.broadcast().tracks();
        if !tracks.iter().any(|track| track.kind() == MediaKind::Audio) {
            return Vec::new();
        }
        let codecs: &[AudioCodec] = match self.options.audio {
            AudioChoice::Aac => &[AudioCodec::Aac],
            AudioChoice::Opus => &[AudioCodec::Opus],
            AudioChoice::Both => &[AudioCodec::Aac, AudioCodec::Opus],
        };
        let name = stream.broadcast().name();
        codecs.iter().copied().filter(|codec| self.demand.want(name, *codec)).collect()
    }

    /// The rendition of that name; one that is made on demand is asked for and waited for, and so
    /// is one whose track has only just been announced.
    pub(super) async fn rendition(
        &self,
        stream: &StreamRenditions,
        name: &str,
    ) -> Result<Arc<Rendition>, Failure> {
        let codec = match stream.get(name) {
            Some(there) if there.kind() == MediaKind::Video => return live(stream, there),
            Some(there) => codec_of(&there).or(codec_named(name)),
            None => codec_named(name),
        };
        let broadcast = stream.broadcast();
        let made = codec.is_some_and(|codec| self.demand.want(broadcast.name(), codec));
        let tracks = broadcast.tracks();
        let announced =
            tracks.is_empty() || tracks.iter().any(|track| track.name().as_str() == name);
        if !made && !announced {
            return existing(stream, name).and_then(|there| live(stream, there));
        }
        let look = |changes: &mut Vec<_>| match stream.get(name) {
            Some(there) if !is_behind(stream, &there) => Look::Done(there),
            Some(there) => {
                // The first receiver watches the list; this one the rendition itself.
                if changes.len() == 1 {
                    changes.push(there.changes());
                }
                Look::Wait(self.options.ready_timeout)
            }
            None => Look::Wait(self.options.ready_timeout),
        };
        match until(&self.waiting, vec![stream.changes()], look).await {
            Ok(there) => Ok(there),
            Err(Unanswered::TimedOut) => {
                existing(stream, name).and_then(|there| live(stream, there))
            }
            Err(why) => Err(unanswered(why)),
        }
    }

    async fn playlist(
        &self,
        stream: &StreamRenditions,
        rendition: &Rendition,
        query: &Query,
        asked: Asked<'_>,
    ) -> Result<Reply, Failure> {
        if query.part.is_some() && query.msn.is_none() {
            let why = "_HLS_part needs _HLS_msn: give the number of the part's segment too";
            return Err(bad_request("invalid-directive", why));
        }
        let look = |_: &mut Vec<_>| {
            let version = rendition.version();
            let snapshot = version.snapshot();
            match query.msn.map(|msn| snapshot.reload(msn, query.part)) {
                Some(Reload::TooFar { last }) => Look::Done(Err(too_far(last))),
                Some(Reload::Wait) => match &snapshot.unsupported {
                    // The next publisher's codec: what is waited for will not come.
                    Some(why) => Look::Done(Err(not_in_hls(why))),
                    None => Look::Wait(self.patience(snapshot)),
                },
                None | Some(Reload::Now) if snapshot.is_ready() => Look::Done(Ok(version)),
                None | Some(Reload::Now) => match (&snapshot.unsupported, snapshot.ended) {
                    (Some(why), _) => Look::Done(Err(not_in_hls(why))),
                    (None, true) => Look::Done(Err(media_not_found("rendition has no media: it"))),
                    (None, false) => Look::Wait(self.options.ready_timeout),
                },
            }
        };
        let version = until(&self.waiting, vec![rendition.changes()], look)
            .await
            .unwrap_or_else(|why| Err(unanswered(why)))?;
        let flavour = if query.skip { Flavour::Delta } else { Flavour::Full };
        let reports = || stream.reports_without(rendition.name());
        let (text, encoding) = version
            .playlist(flavour, reply::accepted(asked.headers), reports)
            .ok_or_else(|| unanswered(Unanswered::TimedOut))?;
        if asked.body {
            let asked_for = (query.msn, query.part);
            audience::note(stream, rendition, asked_for, version.snapshot(), 1);
        }
        Ok(match query.msn {
            Some(_) => reply::blocking(text, encoding, version.snapshot()),
            None => reply::playlist(text, encoding, None),
        })
    }

    /// Waits for media that is to come.
    async fn media<T>(
        &self,
        rendition: &Rendition,
        find: impl Fn(&Snapshot) -> Find<T>,
    ) -> Result<T, Failure> {
        let look = |_: &mut Vec<_>| {
            let version = rendition.version();
            match find(version.snapshot()) {
                Find::Found(found) => Look::Done(Ok(found)),
                Find::Wait => Look::Wait(self.patience(version.snapshot())),
                Find::Gone => Look::Done(Err(media_not_found("segment or part"))),
            }
        };
        until(&self.waiting, vec![rendition.changes()], look)
            .await
            .unwrap_or_else(|why| Err(unanswered(why)))
    }

    fn patience(&self, snapshot: &Snapshot) -> Duration {
        if snapshot.is_ready() {
            let target = snapshot.target_duration_s.unwrap_or(TARGET_GUESS_S);
            Duration::from_secs(u64::from(target.saturating_mul(BLOCKED_TARGETS)))
        } else {
            self.options.ready_timeout
        }
    }
}

/// Whether waiting longer would not make the multivariant playlist any better.
fn settled(list: &[Arc<Rendition>], wanted: &[AudioCodec], stream: &StreamRenditions) -> bool {
    let versions: Vec<_> = list.iter().map(|rendition| rendition.version()).collect();
    let ready = |snapshot: &Snapshot| snapshot.is_ready() || snapshot.unsupported.is_some();
    let all_ready = list.len() >= stream.broadcast().tracks().len()
        && !list.is_empty()
        && versions.iter().all(|version| ready(version.snapshot()));
    let old = versions.iter().any(|version| {
        let snapshot = version.snapshot();
        let micros: i64 = snapshot.segments.iter().map(|segment| segment.micros()).sum();
        snapshot.ended || (snapshot.is_ready() && micros >= SETTLED_MICROS)
    });
    let has = |codec: &AudioCodec| {
        versions.iter().any(|version| {
            let named = |c: &headwater_media::Codec| c.name() == codec.name();
            let snapshot = version.snapshot();
            snapshot.is_ready() && snapshot.config.as_ref().is_some_and(|c| named(&c.codec))
        })
    };
    ((all_ready && start::has_begun(stream)) || old) && wanted.iter().all(has)
}

/// Whether a rendition goes on as long as its stream does. One whose track the publisher that
/// returned does not bring has stopped for good: a player that begins with it never plays, and one
/// that plays it waits for ever.
pub(super) fn goes_on(stream: &StreamRenditions, rendition: &Rendition) -> bool {
    let broadcast = stream.broadcast();
    broadcast.state() == BroadcastState::Ended || broadcast.track(rendition.name()).is_some()
}

/// The rendition, unless it has stopped: its player shall begin anew at once, with what is left.
fn live(stream: &StreamRenditions, there: Arc<Rendition>) -> Result<Arc<Rendition>, Failure> {
    if goes_on(stream, &there) {
        return Ok(there);
    }
    let why = "the stream goes on without this rendition: load its multivariant playlist again";
    let title = "Rendition not found";
    Err(Failure::new(StatusCode::NOT_FOUND, "rendition-not-found", title, why))
}

fn existing(stream: &StreamRenditions, name: &str) -> Result<Arc<Rendition>, Failure> {
    stream.get(name).ok_or_else(|| {
        let names: Vec<_> = stream.list().iter().map(|other| other.name().to_string()).collect();
        let detail = format!("the stream has no such rendition; it has: {}", names.join(", "));
        Failure::new(StatusCode::NOT_FOUND, "rendition-not-found", "Rendition not found", detail)
    })
}

fn codec_of(rendition: &Rendition) -> Option<AudioCodec> {
    let version = rendition.version();
    let codec = &version.snapshot().config.as_ref()?.codec;
    [AudioCodec::Aac, AudioCodec::Opus].into_iter().find(|known| known.name() == codec.name())
}

/// Whether a rendition that is made on demand has yet to come up to the others: what it lists from
/// before it was last let go is no longer live.
fn is_behind(stream: &StreamRenditions, rendition: &Rendition) -> bool {
    if codec_named(rendition.name().as_str()).is_none() {
        return false;
    }
    let list = stream.list();
    let others = list.iter().filter(|other| other.name() != rendition.name());
    let edge = others.filter_map(|other| other.last_msn()).max();
    edge.is_some_and(|edge| rendition.last_msn().is_none_or(|own| own + 1 < edge))
}

/// The codec of a rendition that is made on demand, by its name.
fn codec_named(name: &str) -> Option<AudioCodec> {
    let suffix = name.strip_prefix("audio-")?;
    [AudioCodec::Aac, AudioCodec::Opus].into_iter().find(|known| known.name() == suffix)
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn bad_path(error: PathError) -> Failure {
    match error {
        PathError::Name(why) => bad_request("invalid-stream-name", why),
        PathError::Unknown => Failure::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            "playlists are at /hls/{stream}/index.m3u8 and what they list",
        ),
    }
}

fn bad_request(slug: &'static str, why: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, slug, "Bad request", why)
}

fn too_far(last: u64) -> Failure {
    let why = format!("that is too far ahead: the last whole segment of the playlist is {last}");
    bad_request("too-far-ahead", why)
}

fn stream_not_found(target: &Target) -> Failure {
    let why = format!("stream {} is not live here; publish it or check the name", target.stream);
    Failure::new(StatusCode::NOT_FOUND, "stream-not-found", "Stream not found", why).retry_after(2)
}

fn media_not_found(what: &str) -> Failure {
    let why =
        format!("the {what} is not there: it has left the playlist too long ago, or never was");
    Failure::new(StatusCode::NOT_FOUND, "media-not-found", "Media not found", why)
}

fn not_in_hls(why: &str) -> Failure {
    let why = format!("HLS cannot carry this rendition: {why}; or play it by WHEP");
    Failure::new(StatusCode::NOT_FOUND, "codec-not-in-hls", "Codec not in HLS", why)
}

/// Why a multivariant playlist would be empty.
fn nothing_to_list(list: &[Arc<Rendition>]) -> Failure {
    let unsupported = list.iter().find_map(|r| r.version().snapshot().unsupported.clone());
    match unsupported {
        Some(why) => not_in_hls(&why),
        None => unanswered(Unanswered::TimedOut),
    }
}

pub(super) fn unanswered(why: Unanswered) -> Failure {
    let (slug, title, detail) = match why {
        Unanswered::Full => (
            "too-many-waiting",
            "Too many requests are waiting",
            "[limits] hls_waiting is reached; try again, or use another node",
        ),
        Unanswered::TimedOut => (
            "media-not-ready",
            "Media not ready",
            "nothing came in time: the publisher has stopped sending, or its first segment has not \
             ended, which takes its keyframe interval ([media] max_group at most); try again",
        ),
        Unanswered::Draining => (
            "shutting-down",
            "Shutting down",
            "this node is shutting down; the stream goes on at the others",
        ),
    };
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, slug, title, detail).retry_after(1)
}
