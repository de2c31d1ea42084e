//! Layer 2: what the operator wrote. A file becomes a [`settings::Config`], or a list of every
//! problem in it.

mod check;
mod keys;
pub mod manual;
mod problem;
mod quantity;
mod reader;
pub mod settings;

pub use problem::{Problem, Problems};
use settings::Config;
use std::path::Path;

/// A file without an error in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What is allowed and yet seldom meant.
    pub warnings: Problems,
    effective: reader::Table,
}

/// Reads and checks a file. Relative paths in it are relative to it.
///
/// # Errors
/// Every problem it has; a file that cannot be read has that one.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let problem = Problem::new(None, format!("cannot read {origin}: {error}"), "");
        let problem = problem.help("name the file with -c FILE, or in STAYPUT_CONFIG");
        Problems::new(&origin, "", vec![problem], false)
    })?;
    parse(&text, &origin, path.parent().unwrap_or(Path::new("")))
}

/// As [`load`], for text from anywhere; `base` is what relative paths are relative to.
///
/// # Errors
/// Every problem it has.
pub fn parse(text: &str, origin: &str, base: &Path) -> Result<Loaded, Problems> {
    let reader::Read { table, syntax, problems } = reader::read(text);
    let mut checked = check::check(&table, base, problems);
    if !syntax.is_empty() {
        // Where the parser stumbled, things are missing or not what was meant: what follows from
        // that is no news. One line is one mistake.
        let line = |at: usize| text[..text.floor_char_boundary(at)].matches('\n').count();
        let line_of = |problem: &Problem| problem.span.as_ref().map(|span| line(span.start));
        let mut broken = Vec::new();
        for problem in syntax {
            let at = line_of(&problem);
            if !broken.contains(&at) {
                broken.push(at);
                checked.problems.retain(|other| line_of(other).is_some() && line_of(other) != at);
                checked.problems.push(problem);
            }
        }
    }
    match checked.config {
        Some(config) if checked.problems.is_empty() => {
            let warnings = Problems::new(origin, text, checked.warnings, true);
            Ok(Loaded { config, warnings, effective: table })
        }
        _ => Err(Problems::new(origin, text, checked.problems, false)),
    }
}
