//! Routing: which rule takes a request, and how a redirect or a rewrite changes its URL. The
//! conditions of a rule are ANDed, the values of one condition ORed, and the first rule that
//! matches wins (AWS, "Condition types for listener rules").

pub(crate) mod conditions;
pub(crate) mod host_table;
pub(crate) mod pattern;
pub(crate) mod redirect;
pub(crate) mod rewrite;
