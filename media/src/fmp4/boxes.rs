//! Writing of nested boxes into one buffer (ISO/IEC 14496-12 §4.2).
//!
//! Not here: which boxes there are (`init`, `fragment`).

use bytes::{BufMut, BytesMut};

/// A buffer that knows how to nest boxes: the size of each is filled in when its body is done.
pub(super) struct BoxWriter {
    out: BytesMut,
}

impl BoxWriter {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { out: BytesMut::with_capacity(capacity) }
    }

    /// A box whose body `body` writes. Callers keep bodies far below 4 GiB; a size that does not
    /// fit would be written as 0, which readers refuse.
    pub(super) fn boxed(&mut self, fourcc: &[u8; 4], body: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        self.out.put_u32(0);
        self.out.put_slice(fourcc);
        body(self);
        let size = u32::try_from(self.out.len() - start).unwrap_or(0);
        if let Some(place) = self.out.get_mut(start..start + 4) {
            place.copy_from_slice(&size.to_be_bytes());
        }
    }

    /// A full box: version and 24 bits of flags before the body.
    pub(super) fn full(
        &mut self,
        fourcc: &[u8; 4],
        version: u8,
        flags: u32,
        body: impl FnOnce(&mut Self),
    ) {
        self.boxed(fourcc, |w| {
            w.u32(u32::from(version) << 24 | flags & 0x00ff_ffff);
            body(w);
        });
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.out.put_u16(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.out.put_u32(value);
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.out.put_u64(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.out.put_slice(value);
    }

    pub(super) fn zeros(&mut self, count: usize) {
        self.out.put_bytes(0, count);
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn finish(self) -> BytesMut {
        self.out
    }
}
