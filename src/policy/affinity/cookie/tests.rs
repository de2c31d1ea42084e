//! Tests the scanner against the grammar and the `cookie` crate, the writer against the `cookie`
//! crate.

use cookie::Cookie;
use proptest::prelude::*;

use super::*;

#[test]
fn cookies_are_found_by_the_documented_grammar() {
    let check = |lines: &[&str], expected: &[&str]| {
        let lines_of_bytes = lines.iter().map(|line| line.as_bytes());
        let found: Vec<_> = values(lines_of_bytes, "A").collect();
        let expected: Vec<_> = expected.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(found, expected, "{lines:?}");
    };
    check(&[], &[]);
    check(&[""], &[]);
    check(&["A=1"], &["1"]);
    check(&["A=1; A=2", "b=3", ";A=4;;"], &["1", "2", "4"]);
    check(&["\t A \t=\t 1 \t;A="], &["1", ""]);
    check(&["A=a=b=", "A==", "A= =x"], &["a=b=", "=", "=x"]);
    check(&["A=\"1\"", "A=%31", "A=1,A=2"], &["\"1\"", "%31", "1,A=2"]);
    check(&["A", "=A", "=A=1", "A1=2", "a=1", "AA=1", "x=A=1", "B=1, A=2", "A;=1"], &[]);
    check(&["xxxxxxxxxxxxxxxxxxxxxxxx=1;A=2;xxxxxxxxxxxxxxxxxxxxxxxx=A=1"], &["2"]);
    check(&["A=1\u{a0}"], &["1\u{a0}"]);
}

#[test]
fn own_cookies_are_removed_and_the_others_stay_byte_for_byte() {
    let check = |line: &str, expected: Option<&str>| {
        let rest = without(line.as_bytes(), &["A", "ACORS"]);
        assert_eq!(rest.as_deref(), expected.map(str::as_bytes), "{line:?}");
    };
    check("", None);
    check("b=1; c=2", None);
    check("AA=1;x=A=1", None);
    check("A=1", Some(""));
    check(" A=1; ACORS=2; A=3 ;", Some(""));
    check("A=1; b=\"2\";\tc", Some("b=\"2\";\tc"));
    check("b=1;  A=1;c= 2 ", Some("b=1;c= 2 "));
    check("b=1; A=1", Some("b=1"));
    check("b=1; A=1; ", Some("b=1; "));
}

fn line() -> impl Strategy<Value = String> {
    // Few characters, so that names collide, and those on which grammars differ.
    proptest::string::string_regex("[AB=; \t\",%41x]{0,40}").unwrap()
}

proptest! {
    #[test]
    fn the_scanner_finds_what_the_cookie_crate_parses(lines in prop::collection::vec(line(), 0..4)) {
        let pieces = lines.iter().flat_map(|line| line.split(';'));
        let parsed = pieces.filter_map(|piece| Cookie::parse(piece.to_owned()).ok());
        let expected: Vec<_> = parsed
            .filter(|cookie| cookie.name() == "A")
            .map(|cookie| cookie.value().as_bytes().to_vec())
            .collect();
        let found: Vec<_> = values(lines.iter().map(|line| line.as_bytes()), "A").collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_bytes_are_scanned_without_a_panic(
        line in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = values([&*line].into_iter(), "A").count();
        let _ = without(&line, &["A"]);
    }

    #[test]
    fn removal_leaves_none_of_ours_and_all_other_cookies(line in line()) {
        let rest = without(line.as_bytes(), &["A"]).unwrap_or(line.clone().into_bytes());
        let of = |line, name| values([line].into_iter(), name).map(<[u8]>::to_vec).collect::<Vec<_>>();
        prop_assert!(of(&rest, "A").is_empty());
        for name in ["B", "AB", "x", "\"A\""] {
            prop_assert_eq!(of(&rest, name), of(line.as_bytes(), name));
        }
    }
}

const DATE: &str = "Fri, 02 Jan 2026 00:00:00 GMT";

const DAY: u64 = 86_400;

const DEFAULTS: Attributes<'_> = Attributes {
    name: "AWSALB",
    usual_age: DAY as u32,
    path: "/",
    domain: None,
    secure: false,
    http_only: true,
    same_site: SameSite::Unset,
    partitioned: false,
};

fn written(attributes: Attributes<'_>, max_age: Option<u64>) -> [String; 2] {
    let template = SetCookieTemplate::new(attributes);
    let ending = max_age.map(|max_age| Ending { date: DATE, max_age });
    let (mut main, mut twin) = (Vec::new(), Vec::new());
    template.write(&mut main, b"tok-en_1", ending);
    template.write_twin(&mut twin, b"tok-en_1", ending);
    [main, twin].map(|line| String::from_utf8(line).unwrap())
}

#[test]
fn the_defaults_are_albs_with_a_max_age_and_http_only() {
    let [main, twin] = written(DEFAULTS, Some(DAY));
    let expected = format!("AWSALB=tok-en_1; Expires={DATE}; Max-Age=86400; Path=/; HttpOnly");
    assert_eq!(main, expected);
    let expected = format!(
        "AWSALBCORS=tok-en_1; Expires={DATE}; Max-Age=86400; Path=/; Secure; HttpOnly; SameSite=None"
    );
    assert_eq!(twin, expected);
}

#[test]
fn every_attribute_is_written_in_its_place() {
    let all = Attributes {
        path: "/shop",
        domain: Some("shop.example"),
        secure: true,
        same_site: SameSite::Strict,
        partitioned: true,
        ..DEFAULTS
    };
    let [main, _] = written(all, Some(DAY));
    let expected = format!(
        "AWSALB=tok-en_1; Expires={DATE}; Max-Age=86400; Path=/shop; Domain=shop.example; Secure; \
         HttpOnly; SameSite=Strict; Partitioned"
    );
    assert_eq!(main, expected);
}

#[test]
fn an_unusual_age_is_written_in_its_place_and_a_session_has_none() {
    for (max_age, expected) in [
        (Some(DAY), format!("; Expires={DATE}; Max-Age=86400")),
        (Some(DAY - 1), format!("; Expires={DATE}; Max-Age=86399")),
        (Some(7 * DAY), format!("; Expires={DATE}; Max-Age=604800")),
        (Some(0), format!("; Expires={DATE}; Max-Age=0")),
        (Some(u64::MAX), format!("; Expires={DATE}; Max-Age=18446744073709551615")),
        (None, String::new()),
    ] {
        let [main, twin] = written(DEFAULTS, max_age);
        assert_eq!(main, format!("AWSALB=tok-en_1{expected}; Path=/; HttpOnly"));
        let attributes = "; Path=/; Secure; HttpOnly; SameSite=None";
        assert_eq!(twin, format!("AWSALBCORS=tok-en_1{expected}{attributes}"));
    }
}

#[test]
fn the_cookie_crate_reads_every_combination_as_intended() {
    let sites = [SameSite::Unset, SameSite::Lax, SameSite::Strict, SameSite::None];
    for bits in 0..128_usize {
        let on = |bit: usize| bits & 1 << bit != 0;
        let attributes = Attributes {
            path: if on(0) { "/a b" } else { "/" },
            domain: on(1).then_some("shop.example"),
            http_only: on(2),
            partitioned: on(3),
            secure: on(5),
            same_site: sites[bits % 4],
            ..DEFAULTS
        };
        let max_age = if on(6) { DAY } else { 17 };
        let [main, twin] = written(attributes, on(4).then_some(max_age));
        for (line, name) in [(main, "AWSALB"), (twin, "AWSALBCORS")] {
            let read = Cookie::parse(line).unwrap();
            assert_eq!(read.name_value(), (name, "tok-en_1"));
            assert_eq!(read.path(), Some(attributes.path));
            assert_eq!(read.domain(), attributes.domain);
            assert_eq!(read.http_only().unwrap_or(false), on(2));
            assert_eq!(read.partitioned().unwrap_or(false), on(3));
            assert_eq!(read.expires().is_some(), on(4));
            let age = read.max_age().map(|age| age.whole_seconds() as u64);
            assert_eq!(age, on(4).then_some(max_age));
            assert_eq!(read.secure().unwrap_or(false), on(5) || name == "AWSALBCORS");
            let expected = match (name, attributes.same_site) {
                ("AWSALBCORS", _) | (_, SameSite::None) => Some(cookie::SameSite::None),
                (_, SameSite::Lax) => Some(cookie::SameSite::Lax),
                (_, SameSite::Strict) => Some(cookie::SameSite::Strict),
                (_, SameSite::Unset) => None,
            };
            assert_eq!(read.same_site(), expected);
        }
    }
}
