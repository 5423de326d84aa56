//! Frames of HTTP/2 as octets, read and written without I/O, for either side (RFC 9113 §4, §6).

/// What clients say first (§3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets before a frame's payload.
pub const HEAD: usize = 9;
/// The payload that any peer takes (§4.2).
pub const FRAME_SIZE: usize = 1 << 14;
/// The largest payload a frame can have.
pub const MAX_FRAME_SIZE: usize = (1 << 24) - 1;
/// What a window is before anybody says otherwise (§6.9.2).
pub const WINDOW: u32 = 65_535;
/// The largest window (§6.9.1).
pub const MAX_WINDOW: u32 = (1 << 31) - 1;

/// What a frame is for (§6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u8);

#[allow(missing_docs, reason = "the names are RFC 9113's")]
impl Kind {
    pub const DATA: Self = Self(0);
    pub const HEADERS: Self = Self(1);
    pub const PRIORITY: Self = Self(2);
    pub const RST_STREAM: Self = Self(3);
    pub const SETTINGS: Self = Self(4);
    pub const PUSH_PROMISE: Self = Self(5);
    pub const PING: Self = Self(6);
    pub const GOAWAY: Self = Self(7);
    pub const WINDOW_UPDATE: Self = Self(8);
    pub const CONTINUATION: Self = Self(9);
}

/// The last frame of its sender on this stream.
pub const END_STREAM: u8 = 0x1;
/// The answer to SETTINGS or PING.
pub const ACK: u8 = 0x1;
/// No CONTINUATION follows.
pub const END_HEADERS: u8 = 0x4;
/// The payload is padded.
pub const PADDED: u8 = 0x8;
/// HEADERS begin with a dependency.
pub const PRIORITY: u8 = 0x20;

/// Why a stream or a connection ends (§7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

#[allow(missing_docs, reason = "the names are RFC 9113's")]
impl Code {
    pub const NO_ERROR: Self = Self(0);
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const INTERNAL_ERROR: Self = Self(2);
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    pub const SETTINGS_TIMEOUT: Self = Self(4);
    pub const STREAM_CLOSED: Self = Self(5);
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    pub const REFUSED_STREAM: Self = Self(7);
    pub const CANCEL: Self = Self(8);
    pub const COMPRESSION_ERROR: Self = Self(9);
    pub const CONNECT_ERROR: Self = Self(10);
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
    pub const INADEQUATE_SECURITY: Self = Self(12);
    pub const HTTP_1_1_REQUIRED: Self = Self(13);
}

/// What a side tells of itself (§6.5.2): the number of a setting, and its value.
pub type Setting = (u16, u32);

/// Octets of the table that headers may be packed with.
pub const HEADER_TABLE_SIZE: u16 = 1;
/// Whether pushes are welcome.
pub const ENABLE_PUSH: u16 = 2;
/// Streams that may be open.
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
/// The window that a stream begins with.
pub const INITIAL_WINDOW_SIZE: u16 = 4;
/// The largest payload.
pub const MAX_FRAME_SIZE_SETTING: u16 = 5;
/// Octets of fields, with 32 more for each.
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

/// The nine octets before a payload (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Octets of the payload.
    pub len: usize,
    /// What it is.
    pub kind: Kind,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
}

impl Head {
    /// Reads a head; nothing where there are not octets enough.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = bytes.first_chunk::<HEAD>()?;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & MAX_WINDOW;
        Some(Self { len, kind: Kind(kind), flags, stream })
    }

    /// The octets of it; a payload larger than any frame's is cut.
    pub fn octets(self) -> [u8; HEAD] {
        let [_, a, b, c] = u32::try_from(self.len.min(MAX_FRAME_SIZE)).unwrap_or_default().to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind.0, self.flags, s0, s1, s2, s3]
    }

    /// Whether a flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What a stream depends on (RFC 7540 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The stream it depends on; 0 is none.
    pub on: u32,
    /// Whether it comes between that stream and all others that depend on it.
    pub exclusive: bool,
    /// Its share among those, 1 to 256.
    pub weight: u16,
}

impl Dependency {
    /// Reads a dependency; with it what stands behind.
    pub fn read(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (&[a, b, c, d, weight], rest) = payload.split_first_chunk()?;
        let on = u32::from_be_bytes([a, b, c, d]);
        let exclusive = on > MAX_WINDOW;
        Some((Self { on: on & MAX_WINDOW, exclusive, weight: u16::from(weight) + 1 }, rest))
    }
}

/// A payload of DATA or HEADERS without its padding; nothing where that is longer than the frame.
pub fn unpad(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}

/// The settings that a payload holds.
pub fn read_settings(payload: &[u8]) -> impl Iterator<Item = Setting> {
    payload
        .as_chunks::<6>()
        .0
        .iter()
        .map(|&[a, b, c, d, e, f]| (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])))
}

/// The number that a payload begins with: an error code, or a window's increment with its reserved bit.
pub fn read_number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

/// The last stream that the sender of GOAWAY took, and why it leaves.
pub fn read_goaway(payload: &[u8]) -> Option<(u32, Code)> {
    let (last, rest) = payload.split_first_chunk()?;
    Some((u32::from_be_bytes(*last) & MAX_WINDOW, Code(read_number(rest)?)))
}

/// Appends a head.
pub fn head(out: &mut Vec<u8>, len: usize, kind: Kind, flags: u8, stream: u32) {
    out.extend_from_slice(&Head { len, kind, flags, stream }.octets());
}

/// Appends settings.
pub fn settings(out: &mut Vec<u8>, settings: &[Setting]) {
    head(out, 6 * settings.len(), Kind::SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends the answer to settings.
pub fn settings_ack(out: &mut Vec<u8>) {
    head(out, 0, Kind::SETTINGS, ACK, 0);
}

/// Appends a ping or its answer.
pub fn ping(out: &mut Vec<u8>, flags: u8, octets: [u8; 8]) {
    head(out, octets.len(), Kind::PING, flags, 0);
    out.extend_from_slice(&octets);
}

/// Appends the end of a stream.
pub fn rst_stream(out: &mut Vec<u8>, stream: u32, code: Code) {
    head(out, 4, Kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Appends the end of a connection; `last` is the last stream that was taken.
pub fn goaway(out: &mut Vec<u8>, last: u32, code: Code) {
    head(out, 8, Kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Appends room in a window.
pub fn window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    head(out, 4, Kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// Begins HEADERS: a block of fields is to be appended, and [`end_headers`] called with what this returns.
pub fn begin_headers(out: &mut Vec<u8>, stream: u32, end_stream: bool) -> usize {
    let at = out.len();
    head(out, 0, Kind::HEADERS, if end_stream { END_STREAM } else { 0 }, stream);
    at
}

/// Ends the HEADERS that began at `at`; a block larger than `max` octets goes on in CONTINUATION.
pub fn end_headers(out: &mut Vec<u8>, at: usize, max: usize) {
    let Some(begun) = out.get(at..).and_then(Head::read) else { return };
    let len = out.len() - at - HEAD;
    let flags = begun.flags | if len > max { 0 } else { END_HEADERS };
    let first = Head { len: len.min(max), flags, ..begun };
    if let Some(octets) = out.get_mut(at..at + HEAD) {
        octets.copy_from_slice(&first.octets());
    }
    if len <= max {
        return;
    }
    let rest = out.split_off(at + HEAD + max);
    let mut pieces = rest.chunks(max.max(1)).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        head(out, piece.len(), Kind::CONTINUATION, flags, begun.stream);
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        let written = Head { len: 0x01_0203, kind: Kind::PING, flags: ACK, stream: 5 };
        assert_eq!(written.octets(), [1, 2, 3, 6, 1, 0, 0, 0, 5]);
        assert_eq!(Head::read(&written.octets()), Some(written));
        assert_eq!(Head::read(&written.octets()[..8]), None);
        let reserved = [0, 0, 0, 0, 0, 0x80, 0, 0, 1];
        assert_eq!(Head::read(&reserved).map(|head| head.stream), Some(1));
    }

    #[test]
    fn padding_is_taken_away() {
        let padded = Head { len: 0, kind: Kind::DATA, flags: PADDED, stream: 1 };
        assert_eq!(unpad(padded, b"\x02ab\0\0"), Some(&b"ab"[..]));
        assert_eq!(unpad(padded, b"\x02\0\0"), Some(&b""[..]));
        assert_eq!(unpad(padded, b"\x03\0\0"), None);
        assert_eq!(unpad(padded, b""), None);
        assert_eq!(unpad(Head { flags: 0, ..padded }, b"\x02ab"), Some(&b"\x02ab"[..]));
    }

    #[test]
    fn payloads_are_read() {
        let read = Dependency { on: 3, exclusive: true, weight: 256 };
        assert_eq!(Dependency::read(&[0x80, 0, 0, 3, 255, 7]), Some((read, &[7][..])));
        assert_eq!(Dependency::read(&[0, 0, 0, 3]), None);
        let mut out = Vec::new();
        settings(&mut out, &[(MAX_CONCURRENT_STREAMS, 128), (INITIAL_WINDOW_SIZE, 65_536)]);
        let read: Vec<_> = read_settings(&out[HEAD..]).collect();
        assert_eq!(read, [(3, 128), (4, 65_536)]);
        out.clear();
        goaway(&mut out, 9, Code::FLOW_CONTROL_ERROR);
        assert_eq!(read_goaway(&out[HEAD..]), Some((9, Code::FLOW_CONTROL_ERROR)));
    }

    #[test]
    fn long_blocks_go_on() {
        let mut out = b"before".to_vec();
        let at = begin_headers(&mut out, 1, true);
        out.extend_from_slice(b"abcdefg");
        end_headers(&mut out, at, 3);
        let frames = b"\0\0\x03\x01\x01\0\0\0\x01abc\0\0\x03\x09\0\0\0\0\x01def\0\0\x01\x09\x04\0\0\0\x01g";
        assert_eq!(&out[6..], frames);
        out.clear();
        let at = begin_headers(&mut out, 1, false);
        out.extend_from_slice(b"abc");
        end_headers(&mut out, at, 3);
        assert_eq!(out, b"\0\0\x03\x01\x04\0\0\0\x01abc");
    }
}
