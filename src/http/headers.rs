//! Header fields: an ordered list that keeps names and values byte for byte (RFC 9110 §5).

use bytes::Bytes;

macro_rules! known {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// A field name that some code asks for; everything else is [`Known::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Known { $($name,)+ Other }

        impl Known {
            /// The field of this name, in whatever case.
            pub fn of(name: &[u8]) -> Self {
                let mut lower = [0u8; 32];
                let Some(lower) = lower.get_mut(..name.len()) else { return Known::Other };
                for (to, from) in lower.iter_mut().zip(name) {
                    *to = from.to_ascii_lowercase();
                }
                match &*lower {
                    $($text => Known::$name,)+
                    _ => Known::Other,
                }
            }
        }
    };
}

known! {
    Accept = b"accept", AcceptEncoding = b"accept-encoding", AcceptRanges = b"accept-ranges",
    Authorization = b"authorization", CacheControl = b"cache-control", Connection = b"connection",
    ContentEncoding = b"content-encoding", ContentLength = b"content-length", ContentRange = b"content-range",
    ContentType = b"content-type", Cookie = b"cookie", Date = b"date", ETag = b"etag", Expect = b"expect",
    Expires = b"expires", Host = b"host", IfMatch = b"if-match", IfModifiedSince = b"if-modified-since",
    IfNoneMatch = b"if-none-match", IfRange = b"if-range", IfUnmodifiedSince = b"if-unmodified-since",
    KeepAlive = b"keep-alive", LastModified = b"last-modified", Link = b"link", Location = b"location",
    ProxyConnection = b"proxy-connection", Range = b"range", Referer = b"referer", Refresh = b"refresh",
    Server = b"server", SetCookie = b"set-cookie", Status = b"status", Te = b"te", Trailer = b"trailer",
    TransferEncoding = b"transfer-encoding", Upgrade = b"upgrade", UserAgent = b"user-agent", Vary = b"vary",
    Via = b"via", WwwAuthenticate = b"www-authenticate", XAccelBuffering = b"x-accel-buffering",
    XAccelCharset = b"x-accel-charset", XAccelExpires = b"x-accel-expires",
    XAccelLimitRate = b"x-accel-limit-rate", XAccelRedirect = b"x-accel-redirect",
    XForwardedFor = b"x-forwarded-for", XPad = b"x-pad",
}

/// One field: offsets into the head, or behind its end into what was added.
#[derive(Clone, Copy, Debug)]
struct Item {
    known: Known,
    name: (u32, u32),
    value: (u32, u32),
}

/// A list of header fields, in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    head: Bytes,
    more: Vec<u8>,
    items: Vec<Item>,
}

/// One field as code sees it.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Which it is.
    pub known: Known,
    /// Its name as it came.
    pub name: &'a [u8],
    /// Its value without surrounding space.
    pub value: &'a [u8],
}

impl Headers {
    /// An empty list whose fields will be slices of `head`.
    pub fn over(head: Bytes, capacity: usize) -> Self {
        Self { head, more: Vec::new(), items: Vec::with_capacity(capacity) }
    }

    /// An empty list over the same bytes, for [`Headers::push_from`].
    pub fn like(other: &Self) -> Self {
        Self { head: other.head.clone(), more: other.more.clone(), items: Vec::with_capacity(other.items.len() + 4) }
    }

    /// Adds field number `index` of a list over the same bytes.
    pub fn push_from(&mut self, other: &Self, index: usize) {
        self.items.extend(other.items.get(index).copied());
    }

    /// The bytes of a value of this list, without copying them where they stand in the head.
    pub fn share(&self, value: &[u8]) -> Bytes {
        let start = value.as_ptr().addr().wrapping_sub(self.head.as_ptr().addr());
        match start.checked_add(value.len()) {
            Some(end) if end <= self.head.len() => self.head.slice(start..end),
            _ => Bytes::copy_from_slice(value),
        }
    }

    /// Adds a field that stands in `head` at these offsets; the list will [`Headers::rest_on`] it.
    pub fn push_part(&mut self, head: &[u8], name: std::ops::Range<u32>, value: std::ops::Range<u32>) {
        let known = Known::of(head.get(name.start as usize..name.end as usize).unwrap_or_default());
        self.items.push(Item { known, name: (name.start, name.end), value: (value.start, value.end) });
    }

    /// Makes `head` what the fields are slices of.
    pub fn rest_on(&mut self, head: Bytes) {
        self.head = head;
    }

    /// Adds a field that stands in the head at these offsets.
    pub fn push_slice(&mut self, name: std::ops::Range<u32>, value: std::ops::Range<u32>) -> Known {
        let known = Known::of(self.bytes((name.start, name.end)));
        self.items.push(Item { known, name: (name.start, name.end), value: (value.start, value.end) });
        known
    }

    /// Adds a field at the end.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        if self.more.is_empty() {
            // Few are alone.
            self.more.reserve(128);
            self.items.reserve(8);
        }
        let (name_at, value_at) = (self.add(name), self.add(value));
        self.items.push(Item { known: Known::of(name), name: name_at, value: value_at });
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.items.iter().map(|item| self.field(item))
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The first value of a well-known field.
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        self.items.iter().find(|item| item.known == known).map(|item| self.bytes(item.value))
    }

    /// All values of a well-known field.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.items.iter().filter(move |item| item.known == known).map(|item| self.bytes(item.value))
    }

    /// All values of a field by its name, in whatever case.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Removes every field that `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let mut items = std::mem::take(&mut self.items);
        items.retain(|item| keep(self.field(item)));
        self.items = items;
    }

    /// Removes a well-known field.
    pub fn remove(&mut self, known: Known) {
        self.items.retain(|item| item.known != known);
    }

    /// Replaces the first field of this name, or adds one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let found = self.items.iter().position(|item| self.bytes(item.name).eq_ignore_ascii_case(name));
        match found {
            Some(index) => {
                let value = self.add(value);
                if let Some(item) = self.items.get_mut(index) {
                    item.value = value;
                }
            }
            None => self.push(name, value),
        }
    }

    fn add(&mut self, bytes: &[u8]) -> (u32, u32) {
        let start = self.head.len() + self.more.len();
        self.more.extend_from_slice(bytes);
        (u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(start + bytes.len()).unwrap_or(u32::MAX))
    }

    fn field(&self, item: &Item) -> Field<'_> {
        Field { known: item.known, name: self.bytes(item.name), value: self.bytes(item.value) }
    }

    fn bytes(&self, (start, end): (u32, u32)) -> &[u8] {
        let (start, end, split) = (start as usize, end as usize, self.head.len());
        match start.checked_sub(split) {
            Some(start) if start > 0 || end > split || split == 0 => self.more.get(start..end - split),
            _ => self.head.get(start..end),
        }
        .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_case_and_repeats() {
        let mut headers = Headers::over(Bytes::from_static(b"X-IP: 1\r\nhost:a"), 2);
        headers.push_slice(0..4, 6..7);
        headers.push_slice(9..13, 14..15);
        headers.push(b"Set-Cookie", b"a=1");
        headers.push(b"Set-Cookie", b"");
        let seen: Vec<_> = headers.iter().map(|f| (f.name.to_vec(), f.value.to_vec())).collect();
        let want = [("X-IP", "1"), ("host", "a"), ("Set-Cookie", "a=1"), ("Set-Cookie", "")];
        assert_eq!(seen, want.map(|(n, v)| (n.into(), v.into())));
        assert_eq!(headers.get(Known::Host), Some(&b"a"[..]));
        assert_eq!(headers.all(Known::SetCookie).count(), 2);
        headers.set(b"x-ip", b"2");
        headers.remove(Known::SetCookie);
        assert_eq!(headers.named(b"X-Ip").next(), Some(&b"2"[..]));
        assert_eq!(headers.len(), 2);
    }
}
