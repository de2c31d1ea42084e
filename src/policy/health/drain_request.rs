//! A target's wish to be drained, told in the answer to a check.

use http::{HeaderMap, HeaderName, StatusCode};

/// The field by which a target asks to be drained: `x-stayput-drain: 1`.
pub const FIELD: HeaderName = HeaderName::from_static("x-stayput-drain");

/// What an answer to a check says of leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainRequest {
    /// Nothing.
    None,
    /// It asks to be drained; whether it passes is judged as ever.
    Drain,
    /// It asks to be drained by being no answer: a 404 under `drain_on_404`. It neither passes nor
    /// fails, or the clients that are to stay would be moved as if the target were down.
    DrainUnjudged,
}

impl DrainRequest {
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
        for (status, values, drain_on_404, drain_request) in [
            (200, &[][..], true, DrainRequest::None),
            (200, &["1"], false, DrainRequest::Drain),
            (503, &["1"], true, DrainRequest::Drain),
            (200, &["0", "1"], false, DrainRequest::Drain),
            (200, &["0"], false, DrainRequest::None),
            (200, &["true"], false, DrainRequest::None),
            (404, &[], false, DrainRequest::None),
            (404, &["1"], false, DrainRequest::Drain),
            (404, &[], true, DrainRequest::DrainUnjudged),
            (404, &["1"], true, DrainRequest::DrainUnjudged),
            (410, &[], true, DrainRequest::None),
        ] {
            let fields = values.iter().map(|value| (FIELD, HeaderValue::from_static(value)));
            let fields: HeaderMap = fields.collect();
            let got =
                DrainRequest::of(StatusCode::from_u16(status).unwrap(), &fields, drain_on_404);
            assert_eq!(got, drain_request, "{status} {values:?} {drain_on_404}");
        }
    }

    #[test]
    fn a_wish_holds_until_a_check_passes_without_it() {
        for (drain_request, passed, wants) in [
            (DrainRequest::Drain, true, Some(true)),
            (DrainRequest::Drain, false, Some(true)),
            (DrainRequest::DrainUnjudged, true, Some(true)),
            (DrainRequest::None, false, None),
            (DrainRequest::None, true, Some(false)),
        ] {
            assert_eq!(drain_request.wants_drain(passed), wants, "{drain_request:?} {passed}");
        }
    }
}
