//! `X-Amzn-Trace-Id` (AWS, "Request tracing for your Application Load Balancer"): it connects the
//! balancer's log entry of a request with the target's.

use crate::http1::fields::Fields;
use crate::http1::name::Name;

/// A longer field is replaced instead of forwarded (ALB does so if the head is over 7 KiB; here the
/// field alone is bounded).
const MAX_LEN: usize = 1_024;

/// Writes the field for the next hop: a `Root` if there is none; else our own `Self` in front,
/// replacing any other `Self`, and the other parts as received. `random` is the id's 96 bits.
pub(crate) fn write(fields: &mut Fields, unix_seconds: u64, random: (u64, u32)) {
    let line = root_line(unix_seconds as u32, random);
    if !fields.has(Name::XAmznTraceId) {
        return fields.append_lines(&line, &[(Name::XAmznTraceId, line.len())]);
    }
    let root = &line[BEFORE.len() - ROOT.len()..line.len() - 2];
    fields.rewrite(Name::XAmznTraceId, |line, sent| {
        let begins = line.len();
        line.extend_from_slice(root);
        let Some(sent) = sent else { return };
        let text = &line[sent.clone()];
        let is_text = text.iter().all(|byte| (0x20..0x7f).contains(byte) || *byte == b'\t');
        if !is_text || text.len() > MAX_LEN || memchr::memmem::find(text, b"Root=").is_none() {
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

/// The part that a balancer writes for its own hop, as long as `Root=`.
const SELF: &[u8; 5] = b"Self=";

const ROOT: &[u8; 7] = b"Root=1-";
const BEFORE: &[u8; 24] = b"x-amzn-trace-id: Root=1-";
/// After [`BEFORE`]: eight digits, a hyphen, 24 digits, CRLF.
const LINE: usize = BEFORE.len() + 8 + 1 + 24 + 2;

/// The line of a request without a trace. It is made in one piece, because nearly every request
/// needs one.
fn root_line(unix_seconds: u32, random: (u64, u32)) -> [u8; LINE] {
    const TIME: usize = BEFORE.len();
    const RANDOM: usize = TIME + 9;
    let mut line = [b'-'; LINE];
    line[..TIME].copy_from_slice(BEFORE);
    line[TIME..TIME + 8].copy_from_slice(&hexadecimal(unix_seconds));
    let (high, low) = ((random.0 >> 32) as u32, random.0 as u32);
    line[RANDOM..RANDOM + 8].copy_from_slice(&hexadecimal(high));
    line[RANDOM + 8..RANDOM + 16].copy_from_slice(&hexadecimal(low));
    line[RANDOM + 16..RANDOM + 24].copy_from_slice(&hexadecimal(random.1));
    line[RANDOM + 24..].copy_from_slice(b"\r\n");
    line
}

/// Formats without `write!`: each request needs it, and formatting four numbers costs twenty times
/// as much. All eight digits are made at once, one in each byte of a word.
fn hexadecimal(number: u32) -> [u8; 8] {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    let mut word = u64::from(number);
    word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    word = (word | word << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 in each byte that is ten or more: there are 39 characters between `9` and `a`.
    let letters = (word + ONES * 6) >> 4 & ONES;
    (word + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: (u64, u32) = (0x36d2_28ad_5d99_9231, 0x22bb_e354);

    #[test]
    fn a_number_has_the_digits_that_formatting_gives() {
        let edges = [0, 1, 9, 10, 15, 16, 0x0123_4567, 0x89ab_cdef, 0x9a9a_a9a9, u32::MAX];
        for number in edges.into_iter().chain((0..32).map(|bit| 0x5eed_5eed_u32.rotate_left(bit))) {
            let digits = hexadecimal(number);
            assert_eq!(String::from_utf8_lossy(&digits), format!("{number:08x}"));
        }
    }

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
        for sent in ["nonsense", "Root=\u{e9}", &format!("Root={}", "a".repeat(MAX_LEN))] {
            check(Some(sent), "Root=1-58337262-36d228ad5d99923122bbe354");
        }
    }

    #[test]
    fn an_existing_trace_gets_our_self_in_front_and_keeps_the_rest() {
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
