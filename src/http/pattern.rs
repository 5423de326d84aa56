//! Regular expressions as PCRE reads them: https://nginx.org/en/docs/http/ngx_http_core_module.html#location
//!
//! Most patterns mean the same to the linear-time `regex` crate and run there, so that no request can make them
//! slow. The rest, and any subject that ends in a newline (where `$` differs), go to PCRE2 itself.
use std::fmt;
use std::sync::OnceLock;

use regex::bytes;
use regex_syntax::ast::{
    AssertionKind, Ast, ClassSet, ClassSetItem, Flag, FlagsItemKind, GroupKind, HexLiteralKind, Literal, LiteralKind,
    Repetition, RepetitionKind, RepetitionRange, SpecialLiteralKind, parse::Parser,
};

/// Where a group matched, as byte offsets into the subject; `None` for a group that took no part.
pub type Span = Option<(u32, u32)>;

/// A compiled regular expression.
#[derive(Debug)]
pub struct Pattern {
    source: String,
    caseless: bool,
    linear: Option<bytes::Regex>,
    full: OnceLock<Option<pcre2::bytes::Regex>>,
    names: Vec<(String, u16)>,
    groups: usize,
}

/// Why a pattern does not compile, in nginx's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Compiles `source`; `caseless` folds ASCII letters only.
    pub fn new(source: &[u8], caseless: bool) -> Result<Self, PatternError> {
        let text = text(source);
        let linear = same_meaning(&text).then(|| build_linear(&text, caseless)).flatten();
        let full = OnceLock::new();
        let names: Vec<Option<String>> = match &linear {
            Some(regex) => regex.capture_names().map(|name| name.map(str::to_owned)).collect(),
            None => {
                let regex = build_full(&text, caseless).map_err(|e| describe(source, &e))?;
                let names = regex.capture_names().to_vec();
                let _ = full.set(Some(regex));
                names
            }
        };
        let groups = names.len().saturating_sub(1);
        let numbered = (0u16..).zip(names).filter_map(|(n, name)| Some((name?, n)));
        Ok(Self { source: text, caseless, linear, full, groups, names: numbered.collect() })
    }

    /// Whether the pattern is found anywhere in `subject`.
    pub fn matches(&self, subject: &[u8]) -> bool {
        match self.linear_for(subject) {
            Some(regex) => regex.is_match(subject),
            None => self.full().is_some_and(|regex| regex.is_match(subject).unwrap_or(false)),
        }
    }

    /// The whole match followed by each group, or `None` where the pattern is not found.
    pub fn captures(&self, subject: &[u8]) -> Option<Vec<Span>> {
        let mut spans = Vec::with_capacity(self.groups + 1);
        self.captures_into(subject, &mut spans).then_some(spans)
    }

    /// As `captures`, into a buffer of the caller's; it is left empty where the pattern is not found.
    pub fn captures_into(&self, subject: &[u8], spans: &mut Vec<Span>) -> bool {
        spans.clear();
        let span = |(start, end)| Some((u32::try_from(start).ok()?, u32::try_from(end).ok()?));
        if let Some(regex) = self.linear_for(subject) {
            if self.groups == 0 {
                spans.extend(regex.find(subject).map(|m| span((m.start(), m.end()))));
            } else {
                let mut found = regex.capture_locations();
                if regex.captures_read(&mut found, subject).is_some() {
                    spans.extend((0..=self.groups).map(|n| found.get(n).and_then(span)));
                }
            }
        } else if let Some(regex) = self.full() {
            let mut found = regex.capture_locations();
            if let Ok(Some(_)) = regex.captures_read(&mut found, subject) {
                spans.extend((0..=self.groups).map(|n| found.get(n).and_then(span)));
            }
        }
        !spans.is_empty()
    }

    /// The named groups with their numbers.
    pub fn names(&self) -> &[(String, u16)] {
        &self.names
    }

    /// The number of groups, not counting the whole match.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The pattern as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether case is ignored.
    pub fn caseless(&self) -> bool {
        self.caseless
    }

    /// PCRE's `$` also matches before a final newline, so such subjects are left to PCRE.
    fn linear_for(&self, subject: &[u8]) -> Option<&bytes::Regex> {
        self.linear.as_ref().filter(|_| !subject.ends_with(b"\n"))
    }

    fn full(&self) -> Option<&pcre2::bytes::Regex> {
        self.full.get_or_init(|| build_full(&self.source, self.caseless).ok()).as_ref()
    }
}

/// The pattern as a string; a byte that is not UTF-8 becomes `\xHH`.
fn text(source: &[u8]) -> String {
    let escape = |chunk: std::str::Utf8Chunk<'_>| {
        let broken = chunk.invalid().iter().map(|c| format!("\\x{c:02x}")).collect::<String>();
        chunk.valid().to_owned() + &broken
    };
    source.utf8_chunks().map(escape).collect()
}

fn build_linear(text: &str, caseless: bool) -> Option<bytes::Regex> {
    bytes::RegexBuilder::new(text).unicode(false).case_insensitive(caseless).dfa_size_limit(1 << 18).build().ok()
}

fn build_full(text: &str, caseless: bool) -> Result<pcre2::bytes::Regex, pcre2::Error> {
    let mut builder = pcre2::bytes::RegexBuilder::new();
    builder.caseless(caseless).jit_if_available(true).max_jit_stack_size(Some(1 << 20)).build(text)
}

fn describe(source: &[u8], error: &pcre2::Error) -> PatternError {
    let words = error.to_string();
    let words = words.split_once(": ").map_or(words.as_str(), |(_, rest)| rest);
    let reason = words.split_once(": ").map_or(words, |(_, reason)| reason);
    let pattern = String::from_utf8_lossy(source);
    let rest = source.get(error.offset().unwrap_or(source.len())..).unwrap_or_default();
    let at = if rest.is_empty() { String::new() } else { format!(" at \"{}\"", String::from_utf8_lossy(rest)) };
    PatternError(format!("pcre2_compile() failed: {reason} in \"{pattern}\"{at}"))
}

/// Whether `regex` reads the pattern as PCRE does. Anything doubtful is refused.
fn same_meaning(text: &str) -> bool {
    text.is_ascii() && Parser::new().parse(text).is_ok_and(|ast| same(&ast, text))
}

fn same(ast: &Ast, text: &str) -> bool {
    match ast {
        Ast::Empty(_) | Ast::Dot(_) | Ast::ClassPerl(_) => true,
        Ast::Flags(set) => set.span.start.offset == 0 && set.flags.items.iter().all(|item| only_caseless(&item.kind)),
        Ast::Literal(literal) => same_literal(literal),
        Ast::Assertion(assertion) => matches!(
            assertion.kind,
            AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText
                | AssertionKind::WordBoundary
                | AssertionKind::NotWordBoundary
        ),
        Ast::ClassUnicode(_) => false,
        Ast::ClassBracketed(class) => match &class.kind {
            ClassSet::Item(item) => same_item(item),
            ClassSet::BinaryOp(_) => false,
        },
        Ast::Repetition(repetition) => same_repetition(repetition, text),
        Ast::Group(group) => {
            let kind = match &group.kind {
                GroupKind::CaptureIndex(_) => true,
                GroupKind::CaptureName { name, .. } => {
                    name.name.len() <= 32 && name.name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
                }
                GroupKind::NonCapturing(flags) => flags.items.iter().all(|item| only_caseless(&item.kind)),
            };
            kind && same(&group.ast, text)
        }
        Ast::Alternation(list) => list.asts.iter().all(|ast| same(ast, text)),
        Ast::Concat(list) => list.asts.iter().all(|ast| same(ast, text)),
    }
}

fn only_caseless(kind: &FlagsItemKind) -> bool {
    *kind == FlagsItemKind::Flag(Flag::CaseInsensitive)
}

fn same_literal(literal: &Literal) -> bool {
    match &literal.kind {
        LiteralKind::Verbatim | LiteralKind::Meta | LiteralKind::Superfluous => true,
        LiteralKind::HexFixed(kind) => *kind == HexLiteralKind::X,
        // `\v` is a class in PCRE.
        LiteralKind::Special(kind) => *kind != SpecialLiteralKind::VerticalTab,
        LiteralKind::HexBrace(_) | LiteralKind::Octal => false,
    }
}

fn same_item(item: &ClassSetItem) -> bool {
    match item {
        ClassSetItem::Empty(_) | ClassSetItem::Ascii(_) | ClassSetItem::Perl(_) => true,
        ClassSetItem::Literal(literal) => same_literal(literal),
        ClassSetItem::Range(range) => same_literal(&range.start) && same_literal(&range.end),
        ClassSetItem::Union(union) => union.items.iter().all(same_item),
        ClassSetItem::Unicode(_) | ClassSetItem::Bracketed(_) => false,
    }
}

/// Possessive quantifiers look like doubled ones here, and engines differ on how often an empty loop turns.
fn same_repetition(repetition: &Repetition, text: &str) -> bool {
    let operator = text.get(repetition.op.span.start.offset..repetition.op.span.end.offset).unwrap_or_default();
    let bounds = match &repetition.op.kind {
        RepetitionKind::Range(RepetitionRange::Bounded(_, last) | RepetitionRange::Exactly(last)) => {
            (1..=1000).contains(last)
        }
        RepetitionKind::Range(RepetitionRange::AtLeast(first)) => *first <= 1000,
        _ => true,
    };
    let plain = !operator.starts_with("{,") && !operator.contains(' ');
    bounds
        && plain
        && !matches!(&*repetition.ast, Ast::Repetition(_))
        && !may_be_empty(&repetition.ast)
        && same(&repetition.ast, text)
}

fn may_be_empty(ast: &Ast) -> bool {
    match ast {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => true,
        Ast::Literal(_) | Ast::Dot(_) | Ast::ClassUnicode(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_) => false,
        Ast::Repetition(repetition) => {
            let optional = match &repetition.op.kind {
                RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore => true,
                RepetitionKind::OneOrMore => false,
                RepetitionKind::Range(
                    RepetitionRange::Exactly(n) | RepetitionRange::AtLeast(n) | RepetitionRange::Bounded(n, _),
                ) => *n == 0,
            };
            optional || may_be_empty(&repetition.ast)
        }
        Ast::Group(group) => may_be_empty(&group.ast),
        Ast::Alternation(list) => list.asts.iter().any(may_be_empty),
        Ast::Concat(list) => list.asts.iter().all(may_be_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(pattern: &Pattern, subject: &'a str) -> Option<Vec<Option<&'a str>>> {
        let part = |span: Span| span.map(|(a, b)| &subject[a as usize..b as usize]);
        Some(pattern.captures(subject.as_bytes())?.into_iter().map(part).collect())
    }

    #[test]
    fn chooses_an_engine_and_matches() {
        // pattern, linear, subject, found
        let table: &[(&str, bool, &str, &[Option<&str>])] = &[
            (r"\.php$", true, "/a.php", &[Some(".php")]),
            (r"\.php$", true, "/a.php\n", &[Some(".php")]),
            (r"\.php\z", true, "/a.php\n", &[]),
            (r"^/(?<user>\w+)/(?P<rest>.*)$", true, "/bob/x/y", &[Some("/bob/x/y"), Some("bob"), Some("x/y")]),
            (r"(?i)^/ABC(d)?", true, "/abc", &[Some("/abc"), None]),
            (r"^/(?!admin)", false, "/user", &[Some("/")]),
            (r"^/(?!admin)", false, "/admin", &[]),
            (r"(a)\1", false, "xaay", &[Some("aa"), Some("a")]),
            (r"a++b", false, "aab", &[Some("aab")]),
            (r"(?>a+)b", false, "aab", &[Some("aab")]),
            (r"foo\Kbar", false, "foobar", &[Some("bar")]),
            (r"^a\Z", false, "a\n", &[Some("a")]),
            (r"(?'q'a)", false, "a", &[Some("a"), Some("a")]),
            (r"[[:alpha:]_-]{2,3}", true, "1ab_c", &[Some("ab_")]),
            (r"a{,2}b", false, "aab", &[Some("aab")]),
            (r"\Qa.b\E", false, "a.b", &[Some("a.b")]),
            (r"\<a", false, "<a", &[Some("<a")]),
            (r"[a&&b]", false, "&", &[Some("&")]),
            (r"[[a]]", false, "[]", &[Some("[]")]),
            (r"\v", false, "\x0b", &[Some("\x0b")]),
            (r"é+", false, "éé", &[Some("é")]),
            (r"(*UTF8)é+", false, "éé", &[Some("éé")]),
            ("", true, "a", &[Some("")]),
        ];
        for (source, linear, subject, want) in table {
            let pattern = Pattern::new(source.as_bytes(), false).unwrap();
            assert_eq!(pattern.linear.is_some(), *linear, "{source}");
            assert_eq!(found(&pattern, subject).unwrap_or_default(), *want, "{source} {subject:?}");
            assert_eq!(pattern.matches(subject.as_bytes()), !want.is_empty(), "{source}");
        }
        assert!(Pattern::new(b"^/A$", true).unwrap().matches(b"/a"));
        assert!(Pattern::new(b"[\xe0-\xff]", false).unwrap().matches(b"\xe5"));
        assert!(Pattern::new(b"^.$", false).unwrap().matches(b"\xe5"));
    }

    #[test]
    fn names_groups() {
        for source in ["(?<b>x)(y)(?P<a>z)", "(?<b>x)(y)(?'a'z)"] {
            let pattern = Pattern::new(source.as_bytes(), false).unwrap();
            assert_eq!(pattern.groups(), 3);
            assert_eq!(pattern.names(), [("b".to_owned(), 1), ("a".to_owned(), 3)]);
        }
    }

    #[test]
    fn complains_as_nginx() {
        let table = [
            ("(", "missing closing parenthesis in \"(\""),
            ("*a", "quantifier does not follow a repeatable item in \"*a\" at \"*a\""),
            ("a**", "quantifier does not follow a repeatable item in \"a**\" at \"*\""),
            ("[z-a]", "range out of order in character class in \"[z-a]\" at \"a]\""),
            ("x{99999}", "number too big in {} quantifier in \"x{99999}\" at \"}\""),
            (")", "unmatched closing parenthesis in \")\" at \")\""),
        ];
        for (source, want) in table {
            let error = Pattern::new(source.as_bytes(), false).unwrap_err().to_string();
            assert_eq!(error.strip_prefix("pcre2_compile() failed: "), Some(want));
        }
    }

    /// A small deterministic generator, so that a failure can be repeated.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % sides
        }

        fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
            from[self.roll(from.len())]
        }

        fn pattern(&mut self, depth: usize) -> String {
            let mut out = String::new();
            for _ in 0..=self.roll(4) {
                let atom = match self.roll(if depth == 0 { 4 } else { 8 }) {
                    0..=2 => self.pick(&["a", "b", "/", "A", r"\.", ".", "-", "_"]).to_owned(),
                    3 => self
                        .pick(&[
                            r"\w",
                            r"\d",
                            r"\s",
                            r"\W",
                            "[ab]",
                            "[^a]",
                            "[a-z_]",
                            "[[:upper:]]",
                            r"[^\s/]",
                            "[]a]",
                            r"\x41",
                            r"\n",
                            "[.-]",
                            "^",
                            "$",
                            r"\b",
                            r"\B",
                            r"\A",
                            r"\z",
                        ])
                        .to_owned(),
                    4 => format!("({})", self.pattern(depth - 1)),
                    5 => format!("(?:{}|{})", self.pattern(depth - 1), self.pattern(depth - 1)),
                    6 => format!("(?i:{})", self.pattern(depth - 1)),
                    _ => format!("({}|{})", self.pattern(depth - 1), self.pattern(depth - 1)),
                };
                out += &atom;
                if self.roll(3) == 0 {
                    out += self.pick(&["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,2}?", "{1,}", "++", "**"]);
                }
            }
            out
        }
    }

    #[test]
    fn engines_agree() {
        let mut dice = Dice(7);
        let mut linear = 0;
        for _ in 0..6000 {
            let (source, caseless) = (dice.pattern(2), dice.roll(4) == 0);
            let Ok(pattern) = Pattern::new(source.as_bytes(), caseless) else { continue };
            let Some(regex) = &pattern.linear else { continue };
            linear += 1;
            let full = build_full(&source, caseless).unwrap_or_else(|e| panic!("{source}: {e}"));
            for _ in 0..8 {
                let subject: String = (0..dice.roll(9))
                    .map(|_| dice.pick(&["a", "b", "A", "/", ".", "-", "_", "\n", " ", "1", "z"]))
                    .collect();
                if subject.ends_with('\n') {
                    continue;
                }
                let a: Option<Vec<_>> =
                    regex.captures(subject.as_bytes()).map(|c| c.iter().map(|m| m.map(|m| m.range())).collect());
                let b: Option<Vec<_>> = full
                    .captures(subject.as_bytes())
                    .unwrap()
                    .map(|c| (0..c.len()).map(|n| c.get(n).map(|m| m.start()..m.end())).collect());
                assert_eq!(a, b, "{source:?} caseless {caseless} on {subject:?}");
            }
        }
        assert!(linear > 1500, "{linear} patterns compared");
    }
}
