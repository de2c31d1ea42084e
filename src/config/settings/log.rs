//! `[log]`, checked.

use std::path::PathBuf;

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// Least severe level that is logged.
    pub level: Level,
    /// Destination of access records.
    pub access_to: LogTarget,
    /// Format of access records.
    pub access_format: AccessFormat,
}

/// Severity of the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A problem on which an operator must act.
    Error,
    /// A problem on which an operator may have to act.
    Warn,
    /// A change of state, with its reason.
    Info,
    /// Details for the developers of Stayput.
    Debug,
    /// More details than debug.
    Trace,
}

/// Destination of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// No access log: no record is made.
    Off,
    /// A file, to which records are appended.
    File(PathBuf),
}

/// Format of access records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// Application Load Balancer's 34 fields.
    Alb,
    /// Apache's combined log format.
    Combined,
    /// One short line for people.
    Short,
}
