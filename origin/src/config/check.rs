//! Checks of values against each other, which no key can make alone.
//!
//! Not here: what one value may be (`value`, and the bounds in `schema`).

use std::net::{IpAddr, SocketAddr};

use super::read::{Origin, Reading};
use super::schema::RawConfig;
use super::value::Value as _;

/// Puts the listeners that were not given an address of their own on that of `bind`.
pub(super) fn bind(reading: &mut Reading) {
    let Some(ip) = reading.raw.general.bind else { return };
    let free = |key: &str| reading.origin(key) == Origin::Default;
    let (http, webrtc) = (free("http.listen"), free("webrtc.listen"));
    let (srt, rtmp) = (free("srt.listen"), free("rtmp.listen"));
    // Nobody can be told to call "every interface".
    let cluster = free("cluster.listen") && !ip.is_unspecified();
    let raw = &mut reading.raw;
    for (moves, listen) in [
        (http, &mut raw.http.listen),
        (webrtc, &mut raw.webrtc.listen),
        (srt, &mut raw.srt.listen),
        (rtmp, &mut raw.rtmp.listen),
        (cluster, &mut raw.cluster.listen),
    ] {
        if moves {
            listen.set_ip(ip);
        }
    }
}

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
    if raw.cluster.enabled {
        cluster_times(reading, &raw);
        cluster_reach(reading, &raw);
    }
    joining(reading, &raw);
}

/// Times of the cluster that would make it elect, or bury, without need.
fn cluster_times(reading: &mut Reading, raw: &RawConfig) {
    let own = &raw.cluster;
    let (least, most) = (own.election_min.render(), own.election_max.render());
    if own.election_min < own.heartbeat * 2 {
        let heartbeat = own.heartbeat.render();
        blame(
            reading,
            (
                "cluster.heartbeat",
                format!("must be half of cluster.election_min at most, which is {least}"),
            ),
            (
                "cluster.election_min",
                format!("must be twice cluster.heartbeat at least, which is {heartbeat}"),
            ),
        );
    }
    if own.election_min >= own.election_max {
        blame(
            reading,
            (
                "cluster.election_min",
                format!("must be shorter than cluster.election_max, which is {most}"),
            ),
            (
                "cluster.election_max",
                format!("must be longer than cluster.election_min, which is {least}"),
            ),
        );
    }
    if own.suspect_after < own.keep_alive * 2 {
        let (suspect, keep_alive) = (own.suspect_after.render(), own.keep_alive.render());
        blame(
            reading,
            (
                "cluster.suspect_after",
                format!("must be twice cluster.keep_alive at least, which is {keep_alive}"),
            ),
            (
                "cluster.keep_alive",
                format!("must be half of cluster.suspect_after at most, which is {suspect}"),
            ),
        );
    }
}

/// An address at which no other node can reach this one.
fn cluster_reach(reading: &mut Reading, raw: &RawConfig) {
    let own = &raw.cluster;
    if own.advertise.is_some() {
        return;
    }
    let ip = own.listen.ip();
    if ip.is_unspecified() {
        let message = "is every interface: set cluster.advertise to the address at which the \
                       other nodes reach this one";
        blame(reading, ("cluster.listen", message.into()), ("cluster.advertise", message.into()));
    }
    let join = own.join.as_ref().map(|join| join.host().trim_matches(['[', ']']));
    let far = join.and_then(|host| host.parse::<IpAddr>().ok()).filter(|ip| !ip.is_loopback());
    if let Some(far) = far
        && ip.is_loopback()
    {
        blame(
            reading,
            ("cluster.listen", format!("{ip} is this machine's own, where {far} cannot reach it")),
            (
                "cluster.join",
                format!("cannot reach cluster.listen, which is {ip}: set it to another address"),
            ),
        );
    }
}

/// What belongs to joining, and is there without the rest.
fn joining(reading: &mut Reading, raw: &RawConfig) {
    let own = &raw.cluster;
    if own.join.is_some() && !own.enabled {
        blame(
            reading,
            ("cluster.join", "needs cluster.enabled = true".into()),
            ("cluster.enabled", "must be true to join others (cluster.join)".into()),
        );
    }
    if own.join_token.is_some() && own.join_token_file.is_some() {
        let message = "give cluster.join_token or cluster.join_token_file, not both";
        blame(
            reading,
            ("cluster.join_token_file", message.into()),
            ("cluster.join_token", message.into()),
        );
    }
    if own.join.is_none() && (own.join_token.is_some() || own.join_token_file.is_some()) {
        let warning = "there is a join token but no cluster.join (--join) that says where to join: \
                       the token is not used";
        reading.warnings.push(warning.into());
    }
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
        ("cluster.listen", raw.cluster.enabled, raw.cluster.listen, 1),
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
            ("[srt]\nlisten = \"0.0.0.0:4443\"", 2, "srt.listen"),
            ("[cluster]\nheartbeat = \"150ms\"", 2, "cluster.heartbeat"),
            ("[cluster]\nelection_max = \"200ms\"", 2, "cluster.election_max"),
            ("[cluster]\nsuspect_after = \"150ms\"", 2, "cluster.suspect_after"),
            ("[cluster]\nlisten = \"0.0.0.0:4443\"", 2, "cluster.listen"),
            ("[cluster]\njoin = \"10.0.0.1:4443\"", 2, "cluster.join"),
            ("[cluster]\nenabled = false\njoin = \"a:1\"", 3, "cluster.join"),
        ] {
            let errors = Config::read(Some(("f", text)), &[], []).unwrap_err().errors;
            let found = errors.iter().any(|e| e.origin == Origin::Line(line) && e.key == key);
            assert!(found, "{text:?} gives {errors:?}");
        }
    }

    #[test]
    fn a_join_token_is_given_once_and_is_of_no_use_without_a_place_to_join() {
        let both = "[cluster]\njoin_token_file = \"f\"";
        let token = headwater_cluster::identity::JoinToken::create(
            headwater_cluster::identity::ClusterId::from_bytes([1; 16]),
            b"ca",
        );
        let variable = ("HEADWATER_JOIN_TOKEN".to_owned(), token.unwrap().to_string());
        let errors = Config::read(Some(("f", both)), &[], [variable.clone()]).unwrap_err().errors;
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].key, "cluster.join_token_file");
        let config = Config::read(None, &[], [variable.clone()]).unwrap();
        assert!(config.warnings().iter().any(|warning| warning.contains("cluster.join")));
        let join = ("HEADWATER_CLUSTER__JOIN".to_owned(), "127.0.0.1:4443".to_owned());
        let config = Config::read(None, &[], [variable, join]).unwrap();
        assert_eq!(config.warnings(), &[] as &[String]);
        assert!(config.values().cluster.join_token.is_some());
    }

    #[test]
    fn listeners_on_any_free_port_or_switched_off_do_not_collide() {
        let text = "[http]\nlisten = \"127.0.0.1:0\"\n[rtmp]\nlisten = \"127.0.0.1:0\"\n\
                    [srt]\nenabled = false\nlisten = \"0.0.0.0:8189\"";
        assert!(Config::read(Some(("f", text)), &[], []).is_ok());
    }
}
