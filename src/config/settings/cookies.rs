//! The balancer's cookies as browsers see them: one of each name, whichever groups and rules write
//! it.

use super::CookieSettings;
use crate::base::name::Name;
use crate::policy::affinity::SecureAttribute;

/// A cookie of the balancer's, with all that writes it.
#[derive(Clone, Debug)]
pub struct WrittenCookie {
    /// Its name; the twin's is that and `CORS`.
    pub name: String,
    /// Whether a twin is ever written.
    pub has_twin: bool,
    /// How it is written; all that writes it agrees.
    pub settings: CookieSettings,
    /// The listeners that lead to what writes it, in the order of their names. One that answers
    /// itself, or redirects, what would lead there is none of them.
    pub reached_from: Vec<(Name, ReachedFrom)>,
}

/// How clients of a listener come to what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReachedFrom {
    /// Over TLS that ends here.
    Tls,
    /// Over plain HTTP.
    Plain,
    /// Through proxies whose word is believed. What they take from browsers is known of one request
    /// at a time, and not of the next: a client that came over TLS may come over plain HTTP then.
    Proxies {
        /// Whether all else that may connect speaks TLS, so that what the proxies take decides.
        only: bool,
    },
}

impl WrittenCookie {
    /// Whether the main cookie says `Secure`. `auto`: only where no client can come to what writes
    /// it over plain HTTP.
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

    /// What `secure = "auto"` comes to and why, in the words of `stayput check`; `None` where the
    /// file says `always` or `never`.
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
