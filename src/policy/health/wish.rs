//! A target's wish to be drained, told in the answer to a check.

use http::{HeaderMap, HeaderName, StatusCode};

/// The field by which a target asks to be drained: `x-stayput-drain: 1`.
pub const FIELD: HeaderName = HeaderName::from_static("x-stayput-drain");

/// What an answer to a check says of leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    None,
    /// It asks to be drained; whether it passes is judged as ever.
    Drain,
    /// It asks to be drained by being no answer: a 404 under `drain_on_404`. It neither passes nor
    /// fails, or the clients that are to stay would be moved as if the target were down.
    DrainUnjudged,
}

impl Wish {
    /// Reads an answer's head.
    pub fn of(status: StatusCode, fields: &HeaderMap, drain_on_404: bool) -> Self {
        if drain_on_404 && status == StatusCode::NOT_FOUND {
            return Self::DrainUnjudged;
        }
        match fields.get_all(FIELD).iter().any(|value| value == "1") {
            true => Self::Drain,
            false => Self::None,
        }
    }

    /// Whether the target is to drain from now on; `None` leaves it as it is. A wish holds until a
    /// check passes without it: a target that fails while it shuts down has not changed its mind.
    pub fn wants_drain(self, passed: bool) -> Option<bool> {
        match self {
            Self::Drain | Self::DrainUnjudged => Some(true),
            Self::None => passed.then_some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_target_asks_by_its_field_or_by_404_where_that_is_agreed() {
        for (status, values, drain_on_404, wish) in [
            (200, &[][..], true, Wish::None),
            (200, &["1"], false, Wish::Drain),
            (503, &["1"], true, Wish::Drain),
            (200, &["0", "1"], false, Wish::Drain),
            (200, &["0"], false, Wish::None),
            (200, &["true"], false, Wish::None),
            (404, &[], false, Wish::None),
            (404, &["1"], false, Wish::Drain),
            (404, &[], true, Wish::DrainUnjudged),
            (404, &["1"], true, Wish::DrainUnjudged),
            (410, &[], true, Wish::None),
        ] {
            let fields = values.iter().map(|value| (FIELD, HeaderValue::from_static(value)));
            let fields: HeaderMap = fields.collect();
            let got = Wish::of(StatusCode::from_u16(status).unwrap(), &fields, drain_on_404);
            assert_eq!(got, wish, "{status} {values:?} {drain_on_404}");
        }
    }

    #[test]
    fn a_wish_holds_until_a_check_passes_without_it() {
        for (wish, passed, wants) in [
            (Wish::Drain, true, Some(true)),
            (Wish::Drain, false, Some(true)),
            (Wish::DrainUnjudged, true, Some(true)),
            (Wish::None, false, None),
            (Wish::None, true, Some(false)),
        ] {
            assert_eq!(wish.wants_drain(passed), wants, "{wish:?} {passed}");
        }
    }
}
