//! A virtual player: media goes into its buffer, and it plays in real time from the position at
//! which it joined. Where the buffer runs empty it stalls until more comes; it never speeds up,
//! as hls.js does not by default.
//!
//! Not here: what is fetched (`viewer`), clocks.

use std::time::Duration;

use super::units::{At, Media};

/// What must lie ahead before it begins to play, or plays on after a stall: browsers wait until
/// they can show some frames, not one.
const AHEAD_MIN: Media = Media::from_micros(100_000);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Player {
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// It waits for the position at which it will begin; none where that is not known.
    Starting { position: Option<Media> },
    /// At `since` it was at `position`.
    Playing { position: Media, since: At },
    /// It stands at `position`, since the buffer was played out.
    Stalled { position: Media, since: At },
}

/// What happened in the player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It began to play.
    Started,
    /// It plays again, after so long.
    Resumed(Duration),
}

impl Default for Player {
    fn default() -> Self {
        Self { state: State::Starting { position: None } }
    }
}

impl Player {
    /// Where it is to begin.
    pub fn seek(&mut self, position: Media) {
        self.state = State::Starting { position: Some(position) };
    }

    /// Where it began or will begin; none before [`Player::seek`].
    #[must_use]
    pub fn start(&self) -> Option<Media> {
        match self.state {
            State::Starting { position } => position,
            State::Playing { position, .. } | State::Stalled { position, .. } => Some(position),
        }
    }

    /// Whether it plays, or stalls, and has begun thus.
    #[must_use]
    pub fn has_started(&self) -> bool {
        !matches!(self.state, State::Starting { .. })
    }

    /// How far behind the position `edge` it plays at `now`, where its buffer ends at `end`.
    #[must_use]
    pub fn behind(&self, now: At, end: Media, edge: Media) -> Option<Media> {
        match self.state {
            State::Starting { .. } => None,
            State::Playing { position, since } => {
                Some(edge - (position + now.since(since).into()).min(end))
            }
            State::Stalled { position, .. } => Some(edge - position),
        }
    }

    /// At `now` the buffer's end moved from `before` to `end`.
    pub fn buffer(&mut self, now: At, before: Media, end: Media) -> Option<Event> {
        self.run_to(now, before);
        match self.state {
            State::Starting { position: Some(position) } if end - position >= AHEAD_MIN => {
                self.state = State::Playing { position, since: now };
                Some(Event::Started)
            }
            State::Stalled { position, since } if end - position >= AHEAD_MIN => {
                self.state = State::Playing { position, since: now };
                Some(Event::Resumed(now.since(since)))
            }
            _ => None,
        }
    }

    /// It ends at `now`, with a buffer up to `end`: how long it stands, if it does.
    pub fn finish(&mut self, now: At, end: Media) -> Option<Duration> {
        self.run_to(now, end);
        match self.state {
            State::Stalled { since, .. } => Some(now.since(since)),
            _ => None,
        }
    }

    /// Plays on until `now`, or until the buffer's end.
    fn run_to(&mut self, now: At, end: Media) {
        let State::Playing { position, since } = self.state else { return };
        let left = end - position;
        if Media::from(now.since(since)) > left {
            self.state = State::Stalled { position: end, since: since + left.duration() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> At {
        At::after(Duration::from_millis(ms))
    }

    fn media(ms: i64) -> Media {
        Media::from_micros(ms * 1_000)
    }

    #[test]
    fn it_starts_once_the_buffer_reaches_over_its_position() {
        let mut player = Player::default();
        assert_eq!(player.buffer(at(0), media(0), media(500)), None, "no position yet");
        player.seek(media(900));
        assert_eq!(player.buffer(at(10), media(500), media(900)), None, "nothing to show at 900");
        assert_eq!(player.buffer(at(10), media(900), media(999)), None, "hardly anything");
        assert_eq!(player.buffer(at(20), media(900), media(1_100)), Some(Event::Started));
    }

    #[test]
    fn it_plays_on_while_media_comes_in_time() {
        let mut player = Player::default();
        player.seek(media(0));
        assert_eq!(player.buffer(at(0), media(0), media(600)), Some(Event::Started));
        let mut end = 600;
        for tick in 1..100 {
            let event = player.buffer(at(tick * 200), media(end), media(end + 200));
            assert_eq!(event, None);
            end += 200;
        }
        assert_eq!(player.finish(at(99 * 200), media(end)), None);
        assert_eq!(player.behind(at(99 * 200), media(end), media(end)), Some(media(600)));
    }

    #[test]
    fn a_stall_lasts_from_the_buffers_end_to_the_next_media() {
        let mut player = Player::default();
        player.seek(media(0));
        player.buffer(at(0), media(0), media(600));
        let resumed = player.buffer(at(850), media(600), media(800));
        assert_eq!(resumed, Some(Event::Resumed(Duration::from_millis(250))));
        assert_eq!(player.buffer(at(1_050), media(800), media(1_000)), None, "at its very end");
        assert_eq!(player.finish(at(1_300), media(1_000)), Some(Duration::from_millis(50)));
    }
}
