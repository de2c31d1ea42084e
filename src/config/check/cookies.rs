//! Stickiness: one kind a group, cookies that may be called so, and groups that share one.

use super::{Check, Problem};
use crate::config::reader::{Node, Table, Value};
use crate::config::settings::{Group, Stickiness};
use crate::policy::affinity::{
    CorsTwin, Lifetime, OnUnavailable, Refresh, SameSite, SecureAttribute,
};
use std::time::Duration;

/// What stands for the kind that is not named.
const DEFAULT_COOKIE: &str = "AWSALB";
const DEFAULT_LIFETIME: Lifetime = Lifetime::For(Duration::from_hours(24));

impl Check<'_> {
    /// `Some(None)` is stickiness off; `None` that something is wrong with it.
    pub(super) fn stickiness(&mut self, table: &Table) -> Option<Option<Stickiness>> {
        let before = self.problems.len();
        let kinds = ["lb_cookie", "app_cookie", "route", "header"];
        let named: Vec<&Node> = kinds.iter().filter_map(|kind| table.get(kind)).collect();
        if let [_, second, ..] = named.as_slice() {
            let problem = Problem::new(
                second.span.clone(),
                "a group has one kind of stickiness",
                "a second one",
            );
            self.problems.push(problem.help("keep one of lb_cookie, app_cookie, route, header"));
        }
        let cookie = table.table("lb_cookie");
        let name = cookie.and_then(|cookie| cookie.text("name")).unwrap_or(DEFAULT_COOKIE);
        let name_node = cookie.and_then(|cookie| cookie.get("name"));
        self.check_cookie_name(name, name_node);
        let lifetime = match cookie {
            None => DEFAULT_LIFETIME,
            Some(cookie) if cookie.word("duration") == "session" => Lifetime::Session,
            Some(cookie) => cookie.duration("duration").map_or(DEFAULT_LIFETIME, Lifetime::For),
        };
        let stickiness = Stickiness {
            cookie: name.to_owned(),
            lifetime,
            refresh: match table.word("refresh") {
                "half_life" => Refresh::HalfLife,
                "never" => Refresh::Never,
                _ => Refresh::EachResponse,
            },
            cors_twin: match table.word("cors_twin") {
                "always" => CorsTwin::Always,
                "never" => CorsTwin::Never,
                _ => CorsTwin::Secure,
            },
            secure: match table.word("secure") {
                "always" => SecureAttribute::Always,
                "never" => SecureAttribute::Never,
                _ => SecureAttribute::Auto,
            },
            http_only: table.bool("http_only"),
            same_site: match table.word("same_site") {
                "lax" => SameSite::Lax,
                "strict" => SameSite::Strict,
                "none" => SameSite::None,
                _ => SameSite::Unset,
            },
            path: table.text("path").unwrap_or("/").to_owned(),
            domain: table.text("domain").map(str::to_owned),
            partitioned: table.bool("partitioned"),
            hide_from_target: table.bool("hide_from_target"),
            guard_cache: table.bool("guard_cache"),
            on_unavailable: match table.word("on_unavailable") {
                "strict" => OnUnavailable::Strict,
                _ => OnUnavailable::Move,
            },
        };
        self.check_attributes(table, &stickiness);
        let fine = self.problems.len() == before;
        fine.then(|| table.bool("enabled").then_some(stickiness))
    }

    fn check_cookie_name(&mut self, name: &str, node: Option<&Node>) {
        let separators = b"()<>@,;:\\\"/[]?={} \t";
        let is_token = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|byte| byte.is_ascii_graphic() && !separators.contains(&byte));
        if !is_token {
            let problem = Problem::new(
                node.and_then(|node| node.span.clone()),
                format!("`{name}` is no cookie name"),
                "here",
            );
            self.problems
                .push(problem.help("1 to 64 visible characters without separators (RFC 6265)"));
        }
        let reserved = name.starts_with("AWSALBTG") || name.starts_with("AWSALBAPP");
        if reserved || name.ends_with("CORS") {
            let title = format!("the cookie name `{name}` is reserved");
            let problem = Problem::new(node.and_then(|node| node.span.clone()), title, "here");
            let help = "AWSALBTG... and AWSALBAPP... are other kinds of cookie, and NAMECORS is the twin of NAME";
            self.problems.push(problem.help(help));
        }
    }

    fn check_attributes(&mut self, table: &Table, stickiness: &Stickiness) {
        let fine = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b';';
        if !stickiness.path.starts_with('/') || !stickiness.path.bytes().all(fine) {
            self.problem(table.get("path"), "a cookie's path begins with `/`", "and holds no `;`");
        }
        if let Some(domain) = &stickiness.domain {
            let host = domain.strip_prefix('.').unwrap_or(domain);
            let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
            if host.is_empty() || !host.bytes().all(fine) {
                self.problem(table.get("domain"), format!("`{domain}` is no domain"), "here");
            }
        }
        let always = stickiness.secure == SecureAttribute::Always;
        if stickiness.same_site == SameSite::None && stickiness.secure == SecureAttribute::Never {
            self.problem(
                table.get("same_site"),
                "browsers refuse SameSite=None without Secure",
                "set secure",
            );
        }
        if stickiness.partitioned && stickiness.secure == SecureAttribute::Never {
            self.problem(
                table.get("partitioned"),
                "browsers refuse Partitioned without Secure",
                "set secure",
            );
        }
        let host_only = stickiness.cookie.starts_with("__Host-");
        if (host_only || stickiness.cookie.starts_with("__Secure-")) && !always {
            self.problem(
                table.get("lb_cookie"),
                "this cookie name needs `secure = \"always\"`",
                "here",
            );
        }
        if host_only && (stickiness.domain.is_some() || stickiness.path != "/") {
            self.problem(
                table.get("lb_cookie"),
                "a __Host- cookie has no domain and the path `/`",
                "here",
            );
        }
    }

    /// Groups that share a cookie write one cookie: they must write it alike.
    pub(super) fn agree_on_cookies(&mut self, file: &Table, groups: &[Group]) {
        let mut first: Vec<(&str, &Stickiness)> = Vec::new();
        for group in groups {
            let Some(stickiness) = &group.stickiness else { continue };
            let other = first.iter().find(|(_, other)| other.cookie == stickiness.cookie);
            let Some((other_name, other)) = other else {
                first.push((group.name.as_str(), stickiness));
                continue;
            };
            if let Some(attribute) = disagreement(other, stickiness) {
                let name = &stickiness.cookie;
                let title = format!(
                    "groups `{other_name}` and `{}` share the cookie `{name}` and disagree on {attribute}",
                    group.name
                );
                let span = file.named("target_group").iter().find_map(|(named, node)| {
                    let Value::Table(table) = &node.value else { return None };
                    let written = table.table("stickiness").and_then(|table| table.span(attribute));
                    (named == group.name.as_str()).then(|| written.or(node.span.clone()))?
                });
                let problem = Problem::new(span, title, "one cookie is written in one way");
                self.problems.push(
                    problem.help("make them agree, or give one its own name in lb_cookie.name"),
                );
            }
        }
    }
}

fn disagreement(a: &Stickiness, b: &Stickiness) -> Option<&'static str> {
    let differs = [
        ("path", a.path != b.path),
        ("domain", a.domain != b.domain),
        ("secure", a.secure != b.secure),
        ("http_only", a.http_only != b.http_only),
        ("same_site", a.same_site != b.same_site),
        ("partitioned", a.partitioned != b.partitioned),
        ("cors_twin", a.cors_twin != b.cors_twin),
    ];
    differs.into_iter().find(|(_, differs)| *differs).map(|(attribute, _)| attribute)
}
