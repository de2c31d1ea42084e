//! Routing: which rule takes a request. The conditions of a rule are ANDed, the values of one
//! condition ORed, and the first rule that matches wins (AWS, "Condition types for listener rules").

pub mod host_table;
pub mod pattern;
