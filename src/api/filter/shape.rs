//! What the fields of a job hold, and so what they can be compared with.
//!
//! A comparison that no job could ever satisfy (a number with a word, a status that there is not) is somebody's mistake, and an
//! empty listing would hide it: it is refused, with what would be right.

use serde_json::{Number, Value};

use super::grammar::{Literal, Operator};
use crate::{
    api::{Field, parse_priority, parse_status},
    queue::job::Status,
};

/// What one field holds; of a list, what its members do.
#[derive(Clone, Copy)]
pub struct Shape {
    kind: Kind,
    /// Whether some jobs have none: `null`.
    optional: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Number,
    /// Milliseconds since 1970.
    Time,
    Priority,
    Flag,
    Text,
    Status,
    /// One of these.
    Word(&'static [&'static str]),
    /// An object of ours.
    Parts(&'static [(&'static str, Shape)]),
    /// An object of the submitter's.
    Own,
    /// Whatever JSON a user left.
    Any,
}

const fn always(kind: Kind) -> Shape {
    Shape { kind, optional: false }
}

const fn maybe(kind: Kind) -> Shape {
    Shape { kind, optional: true }
}

static NEEDS: [(&str, Shape); 4] = [
    ("cores", always(Kind::Number)),
    ("ram_mb", always(Kind::Number)),
    ("disk_mb", always(Kind::Number)),
    ("time_s", always(Kind::Number)),
];
static BACKOFF: [(&str, Shape); 2] = [("base_ms", always(Kind::Number)), ("cap_ms", always(Kind::Number))];
static REASONS: [(&str, Shape); 3] =
    [("source", always(Kind::Text)), ("text", always(Kind::Text)), ("at_ms", always(Kind::Time))];
static BLOCKED_BY: [(&str, Shape); 2] = [("id", always(Kind::Number)), ("status", maybe(Kind::Status))];
static OPS: [(&str, Shape); 19] = [
    ("index", always(Kind::Number)),
    ("kind", always(Kind::Text)),
    ("args", maybe(Kind::Any)),
    ("body", maybe(Kind::Any)),
    ("depends", maybe(Kind::Any)),
    ("priority", always(Kind::Priority)),
    ("status", always(Kind::Status)),
    ("result", maybe(Kind::Any)),
    ("attempts", always(Kind::Number)),
    ("retries_left", always(Kind::Number)),
    ("lost", always(Kind::Number)),
    ("started_at", maybe(Kind::Time)),
    ("exec_at", maybe(Kind::Time)),
    ("ended_at", maybe(Kind::Time)),
    ("lease", maybe(Kind::Number)),
    ("worker", maybe(Kind::Text)),
    ("host", maybe(Kind::Text)),
    ("pid", maybe(Kind::Number)),
    ("history", always(Kind::Parts(&HISTORY))),
];
static HISTORY: [(&str, Shape); 16] = [
    ("attempt", always(Kind::Number)),
    ("lease", maybe(Kind::Number)),
    ("worker", maybe(Kind::Text)),
    ("host", maybe(Kind::Text)),
    ("pid", maybe(Kind::Number)),
    ("started_at", maybe(Kind::Time)),
    ("ended_at", maybe(Kind::Time)),
    ("exit_code", maybe(Kind::Number)),
    ("fail_reason", maybe(Kind::Text)),
    ("error", maybe(Kind::Text)),
    ("wall_ms", maybe(Kind::Number)),
    ("cpu_ms", maybe(Kind::Number)),
    ("peak_ram_mb", maybe(Kind::Number)),
    ("stdout", maybe(Kind::Text)),
    ("stderr", maybe(Kind::Text)),
    ("shell", maybe(Kind::Text)),
];

fn of(field: Field) -> Shape {
    match field {
        Field::Id
        | Field::NeedsOverride
        | Field::LeaseMs
        | Field::Retries
        | Field::LostLimit
        | Field::Attempts
        | Field::RetriesLeft
        | Field::Lost
        | Field::Version
        | Field::LogSerial
        | Field::LogDropped => always(Kind::Number),
        Field::NoRetryAfterMs | Field::Parent | Field::ExitCode => maybe(Kind::Number),
        Field::ReceivedAt | Field::ChangedAt => always(Kind::Time),
        Field::StartedAt | Field::EndedAt | Field::ReadyAt => maybe(Kind::Time),
        Field::Priority => always(Kind::Priority),
        Field::RerunOnLoss | Field::KeepOutput | Field::Archived => always(Kind::Flag),
        Field::Queue | Field::Kind | Field::Groups | Field::Limits | Field::HeldBy => always(Kind::Text),
        Field::Name
        | Field::ResourceGroup
        | Field::Unique
        | Field::Comment
        | Field::SubmittedBy
        | Field::FailReason
        | Field::Worker => maybe(Kind::Text),
        Field::Status => always(Kind::Status),
        Field::OnFailure => always(Kind::Word(&["bury", "error"])),
        Field::Needs => maybe(Kind::Parts(&NEEDS)),
        Field::EffectiveNeeds => always(Kind::Parts(&NEEDS)),
        Field::Backoff => always(Kind::Parts(&BACKOFF)),
        Field::Reasons => always(Kind::Parts(&REASONS)),
        Field::Ops => always(Kind::Parts(&OPS)),
        Field::BlockedBy => always(Kind::Parts(&BLOCKED_BY)),
        Field::Meta => maybe(Kind::Own),
        Field::Progress | Field::Checkpoint => maybe(Kind::Any),
    }
}

/// A field, or what is in it, by the name that was typed.
pub struct Named<'n> {
    name: &'n str,
    shape: Shape,
}

impl<'n> Named<'n> {
    /// `path` is what follows the field's own name.
    pub fn find(name: &'n str, field: Field, path: &[String]) -> Result<Self, String> {
        let mut found = of(field);
        // What a job leaves out, it leaves out with all that is in it.
        for (depth, part) in path.iter().enumerate() {
            let inner = match found.kind {
                Kind::Parts(parts) => parts.iter().find(|(known, _)| known == part).map(|(_, shape)| *shape),
                Kind::Own | Kind::Any => Some(maybe(Kind::Any)),
                _ => None,
            };
            let inner = inner.ok_or_else(|| unknown_part(name, depth, part, found))?;
            found = Shape { kind: inner.kind, optional: found.optional || inner.optional };
        }
        Ok(Self { name, shape: found })
    }

    /// The value that was meant, if a job can have it and `operator` can hold for it.
    pub fn operand(&self, operator: Operator, literal: &Literal) -> Result<Value, String> {
        let name = self.name;
        if is_pattern(operator) {
            return if self.is_text() { Ok(literal.text().into()) } else { Err(self.no_pattern()) };
        }
        let is_null = matches!(literal, Literal::Bare(word) if word == "null");
        match (is_order(operator), is_null) {
            (true, true) => Err(format!("nothing is less or more than null; `{name}` is compared with it by = and !=")),
            (true, false) if !self.has_order() => Err(self.no_order()),
            (false, true) if self.shape.optional => Ok(Value::Null),
            (false, true) => Err(format!("`{name}` is never null; {}", self.remedy())),
            (_, false) => self.meaning(literal).ok_or_else(|| self.wrong(literal)),
        }
    }

    fn meaning(&self, literal: &Literal) -> Option<Value> {
        let text = literal.text();
        let is_bare = matches!(literal, Literal::Bare(_));
        match self.shape.kind {
            Kind::Number | Kind::Time => number(text).filter(|_| is_bare),
            Kind::Priority => number(text).or_else(|| parse_priority(text).ok().map(|priority| priority.0.into())),
            Kind::Flag => text.parse::<bool>().ok().filter(|_| is_bare).map(Value::Bool),
            Kind::Text => Some(text.into()),
            Kind::Status => parse_status(text).map(|_| text.into()),
            Kind::Word(words) => words.contains(&text).then(|| text.into()),
            Kind::Parts(_) | Kind::Own => None,
            Kind::Any if is_bare => number(text).or_else(|| text.parse().ok().map(Value::Bool)).or(Some(text.into())),
            Kind::Any => Some(text.into()),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self.shape.kind, Kind::Text | Kind::Status | Kind::Word(_) | Kind::Own | Kind::Any)
    }

    fn has_order(&self) -> bool {
        matches!(self.shape.kind, Kind::Number | Kind::Time | Kind::Priority | Kind::Text | Kind::Any)
    }

    fn wrong(&self, literal: &Literal) -> String {
        let typed = match literal {
            Literal::Quoted(text) => format!("\"{text}\""),
            Literal::Bare(text) => text.clone(),
        };
        format!("`{}` is never `{typed}`; {}", self.name, self.remedy())
    }

    fn no_order(&self) -> String {
        format!("nothing is less or more than `{}`; {}", self.name, self.remedy())
    }

    fn no_pattern(&self) -> String {
        format!("=~ and !~ are for text; `{}`: {}", self.name, self.remedy())
    }

    /// What it can be compared with.
    fn remedy(&self) -> String {
        let name = self.name;
        match self.shape.kind {
            Kind::Number => "it is a number: compare it with numbers by = != < <= > >= or in".to_owned(),
            Kind::Time => "it is a time in milliseconds since 1970: compare it with numbers".to_owned(),
            Kind::Priority => {
                "it is a number, or one of very-high, high, normal, low, very-low: compare it by = != < <= > >= or in"
                    .to_owned()
            }
            Kind::Flag => "it is true or false: compare it with one of them by = or !=".to_owned(),
            Kind::Text => "compare it with words or \"text\"".to_owned(),
            Kind::Status => one_of(&Status::ALL.map(Status::name)),
            Kind::Word(words) => one_of(words),
            Kind::Parts(parts) => format!("compare what is in it: {}", inside(name, parts)),
            Kind::Own => format!("compare what is in it, as in {name}.team = x, or its JSON by =~"),
            Kind::Any => "compare it with a number, a word or \"text\"".to_owned(),
        }
    }
}

fn one_of(words: &[&str]) -> String {
    format!("it is one of {}: compare it by = != =~ !~ or in", words.join(", "))
}

fn inside(name: &str, parts: &[(&str, Shape)]) -> String {
    parts.iter().map(|(part, _)| format!("{name}.{part}")).collect::<Vec<_>>().join(", ")
}

fn unknown_part(name: &str, depth: usize, part: &str, around: Shape) -> String {
    let outer = name.split('.').take(depth + 1).collect::<Vec<_>>().join(".");
    match around.kind {
        Kind::Parts(parts) => format!("there is no `{part}` in `{outer}`; there are {}", inside(&outer, parts)),
        _ => format!("there is nothing inside `{outer}`; leave `.{part}` out"),
    }
}

fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
}

pub fn is_pattern(operator: Operator) -> bool {
    matches!(operator, Operator::Matches | Operator::MatchesNot)
}

fn is_order(operator: Operator) -> bool {
    matches!(operator, Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual)
}
