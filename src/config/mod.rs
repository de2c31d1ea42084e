//! Layer 3: the configuration. It turns a file into a [`settings::Config`] or a list of all its
//! problems.

pub mod certificate_files;
mod check;
mod effective;
mod keys;
pub mod manual;
mod nearest;
mod node;
pub mod problem;
mod quantity;
mod reader;
pub mod settings;

pub use effective::effective;
use problem::{Problem, Problems};
use settings::Config;
use std::path::Path;

/// An accepted configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The checked settings.
    pub config: Config,
    /// Problems that do not make the file invalid.
    pub warnings: Problems,
    file: node::Table,
}

/// Reads and checks the file at `path`, and the key files it names.
///
/// # Errors
/// All problems of the file, if one of them is an error.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let origin = path.display().to_string();
    let refused = |why: String| {
        let mut problems = Problems::new(&origin, "");
        problems.push(Problem::anywhere(format!("cannot read {origin}: {why}")));
        problems
    };
    let bytes = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| refused(error.utf8_error().to_string()))?;
    parse(&text, &origin, path.parent().unwrap_or(Path::new("")))
}

/// Checks `text`, which came from `origin`; relative paths in it are relative to `base`.
///
/// # Errors
/// All problems of the text, if one of them is an error.
pub fn parse(text: &str, origin: &str, base: &Path) -> Result<Loaded, Problems> {
    let mut problems = Problems::new(origin, text);
    let (mut file, whole) = reader::read(text, &mut problems);
    if !whole {
        problems.sort();
        return Err(problems);
    }
    check::derive(&mut file);
    let config = check::check(&file, base, &mut problems);
    problems.sort();
    if problems.has_errors() {
        return Err(problems);
    }
    Ok(Loaded { config, warnings: problems, file })
}
