//! Whose datagram is it? A cheap look into STUN, and RFC 4571 frames.
//!
//! Not here: checking integrity (the peer's ICE agent does).

/// `0x0001` is a Binding request (RFC 8489 §5).
const BINDING_REQUEST: u16 = 0x0001;
const MAGIC_COOKIE: u32 = 0x2112_A442;
const ATTRIBUTE_USERNAME: u16 = 0x0006;
const HEADER_BYTES: usize = 20;

/// The receiver's user name fragment of a STUN Binding request: what stands before the colon of
/// USERNAME (RFC 8445 §7.2.2). None for anything else.
pub(crate) fn binding_ufrag(datagram: &[u8]) -> Option<&str> {
    let header = datagram.get(..HEADER_BYTES)?;
    let u16_at =
        |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if u16_at(header, 0)? != BINDING_REQUEST {
        return None;
    }
    let cookie = u32::from(u16_at(header, 4)?) << 16 | u32::from(u16_at(header, 6)?);
    let length = usize::from(u16_at(header, 2)?);
    if cookie != MAGIC_COOKIE || HEADER_BYTES + length > datagram.len() {
        return None;
    }
    let mut rest = datagram.get(HEADER_BYTES..HEADER_BYTES + length)?;
    while rest.len() >= 4 {
        let size = usize::from(u16_at(rest, 2)?);
        let value = rest.get(4..4 + size)?;
        if u16_at(rest, 0)? == ATTRIBUTE_USERNAME {
            return std::str::from_utf8(value).ok()?.split_once(':').map(|(ours, _)| ours);
        }
        rest = rest.get(4 + size.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut datagram = vec![0, 1];
        datagram.extend((body.len() as u16).to_be_bytes());
        datagram.extend(MAGIC_COOKIE.to_be_bytes());
        datagram.extend([7; 12]);
        datagram.extend(body);
        datagram
    }

    #[test]
    fn the_ufrag_is_found_behind_other_attributes() {
        let datagram = request(&[(0x8022, b"abc"), (6, b"ours:theirs"), (0x24, &[0; 4])]);
        assert_eq!(binding_ufrag(&datagram), Some("ours"));
    }

    #[test]
    fn anything_else_has_no_ufrag() {
        let good = request(&[(6, b"ours:theirs")]);
        for cut in 0..good.len() {
            assert_eq!(binding_ufrag(&good[..cut]), None, "cut at {cut}");
        }
        for (at, value) in [(0, 1), (1, 0), (4, 0), (2, 255), (22, 255)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(binding_ufrag(&bad), None, "byte {at}");
        }
        assert_eq!(binding_ufrag(&request(&[(6, b"no colon")])), None);
        assert_eq!(binding_ufrag(&request(&[(6, b"\xff\xff:x")])), None);
        assert_eq!(binding_ufrag(&request(&[(7, b"ours:theirs")])), None);
    }
}
