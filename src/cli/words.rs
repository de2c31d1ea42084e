//! What commands say of stickiness: what carries it in a group, and its verdicts in the words of that
//! carrier. Where nothing is written for a client, "pinned" and "moves for good" would mislead.

use crate::decide::verdict::Verdict;
use crate::model::affinity::Affinity;
use crate::model::snapshot::Group;

/// What tells a group's clients from one another.
pub(super) fn stickiness_key(group: &Group) -> String {
    match &group.affinity {
        None => "off".to_owned(),
        Some(Affinity::Cookie(cookie)) => match &cookie.app_cookie {
            None => format!("by the cookie {}", cookie.name),
            Some(app) => {
                format!("by the cookie {}, beside the application's {}", cookie.name, app.name)
            }
        },
        Some(Affinity::Route { cookie, separator }) => {
            format!("by what follows `{separator}` in the application's cookie {cookie}")
        }
        Some(Affinity::Header(name)) => format!("by the value of the field {name}"),
    }
}

/// Why a request goes where it goes.
pub(super) fn sentence(group: &Group, verdict: Verdict) -> &'static str {
    match &group.affinity {
        None | Some(Affinity::Cookie(_)) => verdict.sentence(),
        Some(Affinity::Route { .. }) => of_route(verdict),
        Some(Affinity::Header(_)) => of_value(verdict),
    }
}

fn of_route(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::New => "the session names no target of this group: its id's ranking decides",
        Verdict::Hit => "the session names this target",
        Verdict::MovedDraining => {
            "the target the session names is draining: another serves it from now on"
        }
        Verdict::MovedZone => {
            "the target the session names stands in another zone, and cross_zone is false"
        }
        Verdict::MovedUnhealthy => {
            "the target the session names is unhealthy: another serves it, until that target is back \
             or the application names the new one"
        }
        Verdict::Spilled => {
            "the target the session names cannot serve just now: this request goes elsewhere"
        }
        Verdict::StrictRefused => {
            "the target the session names cannot serve, and on_unavailable is strict: 503"
        }
        Verdict::KeyAbsent => "the request names no session: the algorithm decides",
        other => other.sentence(),
    }
}

fn of_value(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Hit => "this target is the first of the value's ranking",
        Verdict::MovedDraining => {
            "the first target of the value's ranking is draining: the next one serves"
        }
        Verdict::MovedUnhealthy => {
            "the first target of the value's ranking is unhealthy: the next one serves until it is back"
        }
        Verdict::Spilled => {
            "the first target of the value's ranking cannot serve just now: the next one does"
        }
        Verdict::StrictRefused => {
            "the first target of the value's ranking cannot serve, and on_unavailable is strict: 503"
        }
        Verdict::KeyAbsent => "the request lacks the field: the algorithm decides",
        other => other.sentence(),
    }
}
