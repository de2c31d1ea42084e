//! Names of listeners, rules and groups, and ids of targets, limited to characters that need no
//! quotes in the file, a log line or a shell command.

use std::fmt;
use std::sync::Arc;

/// A name or id that was checked once; cheap to clone and to compare.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Maximum length of a name in bytes, so that log lines, labels and tables are bounded.
pub(crate) const MAX_LEN: usize = 64;

impl Name {
    /// Accepts 1 to 64 letters, digits, `.`, `_`, `-`.
    pub fn new(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        Self::checked(text, fine)
    }

    /// Accepts a target id: a name that may also contain `:` `@` `/` `[` `]`, so that an address is
    /// valid.
    pub fn target_id(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@/[]".contains(&byte);
        Self::checked(text, fine)
    }

    /// The id `name/address`, for one address of a host name with `expand = true`. It may exceed
    /// `MAX_LEN` by the length of an address.
    pub fn expanded(name: &str, address: std::net::SocketAddr) -> Self {
        Self(format!("{name}/{address}").into())
    }

    fn checked(text: &str, fine: impl Fn(u8) -> bool) -> Option<Self> {
        let valid = !text.is_empty() && text.len() <= MAX_LEN && text.bytes().all(fine);
        valid.then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_empty_too_long_or_has_a_foreign_character_is_refused() {
        for bad in ["", "a b", "a/b", "ü", "a\n", &"x".repeat(65)] {
            assert!(Name::new(bad).is_none(), "{bad:?}");
        }
        for good in ["a", "s-1", "v1.2_x", &"x".repeat(64)] {
            assert!(Name::new(good).is_some(), "{good:?}");
        }
    }

    #[test]
    fn an_address_of_either_family_is_a_target_id_but_not_a_name() {
        for address in ["127.0.0.1:3001", "[::1]:3001", "app.internal:80", "pod@node/3"] {
            assert!(Name::target_id(address).is_some(), "{address}");
            assert!(Name::new(address).is_none(), "{address}");
        }
    }
}
