//! Spellings of a head that parsers read differently, noted while it is read: what
//! `policy/headers/desync` judges. A head with any of them is still one message; it goes on in the
//! one spelling RFC 9112 gives it.

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
    /// More spaces than two stand in the request line before its version.
    ODD_BLANKS
    /// A tab stands before the first space of the request line.
    TAB_BY_METHOD
    /// A tab stands before or behind the target.
    TAB_BY_TARGET
    /// A tab parts the target and the version, behind two spaces: some read both as the version.
    TAB_FOR_SPACE
    /// A tab stands before the version.
    TAB_BEFORE_VERSION
    /// A blank stands behind the version.
    BLANK_BEHIND_VERSION
    /// The request line has no target.
    NO_TARGET
    /// The request line has no version (HTTP/0.9).
    NO_VERSION
    /// The version is HTTP/0.9, which has none.
    OLD_VERSION
    /// The version is 1.2 to 1.9, read as 1.1 (RFC 9110 section 2.5).
    MINOR_VERSION
    /// The version is none of HTTP/1.
    BAD_VERSION
    /// The method holds a byte that no token has.
    BAD_METHOD
    /// The target holds `#`.
    FRAGMENT
    /// The target holds a byte that RFC 3986 allows in no URI, and this codec sends on as it came.
    ODD_TARGET
    /// The target holds a byte that is not visible ASCII.
    BAD_TARGET
    /// Such a byte is a control byte.
    CONTROL_IN_TARGET
    /// Such a control byte is NUL or CR.
    NUL_IN_TARGET
    /// A blank stands between a name and its colon (RFC 9112 section 5.1).
    BLANK_BEFORE_COLON
    /// Such a name is Content-Length or Transfer-Encoding.
    BLANK_BEHIND_FRAMING
    /// A line begins with a blank and goes on with the value of the line before (`obs-fold`).
    FOLDED
    /// Such a line goes on with another field than Content-Type, or with none.
    FOLDED_BEYOND_TYPE
    /// A line has no colon.
    NO_COLON
    /// A name is empty.
    EMPTY_NAME
    /// A name holds a byte that no token has.
    BAD_NAME
    /// A value holds a control byte other than the tab.
    CONTROL_IN_VALUE
    /// Such a byte is NUL or CR.
    NUL_IN_VALUE
    /// Content-Length is folded, or holds a control byte.
    ODD_LENGTH
    /// Transfer-Encoding is folded, or holds a control byte.
    ODD_CODINGS
    /// A value holds a byte above 0x7f (`obs-text`).
    OBS_TEXT
}

impl Facts {
    /// Spellings of lines that are refused where no mode lets them through: in trailers, and in a
    /// response, whose sender is the operator's own.
    pub(super) const REFUSED_LINES: Facts =
        Facts::FOLDED.and(Facts::BLANK_BEFORE_COLON).and(Facts::CONTROL_IN_VALUE);

    /// No fact.
    pub const NONE: Facts = Facts(0);

    /// Adds those of `other`.
    #[inline]
    pub fn record(&mut self, other: Facts) {
        self.0 |= other.0;
    }

    /// Whether one of those of `other` is here.
    #[inline]
    pub fn has(self, other: Facts) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    pub const fn and(self, other: Facts) -> Facts {
        Facts(self.0 | other.0)
    }

    /// Whether none is here.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_noted_and_nothing_else() {
        let mut facts = Facts::default();
        assert!(facts.is_empty() && !facts.has(Facts::FOLDED));
        facts.record(Facts::FOLDED);
        assert!(facts.has(Facts::FOLDED) && facts.has(Facts::FOLDED.and(Facts::BARE_LF)));
        assert!(!facts.has(Facts::BARE_LF) && !facts.is_empty());
    }
}
