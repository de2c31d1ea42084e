//! Checks the balancer's cookies against the rules of browsers: resolves `secure = "auto"`, and
//! warns of settings with which no browser keeps or sends the cookie, since stickiness then seems
//! not to work.

use super::forward_paths::{ForwardPath, reached_from};
use super::stickiness::{self, cookie_name, kind};
use crate::config::node::{Node, Table};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::{
    Action, CookieSettings, Forward, Group, ReachedFrom, Rule, StickinessKey, WrittenCookie,
};
use crate::policy::affinity::app_cookie::companion_name;
use crate::policy::affinity::{CorsTwin, GROUP_COOKIE, SameSite, SecureAttribute};
use crate::policy::routing::pattern::Pattern;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

/// Every cookie that a group or a rule writes, sorted by name.
pub(super) fn written(
    paths: &[ForwardPath<'_>],
    rules: &[Rule],
    groups: &[Group],
) -> Vec<WrittenCookie> {
    let mut cookies: BTreeMap<String, WrittenCookie> = BTreeMap::new();
    let mut add = |name: &str, has_twin: bool, settings: &CookieSettings| {
        cookies.entry(name.to_owned()).or_insert_with(|| WrittenCookie {
            name: name.to_owned(),
            has_twin: has_twin && settings.cors_twin != CorsTwin::Never,
            settings: settings.clone(),
            reached_from: Vec::new(),
        });
    };
    let mut names = BTreeMap::new();
    for group in groups {
        let Some((name, has_twin, settings)) = cookie_of(group) else { continue };
        add(&name, has_twin, settings);
        names.insert(&group.name, name);
    }
    for rule in rules {
        if let Action::Forward(Forward { stickiness: Some(sticky), .. }) = &rule.action {
            add(GROUP_COOKIE, true, &sticky.cookie);
        }
    }
    for path in paths {
        let of_groups = path.forward.groups.iter().filter_map(|(group, _)| names.get(group));
        let of_rule = path.forward.stickiness.as_ref().map(|_| GROUP_COOKIE);
        for name in of_groups.map(String::as_str).chain(of_rule) {
            let Some(cookie) = cookies.get_mut(name) else { continue };
            let listener = path.listener;
            if cookie.reached_from.iter().all(|(known, _)| *known != listener.name) {
                cookie.reached_from.push((listener.name.clone(), reached_from(listener)));
            }
        }
    }
    cookies.into_values().collect()
}

/// The cookie of a group: its name, whether it has a twin, and its attributes.
fn cookie_of(group: &Group) -> Option<(String, bool, &CookieSettings)> {
    let stickiness = group.stickiness.as_ref()?;
    let (name, has_twin) = match &stickiness.key {
        StickinessKey::LbCookie { name, .. } => (name.clone(), true),
        StickinessKey::AppCookie { companion, .. } => (companion_name(companion), false),
        StickinessKey::Route { .. } | StickinessKey::Header(_) => return None,
    };
    Some((name, has_twin, &stickiness.cookie))
}

/// Stores the result of `secure` in the groups and rules that write the cookie.
pub(super) fn apply(cookies: &[WrittenCookie], rules: &mut [Rule], groups: &mut [Group]) {
    let is_secure = |name: &str| {
        cookies.iter().find(|cookie| cookie.name == name).is_some_and(WrittenCookie::is_secure)
    };
    for group in groups {
        let settled = cookie_of(group).map(|(name, ..)| is_secure(&name));
        if let (Some(settled), Some(stickiness)) = (settled, &mut group.stickiness) {
            stickiness.cookie.is_secure = settled;
        }
    }
    for rule in rules {
        if let Action::Forward(Forward { stickiness: Some(sticky), .. }) = &mut rule.action {
            sticky.cookie.is_secure = is_secure(GROUP_COOKIE);
        }
    }
}

/// A group or rule that writes a cookie, with its place in the file.
struct Writer<'f> {
    cookie: &'f WrittenCookie,
    /// The attributes in this group. If groups disagree, the file is refused.
    settings: CookieSettings,
    /// The group's table and its `stickiness`.
    group: &'f Node,
    table: &'f Table,
    /// The rules that forward to it.
    rules: Vec<&'f Rule>,
}

/// Warns of cookies that no browser keeps, or that are not sent where they are needed.
pub(super) fn kept_and_sent(
    cookies: &[WrittenCookie],
    paths: &[ForwardPath<'_>],
    file: &Table,
    problems: &mut Problems,
) {
    let mut found: Vec<Problem> = Vec::new();
    for writer in writers(cookies, paths, file) {
        let more = writer.prefix().into_iter().chain(writer.without_secure());
        let more = more.chain(writer.over_plain_http()).chain(writer.strict());
        let more = more.chain(writer.domain());
        for problem in more.chain(writer.elsewhere()) {
            // A rule's cookie has its group's attributes.
            let known =
                |other: &Problem| (&other.span, &other.title) == (&problem.span, &problem.title);
            if !found.iter().any(known) {
                found.push(problem);
            }
        }
    }
    for problem in found {
        problems.push(problem.warning());
    }
}

fn writers<'f>(
    cookies: &'f [WrittenCookie],
    paths: &[ForwardPath<'f>],
    file: &'f Table,
) -> Vec<Writer<'f>> {
    let cookie = |name: &str| cookies.iter().find(|cookie| cookie.name == name);
    let groups = file.table("target_group");
    let sticky =
        |group: &'f Node| Some(group.table().table("stickiness")).filter(|t| t.flag("enabled"));
    let mut rules_to: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    let mut of_rules: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for path in paths {
        let Some(rule) = path.rule else { continue };
        let named = || path.forward.groups.iter().map(|(group, _)| group.as_str());
        for group in named() {
            rules_to.entry(group).or_default().push(rule);
        }
        let first = || named().find(|group| groups.get(group).and_then(sticky).is_some());
        if let Some(group) = path.forward.stickiness.as_ref().and_then(|_| first()) {
            of_rules.entry(group).or_default().push(rule);
        }
    }
    let mut writers = Vec::new();
    for (name, group) in groups.entries() {
        let Some(table) = sticky(group) else { continue };
        let settings = stickiness::cookie(table);
        if let Some(cookie) = cookie_name(table).and_then(|name| cookie(&name)) {
            let rules = rules_to.remove(name).unwrap_or_default();
            writers.push(Writer { cookie, settings: settings.clone(), group, table, rules });
        }
        if let (Some(cookie), Some(rules)) = (cookie(GROUP_COOKIE), of_rules.remove(name)) {
            writers.push(Writer { cookie, settings, group, table, rules });
        }
    }
    writers
}

impl Writer<'_> {
    fn at(&self, key: &str) -> Range<usize> {
        self.table.written(key).map_or(&self.group.key, |node| &node.span).clone()
    }

    /// Attributes that a name prefix requires (RFC 6265bis section 4.1.3, and Chromium's
    /// `__Http-`). Browsers compare prefixes without regard to case.
    fn prefix(&self) -> Option<Problem> {
        let (cookie, settings) = (self.cookie, &self.settings);
        let is = |prefix: &&str| {
            cookie.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let prefix = ["__Host-Http-", "__Http-", "__Host-", "__Secure-"].into_iter().find(is)?;
        let mut missing = Vec::new();
        if !cookie.is_secure() {
            missing.push("`secure = \"always\"`");
        }
        if prefix.contains("Host") && settings.path != "/" {
            missing.push("`path = \"/\"`");
        }
        if prefix.contains("Host") && settings.domain.is_some() {
            missing.push("no `domain`");
        }
        if prefix.contains("Http") && !settings.http_only {
            missing.push("`http_only = true`");
        }
        if missing.is_empty() {
            return None;
        }
        let kind = self.table.table(kind(self.table));
        let name = kind.written("name").filter(|node| node.text() == cookie.name);
        let name = name.or_else(|| kind.written("companion")).map_or(&self.group.key, |n| &n.span);
        let title = format!(
            "browsers reject the cookie `{}`: the prefix `{prefix}` requires more attributes",
            cookie.name
        );
        let help = format!("it needs {}; otherwise rename the cookie", missing.join(" and "));
        Some(Problem::at(name.clone(), title).help(help))
    }

    /// `SameSite=None` and `Partitioned` require `Secure` (RFC 6265bis section 5.7).
    fn without_secure(&self) -> impl Iterator<Item = Problem> {
        let (is_secure, settings) = (self.cookie.is_secure(), &self.settings);
        let same_site = (settings.same_site == SameSite::None).then_some("same_site");
        let partitioned = settings.partitioned.then_some("partitioned");
        let keys = same_site.into_iter().chain(partitioned).filter(move |_| !is_secure);
        let auto = settings.secure == SecureAttribute::Auto;
        keys.map(move |key| {
            let title = "browsers reject this cookie unless it is `Secure`";
            let problem = Problem::at(self.at(key), title);
            if auto {
                let label = "`secure = \"auto\"` is not Secure: clients may come over plain HTTP";
                problem.label(label).help("set `secure = \"always\"`, and serve browsers over TLS")
            } else {
                problem.help("set `secure` to \"auto\" or \"always\"")
            }
        })
    }

    /// `Secure` on a response over plain HTTP is not kept (RFC 6265bis section 5.7).
    fn over_plain_http(&self) -> Option<Problem> {
        let from = &self.cookie.reached_from;
        let (plain, _) = from.iter().find(|(_, from)| *from == ReachedFrom::Plain)?;
        if self.settings.secure != SecureAttribute::Always {
            return None;
        }
        let title = match from.iter().all(|(_, from)| *from == ReachedFrom::Plain) {
            true => {
                "browsers reject this cookie: it is `Secure`, but all its listeners are plain HTTP"
                    .into()
            }
            false => {
                format!(
                    "browsers reject `Secure` cookies from listener `{plain}`: it is plain HTTP"
                )
            }
        };
        let help = "set `secure = \"auto\"`, set `redirect_to` on the plain listener, or add the \
                    TLS proxies in front of it to its `trusted_proxies`";
        Some(Problem::at(self.at("secure"), title).help(help))
    }

    /// A request that another site starts does not carry a `Strict` cookie (RFC 6265bis section
    /// 5.6.7.1). Without a twin it carries no token: the client gets a new target, and the response
    /// replaces the pin.
    fn strict(&self) -> Option<Problem> {
        if self.settings.same_site != SameSite::Strict || self.cookie.has_twin {
            return None;
        }
        let title = "browsers do not send this cookie when a user follows a link from another site";
        let help =
            "such a client gets a new target and loses its session; set `same_site = \"lax\"`";
        Some(Problem::at(self.at("same_site"), title).help(help))
    }

    /// A `Domain` that browsers refuse for every host (RFC 6265bis sections 5.1.3 and 5.7).
    fn domain(&self) -> Option<Problem> {
        let domain = self.settings.domain.as_deref()?;
        let name = domain.strip_prefix('.').unwrap_or(domain).to_ascii_lowercase();
        let is_suffix = |name: &str| psl::suffix(name.as_bytes()).is_some_and(|all| all == name);
        let title = if name.parse::<IpAddr>().is_ok() {
            "`domain` is an IP address: browsers accept only host names"
        } else if name.ends_with('.') {
            "`domain` ends in a dot: no host name matches it in browsers"
        } else if is_suffix(&name) {
            "`domain` is a public suffix: browsers reject cookies for it"
        } else {
            return None;
        };
        let help = "remove `domain`: the cookie is then for the request's host only";
        Some(Problem::at(self.at("domain"), title).help(help))
    }

    /// A `Domain` or `Path` that excludes hosts or paths of the rules that forward here.
    fn elsewhere(&self) -> impl Iterator<Item = Problem> {
        let settings = &self.settings;
        let domain =
            settings.domain.as_deref().map(|domain| domain.strip_prefix('.').unwrap_or(domain));
        let inside = domain.and_then(|domain| {
            Some([Pattern::host(domain)?, Pattern::host(&format!("*.{domain}"))?])
        });
        let path = settings.path.as_str();
        let below = format!("{}/*", path.strip_suffix('/').unwrap_or(path));
        let below =
            Pattern::path(path).zip(Pattern::path(&below)).map(|(here, below)| [here, below]);
        self.rules.iter().flat_map(move |rule| {
            let meets = |places: &[Pattern; 2], one: &Pattern| places.iter().any(|p| p.meets(one));
            let outside = inside.as_ref().and_then(|inside| {
                let host = rule.conditions.hosts.iter().find(|host| !meets(inside, host))?;
                let title = format!("`domain` does not hold host `{host}` of rule `{}`", rule.name);
                let problem = Problem::at(self.at("domain"), title);
                Some(
                    problem
                        .label("browsers reject the cookie for this host")
                        .help("set a domain that contains the hosts, or remove `domain`"),
                )
            });
            let unsent = below.as_ref().and_then(|below| {
                let paths = &rule.conditions.paths;
                if paths.is_empty() || paths.iter().any(|path| meets(below, path)) {
                    return None;
                }
                let title = format!("cookie `path` matches no path of rule `{}`", rule.name);
                let problem = Problem::at(self.at("path"), title);
                Some(
                    problem
                        .label("browsers do not send the cookie for this path")
                        .help("set a prefix of all paths of the rule, for example \"/\""),
                )
            });
            outside.into_iter().chain(unsent)
        })
    }
}

#[cfg(test)]
mod tests;
