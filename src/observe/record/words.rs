//! Closed lists of words in a record: the type of an exchange, and the action of its rule.

/// The `type` of a record: ALB's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// HTTP/1.1 without TLS.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2, with or without TLS.
    H2,
    /// A gRPC call over TLS.
    Grpcs,
    /// A tunnel without TLS.
    Ws,
    /// A tunnel over TLS.
    Wss,
}

impl RecordKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 6] =
        [Self::Http, Self::Https, Self::H2, Self::Grpcs, Self::Ws, Self::Wss];

    /// The value of `type` in the access log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2 => "h2",
            Self::Grpcs => "grpcs",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// True for a tunnel.
    pub fn is_tunnel(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// The `action` of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordAction {
    /// The request was refused before a rule took it.
    None,
    /// The request went to a group.
    Forward,
    /// The balancer answered with a redirect.
    Redirect,
    /// The balancer answered with the rule's own response.
    FixedResponse,
}

impl RecordAction {
    /// Every action, for tables and tests.
    pub const ALL: [Self; 4] = [Self::None, Self::Forward, Self::Redirect, Self::FixedResponse];

    /// The value of `action` in the access log.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Forward => "forward",
            Self::Redirect => "redirect",
            Self::FixedResponse => "fixed-response",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::cookie_update::CookieWrite;
    use crate::decide::verdict::{GroupVerdict, Verdict};

    const MANUAL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md"));
    const GLOSSARY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/glossary.md"));

    /// The manual's row about a field.
    fn row(field: &str) -> &'static str {
        let of_field = |line: &&str| {
            line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{field}`")))
        };
        MANUAL.lines().find(of_field).unwrap_or_else(|| panic!("{field} has no row"))
    }

    #[test]
    fn the_manual_has_each_word_of_type_action_and_set_cookie() {
        let has = |field: &str, word: &str| {
            assert!(row(field).contains(&format!("`{word}`")), "{field}: {word}");
        };
        RecordKind::ALL.into_iter().for_each(|kind| has("type", kind.word()));
        RecordAction::ALL.into_iter().for_each(|action| has("action", action.word()));
        CookieWrite::ALL.into_iter().for_each(|write| has("set_cookie", write.word()));
    }

    #[test]
    fn the_glossary_has_each_verdict() {
        let words = Verdict::ALL.map(Verdict::word).into_iter();
        for word in words.chain(GroupVerdict::ALL.map(GroupVerdict::word)) {
            assert!(GLOSSARY.contains(&format!("`{word}`")), "{word}");
        }
    }
}
