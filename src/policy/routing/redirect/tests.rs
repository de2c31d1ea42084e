use super::*;
use proptest::prelude::*;

/// Scheme, host, port, path and query as in a rule; `-` keeps the request's.
fn redirect(parts: [&str; 5]) -> Redirect {
    let [scheme, host, port, path, query] = parts;
    let or = |part: &str, same: &str| if part == "-" { same.to_owned() } else { part.to_owned() };
    Redirect {
        status: Status::Fixed(302),
        scheme: match scheme {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => Scheme::Same,
        },
        host: Template::host(&or(host, "#{host}")).unwrap(),
        port: port.parse().map_or(Port::Same, Port::Number),
        path: Template::path(&or(path, "/#{path}")).unwrap(),
        query: Template::query(&or(query, "#{query}")).unwrap(),
    }
}

const SHOP: Original<'_> =
    Original { is_tls: false, host: "shop.example", port: None, path: "/a/b", query: "c=d" };

#[track_caller]
fn check(parts: [&str; 5], original: Original<'_>, expected: Result<&str, RedirectError>) {
    let got = redirect(parts).location(&original);
    assert_eq!(got.as_deref(), expected.as_ref().map(|url| *url), "{parts:?} {original:?}");
}

#[test]
fn a_part_that_is_not_set_is_the_requests_own() {
    check(["https", "-", "-", "-", "-"], SHOP, Ok("https://shop.example/a/b?c=d"));
    check(["-", "b.example", "-", "-", "-"], SHOP, Ok("http://b.example/a/b?c=d"));
    check(["-", "-", "-", "/x", "-"], SHOP, Ok("http://shop.example/x?c=d"));
    check(["-", "-", "8443", "-", "-"], SHOP, Ok("http://shop.example:8443/a/b?c=d"));
    check(["https", "-", "-", "-", ""], SHOP, Ok("https://shop.example/a/b"));
}

#[test]
fn placeholders_are_replaced_by_the_requests_parts() {
    // AWS, "Redirect actions": the path without its slash, the query without its question mark.
    check(["-", "-", "-", "/new/#{path}", "-"], SHOP, Ok("http://shop.example/new/a/b?c=d"));
    check(
        ["https", "-", "40443", "/#{path}", "#{query}"],
        SHOP,
        Ok("https://shop.example:40443/a/b?c=d"),
    );
    check(
        [
            "-",
            "www.#{host}",
            "-",
            "/#{host}/#{port}",
            "from=#{protocol}://#{host}:#{port}/#{path}&#{query}",
        ],
        SHOP,
        Ok("http://www.shop.example/shop.example/80?from=http://shop.example:80/a/b&c=d"),
    );
}

#[test]
fn a_port_is_written_if_it_is_not_its_schemes_default() {
    let at = |port| Original { port: Some(port), ..SHOP };
    check(["https", "-", "443", "-", "-"], SHOP, Ok("https://shop.example/a/b?c=d"));
    check(["https", "-", "80", "-", "-"], SHOP, Ok("https://shop.example:80/a/b?c=d"));
    check(["https", "-", "-", "-", "-"], at(80), Ok("https://shop.example/a/b?c=d"));
    check(["https", "-", "-", "-", "-"], at(8080), Ok("https://shop.example:8080/a/b?c=d"));
    let tls = Original { is_tls: true, ..at(443) };
    check(["http", "-", "-", "-", "-"], tls, Ok("http://shop.example/a/b?c=d"));
    check(["-", "b.example", "-", "-", "-"], tls, Ok("https://b.example/a/b?c=d"));
}

#[test]
fn a_redirect_to_the_requests_own_url_is_a_loop() {
    let own = ["-", "shop.example", "-", "-", "-"];
    check(own, SHOP, Err(RedirectError::Loop));
    check(own, Original { host: "SHOP.example", port: Some(80), ..SHOP }, Err(RedirectError::Loop));
    check(own, Original { host: "b.example", ..SHOP }, Ok("http://shop.example/a/b?c=d"));
    let tls = Original { is_tls: true, ..SHOP };
    check(["https", "-", "443", "-", "-"], tls, Err(RedirectError::Loop));
    check(["-", "-", "-", "/a/b", "-"], SHOP, Err(RedirectError::Loop));
    check(["-", "-", "-", "/a/b", "e=f"], SHOP, Ok("http://shop.example/a/b?e=f"));
    check(
        ["-", "-", "-", "/a/b", "e=f"],
        Original { query: "e=f", ..SHOP },
        Err(RedirectError::Loop),
    );
}

#[test]
fn a_url_of_more_than_8_kib_is_too_long() {
    let frame = "https://shop.example/?".len();
    let query = "q".repeat(MAX_URL - frame);
    fn long(query: &str) -> Original<'_> {
        Original { path: "/", query, ..SHOP }
    }
    let got = redirect(["https", "-", "-", "-", "-"]).location(&long(&query)).unwrap();
    assert_eq!(got.len(), MAX_URL);
    let query = query + "q";
    check(["https", "-", "-", "-", "-"], long(&query), Err(RedirectError::TooLong));
    let query = "\"".repeat(60_000);
    check(
        ["https", "-", "-", "-", "#{query}#{query}#{query}"],
        long(&query),
        Err(RedirectError::TooLong),
    );
}

#[test]
fn a_host_that_is_not_valid_in_its_place_is_an_error() {
    let literal = Original { host: "[::1]", ..SHOP };
    check(["-", "www.#{host}", "-", "-", "-"], literal, Err(RedirectError::Host));
    check(["https", "-", "-", "-", "-"], literal, Ok("https://[::1]/a/b?c=d"));
    check(["https", "-", "-", "-", "-"], Original { host: "", ..SHOP }, Err(RedirectError::Host));
}

#[test]
fn bytes_that_a_uri_may_not_hold_are_percent_encoded() {
    let odd = Original { path: r#"/<a>\{b}|"^`[1]"#, query: r#""x"={y}"#, ..SHOP };
    let url = "https://shop.example/%3Ca%3E%5C%7Bb%7D%7C%22%5E%60%5B1%5D?%22x%22=%7By%7D";
    check(["https", "-", "-", "-", "-"], odd, Ok(url));
    let splitting = Original { path: "/a\r\nSet-Cookie: x=1", query: "\n\u{e9}", ..SHOP };
    let url = "https://shop.example/a%0D%0ASet-Cookie:%20x=1?%0A%C3%A9";
    check(["https", "-", "-", "-", "-"], splitting, Ok(url));
}

#[test]
fn a_template_accepts_the_placeholders_of_its_part_only() {
    for host in ["", "#{path}", "a b", "a/b", "#{host", "#{HOST}", "a:80", "ü", "#{port}.example"]
    {
        assert_eq!(Template::host(host), None, "{host}");
    }
    for path in ["", "x", "#{path}", "/#{query}", "/#{protocol}", "/a?b", "/a#b", "/a b", "/\r\n"] {
        assert_eq!(Template::path(path), None, "{path:?}");
    }
    for query in ["?a=b", "a#b", "#{x}", "a b", "\n", "\"", &"q".repeat(MAX_PART + 1)] {
        assert_eq!(Template::query(query), None, "{query:?}");
    }
    assert!(Template::query("").is_some());
}

#[test]
fn a_redirect_that_changes_at_most_the_query_changes_nothing() {
    assert!(redirect(["-", "-", "-", "-", "x=1"]).changes_nothing());
    for part in 0..4 {
        let mut parts = ["-"; 5];
        parts[part] = ["https", "b.example", "8080", "/x"][part];
        assert!(!redirect(parts).changes_nothing(), "{parts:?}");
    }
}

#[test]
fn a_redirect_to_https_keeps_methods_other_than_get_and_head() {
    let https = Redirect::to_https(8443);
    assert_eq!(https.location(&SHOP).as_deref(), Ok("https://shop.example:8443/a/b?c=d"));
    let status = |method| https.status(method);
    assert_eq!(
        (status("GET"), status("HEAD"), status("POST"), status("get")),
        (301, 301, 308, 308)
    );
}

proptest! {
    #[test]
    fn every_url_holds_only_bytes_that_a_uri_may_hold(
        host in "[a-zA-Z0-9.\\[\\]:-]{0,12}",
        path in "/\\PC{0,20}",
        query in any::<String>(),
        port in prop::option::of(any::<u16>()),
        is_tls: bool,
        which in 0usize..4,
    ) {
        let parts = [
            ["https", "-", "-", "-", "-"],
            ["-", "b.example", "-", "/#{path}/#{host}/#{port}", "-"],
            ["http", "x.#{host}", "9", "-", "#{protocol}#{path}#{query}#{query}"],
            ["-", "-", "-", "/fixed", "fixed"],
        ][which];
        let original = Original { is_tls, host: &host, port, path: &path, query: &query };
        if let Ok(url) = redirect(parts).location(&original) {
            prop_assert!(url.len() <= MAX_URL);
            let fine = |byte: u8| belongs_in_uri(byte) || b"[]".contains(&byte);
            prop_assert!(url.bytes().all(fine), "{url}");
            prop_assert!(url.parse::<http::Uri>().is_ok(), "{url}");
            let own = format!("{}://{host}{path}?{query}", if is_tls { "https" } else { "http" });
            prop_assert_ne!(url, own);
        }
    }
}
