//! Texts about stickiness: a group's client key, and its verdicts in terms of that key. If no
//! cookie is written for a client, "pinned" and "moves for good" would mislead.

use crate::decide::verdict::Verdict;
use crate::model::affinity::Affinity;
use crate::model::snapshot::Group;

/// Describes the client key of a group.
pub(super) fn stickiness_key(group: &Group) -> String {
    match &group.affinity {
        None => "off".to_owned(),
        Some(Affinity::Cookie(cookie)) => match &cookie.app_cookie {
            None => format!("by cookie {}", cookie.name),
            Some(app) => {
                format!("by cookie {}, for the application's cookie {}", cookie.name, app.name)
            }
        },
        Some(Affinity::Route { cookie, separator }) => {
            format!("by the route after `{separator}` in the application's cookie {cookie}")
        }
        Some(Affinity::Header(name)) => format!("by header field {name}"),
    }
}

/// Reason for the choice of the target.
pub(super) fn sentence(group: &Group, verdict: Verdict) -> &'static str {
    match &group.affinity {
        None | Some(Affinity::Cookie(_)) => verdict.sentence(),
        Some(Affinity::Route { .. }) => of_route(verdict),
        Some(Affinity::Header(_)) => of_value(verdict),
    }
}

fn of_route(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::New => {
            "the session names no target of this group: the hash of its id chooses the target"
        }
        Verdict::Hit => "the session names this target",
        Verdict::MovedDraining => {
            "the session's target is draining: another target serves it from now on"
        }
        Verdict::MovedZone => "the session's target is in another zone, and cross_zone is false",
        Verdict::MovedUnhealthy => {
            "the session's target is unhealthy: another target serves until it is back or the \
             application names the new one"
        }
        Verdict::Spilled => {
            "the session's target cannot serve now: this request goes to another target"
        }
        Verdict::StrictRefused => {
            "the session's target cannot serve, and on_unavailable is strict: 503"
        }
        Verdict::KeyAbsent => "the request names no session: the algorithm chooses the target",
        other => other.sentence(),
    }
}

fn of_value(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Hit => "this target ranks first for the header value",
        Verdict::MovedDraining => {
            "the target that ranks first for the header value is draining: the next one serves"
        }
        Verdict::MovedUnhealthy => {
            "the target that ranks first for the header value is unhealthy: the next one serves \
             until it is back"
        }
        Verdict::Spilled => {
            "the target that ranks first for the header value cannot serve now: the next one serves"
        }
        Verdict::StrictRefused => {
            "the target that ranks first for the header value cannot serve, and on_unavailable is \
             strict: 503"
        }
        Verdict::KeyAbsent => {
            "the request lacks the header field: the algorithm chooses the target"
        }
        other => other.sentence(),
    }
}
