use super::*;
use proptest::prelude::*;

fn pair(key: Option<&str>, value: &str) -> PairCondition {
    PairCondition {
        key: key.map(|key| Pattern::query(key).unwrap()),
        value: Pattern::query(value).unwrap(),
    }
}

fn field(name: &str, values: &[&str]) -> FieldCondition {
    let values = values.iter().map(|value| Pattern::field_value(value).unwrap()).collect();
    FieldCondition { name: name.parse().unwrap(), values }
}

fn lines(fields: &[(&str, &[u8])]) -> Fields {
    fields.iter().copied().collect()
}

/// The failing condition for `GET http://shop.example/cart` from 192.0.2.7, with this query and
/// these fields.
fn unmet<'c>(
    conditions: &'c Conditions,
    query: &str,
    fields: &[(&str, &[u8])],
) -> Option<Unmet<'c>> {
    conditions.unmet(&Subject {
        host: "shop.example",
        path: "/cart",
        query,
        method: "GET",
        headers: &lines(fields),
        address: "192.0.2.7".parse().unwrap(),
    })
}

#[track_caller]
fn check_query(wanted: &[PairCondition], yes: &[&str], no: &[&str]) {
    let conditions = Conditions { query: wanted.to_vec(), ..Conditions::default() };
    for query in yes {
        assert_eq!(unmet(&conditions, query, &[]), None, "{wanted:?} {query:?}");
    }
    for query in no {
        assert_eq!(unmet(&conditions, query, &[]), Some(Unmet::Query), "{wanted:?} {query:?}");
    }
}

#[test]
fn one_pair_of_the_query_is_enough_in_any_letter_case() {
    // AWS, "Query string conditions": version=v1 or any key with the value *example*.
    let wanted = [pair(Some("version"), "v1"), pair(None, "*example*")];
    check_query(
        &wanted,
        &[
            "version=v1",
            "a=b&VERSION=V1",
            "x=an-EXAMPLE-of",
            "version=v2&version=v1",
            "a=1=example",
        ],
        &["", "version=v2", "example", "example=1", "version", "v1", "aversion=v1"],
    );
}

#[test]
fn a_query_is_compared_as_it_is_sent() {
    check_query(&[pair(Some("a"), "b+c")], &["a=b+c"], &["a=b%20c", "a=b%2Bc", "%61=b+c"]);
    check_query(&[pair(Some("a"), "b%20c")], &["a=b%20c"], &["a=b+c"]);
}

#[test]
fn a_pair_without_a_value_has_an_empty_one() {
    check_query(&[pair(Some("debug"), "*")], &["debug", "debug=", "debug=1"], &["", "&&", "bug="]);
    check_query(&[pair(Some("debug"), "?*")], &["debug=1"], &["debug", "debug="]);
}

#[test]
fn escaped_wildcards_of_the_query_are_characters() {
    check_query(&[pair(Some("q"), r"\*")], &["q=*"], &["q=a", "q=%2a"]);
    check_query(&[pair(Some(r"\?"), "1")], &["?=1"], &["a=1"]);
}

#[test]
fn pairs_beyond_the_maximum_are_not_checked() {
    let wanted = [pair(Some("a"), "1")];
    let (last, beyond) = ("&".repeat(MAX_PAIRS - 1) + "a=1", "&".repeat(MAX_PAIRS) + "a=1");
    check_query(&wanted, &[&last], &[&beyond]);
}

#[test]
fn a_method_must_be_equal_in_letter_case_too() {
    let only = |method: &str| Conditions { methods: vec![method.into()], ..Conditions::default() };
    assert_eq!(unmet(&only("GET"), "", &[]), None);
    for other in ["get", "GE", "GETS", "*", "???"] {
        assert_eq!(unmet(&only(other), "", &[]), Some(Unmet::Methods), "{other}");
    }
}

#[test]
fn a_client_matches_if_a_range_contains_its_address() {
    let from = |ranges: &[&str]| {
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Conditions { source_ips: AddressSet::new(ranges), ..Conditions::default() }
    };
    assert_eq!(unmet(&from(&["192.0.2.0/24"]), "", &[]), None);
    assert_eq!(unmet(&from(&["2001:db8::/32", "192.0.2.7/32"]), "", &[]), None);
    assert_eq!(unmet(&from(&["198.51.100.0/24"]), "", &[]), Some(Unmet::SourceIps));
}

#[test]
fn the_lines_of_a_field_are_tried_until_one_matches() {
    // AWS, "HTTP header conditions": *Chrome* or *Safari* of User-Agent.
    let conditions = Conditions {
        headers: vec![field("User-Agent", &["*Chrome*", "*Safari*"])],
        ..Conditions::default()
    };
    let missing = Some(Unmet::Header(&http::header::USER_AGENT));
    assert_eq!(unmet(&conditions, "", &[("user-agent", b"Mozilla/5.0 CHROME/99")]), None);
    let twice: [(&str, &[u8]); 2] = [("user-agent", b"curl"), ("user-agent", b"x Safari y")];
    assert_eq!(unmet(&conditions, "", &twice), None);
    for other in [&b"curl"[..], b"", b"Chrom", b"Chrome\xff", b"a\tChrome"] {
        assert_eq!(unmet(&conditions, "", &[("user-agent", other)]), missing, "{other:?}");
    }
    assert_eq!(unmet(&conditions, "", &[("x-agent", b"Chrome")]), missing);
}

#[test]
fn all_conditions_must_hold_and_the_first_that_does_not_is_named() {
    let conditions = Conditions {
        hosts: vec![Pattern::host("shop.example").unwrap()],
        methods: vec!["GET".into()],
        query: vec![pair(Some("v"), "2")],
        headers: vec![field("x-a", &["1"]), field("x-b", &["?"])],
        ..Conditions::default()
    };
    let both: [(&str, &[u8]); 2] = [("x-a", b"1"), ("x-b", b"2")];
    assert_eq!(unmet(&conditions, "v=2", &both), None);
    assert_eq!(unmet(&conditions, "v=1", &[]), Some(Unmet::Query));
    let word = |fields| unmet(&conditions, "v=2", fields).map(|unmet| unmet.to_string());
    assert_eq!(word(&[]).as_deref(), Some("headers.x-a"));
    assert_eq!(word(&both[..1]).as_deref(), Some("headers.x-b"));
    assert_eq!(unmet(&Conditions::default(), "", &[]), None);
}

proptest! {
    #[test]
    fn any_request_is_evaluated_and_a_star_matches_every_visible_line(
        query in "[ -~]{0,40}",
        value in prop::collection::vec(any::<u8>().prop_filter("no line end", |b| {
            http::HeaderValue::from_bytes(&[*b]).is_ok()
        }), 0..12),
    ) {
        let conditions = Conditions { headers: vec![field("x", &["*"])], ..Conditions::default() };
        let held = unmet(&conditions, &query, &[("x", &value)]).is_none();
        prop_assert_eq!(held, value.iter().all(|byte| (b' '..=b'~').contains(byte)));
        let any_value = Conditions { query: vec![pair(None, "*")], ..Conditions::default() };
        let has_pairs = query.split('&').any(|pair| !pair.is_empty());
        prop_assert_eq!(unmet(&any_value, &query, &[]).is_none(), has_pairs);
    }
}

#[test]
fn cover_is_true_only_for_conditions_that_always_hold_with_the_others() {
    let of = |hosts: &[&str], paths: &[&str]| Conditions {
        hosts: hosts.iter().map(|one| Pattern::host(one).unwrap()).collect(),
        paths: paths.iter().map(|one| Pattern::path(one).unwrap()).collect(),
        ..Conditions::default()
    };
    let get = Conditions { methods: vec!["GET".into()], ..Conditions::default() };
    let asks = |query: &[PairCondition], headers: &[FieldCondition]| Conditions {
        query: query.to_vec(),
        headers: headers.to_vec(),
        ..Conditions::default()
    };
    let beta = || asks(&[], &[field("x-beta", &["yes"])]);
    let from = |range: &str| Conditions {
        source_ips: AddressSet::new(vec![range.parse().unwrap()]),
        ..Conditions::default()
    };
    let any = Conditions::default();
    for (one, other, expected) in [
        (&any, &of(&["a.example"], &["/x"]), true),
        (&of(&["*"], &["/*"]), &any, true),
        (&of(&["*"], &["*"]), &any, true),
        (&of(&["a.example"], &[]), &any, false),
        (&of(&[], &["/a/*"]), &any, false),
        (&of(&["*.example"], &[]), &of(&["a.example", "b.example"], &["/x"]), true),
        (&of(&["*.example"], &[]), &of(&["a.example", "a.test"], &[]), false),
        (&of(&["a.example"], &["/a"]), &of(&["a.example"], &[]), false),
        (&get, &any, false),
        (&any, &get, true),
        (&get, &get, true),
        (&beta(), &any, false),
        (&beta(), &beta(), true),
        (&asks(&[pair(None, "1")], &[]), &any, false),
        (&asks(&[pair(None, "1")], &[]), &asks(&[pair(None, "1")], &[]), true),
        (&from("10.0.0.0/8"), &from("10.1.0.0/16"), true),
        (&from("10.0.0.0/8"), &any, false),
    ] {
        assert_eq!(one.cover(other), expected, "{one:?} {other:?}");
    }
}

fn few() -> impl Strategy<Value = Conditions> {
    let hosts = prop::collection::vec("(\\*|a|b)(\\.c)?", 0..3);
    let paths = prop::collection::vec("/[ab*?]{0,2}", 0..3);
    let methods = prop::collection::vec(prop_oneof![Just("GET"), Just("PUT")], 0..2);
    let addresses = prop::option::of(prop_oneof![Just("10.0.0.0/8"), Just("10.1.0.0/16")]);
    (hosts, paths, methods, addresses).prop_map(|(hosts, paths, methods, addresses)| Conditions {
        hosts: hosts.iter().filter_map(|one| Pattern::host(one)).collect(),
        paths: paths.iter().filter_map(|one| Pattern::path(one)).collect(),
        methods: methods.into_iter().map(Into::into).collect(),
        source_ips: AddressSet::new(
            addresses.into_iter().map(|one| one.parse().unwrap()).collect(),
        ),
        ..Conditions::default()
    })
}

proptest! {
    #[test]
    fn conditions_that_cover_others_hold_if_the_others_do(
        one in few(),
        other in few(),
        host in "[ab](\\.c)?",
        path in "/[ab]{0,2}",
        method in prop_oneof![Just("GET"), Just("PUT")],
        address in prop_oneof![Just("10.1.0.1"), Just("10.2.0.1"), Just("192.0.2.1")],
    ) {
        let headers = Fields::default();
        let address = address.parse().unwrap();
        let (host, path) = (host.as_str(), path.as_str());
        let subject = Subject { host, path, query: "", method, headers: &headers, address };
        if one.cover(&other) && other.unmet(&subject).is_none() {
            prop_assert!(one.unmet(&subject).is_none());
        }
    }
}
