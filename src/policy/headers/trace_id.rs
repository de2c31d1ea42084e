//! `X-Amzn-Trace-Id` (AWS, "Request tracing for your Application Load Balancer"): a request can be
//! followed from the balancer's log into the target's.

use crate::http1::fields::Fields;
use crate::http1::name::Name;

/// A field longer than this is replaced rather than carried on (ALB does so when the head is over
/// 7 KiB; here the field alone is bounded).
const LONGEST: usize = 1_024;

/// Writes the field for the next hop: a `Root` where there is none; else our own `Self` in front,
/// in the place of any other `Self`, and every other field as it came. `random` is the id's 96 bits.
pub fn write(fields: &mut Fields, unix_seconds: u64, random: (u64, u32)) {
    fields.rewrite(Name::XAmznTraceId, |line, sent| {
        let begins = line.len();
        line.extend_from_slice(b"Root=1-");
        hexadecimal(line, (unix_seconds as u32).to_be_bytes());
        line.push(b'-');
        hexadecimal(line, random.0.to_be_bytes());
        hexadecimal(line, random.1.to_be_bytes());
        let Some(sent) = sent else { return };
        let text = &line[sent.clone()];
        let is_text = text.iter().all(|byte| (0x20..0x7f).contains(byte) || *byte == b'\t');
        if !is_text || text.len() > LONGEST || memchr::memmem::find(text, b"Root=").is_none() {
            return;
        }
        line[begins..begins + SELF.len()].copy_from_slice(SELF);
        let mut at = sent.start;
        while at < sent.end {
            let rest = &line[at..sent.end];
            let length = memchr::memchr(b';', rest).unwrap_or(rest.len());
            let blanks = rest.len() - rest.trim_ascii_start().len();
            let field = at + blanks.min(length)..at + rest[..length].trim_ascii_end().len();
            if field.start < field.end && !line[field.clone()].starts_with(SELF) {
                line.push(b';');
                line.extend_from_within(field);
            }
            at += length + 1;
        }
    });
}

/// The field that a balancer writes of its own hop, as long as `Root=`.
const SELF: &[u8; 5] = b"Self=";

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
        let mut fields: Fields = sent.iter().map(|sent| ("X-Amzn-Trace-Id", sent)).collect();
        write(&mut fields, 0x5833_7262, RANDOM);
        let written: Vec<_> = fields.all(Name::XAmznTraceId).map(String::from_utf8_lossy).collect();
        assert_eq!(written, [expected]);
    }

    #[test]
    fn a_request_without_a_trace_gets_a_root() {
        check(None, "Root=1-58337262-36d228ad5d99923122bbe354");
        for sent in ["nonsense", "Root=\u{e9}", &format!("Root={}", "a".repeat(LONGEST))] {
            check(Some(sent), "Root=1-58337262-36d228ad5d99923122bbe354");
        }
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
        check(
            Some("; Root=1-67891233-abc ;; \t; Self=1-1-2; a=b c ; "),
            "Self=1-58337262-36d228ad5d99923122bbe354;Root=1-67891233-abc;a=b c",
        );
    }
}
