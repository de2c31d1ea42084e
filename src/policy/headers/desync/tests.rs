//! The classifier against a table, and against the one ALB uses.

use super::*;
use http_desync_guardian::RequestSafetyTier;
use http_desync_guardian::request_analyzer::HttpRequestData;
use proptest::prelude::*;

/// A request's method, version and fields, of which both sides see the same.
struct Sent {
    method: &'static str,
    version: Version,
    fields: Vec<(String, String)>,
}

impl Sent {
    fn of(method: &'static str, fields: &[(&str, &str)]) -> Self {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Self { method, version: Version::HTTP_11, fields: fields.iter().map(owned).collect() }
    }

    fn text(&self) -> String {
        let mut text = format!("{} / {:?}\r\n", self.method, self.version);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text + "\r\n"
    }

    fn ours(&self) -> Option<Reason> {
        let method = Method::from_bytes(self.method.as_bytes()).unwrap();
        let mut request = Request::new(method, "/", self.version);
        for (name, value) in &self.fields {
            request.fields.append_named(name, value.as_bytes());
        }
        classify(&request, Names::of(&request.fields))
    }

    /// The words of the classifier ALB uses; `None` is a compliant request.
    fn theirs(&self) -> Option<(String, String)> {
        let result = HttpRequestData::analyze_raw_request(self.text().as_bytes());
        (result.tier != RequestSafetyTier::Compliant)
            .then(|| (format!("{:?}", result.tier), format!("{:?}", result.reason)))
    }
}

fn owned(words: (&str, &str)) -> (String, String) {
    (words.0.to_owned(), words.1.to_owned())
}

#[track_caller]
fn agree(method: &'static str, fields: &[(&str, &str)], expected: Option<Reason>) {
    let sent = Sent::of(method, fields);
    assert_eq!(sent.ours(), expected, "{}", sent.text());
    assert_eq!(sent.theirs(), expected.map(|reason| owned(reason.words())), "{}", sent.text());
}

/// Where we say something else than ALB's classifier, and both answers.
#[track_caller]
fn differ(fields: &[(&str, &str)], ours: Option<Reason>, theirs: Option<&str>) {
    let sent = Sent::of("POST", fields);
    assert_eq!(sent.ours(), ours, "{}", sent.text());
    assert_eq!(sent.theirs().map(|(_, reason)| reason).as_deref(), theirs, "{}", sent.text());
}

const CL: &str = "Content-Length";
const TE: &str = "Transfer-Encoding";

#[test]
fn ordinary_requests_are_compliant() {
    agree("GET", &[("Host", "a"), ("Accept", "*/*"), ("Cookie", "a=b")], None);
    agree("POST", &[("Host", "a"), (CL, "5")], None);
    agree("POST", &[("Host", "a"), (CL, "0")], None);
    agree("PUT", &[("Host", "a"), (TE, "Chunked")], None);
    agree("DELETE", &[("Host", "a"), (CL, "5")], None);
    agree("POST", &[("X_Shop", "1"), ("X-Name", "J\u{fc}rgen"), (CL, "005")], None);
    agree("POST", &[(TE, "gzip, chunked")], None);
}

#[test]
fn each_reason_is_the_one_albs_classifier_gives() {
    for method in ["GET", "HEAD"] {
        agree(method, &[(CL, "0")], Some(Reason::GetHeadZeroContentLength));
        agree(method, &[(CL, "5")], Some(Reason::UndefinedContentLengthSemantics));
        agree(method, &[(TE, "chunked")], Some(Reason::UndefinedTransferEncodingSemantics));
    }
    for name in ["Content_Length", "Content-Length-", "Content--Length", "Transfer_Encoding"] {
        let value = if name.starts_with('C') { "5" } else { "chunked" };
        agree("POST", &[(name, value)], Some(Reason::SuspiciousHeader));
    }
    agree("POST", &[(CL, "5"), (CL, "5")], Some(Reason::DuplicateContentLength));
    agree("POST", &[(CL, "5"), (TE, "chunked")], Some(Reason::BothTeClPresent));
    agree("POST", &[(CL, "5"), (CL, "6")], Some(Reason::MultipleContentLength));
    for length in ["+5", "-1", "0x5", "5, 5", "1e3", "99999999999999999999"] {
        agree("POST", &[(CL, length)], Some(Reason::BadContentLength));
    }
    let chunked_twice = Some(Reason::MultipleTransferEncodingChunked);
    agree("POST", &[(TE, "chunked, chunked")], chunked_twice);
    agree("POST", &[(TE, "chunked"), (TE, "chunked")], chunked_twice);
    for coding in ["xchunked", ",chunked", "chunked\u{fc}", "\"chunked\"", "chunk ed"] {
        agree("POST", &[(TE, coding)], Some(Reason::BadTransferEncoding));
    }
}

#[test]
fn the_worst_is_told_and_of_what_is_equally_bad_the_first() {
    agree("GET", &[(CL, "0"), (CL, "0")], Some(Reason::DuplicateContentLength));
    agree("GET", &[(TE, "x"), (CL, "y")], Some(Reason::BadTransferEncoding));
    agree("GET", &[("Content_Length", "5"), (TE, "chunked")], Some(Reason::SuspiciousHeader));
    agree("POST", &[("Content_Length", "5"), (CL, "6")], Some(Reason::MultipleContentLength));
    agree("POST", &[("Transfer_Encoding", "x")], Some(Reason::BadTransferEncoding));
}

#[test]
fn an_older_version_has_no_codings() {
    let mut sent = Sent::of("POST", &[(TE, "nonsense"), (CL, "x")]);
    sent.version = Version::HTTP_10;
    let expected = Reason::UndefinedTransferEncodingSemantics;
    assert_eq!(sent.ours(), Some(expected));
    assert_eq!(sent.theirs(), Some(owned(expected.words())));
}

// The differences, each by its name; docs/security.md has the same list with the reasons.

#[test]
fn difference_an_empty_length_is_no_number_to_us_and_nought_to_alb() {
    differ(&[(CL, "")], Some(Reason::BadContentLength), None);
}

#[test]
fn difference_parameters_of_a_coding_are_nothing_we_know() {
    differ(&[(TE, "chunked;q=1")], Some(Reason::BadTransferEncoding), None);
}

#[test]
fn difference_chunked_twice_is_twice_with_another_coding_between() {
    let twice = Some(Reason::MultipleTransferEncodingChunked);
    differ(&[(TE, "chunked, gzip, chunked")], twice, None);
}

#[test]
fn difference_punctuation_inside_a_word_is_suspicious_to_us() {
    differ(&[("Con_tent-Length", "5")], Some(Reason::SuspiciousHeader), None);
    differ(&[("Transfer-En-coding", "chunked")], Some(Reason::SuspiciousHeader), None);
}

#[test]
fn each_mode_treats_each_class_as_alb_does_but_for_suspicious_names() {
    use Mitigation::{Defensive, Monitor, Strictest};
    use Treatment::{Forward, ForwardAndClose, Refuse};
    for (reason, expected) in [
        (None, [Forward, Forward, Forward]),
        (Some(Reason::GetHeadZeroContentLength), [Forward, Forward, Refuse]),
        (Some(Reason::UndefinedContentLengthSemantics), [Forward, ForwardAndClose, Refuse]),
        (Some(Reason::BothTeClPresent), [Forward, ForwardAndClose, Refuse]),
        (Some(Reason::SuspiciousHeader), [Forward, Refuse, Refuse]),
        (Some(Reason::BadContentLength), [Forward, Refuse, Refuse]),
        (Some(Reason::BadTransferEncoding), [Forward, Refuse, Refuse]),
    ] {
        let got = [Monitor, Defensive, Strictest].map(|mode| mode.treatment(reason));
        assert_eq!(got, expected, "{reason:?}");
    }
}

fn field() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        3 => Just(CL.to_owned()),
        3 => Just(TE.to_owned()),
        1 => "[-_.]{0,1}(content|Content)[-_.]{1,2}(length|LENGTH)[-_.]{0,1}",
        1 => "[-_.]{0,1}(transfer|Transfer)[-_.]{1,2}(encoding|ENCODING)[-_.]{0,1}",
        2 => "[a-zA-Z][-_a-zA-Z0-9]{0,20}",
    ];
    let value = prop_oneof![
        3 => "[0-9]{1,3}",
        1 => "[0-9+x ]{1,22}",
        4 => "(chunked|gzip|identity|deflate|CHUNKED)",
        1 => "(chunked|gzip|identity|compress)( ?, ?(chunked|gzip|x)){1,2}",
        1 => "[ -~]{1,12}",
    ];
    (name, value)
}

/// Whether the fields are what one of the tests named `difference_` is about.
fn are_a_known_difference(fields: &[(String, String)]) -> bool {
    let values = |letters: &'static str| {
        let spelled = move |name: &str| {
            let own = name.chars().filter(char::is_ascii_alphanumeric);
            own.map(|c| c.to_ascii_lowercase()).eq(letters.chars())
        };
        let fields = fields.iter().filter(move |(name, _)| spelled(name));
        fields.flat_map(|(_, value)| value.split(',')).map(|item| item.trim().to_ascii_lowercase())
    };
    let codings: Vec<String> = values("transferencoding").collect();
    let chunked = codings.iter().filter(|coding| *coding == "chunked").count();
    values("contentlength").any(|length| length.is_empty())
        || codings.iter().any(|coding| coding.contains(';'))
        || chunked > 1 && chunked < codings.len()
}

proptest! {
    #[test]
    fn any_request_is_of_the_class_albs_classifier_gives_it(
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "DELETE", "get"]),
        fields in prop::collection::vec(field(), 0..4),
    ) {
        prop_assume!(!are_a_known_difference(&fields));
        let sent = Sent { method, version: Version::HTTP_11, fields };
        let theirs = sent.theirs().map(|(class, _)| class);
        let ours = sent.ours().map(|reason| reason.words().0.to_owned());
        prop_assert_eq!(ours, theirs, "{}", sent.text());
    }
}
