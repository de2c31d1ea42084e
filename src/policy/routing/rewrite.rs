//! Rewrites: the path or host sent to the target in place of the client's (AWS, "Transforms for
//! listener rules"). They never change which target gets the request.

use crate::policy::headers::head;
use http::uri::PathAndQuery;
use regex::bytes::{Regex, RegexBuilder};
use std::fmt;

/// The rewrites of one rule.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// The rewrite of path and query.
    pub path: Option<Transform>,
    /// The rewrite of the host, without the port.
    pub host: Option<Transform>,
}

/// An expression, and the replacement of its first match.
#[derive(Clone, Debug)]
pub struct Transform {
    // Matching takes scratch space from a pool that all workers share; it only tries the pool's
    // lock and never waits, and allocates if none is free.
    regex: Regex,
    replace: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Group(usize),
}

/// The maximum length of the expression and of the replacement (AWS, `RewriteConfig`: 1,024
/// characters).
pub(crate) const MAX_LEN: usize = 1_024;

/// The maximum size of a compiled expression in bytes. A match takes time in proportion to it and
/// to the text, for any expression: with both bounds, the slowest took a fifth of a second.
const MAX_COMPILED: usize = 64 * 1_024;

/// The maximum length of the text that is matched, and of the result (AWS, "Quotas for your
/// Application Load Balancers": a request line has at most 16K).
pub(crate) const MAX_TEXT: usize = 16 * 1_024;

/// The reason an expression or its replacement is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// `regex` cannot be compiled, with the reason as a sentence.
    Regex(String),
    /// `replace` holds a `$` that is neither a group nor escaped.
    Dollar,
    /// `replace` names a group that `regex` does not have.
    NoGroup(usize),
}

/// The reason a rewrite has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The text or the result is too long.
    TooLong,
    /// The result is not a path, or not a host.
    Malformed,
}

impl Transform {
    /// An expression for path and query, where letter case counts.
    ///
    /// # Errors
    /// The [`Defect`] for which it is refused.
    pub fn of_path(regex: &str, replace: &str) -> Result<Self, Defect> {
        Self::new(regex, replace, false)
    }

    /// An expression for hosts, where letter case is ignored.
    ///
    /// # Errors
    /// The [`Defect`] for which it is refused.
    pub fn of_host(regex: &str, replace: &str) -> Result<Self, Defect> {
        Self::new(regex, replace, true)
    }

    fn new(regex: &str, replace: &str, ignores_case: bool) -> Result<Self, Defect> {
        if has_unicode_class(regex) {
            return Err(Defect::Regex("`\\p{...}` is not supported, as in ALB".into()));
        }
        let mut builder = RegexBuilder::new(regex);
        // The matched text is ASCII, and Unicode tables would only make expressions larger.
        builder.unicode(false).case_insensitive(ignores_case);
        builder.size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED);
        let regex = builder.build().map_err(|error| Defect::Regex(sentence(&error)))?;
        let replace = pieces(replace)?;
        let groups = regex.captures_len();
        let missing = replace.iter().find_map(|piece| match piece {
            Piece::Group(group) if *group >= groups => Some(*group),
            _ => None,
        });
        missing.map_or(Ok(Self { regex, replace }), |group| Err(Defect::NoGroup(group)))
    }

    /// The text with its first match replaced; `None` if nothing matches.
    fn apply(&self, text: &str) -> Result<Option<String>, Failed> {
        if text.len() > MAX_TEXT {
            return Err(Failed::TooLong);
        }
        let Some(captures) = self.regex.captures(text.as_bytes()) else { return Ok(None) };
        let whole = captures.get_match();
        let mut result = text.as_bytes()[..whole.start()].to_vec();
        for piece in &self.replace {
            match piece {
                Piece::Text(text) => result.extend_from_slice(text.as_bytes()),
                // A group that did not take part in the match is empty.
                Piece::Group(group) => {
                    let group = captures.get(*group).map(|group| group.as_bytes());
                    result.extend_from_slice(group.unwrap_or_default());
                }
            }
            // A group may be named some hundred times.
            if result.len() > MAX_TEXT {
                return Err(Failed::TooLong);
            }
        }
        result.extend_from_slice(&text.as_bytes()[whole.end()..]);
        String::from_utf8(result).map(Some).map_err(|_| Failed::Malformed)
    }
}

impl Rewrite {
    /// Returns the path and query for the target; `None` if they do not change.
    ///
    /// # Errors
    /// If the result is not a path: it begins with `/` and holds visible ASCII only.
    pub fn path(&self, path_and_query: &str) -> Result<Option<PathAndQuery>, Failed> {
        let Some(transform) = &self.path else { return Ok(None) };
        let Some(result) = transform.apply(path_and_query)? else { return Ok(None) };
        let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !result.starts_with('/') || !result.bytes().all(fine) {
            return Err(Failed::Malformed);
        }
        PathAndQuery::try_from(result).map(Some).map_err(|_| Failed::Malformed)
    }

    /// Returns the host for the target, from the authority the client sent; `None` if it does not
    /// change. The client's port stays, unless the replacement has one.
    ///
    /// # Errors
    /// If the result is not a host.
    pub fn host(&self, authority: &head::Authority<'_>) -> Result<Option<String>, Failed> {
        let (Some(transform), Some(text)) = (&self.host, authority.text) else { return Ok(None) };
        let host = authority.host();
        let Some(mut result) = transform.apply(host)? else { return Ok(None) };
        if head::is_bare_host(&result) {
            result.push_str(&text[host.len()..]);
        }
        if head::is_host(&result) { Ok(Some(result)) } else { Err(Failed::Malformed) }
    }
}

/// Returns true if an expression contains `\p` or `\P` that is not itself escaped.
fn has_unicode_class(regex: &str) -> bool {
    let mut characters = regex.chars();
    while let Some(character) = characters.next() {
        if character == '\\' && matches!(characters.next(), Some('p' | 'P')) {
            return true;
        }
    }
    false
}

/// Parses a replacement: `$1` and `${1}` are groups, `$$` is a dollar.
fn pieces(replace: &str) -> Result<Box<[Piece]>, Defect> {
    let mut pieces = Vec::new();
    let mut rest = replace;
    while let Some(at) = rest.find('$') {
        let (text, behind) = (&rest[..at], &rest[at + 1..]);
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        let (piece, behind) = match behind.strip_prefix('$') {
            Some(behind) => (Piece::Text("$".into()), behind),
            None => {
                let (number, behind) = match behind.strip_prefix('{') {
                    Some(braced) => braced.split_once('}').ok_or(Defect::Dollar)?,
                    None => {
                        let digit = |c: char| c.is_ascii_digit();
                        behind.split_at(behind.find(|c| !digit(c)).unwrap_or(behind.len()))
                    }
                };
                (Piece::Group(number.parse().map_err(|_| Defect::Dollar)?), behind)
            }
        };
        pieces.push(piece);
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
    Ok(pieces.into())
}

/// The last line of the compiler's message; the lines above it draw carets.
fn sentence(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => {
            format!("the compiled expression is larger than {} KiB", MAX_COMPILED / 1_024)
        }
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::Regex(sentence) => f.write_str(sentence),
            Defect::Dollar => {
                f.write_str("`$` must be followed by the number of a group, or by `$`")
            }
            Defect::NoGroup(group) => write!(f, "`regex` has no group {group}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use head::Authority;
    use proptest::prelude::*;

    fn path(regex: &str, replace: &str) -> Rewrite {
        Rewrite { path: Some(Transform::of_path(regex, replace).unwrap()), host: None }
    }

    #[track_caller]
    fn check_path(regex: &str, replace: &str, from: &str, to: Result<Option<&str>, Failed>) {
        let got = path(regex, replace).path(from);
        let got = got.as_ref().map(|path| path.as_ref().map(PathAndQuery::as_str));
        assert_eq!(got.map_err(|failed| *failed), to, "{regex} {replace} {from}");
    }

    #[track_caller]
    fn check_host(regex: &str, replace: &str, from: &str, to: Result<Option<&str>, Failed>) {
        let host = Some(Transform::of_host(regex, replace).unwrap());
        let got = Rewrite { path: None, host }.host(&Authority { text: Some(from) });
        assert_eq!(got.as_ref().map(Option::as_deref).map_err(|failed| *failed), to, "{from}");
    }

    #[test]
    fn a_path_is_rewritten_with_its_query() {
        check_path("^/api/?(.*)$", "/$1", "/api/cart?a=b", Ok(Some("/cart?a=b")));
        // AWS, "Transforms for listener rules", "URL rewrite transforms".
        let product = "^/dp/([A-Za-z0-9]+)/?$";
        check_path(
            product,
            "/product.php?id=$1",
            "/dp/B09G3HRMW",
            Ok(Some("/product.php?id=B09G3HRMW")),
        );
        check_path(r"\?.*$", "", "/a?b=c", Ok(Some("/a")));
        check_path("/v([0-9])/", "/${1}0/$$", "/v1/x/v2/", Ok(Some("/10/$x/v2/")));
        check_path("^/(a)?(b)$", "/$2$1", "/b", Ok(Some("/b")));
    }

    #[test]
    fn a_path_that_does_not_match_stays_and_letter_case_counts() {
        check_path("^/api/", "/", "/API/x", Ok(None));
        check_path("(?i)^/api/", "/", "/API/x", Ok(Some("/x")));
        assert_eq!(Rewrite::default().path("/x"), Ok(None));
    }

    #[test]
    fn a_result_that_is_not_a_path_is_an_error() {
        for (regex, replace) in
            [("^/", ""), (".*", "http://evil"), ("^/a", "/ x"), ("^/a", "/#"), ("^/a", "/\r\n")]
        {
            check_path(regex, replace, "/a", Err(Failed::Malformed));
        }
        let long = |count| format!("/{}", "a".repeat(count - 1));
        assert_eq!(path("^/(.*)$", "/$1$1").path(&long(10_000)), Err(Failed::TooLong));
        assert_eq!(path("b", "").path(&long(MAX_TEXT)), Ok(None));
        assert_eq!(path("b", "").path(&long(MAX_TEXT + 1)), Err(Failed::TooLong));
    }

    #[test]
    fn a_host_is_rewritten_and_keeps_its_port() {
        // AWS, "Transforms for listener rules", "Host header rewrite transforms".
        let (from, to) = ("^mywebsite-(.+).com$", "internal.dev.$1.myweb.com");
        check_host(from, to, "mywebsite-example.com", Ok(Some("internal.dev.example.myweb.com")));
        check_host(from, to, "MYWEBSITE-a.com:81", Ok(Some("internal.dev.a.myweb.com:81")));
        check_host("^.*$", "app.internal:80", "shop.example:81", Ok(Some("app.internal:80")));
        check_host(from, to, "other.com", Ok(None));
        for bad in ["", "a b", "a/b", "a\r\nx: y", "a:b"] {
            check_host("^.*$", bad, "shop.example", Err(Failed::Malformed));
        }
        let none = Rewrite { path: None, host: Some(Transform::of_host("^.*$", "a").unwrap()) };
        assert_eq!(none.host(&Authority { text: None }), Ok(None));
    }

    #[test]
    fn an_expression_that_alb_refuses_is_refused() {
        for regex in ["(?=a)", "(?<!a)", r"(a)\1", "(?>a)", r"\p{L}", r"\PL", "("] {
            let refused = matches!(Transform::of_path(regex, "/"), Err(Defect::Regex(_)));
            assert!(refused, "{regex}");
        }
        assert!(Transform::of_path(r"\\p", "/").is_ok());
        let large = Transform::of_path("([a-z]{1,500}){500}", "/").unwrap_err();
        assert!(large.to_string().contains("larger than 64 KiB"), "{large}");
        assert_eq!(Transform::of_path("(a)", "$2").unwrap_err(), Defect::NoGroup(2));
        for replace in ["$", "$a", "${1", "${a}", "$99999999999999999999"] {
            assert_eq!(Transform::of_path("(a)", replace).unwrap_err(), Defect::Dollar);
        }
    }

    proptest! {
        #[test]
        fn a_result_is_a_valid_path_or_an_error(
            replace in "[ -~\r\n\\x00ü]{0,12}",
            text in "/[!-~]{0,20}",
        ) {
            if let Ok(transform) = Transform::of_path("[a-m](.)", &replace) {
                let rewrite = Rewrite { path: Some(transform), host: None };
                if let Ok(Some(path)) = rewrite.path(&text) {
                    prop_assert!(path.as_str().starts_with('/'));
                    prop_assert!(path.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
                }
            }
        }
    }
}
