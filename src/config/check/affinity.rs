//! `[affinity]`: the configured keys.

use crate::config::node::{Node, Table};
use crate::config::problem::{Problem, Problems};
use crate::policy::affinity::keys::Key;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use zeroize::Zeroizing;

/// Reads each configured key from its file, in order.
pub(super) fn keys(file: &Table, base: &Path, problems: &mut Problems) -> Vec<Key> {
    let Some(written) = file.table("affinity").get("keys") else { return Vec::new() };
    let list = file.table("affinity").list("keys");
    if list.is_empty() {
        let problem = Problem::at(written.span.clone(), "`keys` is empty");
        problems.push(problem.help("add a key, or remove `[affinity]` to have one generated"));
    }
    let mut seen: BTreeMap<u8, &Node> = BTreeMap::new();
    let mut keys = Vec::new();
    for table in list.iter().map(Node::table) {
        let (Some(id), Some(path)) = (table.get("id"), table.get("file")) else { continue };
        let number: u8 = table.number("id");
        if let Some(first) = seen.insert(number, id) {
            let problem =
                Problem::at(id.span.clone(), format!("two affinity keys have the id {number}"));
            problems.push(problem.other(first.span.clone(), "the first"));
        }
        keys.extend(key(number, path, base, problems));
    }
    keys
}

fn key(id: u8, path: &Node, base: &Path, problems: &mut Problems) -> Option<Key> {
    let remedy = "write the output of `stayput keys new` into the file";
    match content(&base.join(path.text())) {
        Ok(line) => match Key::from_base64_line(id, &line) {
            Ok(key) => return Some(key),
            Err(defect) => {
                problems.push(Problem::at(path.span.clone(), defect.to_string()).help(remedy));
            }
        },
        Err(error) => {
            let title = format!("cannot read the key file `{}`", path.text());
            let problem = Problem::at(path.span.clone(), title).label(super::reason(&error));
            problems.push(problem.help(remedy));
        }
    }
    None
}

/// Maximum read of a key file, 64 KiB: enough to see that it is longer than one line.
const MAX_READ: u64 = 64 << 10;

fn content(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reserved at once: a growing buffer would leave copies of the key in memory.
    let mut content = Zeroizing::new(Vec::with_capacity(4 << 10));
    File::open(path)?.take(MAX_READ).read_to_end(&mut content)?;
    Ok(content)
}
