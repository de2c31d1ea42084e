//! Facts about spellings of a head that parsers read differently, recorded by the parser and judged
//! by `policy/headers/desync`. A head with any of them is still one message; it is forwarded in the
//! one spelling that RFC 9112 defines.

/// Declares the facts, one bit each.
macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident)*) => {
        // Named as the constants are.
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[derive(Clone, Copy)]
        #[repr(u8)]
        enum Bit { $($name),* }

        impl Facts {
            $($(#[$doc])* pub const $name: Facts = Facts(1 << Bit::$name as u8);)*
        }
    };
}

/// A set of facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts(u64);

facts! {
    /// A line of the head ends with LF alone (RFC 9112 section 2.2).
    BARE_LF
    /// Empty lines stand before the request line (RFC 9112 section 2.2).
    LEADING_EMPTY_LINES
    /// More than two spaces stand in the request line before its version.
    ODD_BLANKS
    /// A tab stands before the first space of the request line.
    TAB_BY_METHOD
    /// A tab stands before or after the target.
    TAB_BY_TARGET
    /// A tab separates the target from the version, and two spaces or more come earlier in the
    /// line: a parser that splits at spaces alone takes the end of the target, or all of it,
    /// together with the version for the version.
    TAB_FOR_SPACE
    /// A tab stands before the version.
    TAB_BEFORE_VERSION
    /// A blank follows the version.
    BLANK_BEHIND_VERSION
    /// The request line has no target.
    NO_TARGET
    /// The request line has no version (HTTP/0.9).
    NO_VERSION
    /// The request line names HTTP/0.9 as its version, although a request of HTTP/0.9 has none in
    /// its request line.
    OLD_VERSION
    /// The version is 1.2 to 1.9, read as 1.1 (RFC 9110 section 2.5).
    MINOR_VERSION
    /// The version is not HTTP/1.
    BAD_VERSION
    /// The method holds a byte that no token may hold.
    BAD_METHOD
    /// The target holds `#`.
    FRAGMENT
    /// The target holds a byte that RFC 3986 allows in no URI. It is forwarded unchanged.
    ODD_TARGET
    /// The target holds a byte that is not visible ASCII.
    BAD_TARGET
    /// The byte of `BAD_TARGET` is a control byte.
    CONTROL_IN_TARGET
    /// The byte of `CONTROL_IN_TARGET` is NUL or CR.
    NUL_IN_TARGET
    /// A blank stands between a name and its colon (RFC 9112 section 5.1).
    BLANK_BEFORE_COLON
    /// The name of `BLANK_BEFORE_COLON` is Content-Length or Transfer-Encoding.
    BLANK_BEHIND_FRAMING
    /// A line begins with a blank and continues the value of the line before (`obs-fold`).
    FOLDED
    /// A folded line continues no field, or a field other than Content-Type, or Content-Type once a
    /// blank before a colon was seen.
    FOLDED_BEYOND_TYPE
    /// A line has no colon.
    NO_COLON
    /// A name is empty.
    EMPTY_NAME
    /// A name holds a byte that no token may hold.
    BAD_NAME
    /// A value holds a control byte other than the tab.
    CONTROL_IN_VALUE
    /// The byte of `CONTROL_IN_VALUE` is NUL or CR.
    NUL_IN_VALUE
    /// Content-Length is folded, or holds a control byte.
    ODD_LENGTH
    /// Transfer-Encoding is folded, or holds a control byte.
    ODD_CODINGS
    /// A value holds a byte above 0x7f (`obs-text`).
    OBS_TEXT
}

impl Facts {
    /// Spellings that are refused in trailers and in responses, in every desync mitigation mode:
    /// the modes are for clients, which the operator cannot mend.
    pub(super) const REFUSED_LINES: Facts =
        Facts::FOLDED.or(Facts::BLANK_BEFORE_COLON).or(Facts::CONTROL_IN_VALUE);

    /// The empty set.
    pub const NONE: Facts = Facts(0);

    /// Adds the facts of `other`.
    #[inline]
    pub fn record(&mut self, other: Facts) {
        self.0 |= other.0;
    }

    /// Returns true if at least one fact of `other` is in this set.
    #[inline]
    pub fn has(self, other: Facts) -> bool {
        self.0 & other.0 != 0
    }

    /// The union of both sets.
    pub const fn or(self, other: Facts) -> Facts {
        Facts(self.0 | other.0)
    }

    /// Returns true if the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_exactly_the_recorded_facts() {
        let mut facts = Facts::default();
        assert!(facts.is_empty() && !facts.has(Facts::FOLDED));
        facts.record(Facts::FOLDED);
        assert!(facts.has(Facts::FOLDED) && facts.has(Facts::FOLDED.or(Facts::BARE_LF)));
        assert!(!facts.has(Facts::BARE_LF) && !facts.is_empty());
    }
}
