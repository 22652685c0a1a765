use super::*;

const SIZES: [usize; 12] = [1, 2, 97, 98, 99, 126, 127, 128, 129, 200, 1_000, 5_003];

const PARAMETER_SETS: [&[u8]; 2] = [&[0x67, 1, 2], &[0x68, 3]];
const SEQUENCE_HEADER: &[u8] = &[0x0a, 2, 0xaa, 0xbb];

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7 + size) as u8).collect()
}

fn nals(nals: &[Vec<u8>]) -> Vec<u8> {
    nals.iter().flat_map(|n| [&(n.len() as u32).to_be_bytes()[..], n].concat()).collect()
}

/// A reader of RFC 6184 payloads, written for the tests.
fn h264_units(payloads: &[Arc<[u8]>]) -> Vec<Vec<u8>> {
    let (mut units, mut open) = (Vec::new(), Vec::new());
    for payload in payloads {
        match payload[0] & 0x1f {
            24 => {
                let mut rest = &payload[1..];
                while !rest.is_empty() {
                    let size = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    units.push(rest[2..2 + size].to_vec());
                    rest = &rest[2 + size..];
                }
            }
            28 => {
                if payload[1] & 0x80 != 0 {
                    open = vec![payload[0] & 0xe0 | payload[1] & 0x1f];
                }
                open.extend(&payload[2..]);
                if payload[1] & 0x40 != 0 {
                    units.push(std::mem::take(&mut open));
                }
            }
            _ => units.push(payload.to_vec()),
        }
    }
    assert!(open.is_empty(), "a fragmented unit has no end");
    units
}

fn assert_equal_but_the_last(payloads: &[Arc<[u8]>], limit: usize) {
    for payload in payloads {
        assert!(payload.len() <= limit, "{} > {limit}", payload.len());
    }
    let (_, full) = payloads.split_last().unwrap();
    assert!(full.iter().all(|p| p.len() == limit), "{:?}", full.iter().map(|p| p.len()));
}

#[test]
fn h264_units_of_any_size_come_back_in_order() {
    for size in SIZES {
        let unit = |header: u8| [vec![header], body(size)].concat();
        let frame = nals(&[vec![0x09, 0xf0], vec![0x06, 5], unit(0x65), unit(0x65), vec![12, 1]]);
        let payloads = h264::packetize(&frame, true, &PARAMETER_SETS, 100);
        assert!(payloads.iter().all(|p| p.len() <= 100));
        let expected = vec![vec![0x67, 1, 2], vec![0x68, 3], vec![0x06, 5], unit(0x65), unit(0x65)];
        assert_eq!(h264_units(&payloads), expected, "size {size}");
        let plain = h264::packetize(&nals(&[unit(0x41)]), false, &PARAMETER_SETS, 100);
        assert_eq!(h264_units(&plain), [unit(0x41)]);
        assert_equal_but_the_last(&plain, 100);
    }
}

#[test]
fn h264_parameter_sets_in_the_frame_take_the_place_of_the_configurations() {
    let frame = nals(&[vec![0x67, 9], vec![0x68, 9], vec![0x65, 1]]);
    let units = h264_units(&h264::packetize(&frame, true, &PARAMETER_SETS, 100));
    assert_eq!(units, [vec![0x67, 9], vec![0x68, 9], vec![0x65, 1]]);
}

#[test]
fn malformed_frames_give_what_can_be_read_and_never_panic() {
    let good = nals(&[vec![0x41, 1, 2, 3]]);
    for bad in [&[][..], &[0, 0, 0], &[0xff; 8], &[0, 0, 0, 0]] {
        let frame = [&good, bad].concat();
        assert_eq!(
            h264_units(&h264::packetize(&frame, false, &PARAMETER_SETS, 100)),
            [vec![0x41, 1, 2, 3]]
        );
    }
    for bad in [&[][..], &[0x32], &[0x36], &[0x32, 0x80], &[0x32, 0xff, 0xff], &[0x32, 9, 1]] {
        assert!(av1::packetize(bad, false, SEQUENCE_HEADER, 100).is_empty(), "{bad:?}");
    }
}

/// A reader of AV1 payloads with W = 0, written for the tests: elements, and whether each packet
/// begins a sequence.
fn av1_elements(payloads: &[Arc<[u8]>]) -> Vec<Vec<u8>> {
    let mut elements: Vec<Vec<u8>> = Vec::new();
    let mut continues = false;
    for payload in payloads {
        let header = payload[0];
        assert_eq!(header & 0x37, 0, "W and reserved bits");
        assert_eq!(header & 0x80 != 0, continues, "Z answers Y");
        let mut rest = &payload[1..];
        let mut first = true;
        while !rest.is_empty() {
            let (mut size, mut shift) = (0usize, 0);
            loop {
                let byte = rest[0];
                rest = &rest[1..];
                size |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            assert!(size > 0);
            if first && continues {
                elements.last_mut().unwrap().extend(&rest[..size]);
            } else {
                elements.push(rest[..size].to_vec());
            }
            first = false;
            rest = &rest[size..];
        }
        continues = header & 0x40 != 0;
    }
    assert!(!continues);
    elements
}

fn obu(header: u8, payload: &[u8]) -> Vec<u8> {
    let mut obu = vec![header | 2];
    let mut size = payload.len();
    while size >= 128 {
        obu.push(size as u8 | 0x80);
        size >>= 7;
    }
    obu.push(size as u8);
    obu.extend(payload);
    obu
}

#[test]
fn av1_units_of_any_size_come_back_in_order_and_keyframes_begin_a_sequence() {
    for limit in [100, 129, 130, 131, 300] {
        for size in SIZES {
            let unit = [
                obu(0x12, &[]),
                obu(0x30, &body(size)),
                obu(0x34, &[&[0x20][..], &body(3)].concat()[..]),
            ];
            // The extension byte stands before the size: built by hand.
            let extended = [&[0x36, 0x20, 3][..], &body(3)].concat();
            let unit = [unit[0].clone(), unit[1].clone(), extended].concat();
            let payloads = av1::packetize(&unit, true, SEQUENCE_HEADER, limit);
            assert!(payloads.iter().all(|p| p.len() <= limit));
            let new_sequence: Vec<_> = payloads.iter().map(|p| p[0] & 8 != 0).collect();
            assert!(new_sequence[0] && !new_sequence[1..].contains(&true));
            let expected = vec![
                vec![0x08, 0xaa, 0xbb],
                [vec![0x30], body(size)].concat(),
                [vec![0x34, 0x20], body(3)].concat(),
            ];
            assert_eq!(av1_elements(&payloads), expected, "size {size} limit {limit}");
        }
    }
}

#[test]
fn vp8_payloads_carry_one_picture_id_and_mark_the_start() {
    for size in SIZES {
        let payloads = vpx::packetize_vp8(&body(size), 0x1234, 100);
        assert_equal_but_the_last(&payloads, 100);
        let mut data = Vec::<u8>::new();
        for (index, payload) in payloads.iter().enumerate() {
            let start = if index == 0 { 0x90 } else { 0x80 };
            assert_eq!(payload[..4], [start, 0x80, 0x92, 0x34]);
            data.extend(&payload[4..]);
        }
        assert_eq!(data, body(size));
    }
}

#[test]
fn vp9_frames_name_the_frame_before_as_their_reference() {
    for size in SIZES {
        for keyframe in [true, false] {
            let payloads = vpx::packetize_vp9(&body(size), keyframe, 5, 100);
            assert_equal_but_the_last(&payloads, 100);
            let mut data = Vec::<u8>::new();
            for (index, payload) in payloads.iter().enumerate() {
                let first = if index == 0 { 0x08 } else { 0 };
                let last = if index + 1 == payloads.len() { 0x04 } else { 0 };
                let inter = if keyframe { 0 } else { 0x40 };
                assert_eq!(payload[..3], [0x90 | first | last | inter, 0x80, 5]);
                if !keyframe {
                    assert_eq!(payload[3], 2);
                }
                data.extend(&payload[if keyframe { 3 } else { 4 }..]);
            }
            assert_eq!(data, body(size));
        }
    }
}

#[test]
fn any_bytes_at_all_make_packets_within_the_limit() {
    let mut seed = 3u64;
    for size in 0..2_000 {
        let bytes: Vec<u8> = (0..size % 700)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Small numbers are lengths more often than not.
                (seed >> 56) as u8 >> (seed >> 40 & 7)
            })
            .collect();
        crate::fuzz::access_unit(&bytes);
        crate::fuzz::datagram(&bytes);
        crate::fuzz::offer(&String::from_utf8_lossy(&bytes));
        crate::fuzz::fragment(&String::from_utf8_lossy(&bytes));
    }
}
