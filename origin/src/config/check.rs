//! Checks of values against each other, which no key can make alone.
//!
//! Not here: what one value may be (`value`, and the bounds in `schema`).

use std::net::SocketAddr;

use super::read::{Origin, Reading};
use super::schema::RawConfig;
use super::value::Value as _;

/// Adds an error for each pair of values that do not fit together.
pub(super) fn check(reading: &mut Reading) {
    let raw = reading.raw.clone();
    if raw.media.max_group > raw.media.window {
        let (window, group) = (raw.media.window.render(), raw.media.max_group.render());
        blame(
            reading,
            ("media.max_group", format!("must not be longer than media.window, which is {window}")),
            ("media.window", format!("must not be shorter than media.max_group, which is {group}")),
        );
    }
    if raw.limits.frame_bytes > raw.limits.track_bytes {
        let (track, frame) = (raw.limits.track_bytes.render(), raw.limits.frame_bytes.render());
        blame(
            reading,
            (
                "limits.frame_bytes",
                format!("must not be larger than limits.track_bytes, which is {track}"),
            ),
            (
                "limits.track_bytes",
                format!("must not be smaller than limits.frame_bytes, which is {frame}"),
            ),
        );
    }
    if raw.webrtc.enabled && !raw.http.enabled {
        blame(
            reading,
            ("webrtc.enabled", "needs http.enabled = true, which carries WHIP and WHEP".into()),
            ("http.enabled", "carries WHIP and WHEP: set webrtc.enabled = false too".into()),
        );
    }
    let workers = u16::try_from(raw.webrtc.workers.max(1)).unwrap_or(u16::MAX);
    let first = raw.webrtc.listen.port();
    if raw.webrtc.enabled && first != 0 && first.checked_add(workers - 1).is_none() {
        let message = format!("{workers} workers need as many ports from {first} on, up to 65535");
        blame(reading, ("webrtc.workers", message.clone()), ("webrtc.listen", message));
    }
    collisions(reading, &raw, workers);
}

/// Adds an error to the first of two keys that was given: a default has no line, and is not what
/// has to be mended.
fn blame(reading: &mut Reading, one: (&str, String), other: (&str, String)) {
    let given = |key: &str| reading.origin(key) != Origin::Default;
    let (key, message) = if given(one.0) || !given(other.0) { one } else { other };
    let origin = reading.origin(key);
    reading.error(origin, key, message);
}

/// Adds an error for each two listeners that want the same port.
fn collisions(reading: &mut Reading, raw: &RawConfig, workers: u16) {
    let tcp = [
        ("http.listen", raw.http.enabled, raw.http.listen, 1),
        ("webrtc.listen", raw.webrtc.enabled, raw.webrtc.listen, workers),
        ("rtmp.listen", raw.rtmp.enabled, raw.rtmp.listen, 1),
    ];
    let udp = [
        ("webrtc.listen", raw.webrtc.enabled, raw.webrtc.listen, workers),
        ("srt.listen", raw.srt.enabled, raw.srt.listen, 1),
    ];
    for (transport, listeners) in [("TCP", &tcp[..]), ("UDP", &udp[..])] {
        for (index, (key, on, address, ports)) in listeners.iter().enumerate() {
            for (other_key, other_on, other, other_ports) in listeners.iter().take(index) {
                if *on && *other_on && overlap((*address, *ports), (*other, *other_ports)) {
                    let taken = |address: &SocketAddr, by: &str| {
                        format!("{address} ({transport}) is taken by {by} already")
                    };
                    blame(
                        reading,
                        (*key, taken(address, other_key)),
                        (*other_key, taken(other, key)),
                    );
                }
            }
        }
    }
}

/// Whether two ranges of ports on their addresses collide; port 0 never does.
fn overlap((a, a_ports): (SocketAddr, u16), (b, b_ports): (SocketAddr, u16)) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    let (a_first, b_first) = (u32::from(a.port()), u32::from(b.port()));
    let (a_end, b_end) = (a_first + u32::from(a_ports), b_first + u32::from(b_ports));
    same_ip && a_first != 0 && b_first != 0 && a_first < b_end && b_first < a_end
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Origin};

    #[test]
    fn values_that_do_not_fit_together_are_told_with_the_line_of_one() {
        for (text, line, key) in [
            ("[media]\nwindow = \"5s\"\nmax_group = \"10s\"", 3, "media.max_group"),
            ("[limits]\ntrack_bytes = \"1MiB\"\nframe_bytes = \"2MiB\"", 3, "limits.frame_bytes"),
            ("[rtmp]\nlisten = \"0.0.0.0:8080\"", 2, "rtmp.listen"),
            ("[srt]\nlisten = \"127.0.0.1:8190\"\n[webrtc]\nworkers = 4", 2, "srt.listen"),
            ("[webrtc]\nlisten = \"0.0.0.0:65535\"\nworkers = 2", 3, "webrtc.workers"),
            ("[webrtc]\nenabled = true\n[http]\nenabled = false", 2, "webrtc.enabled"),
            // Where one of the two is a default, the other is to blame: it has a line.
            ("[media]\nwindow = \"5s\"", 2, "media.window"),
            ("[limits]\ntrack_bytes = \"1MiB\"", 2, "limits.track_bytes"),
            ("[http]\nenabled = false", 2, "http.enabled"),
            ("\n[http]\nlisten = \"0.0.0.0:1935\"", 3, "http.listen"),
            ("[webrtc]\nlisten = \"0.0.0.0:8890\"", 2, "webrtc.listen"),
        ] {
            let errors = Config::read(Some(("f", text)), &[], []).unwrap_err().errors;
            let found = errors.iter().any(|e| e.origin == Origin::Line(line) && e.key == key);
            assert!(found, "{text:?} gives {errors:?}");
        }
    }

    #[test]
    fn listeners_on_any_free_port_or_switched_off_do_not_collide() {
        let text = "[http]\nlisten = \"127.0.0.1:0\"\n[rtmp]\nlisten = \"127.0.0.1:0\"\n\
                    [srt]\nenabled = false\nlisten = \"0.0.0.0:8189\"";
        assert!(Config::read(Some(("f", text)), &[], []).is_ok());
    }
}
