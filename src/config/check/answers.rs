//! Header fields of a listener's responses: `response_headers` and `server`.

use crate::config::node::Table;
use crate::config::problem::{Problem, Problems};
use crate::policy::headers::response::{ResponseFields, ServerField, why_reserved};
use http::{HeaderName, HeaderValue};
use std::collections::HashMap;

/// The header fields set in every response of this listener.
pub(super) fn response_fields(listener: &Table, problems: &mut Problems) -> ResponseFields {
    let server = match listener.text("server") {
        "own" => ServerField::Own,
        "remove" => ServerField::Remove,
        _ => ServerField::Pass,
    };
    let mut fields = Vec::new();
    let mut taken = HashMap::new();
    for (text, node) in listener.table("response_headers").entries() {
        let (Ok(name), Ok(value)) =
            (HeaderName::try_from(text), HeaderValue::try_from(node.text()))
        else {
            continue;
        };
        if let Some(why) = why_reserved(&name) {
            let title = format!("`{text}` cannot be set in `response_headers`");
            problems.push(Problem::at(node.key.clone(), title).label(why).help("remove it"));
        } else if let Some(other) = taken.insert(name.clone(), node) {
            // Names that differ only in case are different in TOML and the same in HTTP. Fields
            // come sorted by name here; the first is the one higher up in the file.
            let (first, second) =
                if other.key.start < node.key.start { (other, node) } else { (node, other) };
            let problem = Problem::at(second.key.clone(), format!("`{name}` is written twice"));
            problems.push(problem.other(first.key.clone(), "the first"));
        }
        fields.push((name, value));
    }
    ResponseFields::new(fields, server)
}
