//! The route that an application appends to its session id, as Tomcat does with its `jvmRoute`:
//! `JSESSIONID=5AC6268D.s1`. The balancer sets no cookie for it.

use super::cookie;
use super::token::Seed;

/// A session id found in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session<'a> {
    /// Everything before the route, which stays the same if the application changes the route.
    pub id: &'a [u8],
    /// The replica it names.
    pub route: Option<&'a [u8]>,
}

impl Session<'_> {
    /// The seed that ranks the targets of a client whose route is unknown.
    pub(crate) fn seed(&self) -> Seed {
        Seed::of_value(self.id)
    }
}

/// The session ids of a request: the cookies of this name in order, then the path parameter of the
/// same name in any case (`/cart;jsessionid=5AC6268D.s1`), which containers write for clients
/// without cookies (Jakarta Servlet 6.0 section 7.1.3).
pub(crate) fn sessions<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    path: &'a str,
    name: &'a str,
    separator: &'a str,
) -> impl Iterator<Item = Session<'a>> {
    let values = cookie::values(lines, name).chain(parameters(path, name));
    values.filter(|value| !value.is_empty()).map(|value| parted(value, separator.as_bytes()))
}

fn parameters<'a>(path: &'a str, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let segments = path.split('/').flat_map(|segment| segment.split(';').skip(1));
    segments.filter_map(move |parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.eq_ignore_ascii_case(name).then_some(value.as_bytes())
    })
}

/// Splits a value at the last separator, because a session id may hold one itself.
fn parted<'a>(value: &'a [u8], separator: &[u8]) -> Session<'a> {
    match memchr::memmem::rfind(value, separator) {
        Some(at) => Session { id: &value[..at], route: Some(&value[at + separator.len()..]) },
        None => Session { id: value, route: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(cookies: &'a [&'a str], path: &'a str) -> Vec<(&'a str, Option<&'a str>)> {
        let lines = cookies.iter().map(|line| line.as_bytes());
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        sessions(lines, path, "JSESSIONID", ".")
            .map(|session| (text(session.id), session.route.map(text)))
            .collect()
    }

    #[test]
    fn a_route_is_the_text_after_the_last_separator() {
        assert_eq!(of(&["JSESSIONID=5AC6.s1"], "/"), [("5AC6", Some("s1"))]);
        assert_eq!(of(&["JSESSIONID=a.b.s1"], "/"), [("a.b", Some("s1"))]);
        assert_eq!(of(&["JSESSIONID=5AC6"], "/"), [("5AC6", None)]);
        assert_eq!(of(&["JSESSIONID=5AC6."], "/"), [("5AC6", Some(""))]);
        assert_eq!(of(&["JSESSIONID=", "x=1"], "/"), []);
    }

    #[test]
    fn cookies_come_before_the_path_whose_name_matches_in_any_case() {
        let both = of(&["a=1; JSESSIONID=x.s1"], "/cart;jsessionid=y.s2/items;v=1;JSessionID=z.s3");
        assert_eq!(both, [("x", Some("s1")), ("y", Some("s2")), ("z", Some("s3"))]);
        assert_eq!(of(&[], "/cart;jsessionid=y.s2"), [("y", Some("s2"))]);
        assert_eq!(of(&["jsessionid=x.s1"], "/jsessionid=y.s2"), []);
    }
}
