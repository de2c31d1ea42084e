//! Paths from listeners to groups: the rules and defaults that forward there.

use crate::config::settings::{Action, Forward, Listener, ReachedFrom, Rule};

/// One path: a rule, or a listener's default, that forwards requests of the listener.
#[derive(Clone, Copy)]
pub(super) struct ForwardPath<'c> {
    pub(super) listener: &'c Listener,
    /// The rule; `None` is the listener's default.
    pub(super) rule: Option<&'c Rule>,
    pub(super) forward: &'c Forward,
}

/// Maximum number of answering or redirecting rules of a listener with which each later rule is
/// compared. It bounds the work with 10,000 rules; a rule not found to be covered counts as
/// reachable.
const MAX_COVERING: usize = 100;

/// All paths. A rule or default is left out if an earlier rule takes all of its requests: for
/// example if the listener redirects, or a rule redirects the host.
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

/// Transport between a listener and its clients.
pub(super) fn reached_from(listener: &Listener) -> ReachedFrom {
    let trusted = &listener.trusted_proxies;
    match (&listener.tls, trusted.is_empty()) {
        (Some(_), true) => ReachedFrom::Tls,
        // A proxy that sends a PROXY header passes the client's bytes on unchanged, TLS included.
        (Some(_), false) if listener.proxy_protocol => ReachedFrom::Tls,
        (Some(_), false) => ReachedFrom::Proxies { only: true },
        (None, true) => ReachedFrom::Plain,
        (None, false) => {
            let only = listener.proxy_protocol || trusted.covers(&listener.allow_from);
            ReachedFrom::Proxies { only }
        }
    }
}
