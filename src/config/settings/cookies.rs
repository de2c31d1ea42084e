//! The balancer's cookies as browsers store them: one per name, even if several groups and rules
//! write it.

use super::CookieSettings;
use crate::base::name::Name;
use crate::policy::affinity::SecureAttribute;

/// A cookie of the balancer, with the listeners that lead to it.
#[derive(Clone, Debug)]
pub struct WrittenCookie {
    /// Name of the cookie; the twin has the suffix `CORS`.
    pub name: String,
    /// True if a twin is ever written.
    pub has_twin: bool,
    /// Attributes of the cookie; all groups and rules that write it agree on them.
    pub settings: CookieSettings,
    /// The listeners that forward to a group or rule with this cookie, in the order of their names.
    /// A listener that answers or redirects all such requests is left out.
    pub reached_from: Vec<(Name, ReachedFrom)>,
}

/// Transport between clients and a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReachedFrom {
    /// TLS that ends at the balancer.
    Tls,
    /// Plain HTTP.
    Plain,
    /// Trusted proxies. The balancer learns the client's protocol for one request at a time: a
    /// client that came over TLS may come over plain HTTP next time.
    Proxies {
        /// True if all other clients must use TLS, so that only the proxies decide.
        only: bool,
    },
}

impl WrittenCookie {
    /// Returns true if the main cookie is `Secure`. With `auto` it is, if no client can reach a
    /// writer of the cookie over plain HTTP.
    pub fn is_secure(&self) -> bool {
        match self.settings.secure {
            SecureAttribute::Auto => self.open_ways().next().is_none(),
            SecureAttribute::Always => true,
            SecureAttribute::Never => false,
        }
    }

    /// The listeners whose clients may come over plain HTTP.
    pub fn open_ways(&self) -> impl Iterator<Item = (&Name, ReachedFrom)> {
        let ways = self.reached_from.iter().map(|(listener, from)| (listener, *from));
        ways.filter(|(_, from)| *from != ReachedFrom::Tls)
    }

    /// Explains the result of `secure = "auto"`, for `stayput check`; `None` if the file has
    /// `always` or `never`.
    pub fn plain_http_note(&self) -> Option<String> {
        if self.settings.secure != SecureAttribute::Auto {
            return None;
        }
        let name = &self.name;
        let listeners = |wanted: fn(ReachedFrom) -> bool| {
            let names = self.open_ways().filter(|(_, from)| wanted(*from));
            let names: Vec<_> = names.map(|(listener, _)| format!("`{listener}`")).collect();
            let word = if names.len() == 1 { "listener" } else { "listeners" };
            (!names.is_empty()).then(|| format!("{word} {}", names.join(", ")))
        };
        if self.reached_from.is_empty() {
            return Some(format!("cookie {name}: no listener reaches a group that sets it"));
        }
        let plain = listeners(|from| from == ReachedFrom::Plain);
        let proxies = listeners(|from| from != ReachedFrom::Plain);
        let why = match (plain, proxies) {
            (None, None) => {
                return Some(format!(
                    "cookie {name}: `secure = \"auto\"` is Secure: all its listeners use TLS"
                ));
            }
            (Some(plain), _) => format!("clients of {plain} may use plain HTTP"),
            (None, Some(proxies)) => {
                let others = self.open_ways().any(|(_, from)| from != PROXIES_ONLY);
                let and = if others { " and no other clients connect" } else { "" };
                format!(
                    "browsers may use plain HTTP to the trusted proxies of {proxies}; set `secure \
                     = \"always\"` if these accept only HTTPS{and}"
                )
            }
        };
        Some(format!("cookie {name}: `secure = \"auto\"` is not Secure: {why}"))
    }
}

const PROXIES_ONLY: ReachedFrom = ReachedFrom::Proxies { only: true };
