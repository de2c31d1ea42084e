//! Connection authentication: with NTLM, and with Negotiate if a server uses it so, a client's
//! credentials are valid for all later requests of the connection (RFC 4559 section 6). A target's
//! connection on which this happened must serve no other client.

use crate::http1::fields::Fields;
use crate::http1::name::{Name, NameSet};
use crate::http1::scan;

/// The schemes that authenticate a connection.
const SCHEMES: [&[u8]; 2] = [b"ntlm", b"negotiate"];
const CREDENTIALS: [Name; 2] = [Name::Authorization, Name::ProxyAuthorization];
/// Fields with challenges and the tokens that answer them.
const CHALLENGES: [Name; 4] = [
    Name::WwwAuthenticate,
    Name::ProxyAuthenticate,
    Name::AuthenticationInfo,
    Name::ProxyAuthenticationInfo,
];

/// Returns true if a request authenticates its connection: its credentials are of such a scheme.
pub fn is_in_request(fields: &Fields) -> bool {
    fields.has_any(NameSet::of(&CREDENTIALS))
        && CREDENTIALS.iter().any(|name| fields.all(*name).any(authenticates_the_connection))
}

fn authenticates_the_connection(credentials: &[u8]) -> bool {
    let value = credentials.trim_ascii_start();
    let end = scan::token_end(value, 0);
    is_scheme(&value[..end])
}

/// Returns true if a response continues the authentication: it carries a token after such a scheme.
/// The scheme alone is only an offer and does not count.
pub fn is_in_answer(fields: &Fields) -> bool {
    if !fields.has_any(NameSet::of(&CHALLENGES)) {
        return false;
    }
    let mut values = CHALLENGES.iter().flat_map(|name| fields.all(*name));
    // Challenges and their parameters are both separated by commas (RFC 9110 section 11.6.1); a
    // token and a scheme hold none. One in a quoted string is counted as a token rather than
    // missed.
    values.any(|value| value.split(|byte| *byte == b',').any(has_token))
}

/// Returns true if a challenge is such a scheme followed by a token.
fn has_token(challenge: &[u8]) -> bool {
    let mut words = challenge.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.next().is_some_and(is_scheme) && words.next().is_some()
}

fn is_scheme(word: &[u8]) -> bool {
    SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        lines.iter().copied().collect()
    }

    #[test]
    fn only_credentials_of_ntlm_or_negotiate_authenticate_the_connection() {
        for (lines, expected) in [
            (&[("authorization", "NTLM TlRMTVNTUAAB")][..], true),
            (&[("authorization", "ntlm TlRMTVNTUAAB")], true),
            (&[("authorization", "Negotiate YII=")], true),
            (&[("authorization", "  NEGOTIATE\tYII=")], true),
            (&[("authorization", "Negotiate")], true),
            (&[("proxy-authorization", "NTLM TlRM")], true),
            (&[("authorization", "Basic eA=="), ("authorization", "NTLM TlRM")], true),
            (&[("authorization", "Basic TlRMTQ==")], false),
            (&[("authorization", "Bearer NTLM")], false),
            (&[("authorization", "NTLMv2 x")], false),
            (&[("authorization", "Digest username=\"NTLM x\"")], false),
            (&[("x-authorization", "NTLM x")], false),
            (&[], false),
        ] {
            assert_eq!(is_in_request(&fields(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_scheme_with_a_token_counts_and_an_offer_does_not() {
        for (lines, expected) in [
            (&[("www-authenticate", "NTLM TlRMTVNTUAAC")][..], true),
            (&[("www-authenticate", "negotiate oYG2==")], true),
            (&[("www-authenticate", "Negotiate"), ("www-authenticate", "NTLM TlRM")], true),
            (&[("www-authenticate", "Basic realm=\"x\", NTLM TlRM")], true),
            (&[("www-authenticate", "Negotiate, NTLM TlRM, Basic realm=\"x\"")], true),
            (&[("proxy-authenticate", "NTLM TlRM")], true),
            (&[("authentication-info", "Negotiate oYG2")], true),
            (&[("proxy-authentication-info", "Negotiate oYG2")], true),
            (&[("www-authenticate", "NTLM")], false),
            (&[("www-authenticate", "Negotiate , NTLM ")], false),
            (&[("www-authenticate", "Negotiate"), ("www-authenticate", "NTLM")], false),
            (&[("www-authenticate", "Basic realm=\"NTLM x\"")], false),
            (&[("www-authenticate", "Digest nonce=\"x\", qop=\"auth\"")], false),
            (&[("authentication-info", "nextnonce=\"x\"")], false),
            (&[], false),
        ] {
            assert_eq!(is_in_answer(&fields(lines)), expected, "{lines:?}");
        }
    }
}
