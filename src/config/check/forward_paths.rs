//! The ways from listeners to groups: which rules and defaults send requests there.

use crate::config::settings::{Action, Forward, Listener, ReachedFrom, Rule};

/// One way: requests of a listener that a rule, or the listener's default, sends on.
#[derive(Clone, Copy)]
pub(super) struct ForwardPath<'c> {
    pub(super) listener: &'c Listener,
    /// `None` is the listener's default.
    pub(super) rule: Option<&'c Rule>,
    pub(super) forward: &'c Forward,
}

/// The most rules that answer or redirect against which each later rule of a listener is held. It
/// bounds the work where there are 10,000 rules; a rule that is not found to be covered counts as
/// one that is reached.
const MAX_COVERING: usize = 100;

/// Every way. A rule or default is left out where an earlier rule takes all of its requests for
/// itself: a listener that redirects is one, and so is a rule that redirects a host.
pub(super) fn forward_paths<'c>(
    listeners: &'c [Listener],
    rules: &'c [Rule],
) -> Vec<ForwardPath<'c>> {
    let mut paths = Vec::new();
    for listener in listeners {
        let mut covering: Vec<&Rule> = Vec::new();
        let mut all_is_taken = false;
        for rule in rules.iter().filter(|rule| rule.holds_for(listener)) {
            if covering.iter().any(|earlier| earlier.conditions.cover(&rule.conditions)) {
                continue;
            }
            match &rule.action {
                Action::Forward(forward) => {
                    paths.push(ForwardPath { listener, rule: Some(rule), forward });
                }
                Action::Respond(_) | Action::Redirect(_) if covering.len() < MAX_COVERING => {
                    covering.push(rule);
                }
                Action::Respond(_) | Action::Redirect(_) => {}
            }
            if rule.conditions.cover(&Default::default()) {
                all_is_taken = true;
                break;
            }
        }
        if let (false, Some(Action::Forward(forward))) = (all_is_taken, &listener.default) {
            paths.push(ForwardPath { listener, rule: None, forward });
        }
    }
    paths
}

/// How clients of a listener come to what is behind it.
pub(super) fn reached_from(listener: &Listener) -> ReachedFrom {
    let trusted = &listener.trusted_proxies;
    match (&listener.tls, trusted.is_empty()) {
        (Some(_), true) => ReachedFrom::Tls,
        // A balancer that speaks PROXY passes the client's own bytes on, its TLS among them.
        (Some(_), false) if listener.proxy_protocol => ReachedFrom::Tls,
        (Some(_), false) => ReachedFrom::Proxies { only: true },
        (None, true) => ReachedFrom::Plain,
        (None, false) => {
            let only = listener.proxy_protocol || trusted.covers(&listener.allow_from);
            ReachedFrom::Proxies { only }
        }
    }
}
