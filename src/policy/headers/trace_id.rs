//! `X-Amzn-Trace-Id` (AWS, "Request tracing for your Application Load Balancer"): a request can be
//! followed from the balancer's log into the target's.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// `X-Amzn-Trace-Id`
pub const X_AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// A field longer than this is replaced rather than carried on (ALB does so when the head is over
/// 7 KiB; here the field alone is bounded).
const LONGEST: usize = 1_024;

/// `Root=1-` with 8 digits, a hyphen and 24 digits.
const OWN_LENGTH: usize = 40;

/// Writes the field for the next hop: a `Root` where there is none; else our own `Self` in front,
/// in the place of any other `Self`, and every other field as it came. `random` is the id's 96 bits.
pub fn write(headers: &mut HeaderMap, unix_seconds: u64, random: (u64, u32)) {
    let present = headers.get(X_AMZN_TRACE_ID).and_then(|value| value.to_str().ok());
    let kept = present.filter(|text| text.len() <= LONGEST && text.contains("Root="));
    let mut text = Vec::with_capacity(OWN_LENGTH + kept.map_or(0, |kept| kept.len() + 1));
    text.extend_from_slice(if kept.is_some() { b"Self=1-" } else { b"Root=1-" });
    hexadecimal(&mut text, (unix_seconds as u32).to_be_bytes());
    text.push(b'-');
    hexadecimal(&mut text, random.0.to_be_bytes());
    hexadecimal(&mut text, random.1.to_be_bytes());
    let others = kept.into_iter().flat_map(|kept| kept.split(';')).map(str::trim);
    for other in others.filter(|field| !field.is_empty() && !field.starts_with("Self=")) {
        text.push(b';');
        text.extend_from_slice(other.as_bytes());
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(X_AMZN_TRACE_ID, value);
    }
}

/// Not by `write!`: this is written with every request, and formatting three numbers costs ten
/// times what their digits do.
fn hexadecimal<const N: usize>(text: &mut Vec<u8>, bytes: [u8; N]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [[0; 2]; N];
    for (place, byte) in digits.iter_mut().zip(bytes) {
        *place = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
    }
    text.extend_from_slice(digits.as_flattened());
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: (u64, u32) = (0x36d2_28ad_5d99_9231, 0x22bb_e354);

    #[track_caller]
    fn check(sent: Option<&str>, expected: &str) {
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert(X_AMZN_TRACE_ID, sent.parse().unwrap());
        }
        write(&mut headers, 0x5833_7262, RANDOM);
        assert_eq!(headers[X_AMZN_TRACE_ID], expected);
    }

    #[test]
    fn a_request_without_a_trace_gets_a_root() {
        check(None, "Root=1-58337262-36d228ad5d99923122bbe354");
        check(Some("nonsense"), "Root=1-58337262-36d228ad5d99923122bbe354");
    }

    #[test]
    fn a_trace_under_way_gets_our_self_in_front_and_keeps_the_rest() {
        check(
            Some("Root=1-67891233-abc;CalledFrom=app"),
            "Self=1-58337262-36d228ad5d99923122bbe354;Root=1-67891233-abc;CalledFrom=app",
        );
        check(
            Some("Self=1-1-2;Root=1-67891233-abc"),
            "Self=1-58337262-36d228ad5d99923122bbe354;Root=1-67891233-abc",
        );
    }
}
