//! All problems of a file, each with its place, reported together.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// One error or warning.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Range in bytes of the text; `None` if there is no place, for example for a missing file.
    pub span: Option<Range<usize>>,
    /// The problem in one line.
    pub title: String,
    /// Text beside the caret; may be empty.
    pub label: String,
    /// The remedy.
    pub help: Option<String>,
    /// A related place, with a text about it.
    pub other: Option<(Range<usize>, String)>,
    /// Error or warning.
    pub severity: Severity,
}

/// Severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted.
    Warning,
}

impl Problem {
    /// Creates an error at a place.
    pub fn at(span: Range<usize>, title: impl Into<String>) -> Self {
        Self {
            span: Some(span),
            title: title.into(),
            label: String::new(),
            help: None,
            other: None,
            severity: Severity::Error,
        }
    }

    /// Creates an error without a place.
    pub fn anywhere(title: impl Into<String>) -> Self {
        Self { span: None, ..Self::at(0..0, title) }
    }

    /// Sets the text beside the caret.
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// Sets the remedy.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Sets a related place.
    pub fn other(self, span: Range<usize>, label: impl Into<String>) -> Self {
        Self { other: Some((span, label.into())), ..self }
    }

    /// Makes it a warning: the file is accepted.
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }
}

/// The problems of one text.
#[derive(Clone, Debug)]
pub struct Problems {
    origin: String,
    text: String,
    list: Vec<Problem>,
}

/// Maximum number of problems shown at once: more do not fit on a terminal, and often follow from
/// the first ones.
const MAX_SHOWN: usize = 50;

impl Problems {
    /// Creates an empty list for the text `text`, which came from `origin`.
    pub fn new(origin: &str, text: &str) -> Self {
        Self { origin: origin.into(), text: text.into(), list: Vec::new() }
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Iterates over the problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Returns true if there is no problem.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns true if the file must be refused.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Sorts the problems by place, the order in which a reader goes through the file.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
    }

    /// Keeps only the problems for which `keep` returns true.
    pub fn retain(&mut self, keep: impl FnMut(&Problem) -> bool) {
        self.list.retain(keep);
    }

    /// Formats the problems for the operator, with a closing line that counts them. Ends with a
    /// line end.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for problem in self.list.iter().take(MAX_SHOWN) {
            out.push_str(&renderer.render(&[self.group(problem)]));
            out.push_str("\n\n");
        }
        let count = |severity| self.list.iter().filter(|one| one.severity == severity).count();
        let counted = |count, word| match count {
            0 => None,
            1 => Some(format!("1 {word}")),
            many => Some(format!("{many} {word}s")),
        };
        let errors = counted(count(Severity::Error), "error");
        let warnings = counted(count(Severity::Warning), "warning");
        let parts: Vec<_> = errors.into_iter().chain(warnings).collect();
        let more = self.list.len().saturating_sub(MAX_SHOWN);
        let more = if more > 0 { format!(", {more} not shown") } else { String::new() };
        if !parts.is_empty() {
            out.push_str(&format!("{}: {}{more}\n", self.origin, parts.join(", ")));
        }
        out
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(problem.title.as_str());
        let mut group = match &problem.span {
            Some(span) => {
                let mut first = AnnotationKind::Primary.span(self.within(span));
                if !problem.label.is_empty() {
                    first = first.label(problem.label.as_str());
                }
                let second = problem.other.as_ref().map(|(span, label)| {
                    AnnotationKind::Context.span(self.within(span)).label(label.as_str())
                });
                let annotations = std::iter::once(first).chain(second);
                let source = Snippet::source(self.text.as_str()).path(self.origin.as_str());
                title.element(source.annotations(annotations))
            }
            None => Group::with_title(title),
        };
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// The first line of the span, at character boundaries: the renderer panics inside a character,
    /// and a caret under several lines shows no exact place.
    fn within(&self, span: &Range<usize>) -> Range<usize> {
        let boundary = |at: usize| {
            let at = at.min(self.text.len());
            (0..=at).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
        };
        let (start, end) = (boundary(span.start), boundary(span.end.max(span.start)));
        let end = self.text[start..end].find('\n').map_or(end, |line_end| start + line_end);
        start..end
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
