//! `[log]`, checked.

use std::path::PathBuf;

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// The least severe level shown.
    pub level: Level,
    /// Where access records go.
    pub access_to: LogTarget,
    /// How an access record is written.
    pub access_format: AccessFormat,
}

/// Severity of the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// An operator must act.
    Error,
    /// They may have to.
    Warn,
    /// A change of state, with its reason.
    Info,
    /// For the developers of Stayput.
    Debug,
    /// As debug, and more.
    Trace,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere: no record is made.
    Off,
    /// A file, appended to.
    File(PathBuf),
}

/// How an access record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// Application Load Balancer's 34 fields.
    Alb,
    /// Apache's combined log format.
    Combined,
    /// One short line for human eyes.
    Short,
}
