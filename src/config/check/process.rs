//! The process: runtime, keys, log.

use super::{Check, Problem};
use crate::config::reader::{Table, Value};
use crate::config::settings::{AccessFormat, Level, Log, LogTarget, Runtime};
use crate::ground::name::Name;
use crate::policy::affinity::keys::Key;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

impl Check<'_> {
    pub(super) fn runtime(&mut self, runtime: Option<&Table>) -> Option<Runtime> {
        let runtime = runtime?;
        Some(Runtime {
            workers: runtime.integer("workers").and_then(|workers| usize::try_from(workers).ok()),
            zone: runtime.text("zone").and_then(Name::new),
            drain_timeout: runtime.duration("drain_timeout")?,
            pre_drain_delay: runtime.duration("pre_drain_delay")?,
            state_dir: runtime.text("state_dir").map(|path| self.path(path)),
        })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    pub(super) fn keys(&mut self, affinity: Option<&Table>) -> Vec<Key> {
        let Some(affinity) = affinity else { return Vec::new() };
        let written = affinity.list("keys");
        if written.is_empty() {
            let span = affinity.span("keys");
            let problem = Problem::new(span, "`affinity` names no key", "");
            self.problems.push(
                problem.help("name one in `keys`, or leave [affinity] out and one is generated"),
            );
        }
        let mut keys: Vec<Key> = Vec::new();
        for node in written {
            let Value::Table(key) = &node.value else { continue };
            let (Some(id), Some(file)) = (key.integer("id"), key.text("file")) else {
                self.problem(Some(node), "a key needs an `id` and a `file`", "here");
                continue;
            };
            let id = u8::try_from(id).unwrap_or_default();
            if keys.iter().any(|other| other.id == id) {
                self.problem(key.get("id"), format!("two keys have the id {id}"), "here again");
                continue;
            }
            match read_key(id, &self.path(file)) {
                Ok(read) => keys.push(read),
                Err(told) => {
                    let problem = Problem::new(key.span("file"), told, "this file");
                    self.problems.push(problem.help("`stayput keys new` prints a good one"));
                }
            }
        }
        keys
    }

    pub(super) fn log(&mut self, log: Option<&Table>) -> Option<Log> {
        let log = log?;
        let access = log.table("access")?;
        let access_to = match access.text("to").unwrap_or("stdout") {
            "stdout" => LogTarget::Stdout,
            "stderr" => LogTarget::Stderr,
            "off" => LogTarget::Off,
            "" => {
                self.problem(access.get("to"), "the access log goes nowhere", "empty");
                LogTarget::Off
            }
            path => LogTarget::File(self.path(path)),
        };
        Some(Log {
            level: match log.word("level") {
                "error" => Level::Error,
                "warn" => Level::Warn,
                "debug" => Level::Debug,
                "trace" => Level::Trace,
                _ => Level::Info,
            },
            access_to,
            access_format: match access.word("format") {
                "short" => AccessFormat::Short,
                _ => AccessFormat::Json,
            },
        })
    }
}

fn read_key(id: u8, path: &Path) -> Result<Key, String> {
    let line = std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| format!("cannot read the key {}: {error}", path.display()))?;
    Key::from_base64_line(id, &line).map_err(|defect| format!("{}: {defect}", path.display()))
}
