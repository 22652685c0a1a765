//! What each metric of the node means, for the `HELP` lines of `/metrics`.
//!
//! Not here: where they are counted. A rule of the tests (`tidy`) keeps this list whole.

use metrics::{KeyName, Recorder, Unit};

/// Name and meaning, by name.
const HELP: [(&str, &str); 125] = [
    ("headwater_audio_bridge_errors_total", "Packets of sound that could not be transcoded."),
    ("headwater_audio_bridges", "Audio transcodes that run now."),
    ("headwater_audio_bridges_refused_total", "Audio transcodes refused by a limit."),
    (
        "headwater_cluster_applied_index",
        "Index of the newest entry of the log that this node has applied.",
    ),
    ("headwater_cluster_certificate_remaining_seconds", "Until this node's certificate ends."),
    ("headwater_cluster_connected_nodes", "Other nodes to which this one has a connection."),
    ("headwater_cluster_feed_followers", "Relays that this origin feeds with the directory."),
    ("headwater_cluster_feed_snapshots_total", "Whole directories that were sent to relays."),
    ("headwater_cluster_feed_switches_total", "Times that this relay began to follow an origin."),
    (
        "headwater_cluster_groups_unfilled_total",
        "Groups in flight at a change of owner whose rest was nowhere to be had.",
    ),
    ("headwater_cluster_has_leader", "1 if this node knows who leads."),
    ("headwater_cluster_health_changes_total", "Nodes that fell silent or were heard again."),
    ("headwater_cluster_leader", "1 if this node leads."),
    ("headwater_cluster_log_failures_total", "Failures of the disk that has the cluster's log."),
    ("headwater_cluster_log_sync_seconds", "How long the disk took to sync the cluster's log."),
    ("headwater_cluster_log_syncs_total", "Syncs of the cluster's log."),
    ("headwater_cluster_log_writes_total", "Writes to the cluster's log; several share a sync."),
    (
        "headwater_cluster_news_dropped_total",
        "Pauses and ends of streams that the cluster could not be told.",
    ),
    ("headwater_cluster_nodes", "Nodes of the cluster, dead ones included."),
    ("headwater_cluster_owned_streams", "Streams that have an owner, in the whole cluster."),
    ("headwater_cluster_proposals_refused_total", "Proposals refused because too many wait."),
    ("headwater_cluster_propose_seconds", "From a proposal to its answer."),
    ("headwater_cluster_refused_total", "What was refused on the cluster port, by reason."),
    ("headwater_cluster_term", "Raft's term: rises at each election."),
    (
        "headwater_cluster_unreserved_groups_total",
        "Groups whose numbers were used before the cluster had reserved them.",
    ),
    ("headwater_hls_part_latency_seconds", "From the packager's waking to a part's publication."),
    ("headwater_hls_parts_total", "Parts published."),
    ("headwater_hls_parts_unwritable_total", "Parts left out because they could not be written."),
    ("headwater_hls_requests_total", "Requests under /hls/, by route and status."),
    ("headwater_hls_segments_dropped_total", "Segments dropped before their time, by reason."),
    (
        "headwater_hls_segments_torn_total",
        "Segments that became gaps because their rest did not come from another node.",
    ),
    ("headwater_hls_sent_bytes_total", "Bytes of answers under /hls/, by route."),
    ("headwater_hls_viewers", "Viewers by HLS, estimated from the playlists that they took."),
    ("headwater_hls_waiting_refused_total", "LL-HLS requests refused because too many wait."),
    ("headwater_hls_waiting_requests", "LL-HLS requests that wait for a part now."),
    ("headwater_http_connections", "HTTP connections that are open."),
    ("headwater_http_connections_refused_total", "HTTP connections refused by a limit."),
    (
        "headwater_http_header_timeouts_total",
        "Connections closed for headers that came too slowly.",
    ),
    ("headwater_http_idle_timeouts_total", "HTTP/2 connections closed for having no request."),
    ("headwater_http_malformed_total", "Requests that are not HTTP, or whose header is too large."),
    ("headwater_http_write_timeouts_total", "Connections closed for answers not taken."),
    ("headwater_ingest_dropped_total", "Frames of publishers that were dropped, by reason."),
    ("headwater_ingest_mended_total", "Time stamps of publishers that were mended, by reason."),
    ("headwater_process_cpu_seconds_total", "Processor time of the process, user and system."),
    ("headwater_process_open_fds", "File descriptors that are open."),
    ("headwater_process_resident_memory_bytes", "Resident memory of the process."),
    ("headwater_process_threads", "Threads of the process."),
    ("headwater_publish_refused_total", "Publishers refused, by reason."),
    ("headwater_relay_children", "Hops by which other nodes take streams from this one."),
    ("headwater_relay_commands_refused_total", "Commands that a busy or ended hop did not take."),
    (
        "headwater_relay_delay_seconds",
        "From a frame's capture, by its owner's clock, to its arrival from another node.",
    ),
    ("headwater_relay_duplicate_frames_total", "Frames from other nodes that were here already."),
    (
        "headwater_relay_groups_given_up_total",
        "Groups that were too old to be sent on to another node.",
    ),
    (
        "headwater_relay_groups_left_out_total",
        "Groups that were not begun towards a node that is behind.",
    ),
    ("headwater_relay_groups_overtaken_total", "Groups from other nodes that newer ones overtook."),
    ("headwater_relay_groups_skipped_total", "Groups that another node did not send."),
    ("headwater_relay_groups_torn_total", "Groups from other nodes whose rest did not come."),
    ("headwater_relay_hop_clock_offset_seconds", "Another node's clock less this one's, by node."),
    (
        "headwater_relay_hop_round_trip_seconds",
        "Shortest round trip to another node of late, by node.",
    ),
    ("headwater_relay_hops", "Open hops to other nodes."),
    (
        "headwater_relay_keyframe_wishes_total",
        "Viewers' wishes for a keyframe, passed on to the stream's owner.",
    ),
    (
        "headwater_relay_orphans_total",
        "Streams that ended here because no node had brought them for a while.",
    ),
    (
        "headwater_relay_parent_silences_total",
        "Nodes that fell silent while streams were taken from them.",
    ),
    ("headwater_relay_parents", "Hops by which this node takes streams."),
    ("headwater_relay_protocol_errors_total", "Hops closed because of what the other node sent."),
    ("headwater_relay_pulled_streams", "Streams that are taken from other nodes."),
    (
        "headwater_relay_pulls_refused_total",
        "Streams not taken from other nodes, because of a limit.",
    ),
    ("headwater_relay_received_bytes_total", "Bytes of media from other nodes."),
    ("headwater_relay_received_frames_total", "Frames from other nodes."),
    ("headwater_relay_received_groups_total", "Groups from other nodes."),
    (
        "headwater_relay_refusals_total",
        "Streams and groups that other nodes asked for and did not get.",
    ),
    ("headwater_relay_refused_total", "Groups and frames from other nodes that were not taken."),
    ("headwater_relay_rings_total", "Streams not taken from a node that takes them from this one."),
    ("headwater_relay_sent_bytes_total", "Bytes of media sent to other nodes."),
    ("headwater_relay_sent_frames_total", "Frames sent to other nodes."),
    ("headwater_relay_sent_groups_total", "Groups sent to other nodes."),
    (
        "headwater_relay_subscribes_total",
        "Streams asked of other nodes, changes of the node included.",
    ),
    (
        "headwater_relay_subscriptions",
        "Streams that are sent to other nodes, counted for each node.",
    ),
    (
        "headwater_relay_switches_total",
        "Streams that were taken from another node than before, by reason.",
    ),
    ("headwater_relay_tracks_refused_total", "Tracks of other nodes that could not be added here."),
    ("headwater_rtmp_accept_errors_total", "Failures to accept an RTMP connection."),
    ("headwater_rtmp_connections", "RTMP connections that are open."),
    ("headwater_rtmp_connections_closed_total", "RTMP connections closed, by reason."),
    ("headwater_rtmp_connections_refused_total", "RTMP connections refused by a limit."),
    ("headwater_rtmp_connections_total", "RTMP connections accepted."),
    ("headwater_rtmp_publishes_total", "RTMP publish commands, by result."),
    ("headwater_rtmp_received_bytes_total", "Bytes received by RTMP."),
    ("headwater_rtmp_tags_dropped_total", "RTMP media messages that could not be read."),
    ("headwater_rtmp_task_failures_total", "RTMP connections that ended by a fault of the node."),
    ("headwater_rtmp_warnings_total", "Warnings to RTMP publishers, by kind."),
    ("headwater_sessions", "Sessions that are open, by role and protocol."),
    ("headwater_sessions_refused_total", "Sessions refused, by reason."),
    ("headwater_srt_connections", "SRT connections that are open, by role."),
    ("headwater_srt_datagrams_discarded_total", "Datagrams on the SRT port of no use, by reason."),
    ("headwater_srt_messages_unsent_total", "SRT messages dropped because a reader is too slow."),
    ("headwater_srt_packets_dropped_total", "SRT packets given up as too late, by direction."),
    ("headwater_srt_packets_lost_total", "SRT packets found missing, most of them mended later."),
    ("headwater_srt_packets_retransmitted_total", "SRT packets sent again, by direction."),
    ("headwater_srt_packets_total", "SRT data packets, by direction."),
    ("headwater_srt_packets_undecryptable_total", "SRT packets that no key opens."),
    ("headwater_srt_reader_skips_total", "Times an SRT reader was moved on to a newer group."),
    ("headwater_srt_rejects_total", "SRT connections rejected, by code."),
    ("headwater_srt_rtt_seconds", "Round-trip times of SRT connections."),
    ("headwater_srt_socket_errors_total", "Errors of the SRT socket."),
    ("headwater_streams", "Streams that are live or wait for their publisher."),
    ("headwater_ts_lost_total", "Losses found in MPEG-TS, by reason."),
    (
        "headwater_webrtc_bad_frames_total",
        "Frames of WHIP publishers that could not be put together.",
    ),
    ("headwater_webrtc_drops_total", "Frames and packets dropped by WebRTC sessions, by reason."),
    ("headwater_webrtc_nacks_total", "Packets asked for again (RTCP NACK), by kind of session."),
    ("headwater_webrtc_packets_received_total", "Datagrams received by WebRTC."),
    ("headwater_webrtc_packets_resent_total", "Packets that viewers had lost, sent again."),
    ("headwater_webrtc_packets_sent_total", "Datagrams sent by WebRTC."),
    ("headwater_webrtc_plis_total", "Keyframes asked for (RTCP PLI), by kind of session."),
    ("headwater_webrtc_received_bytes_total", "Bytes received by WebRTC."),
    ("headwater_webrtc_refused_total", "WebRTC sessions refused, by the limit."),
    ("headwater_webrtc_requests_total", "WHIP and WHEP requests, by protocol, method and status."),
    ("headwater_webrtc_send_calls_total", "System calls that sent WebRTC datagrams."),
    (
        "headwater_webrtc_send_delay_seconds",
        "From a frame's arrival at this node to its packets' leaving it, a group of viewers.",
    ),
    ("headwater_webrtc_sent_bytes_total", "Bytes sent by WebRTC."),
    ("headwater_webrtc_sessions", "WebRTC sessions that are open, by kind."),
    ("headwater_webrtc_sessions_closed_total", "WebRTC sessions that ended, by kind and reason."),
    ("headwater_webrtc_sessions_total", "WebRTC sessions that began, by kind."),
    ("headwater_webrtc_stray_packets_total", "Datagrams that belong to no session, by reason."),
    ("headwater_whip_frames_undecodable_total", "Frames left out until the next keyframe."),
    ("headwater_whip_frames_unusable_total", "Frames by WHIP that could not be read."),
];

/// What the recorder cannot hold.
pub(super) const PROCESSOR_TIME: (&str, &str) =
    ("headwater_process_cpu_seconds_total", "Processor time of the process, user and system.");

/// Tells the recorder what the metrics mean.
pub(super) fn describe(recorder: &impl Recorder) {
    for (name, text) in HELP {
        // The unit is in the name.
        recorder.describe_gauge(KeyName::from(name), None::<Unit>, text.into());
    }
}
