//! A target's request to be drained, sent in its response to a check.

use http::{HeaderMap, HeaderName, StatusCode};

/// The field by which a target asks to be drained: `x-stayput-drain: 1`.
pub(crate) const FIELD: HeaderName = HeaderName::from_static("x-stayput-drain");

/// The part of a check's response that asks for draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainRequest {
    /// The response does not ask for it.
    None,
    /// It asks for it; the check passes or fails as usual.
    Drain,
    /// A 404 under `drain_on_404` asks for it. The check neither passes nor fails, or clients that
    /// are to stay would move as if the target were down.
    DrainUnjudged,
}

impl DrainRequest {
    /// Reads the head of a response.
    pub(crate) fn of(status: StatusCode, fields: &HeaderMap, drain_on_404: bool) -> Self {
        if drain_on_404 && status == StatusCode::NOT_FOUND {
            return Self::DrainUnjudged;
        }
        match fields.get_all(FIELD).iter().any(|value| value == "1") {
            true => Self::Drain,
            false => Self::None,
        }
    }

    /// Returns true if the target must drain from now on; `None` leaves it as it is. The request to
    /// drain holds until a check passes without it: a target that fails while it shuts down still
    /// wants to drain.
    pub(crate) fn wants_drain(self, passed: bool) -> Option<bool> {
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
    fn a_target_asks_to_drain_by_its_field_or_by_404_if_configured() {
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
    fn a_request_to_drain_holds_until_a_check_passes_without_it() {
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
