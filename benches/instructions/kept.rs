//! A file of the repository with the last counts: a name and a value per line.

use std::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;

pub(crate) struct Kept {
    path: PathBuf,
    lines: Vec<String>,
}

impl Kept {
    /// `name` is a file of `benches`.
    pub(crate) fn read(name: &str) -> io::Result<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches").join(name);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        Ok(Self { path, lines: text.lines().map(str::to_owned).collect() })
    }

    /// The value of this name; `None` if there is no such line yet.
    pub(crate) fn get(&self, name: &str) -> Result<Option<f64>, Box<dyn Error>> {
        let line = self.lines.iter().find_map(|line| value(line, name));
        Ok(line.map(str::parse).transpose()?)
    }

    pub(crate) fn set(&mut self, name: &str, new: &str) {
        let line = format!("{name} {new}");
        match self.lines.iter_mut().find(|line| value(line, name).is_some()) {
            Some(old) => *old = line,
            None => self.lines.push(line),
        }
    }

    pub(crate) fn write(&self) -> io::Result<()> {
        fs::write(&self.path, format!("{}\n", self.lines.join("\n")))
    }
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix(' ')
}
