//! Reads HTTP/1.1 responses from reads that may end anywhere: status, the few headers that a
//! player needs, and where the body ends.
//!
//! A head that comes whole is parsed where it lies; bytes are kept only of one that is split.
//! Not here: sockets (`connection`), what the body says.

use httparse::{EMPTY_HEADER, Status};

/// Headers of a response; servers send a dozen.
const HEADERS_MAX: usize = 48;
/// Bytes of a response's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Bytes of a line that gives a chunk's size, or of a trailer.
const CHUNK_LINE_BYTES_MAX: usize = 1 << 10;

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The body is compressed with gzip.
    pub gzip: bool,
    /// The connection may be used again.
    pub keep_alive: bool,
}

/// Why bytes are no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The head is not HTTP, or too long.
    #[error("a head that is not HTTP/1.1")]
    Head,
    /// A content encoding that was not asked for.
    #[error("an encoding that was not asked for")]
    Encoding,
    /// The lines between chunks are wrong.
    #[error("wrong chunks")]
    Chunks,
    /// The connection ended in the middle.
    #[error("closed in the middle of a response")]
    Cut,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// More is to come.
    More,
    /// It is whole, and so many bytes of the input were not part of it.
    Done(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    /// So many bytes of the body are left.
    Length(u64),
    /// In the line that gives a chunk's size.
    ChunkSize,
    /// So many bytes of the chunk, and the line end after it, are left.
    Chunk(u64),
    /// In the lines after the last chunk.
    Trailer,
    /// The body ends with the connection.
    UntilClose,
    Done,
}

/// Reads one response after the other; [`Reader::reset`] between them.
#[derive(Debug)]
pub struct Reader {
    stage: Stage,
    head: Head,
    /// A head, or a line between chunks, of which only the beginning came.
    partial: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { stage: Stage::Head, head: Head::default(), partial: Vec::new() }
    }
}

impl Reader {
    /// Begins the next response.
    pub fn reset(&mut self) {
        self.stage = Stage::Head;
        self.head = Head::default();
        self.partial.clear();
    }

    /// The head, once it has come.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        (self.stage != Stage::Head).then_some(self.head)
    }

    /// Whether nothing of a response has come yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.stage == Stage::Head && self.partial.is_empty()
    }

    /// How many bytes of the body are still to come, where the head says so: these, and no
    /// others, may be thrown away unread and told to [`Reader::skip`].
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.stage {
            Stage::Length(left) => Some(left),
            _ => None,
        }
    }

    /// So many bytes of the body were thrown away, at most [`Reader::remaining`].
    pub fn skip(&mut self, bytes: u64) -> Fed {
        if let Stage::Length(left) = self.stage {
            self.body(left.saturating_sub(bytes));
        }
        if self.stage == Stage::Done { Fed::Done(0) } else { Fed::More }
    }

    /// The peer closed the connection.
    ///
    /// # Errors
    /// The response was not whole.
    pub fn closed(&mut self) -> Result<(), ResponseError> {
        match self.stage {
            Stage::UntilClose | Stage::Done => {
                self.stage = Stage::Done;
                Ok(())
            }
            _ => Err(ResponseError::Cut),
        }
    }

    /// Takes what was read; hands the body's bytes to `sink`.
    ///
    /// # Errors
    /// It is no response.
    pub fn feed(
        &mut self,
        input: &[u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<Fed, ResponseError> {
        let mut rest = input;
        loop {
            rest = match self.stage {
                Stage::Done => return Ok(Fed::Done(rest.len())),
                _ if rest.is_empty() => return Ok(Fed::More),
                Stage::Head => self.take_head(rest)?,
                Stage::Length(left) => {
                    let (body, after) = split(rest, left);
                    sink(body);
                    self.body(left - body.len() as u64);
                    after
                }
                Stage::UntilClose => {
                    sink(rest);
                    &[]
                }
                Stage::Chunk(left) => {
                    let (chunk, after) = split(rest, left);
                    // The last two bytes are the line's end.
                    sink(split(chunk, left.saturating_sub(2)).0);
                    let left = left - chunk.len() as u64;
                    self.stage = if left == 0 { Stage::ChunkSize } else { Stage::Chunk(left) };
                    after
                }
                Stage::ChunkSize => match self.take_line(rest)? {
                    (Some(line), after) => {
                        let size = chunk_size(&line).ok_or(ResponseError::Chunks)?;
                        self.stage = match size {
                            0 => Stage::Trailer,
                            size => Stage::Chunk(size.saturating_add(2)),
                        };
                        after
                    }
                    (None, after) => after,
                },
                Stage::Trailer => match self.take_line(rest)? {
                    (Some(line), after) => {
                        if line.is_empty() {
                            self.stage = Stage::Done;
                        }
                        after
                    }
                    (None, after) => after,
                },
            };
        }
    }

    fn body(&mut self, left: u64) {
        self.stage = if left == 0 { Stage::Done } else { Stage::Length(left) };
    }

    /// Reads the head from `input`, or keeps its beginning; gives what lies after it.
    fn take_head<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], ResponseError> {
        let before = self.partial.len();
        let parsed = if before == 0 {
            parse_head(input)?
        } else {
            self.partial.extend_from_slice(split(input, HEAD_BYTES_MAX as u64).0);
            parse_head(&self.partial)?
        };
        let Some((used, head, framing)) = parsed else {
            if before == 0 {
                self.partial.extend_from_slice(input);
            }
            let too_long = self.partial.len() > HEAD_BYTES_MAX;
            return if too_long { Err(ResponseError::Head) } else { Ok(&[]) };
        };
        self.partial.clear();
        let after = input.get(used.saturating_sub(before)..).unwrap_or_default();
        if (100..200).contains(&head.status) {
            return Ok(after);
        }
        self.head = head;
        match framing {
            Framing::Length(left) => self.body(left),
            Framing::Chunked => self.stage = Stage::ChunkSize,
            Framing::UntilClose => self.stage = Stage::UntilClose,
        }
        Ok(after)
    }

    /// A line without its end, where it has come whole; and what lies after it.
    fn take_line<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<(Option<Vec<u8>>, &'a [u8]), ResponseError> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let (line, after) = match end {
            Some(end) => (input.get(..end), input.get(end + 1..).unwrap_or_default()),
            None => (Some(input), &[][..]),
        };
        self.partial.extend_from_slice(line.unwrap_or_default());
        if self.partial.len() > CHUNK_LINE_BYTES_MAX {
            return Err(ResponseError::Chunks);
        }
        if end.is_none() {
            return Ok((None, after));
        }
        let mut line = std::mem::take(&mut self.partial);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok((Some(line), after))
    }
}

enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// The head's length, what it says, and how its body ends; none where more of it is to come.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head, Framing)>, ResponseError> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let used = match response.parse(bytes) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(ResponseError::Head),
    };
    let status = response.code.ok_or(ResponseError::Head)?;
    let mut head = Head { status, gzip: false, keep_alive: response.version == Some(1) };
    let mut framing = Framing::UntilClose;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = header.value.trim_ascii();
        let says = |token: &[u8]| value.eq_ignore_ascii_case(token);
        if is("content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            framing = Framing::Length(length.ok_or(ResponseError::Head)?);
        } else if is("transfer-encoding") && says(b"chunked") {
            framing = Framing::Chunked;
        } else if is("content-encoding") && !says(b"identity") {
            head.gzip = says(b"gzip");
            if !head.gzip {
                return Err(ResponseError::Encoding);
            }
        } else if is("connection") {
            head.keep_alive = (head.keep_alive && !says(b"close")) || says(b"keep-alive");
        }
    }
    if status < 200 || status == 204 || status == 304 {
        framing = Framing::Length(0);
    }
    if matches!(framing, Framing::UntilClose) {
        head.keep_alive = false;
    }
    Ok(Some((used, head, framing)))
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    u64::from_str_radix(text.split(';').next()?.trim(), 16).ok()
}

/// The first `count` bytes, or all there are, and the rest.
fn split(bytes: &[u8], count: u64) -> (&[u8], &[u8]) {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
    bytes.split_at_checked(count).unwrap_or((bytes, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Encoding: gzip\r\n\r\nhello";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n";

    /// Feeds `bytes` in pieces of at most `size`; gives the body.
    fn read(reader: &mut Reader, bytes: &[u8], size: usize) -> Result<Vec<u8>, ResponseError> {
        let mut body = Vec::new();
        let mut fed = Fed::More;
        for piece in bytes.chunks(size) {
            assert_eq!(fed, Fed::More, "done too early");
            fed = reader.feed(piece, |bytes| body.extend_from_slice(bytes))?;
        }
        assert_eq!(fed, Fed::Done(0));
        Ok(body)
    }

    #[test]
    fn a_response_is_the_same_however_its_bytes_are_split() {
        for size in 1..PLAIN.len() + 1 {
            let mut reader = Reader::default();
            assert_eq!(read(&mut reader, PLAIN, size).unwrap(), b"hello");
            let head = Head { status: 200, gzip: true, keep_alive: true };
            assert_eq!(reader.head(), Some(head), "in pieces of {size}");
        }
        for size in 1..CHUNKED.len() + 1 {
            let mut reader = Reader::default();
            assert_eq!(read(&mut reader, CHUNKED, size).unwrap(), b"hello", "in pieces of {size}");
        }
    }

    #[test]
    fn an_interim_response_is_passed_over() {
        let bytes = [b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", PLAIN].concat();
        for size in [1, 7, bytes.len()] {
            assert_eq!(read(&mut Reader::default(), &bytes, size).unwrap(), b"hello");
        }
    }

    #[test]
    fn what_follows_a_response_is_counted_and_left_alone() {
        let mut reader = Reader::default();
        let two = [PLAIN, b"HTTP/1.1"].concat();
        assert_eq!(reader.feed(&two, |_| {}), Ok(Fed::Done(8)));
        reader.reset();
        assert!(reader.is_fresh());
    }

    #[test]
    fn a_body_may_be_thrown_away_unread() {
        let mut reader = Reader::default();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n1234";
        assert_eq!(reader.feed(head, |_| {}), Ok(Fed::More));
        assert_eq!(reader.remaining(), Some(996));
        assert_eq!(reader.skip(900), Fed::More);
        assert_eq!(reader.skip(96), Fed::Done(0));
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let mut reader = Reader::default();
        let mut body = Vec::new();
        let bytes = b"HTTP/1.1 200 OK\r\n\r\nhello";
        let fed = reader.feed(bytes, |bytes| body.extend_from_slice(bytes));
        assert_eq!((fed, &*body), (Ok(Fed::More), &b"hello"[..]));
        assert_eq!(reader.closed(), Ok(()));
        assert!(!reader.head().unwrap().keep_alive);
    }

    #[test]
    fn a_connection_that_ends_in_the_middle_is_an_error() {
        for cut in 1..PLAIN.len() {
            let mut reader = Reader::default();
            assert_eq!(reader.feed(&PLAIN[..cut], |_| {}), Ok(Fed::More));
            assert_eq!(reader.closed(), Err(ResponseError::Cut));
        }
    }

    #[test]
    fn statuses_without_a_body_end_with_their_head() {
        let bytes = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(Reader::default().feed(bytes, |_| {}), Ok(Fed::Done(0)));
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        let feed = |bytes: &[u8]| Reader::default().feed(bytes, |_| {});
        assert_eq!(feed(b"SSH-2.0-server\r\n"), Err(ResponseError::Head));
        let wrong_size = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
        assert_eq!(feed(wrong_size), Err(ResponseError::Chunks));
        let brotli = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n";
        assert_eq!(feed(brotli), Err(ResponseError::Encoding));
        let endless = [b"HTTP/1.1 200 OK\r\nA: ", &[b'a'; HEAD_BYTES_MAX][..]].concat();
        assert_eq!(feed(&endless), Err(ResponseError::Head));
    }
}
