//! A problem in the file: where it is, what is wrong, and what to do about it.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, in bytes; `None` when it is about the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong, in a line.
    pub title: String,
    /// What is pointed at.
    pub label: String,
    /// The remedy.
    pub help: Option<String>,
}

impl Problem {
    pub(super) fn new(
        span: Option<Range<usize>>,
        title: impl Into<String>,
        label: impl Into<String>,
    ) -> Self {
        Self { span, title: title.into(), label: label.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Everything that is wrong with a file, in the file's order.
#[derive(Clone, Debug)]
pub struct Problems {
    origin: String,
    text: String,
    list: Vec<Problem>,
    are_warnings: bool,
}

impl Problems {
    pub(super) fn new(
        origin: &str,
        text: &str,
        mut list: Vec<Problem>,
        are_warnings: bool,
    ) -> Self {
        list.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
        list.dedup();
        Self { origin: origin.to_owned(), text: text.to_owned(), list, are_warnings }
    }

    /// The problems.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Each with its place in the file, and how many there are.
    pub fn render(&self, coloured: bool) -> String {
        let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut out = String::new();
        for problem in &self.list {
            out.push_str(&self.render_one(&renderer, problem));
            out.push_str("\n\n");
        }
        let (count, plural) = (self.list.len(), if self.list.len() == 1 { "" } else { "s" });
        let what = if self.are_warnings { "warning" } else { "error" };
        out.push_str(&format!("{count} {what}{plural} in {}", self.origin));
        out
    }

    fn render_one(&self, renderer: &Renderer, problem: &Problem) -> String {
        let level = if self.are_warnings { Level::WARNING } else { Level::ERROR };
        let mut group = Group::with_title(level.primary_title(problem.title.as_str()));
        if let Some(span) = &problem.span {
            let end = self.text.len();
            let span = span.start.min(end)..span.end.min(end);
            let annotation = AnnotationKind::Primary.span(span).label(problem.label.as_str());
            let snippet = Snippet::source(self.text.as_str())
                .path(self.origin.as_str())
                .annotation(annotation);
            group = group.element(snippet);
        }
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group]).to_string()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// The known word nearest to a misspelt one, if one is near enough to be meant.
pub(super) fn nearest<'w>(
    misspelt: &str,
    known: impl IntoIterator<Item = &'w str>,
) -> Option<&'w str> {
    let bound = misspelt.chars().count() / 3 + 1;
    let distances = known.into_iter().map(|word| (distance(misspelt, word), word));
    distances.filter(|(distance, _)| *distance <= bound).min().map(|(_, word)| word)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one word into another.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_foreign_one_finds_nobody() {
        let known = ["timeouts", "targets", "health"];
        assert_eq!(nearest("timeuots", known), Some("timeouts"));
        assert_eq!(nearest("target", known), Some("targets"));
        assert_eq!(nearest("rabbit", known), None);
    }
}
