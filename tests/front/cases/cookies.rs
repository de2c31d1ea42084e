//! Cookies as browsers, applications and attackers send them.

use super::{Group, Table, get};

const COOKIES: &[(&str, &[&str])] = &[
    ("one", &["a=b"]),
    ("two", &["a=b; c=d"]),
    ("two-lines", &["a=b", "c=d"]),
    ("three-lines", &["a=b", "c=d", "e=f"]),
    ("no-blank", &["a=b;c=d"]),
    ("comma", &["a=b, c=d"]),
    ("empty", &[""]),
    ("empties", &[";;; ;;"]),
    ("no-equals", &["a"]),
    ("no-name", &["=b"]),
    ("no-value", &["a="]),
    ("equals", &["a=b=c"]),
    ("blanks", &["  a = b  ;  c = d  "]),
    ("tab", &["a=b;\tc=d"]),
    ("quoted", &["a=\"b c\"; d=\"e;f\""]),
    ("half-quoted", &["a=\"b; c=d"]),
    ("trailing", &["a=b;"]),
    ("leading", &["; a=b"]),
    ("obs-text", &["a=\u{fc}"]),
    ("json", &["a={\"b\":[1,2]}"]),
    ("nul", &["a=b\0c"]),
    ("control", &["a=b\u{1}c"]),
    ("version", &["$Version=1; a=b; $Path=/"]),
    ("case", &["awsalb=x; AWSALB=y"]),
    ("token-bad", &["AWSALB=x"]),
    ("token-empty", &["AWSALB="]),
    ("token-no-equals", &["AWSALB"]),
    ("token-blank", &["AWSALB =x"]),
    ("token-quoted", &["AWSALB=\"x\""]),
    ("token-two", &["AWSALB=x; AWSALB=y"]),
    ("token-two-lines", &["AWSALB=x", "AWSALB=y"]),
    ("token-five", &["AWSALB=1; AWSALB=2; AWSALB=3; AWSALB=4; AWSALB=5"]),
    ("token-among", &["a=b; AWSALB=x; c=d"]),
    ("token-last", &["a=b; c=d; AWSALB=x"]),
    ("token-twin", &["AWSALB=x; AWSALBCORS=y"]),
    ("token-twin-alone", &["AWSALBCORS=y"]),
    ("token-prefix", &["AWSALBX=x; XAWSALB=y"]),
    ("token-group", &["AWSALBTG=x; AWSALBTGCORS=y"]),
    ("token-app", &["AWSALBAPP-0=_remove_"]),
    ("token-spelled", &["%41WSALB=x"]),
];

pub fn table() -> Table {
    let mut table = Table::of(Group::Cookies);
    for (name, lines) in COOKIES {
        let fields: String = lines.iter().map(|line| format!("Cookie: {line}\r\n")).collect();
        table.followed(format!("cookie/{name}"), get(&fields));
        let apart: String =
            lines.iter().map(|line| format!("cookie: {line}\r\nX-Between: 1\r\n")).collect();
        table.followed(format!("cookie/{name}-apart"), get(&apart));
    }
    for count in [10, 50, 90, 98, 150, 1_000] {
        let pairs: Vec<String> = (0..count).map(|at| format!("c{at}={at}")).collect();
        table.followed(
            format!("cookie/pairs-{count}"),
            get(&format!("Cookie: {}\r\n", pairs.join("; "))),
        );
        let lines: String = pairs.iter().map(|pair| format!("Cookie: {pair}\r\n")).collect();
        table.followed(format!("cookie/lines-{count}"), get(&lines));
        let tokens = vec!["AWSALB=x"; count].join("; ");
        table.followed(format!("cookie/tokens-{count}"), get(&format!("Cookie: {tokens}\r\n")));
    }
    for length in [240, 241, 4_096, 16_000, 60_000, 70_000] {
        let value = "A".repeat(length);
        table.followed(format!("cookie/long-{length}"), get(&format!("Cookie: a={value}\r\n")));
        table.followed(
            format!("cookie/long-token-{length}"),
            get(&format!("Cookie: AWSALB={value}\r\n")),
        );
    }
    table
}
