//! Everything wrong with a file, each with its place, told in one go.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// One thing wrong, or worth a warning.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Where, in bytes of the text; `None` where there is no place, as for a file that is missing.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub title: String,
    /// What is said beside the caret; may be empty.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Another place that has to do with it, and why.
    pub other: Option<(Range<usize>, String)>,
    /// Whether the file is refused for it.
    pub severity: Severity,
}

/// Whether a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It is.
    Error,
    /// It is not.
    Warning,
}

impl Problem {
    /// An error at a place.
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

    /// An error without a place.
    pub fn anywhere(title: impl Into<String>) -> Self {
        Self { span: None, ..Self::at(0..0, title) }
    }

    /// With these words beside the caret.
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// With this remedy.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// With another place that has to do with it.
    pub fn other(self, span: Range<usize>, label: impl Into<String>) -> Self {
        Self { other: Some((span, label.into())), ..self }
    }

    /// As a warning: the file is taken nevertheless.
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }
}

/// The problems of one text, in the order of their places.
#[derive(Clone, Debug)]
pub struct Problems {
    origin: String,
    text: String,
    list: Vec<Problem>,
}

/// The most problems shown at once: a terminal holds no more, and the rest often follows from them.
const MAX_SHOWN: usize = 50;

impl Problems {
    /// No problem yet with this text, which came from `origin`.
    pub fn new(origin: &str, text: &str) -> Self {
        Self { origin: origin.into(), text: text.into(), list: Vec::new() }
    }

    /// Notes one.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True when the file is to be refused.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// In the order of their places, which is how a reader goes through the file.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
    }

    /// Drops what `keep` does not hold for.
    pub fn retain(&mut self, keep: impl FnMut(&Problem) -> bool) {
        self.list.retain(keep);
    }

    /// As the operator sees them, with a closing line that counts them. Ends with a line end.
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

    /// The span's first line, between characters: the renderer panics on half a character, and a
    /// caret under many lines points at nothing.
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
