//! A stream that changes its owner, from either node's end.
//! Not here: publishers that come and go on one node (`super`).

use super::*;

/// What another node has of the bed's stream: its groups, written into a broadcast there.
fn copied(bed: &Bed) -> (Broadcast, Vec<TrackWriter>) {
    let source = bed.core.broadcast();
    let copy = Broadcast::new(source.name().clone(), BusLimits::default());
    let tracks = source.tracks();
    let writers = tracks.iter().map(|track| {
        let mut writer = copy.add_track(track.name().clone(), track.kind()).unwrap();
        for group in track.window().iter() {
            writer.begin_group(group.header().clone()).unwrap();
            for frame in (0..group.len()).filter_map(|index| group.frame(index)) {
                writer.append(frame.clone()).unwrap();
            }
            if group.final_len().is_some() {
                writer.end_group();
            }
        }
        writer
    });
    let writers = writers.collect();
    (copy, writers)
}

#[test]
fn a_publisher_goes_on_here_with_what_another_node_has_begun() {
    let mut there = Bed::new(true, true);
    there.run(0, 130, 60);
    let (broadcast, writers) = copied(&there);
    let before = there.groups("video").last().unwrap().clone();
    let mut here = Bed::new(true, true);
    here.core = StreamCore::adopt(broadcast, IngestOptions::default(), writers);
    let open = here.groups("video").last().unwrap().clone();
    assert!(open.is_torn(), "it is not known to be where the cluster ended it");
    here.now = there.now.plus_micros(500_000);
    here.begin(true, true);
    here.run(0, 130, 60);
    let groups = here.groups("video");
    let first = groups.iter().find(|group| group.header().epoch == here.epoch).unwrap();
    assert_eq!(first.seq(), before.seq().next());
    assert_eq!(first.header().target_duration_s, before.header().target_duration_s);
    assert_eq!(first.header().config.parts, before.header().config.parts);
    assert_eq!(first.header().config.version, before.header().config.version, "one init section");
    let gap = first.header().start.since(before.end()).micros();
    assert!((400_000..900_000).contains(&gap), "half a second went by: {gap}");
    let wall = first.header().wall.micros_since(before.header().wall);
    let media = first.header().start.since(before.header().start).micros();
    assert!((wall - media).abs() < 100_000, "one clock on both nodes: {wall} {media}");
    let audio = here.groups("audio");
    assert_eq!(audio.last().unwrap().seq(), groups.last().unwrap().seq());
}

#[test]
fn groups_end_where_the_cluster_says_and_are_torn_where_they_went_on() {
    for (frames, torn) in [(10, false), (9, true), (11, true)] {
        let mut bed = Bed::new(true, false);
        bed.run(0, 70, 60);
        let open = bed.groups("video").last().unwrap().clone();
        assert_eq!(open.len(), 10);
        let cut = Cut { track: TrackName::video(), group: open.seq(), frames };
        bed.core.cut(&[cut]);
        assert_eq!((open.final_len(), open.is_torn()), (Some(10), torn), "agreed on {frames}");
    }
}
