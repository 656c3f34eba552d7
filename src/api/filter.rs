//! `filter`: which jobs, in words.
//!
//! ```text
//!   status in (queued, running) and not queue = etl
//!   priority < normal and name =~ "^night" or needs.ram_mb >= 1000
//! ```
//!
//! A comparison is FIELD OPERATOR VALUE. Fields are those of a job, with dots into objects (`needs.cores`, `meta.team`);
//! operators are `=` `!=` `<` `<=` `>` `>=` `=~` (a regular expression) `!~` and `in (...)`. Values are numbers, true, false,
//! null, "text", or a bare word. For a field that is a list (`groups`), a comparison holds if it holds for one member. `and`
//! binds closer than `or`; `not` and parentheses as usual. Case matters in names and values, and not in these four words.

use std::{cmp::Ordering, collections::BTreeSet};

use regex::{Regex, RegexBuilder};
use serde_json::{Number, Value};
use winnow::{
    ModalResult, Parser,
    ascii::{Caseless, multispace0},
    combinator::{alt, cut_err, delimited, not, opt, peek, preceded, repeat, separated, terminated},
    error::{ContextError, ErrMode, StrContext, StrContextValue},
    token::{any, none_of, one_of, take_while},
};

use super::{job::Field, number::parse_priority, verbs::parse_status};
use crate::queue::job::Status;

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Filter {
    expression: Expression,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Compare(Comparison),
}

#[derive(Clone, Debug)]
struct Comparison {
    /// The field, then names within it.
    path: Vec<String>,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Is(Value),
    IsNot(Value),
    /// The orderings that satisfy it.
    Order(&'static [Ordering], Value),
    In(Vec<Value>),
    Matches(Regex),
    MatchesNot(Regex),
}

/// Longer ones are somebody's mistake.
const BYTES_MAX: usize = 4_096;
/// Parentheses and nots within each other: the parser's stack is finite.
const DEPTH_MAX: usize = 50;
/// What one regular expression may take when compiled.
const REGEX_BYTES_MAX: usize = 256 << 10;

impl Filter {
    /// # Errors
    /// A sentence that says where the expression goes wrong, and what could stand there.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("a filter has at most {BYTES_MAX} bytes"));
        }
        if depth(text) > DEPTH_MAX {
            return Err(format!("parentheses and nots go at most {DEPTH_MAX} deep"));
        }
        let parsed = terminated(or, multispace0).parse(text).map_err(|error| {
            let at = text[..error.offset()].chars().count() + 1;
            format!("at character {at}: {}", expectation(error.inner()))
        })?;
        let mut fields = BTreeSet::new();
        let expression = parsed.check(&mut fields)?;
        Ok(Self { expression, fields: fields.into_iter().collect() })
    }

    /// The fields that it looks at.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether a job, as JSON with at least these fields, is meant.
    pub fn fits(&self, job: &Value) -> bool {
        self.expression.fits(job)
    }
}

fn depth(text: &str) -> usize {
    text.matches(['(', '!']).count() + text.to_ascii_lowercase().matches("not").count()
}

/// What the innermost rule wanted: those around it would only repeat what it is a part of.
fn expectation(error: &ContextError) -> String {
    let expected = error.context().find_map(|context| match context {
        StrContext::Expected(what) => Some(what),
        _ => None,
    });
    match expected {
        None => "this does not belong here; join comparisons with `and` or `or`".to_owned(),
        Some(what) => format!("expected {what}"),
    }
}

fn expected(what: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(what))
}

/// Before names are looked up and regular expressions compiled.
enum Parsed {
    Or(Vec<Parsed>),
    And(Vec<Parsed>),
    Not(Box<Parsed>),
    Compare(String, Operator, Vec<Value>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Matches,
    MatchesNot,
    In,
}

fn or(input: &mut &str) -> ModalResult<Parsed> {
    let others = repeat(0.., preceded(word("or"), cut_err(and)));
    (and, others).map(|(first, others)| joined(first, others, Parsed::Or)).parse_next(input)
}

fn and(input: &mut &str) -> ModalResult<Parsed> {
    let others = repeat(0.., preceded(word("and"), cut_err(term)));
    (term, others).map(|(first, others)| joined(first, others, Parsed::And)).parse_next(input)
}

fn joined(first: Parsed, mut others: Vec<Parsed>, join: impl FnOnce(Vec<Parsed>) -> Parsed) -> Parsed {
    if others.is_empty() {
        return first;
    }
    others.insert(0, first);
    join(others)
}

fn term(input: &mut &str) -> ModalResult<Parsed> {
    let negated = preceded(word("not"), cut_err(term)).map(|inner| Parsed::Not(Box::new(inner)));
    let nested = delimited(symbol("("), cut_err(or), cut_err(symbol(")").context(expected("`)`"))));
    preceded(multispace0, alt((negated, nested, comparison)))
        .context(expected("a comparison as in `priority < 0`"))
        .parse_next(input)
}

fn comparison(input: &mut &str) -> ModalResult<Parsed> {
    let field = name.parse_next(input)?;
    let operator = cut_err(operator.context(expected("an operator (= != < <= > >= =~ !~ in)"))).parse_next(input)?;
    let values = match operator {
        Operator::In => cut_err(list.context(expected("a list as in `(queued, running)`"))).parse_next(input)?,
        _ => vec![cut_err(value.context(expected("a value: a number, a word, or \"text\""))).parse_next(input)?],
    };
    Ok(Parsed::Compare(field, operator, values))
}

fn operator(input: &mut &str) -> ModalResult<Operator> {
    let symbols = alt((
        "=~".value(Operator::Matches),
        "!~".value(Operator::MatchesNot),
        "!=".value(Operator::IsNot),
        "<=".value(Operator::LessOrEqual),
        ">=".value(Operator::GreaterOrEqual),
        "==".value(Operator::Is),
        "=".value(Operator::Is),
        "<".value(Operator::Less),
        ">".value(Operator::Greater),
    ));
    alt((preceded(multispace0, symbols), word("in").value(Operator::In))).parse_next(input)
}

fn list(input: &mut &str) -> ModalResult<Vec<Value>> {
    delimited(symbol("("), separated(1.., value, symbol(",")), symbol(")")).parse_next(input)
}

fn value(input: &mut &str) -> ModalResult<Value> {
    preceded(multispace0, alt((text, number, bare_word))).parse_next(input)
}

/// In double or single quotes; a backslash takes the next character as it is.
fn text(input: &mut &str) -> ModalResult<Value> {
    let quote = one_of(['"', '\'']).parse_next(input)?;
    let escaped = preceded('\\', any);
    let characters = repeat(0.., alt((escaped, none_of([quote, '\\']))));
    let text: String =
        terminated(characters, cut_err(quote.context(expected("the closing quote")))).parse_next(input)?;
    Ok(Value::String(text))
}

fn number(input: &mut &str) -> ModalResult<Value> {
    let digits = (opt('-'), take_while(1.., |c: char| c.is_ascii_digit() || c == '.')).take();
    let text = terminated(digits, peek(not(word_character))).parse_next(input)?;
    if let Ok(whole) = text.parse::<i64>() {
        return Ok(whole.into());
    }
    let decimal: f64 = text.parse().map_err(|_| backtrack())?;
    Number::from_f64(decimal).map(Value::Number).ok_or_else(backtrack)
}

fn backtrack() -> ErrMode<ContextError> {
    ErrMode::Backtrack(ContextError::new())
}

fn bare_word(input: &mut &str) -> ModalResult<Value> {
    let word = take_while(1.., |c: char| is_word(c) || matches!(c, '-' | '.' | '/' | ':' | '@')).parse_next(input)?;
    Ok(match word {
        "true" => true.into(),
        "false" => false.into(),
        "null" => Value::Null,
        word => word.into(),
    })
}

fn name(input: &mut &str) -> ModalResult<String> {
    take_while(1.., |c: char| is_word(c) || c == '.').map(str::to_owned).parse_next(input)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_character(input: &mut &str) -> ModalResult<char> {
    one_of(is_word).parse_next(input)
}

/// A keyword: not the beginning of a longer word.
fn word<'i>(keyword: &'static str) -> impl Parser<&'i str, &'i str, ErrMode<ContextError>> {
    delimited(multispace0, Caseless(keyword), peek(not(word_character)))
}

fn symbol<'i>(symbol: &'static str) -> impl Parser<&'i str, &'i str, ErrMode<ContextError>> {
    preceded(multispace0, symbol)
}

impl Parsed {
    fn check(self, fields: &mut BTreeSet<Field>) -> Result<Expression, String> {
        let mut each =
            |terms: Vec<Parsed>| terms.into_iter().map(|term| term.check(fields)).collect::<Result<Vec<_>, _>>();
        match self {
            Parsed::Or(terms) => each(terms).map(Expression::Or),
            Parsed::And(terms) => each(terms).map(Expression::And),
            Parsed::Not(term) => term.check(fields).map(|term| Expression::Not(Box::new(term))),
            Parsed::Compare(name, operator, values) => {
                let path: Vec<String> = name.split('.').map(str::to_owned).collect();
                let field = Field::parse(&path[0]).ok_or_else(|| unknown_field(&path[0]))?;
                fields.insert(field);
                let test = test(field, operator, values)?;
                Ok(Expression::Compare(Comparison { path, test }))
            }
        }
    }
}

fn unknown_field(name: &str) -> String {
    let known: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
    format!("`{name}` is no field of a job; there are {}", known.join(", "))
}

fn test(field: Field, operator: Operator, values: Vec<Value>) -> Result<Test, String> {
    let is_pattern = matches!(operator, Operator::Matches | Operator::MatchesNot);
    let meant = |value| if is_pattern { Ok(value) } else { meaning(field, value) };
    let mut values = values.into_iter().map(meant).collect::<Result<Vec<_>, _>>()?;
    if operator == Operator::In {
        return Ok(Test::In(values));
    }
    let value = values.pop().unwrap_or(Value::Null);
    Ok(match operator {
        Operator::Is | Operator::In => Test::Is(value),
        Operator::IsNot => Test::IsNot(value),
        Operator::Less => Test::Order(&[Ordering::Less], value),
        Operator::LessOrEqual => Test::Order(&[Ordering::Less, Ordering::Equal], value),
        Operator::Greater => Test::Order(&[Ordering::Greater], value),
        Operator::GreaterOrEqual => Test::Order(&[Ordering::Greater, Ordering::Equal], value),
        Operator::Matches => Test::Matches(regex(&value)?),
        Operator::MatchesNot => Test::MatchesNot(regex(&value)?),
    })
}

/// Priorities have names here as elsewhere, and a status that no job can have is a mistake.
fn meaning(field: Field, value: Value) -> Result<Value, String> {
    match (field, &value) {
        (Field::Priority, Value::String(name)) => parse_priority(name).map(|priority| priority.0.into()),
        (Field::Status, Value::String(name)) if parse_status(name).is_some() => Ok(value),
        (Field::Status, _) => Err(unknown_status(&value)),
        _ => Ok(value),
    }
}

fn unknown_status(value: &Value) -> String {
    let known: Vec<_> = Status::ALL.into_iter().map(Status::name).collect();
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("`{value}` is no status of a job; there are {}", known.join(", "))
}

fn regex(value: &Value) -> Result<Regex, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let built = RegexBuilder::new(&text).size_limit(REGEX_BYTES_MAX).build();
    built.map_err(|_| format!("`{text}` is no regular expression that can be used here"))
}

impl Expression {
    fn fits(&self, job: &Value) -> bool {
        match self {
            Expression::Or(terms) => terms.iter().any(|term| term.fits(job)),
            Expression::And(terms) => terms.iter().all(|term| term.fits(job)),
            Expression::Not(term) => !term.fits(job),
            Expression::Compare(comparison) => comparison.fits(job),
        }
    }
}

impl Comparison {
    fn fits(&self, job: &Value) -> bool {
        let found = self.path.iter().fold(job, |value, name| &value[name.as_str()]);
        let (negative, test): (bool, &dyn Fn(&Value) -> bool) = match &self.test {
            Test::Is(value) => (false, &|found| same(found, value)),
            Test::IsNot(value) => (true, &|found| same(found, value)),
            Test::In(values) => (false, &|found| values.iter().any(|value| same(found, value))),
            Test::Order(orders, value) => {
                (false, &|found| order(found, value).is_some_and(|order| orders.contains(&order)))
            }
            Test::Matches(regex) => (false, &|found| matches(found, regex)),
            Test::MatchesNot(regex) => (true, &|found| matches(found, regex)),
        };
        let holds = match found {
            Value::Array(members) => members.iter().any(test),
            found => test(found),
        };
        holds != negative
    }
}

fn same(found: &Value, value: &Value) -> bool {
    match (found, value) {
        // `name = 7` means a name that reads 7.
        (Value::String(found), Value::Number(number)) => *found == number.to_string(),
        (found, value) => found == value || order(found, value) == Some(Ordering::Equal),
    }
}

fn order(found: &Value, value: &Value) -> Option<Ordering> {
    match (found, value) {
        (Value::Number(found), Value::Number(value)) => match (found.as_i64(), value.as_i64()) {
            (Some(found), Some(value)) => Some(found.cmp(&value)),
            _ => found.as_f64()?.partial_cmp(&value.as_f64()?),
        },
        (Value::String(found), Value::String(value)) => Some(found.cmp(value)),
        _ => None,
    }
}

fn matches(found: &Value, regex: &Regex) -> bool {
    match found {
        Value::Null => false,
        Value::String(text) => regex.is_match(text),
        other => regex.is_match(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_choose() {
        let job = json!({
            "id": 17, "status": "queued", "queue": "etl", "name": "nightly-7", "priority": -10, "groups": ["a", "b"],
            "needs": { "cores": 1.5, "ram_mb": 500 }, "unique": null, "archived": false,
        });
        for text in [
            "status = queued",
            "status == \"queued\"",
            "status in (running, queued)",
            "priority < normal",
            "priority = high",
            "priority <= -10 and priority >= -10",
            "name =~ \"^night.*[0-9]$\"",
            "not name =~ day",
            "name !~ 'day'",
            "groups = b",
            "not groups = c",
            "groups != c",
            "needs.cores > 1.25",
            "needs.cores=1.5",
            "unique = null",
            "archived = false",
            "meta.team = null",
            "id > 3 and (queue = x or queue = etl)",
            "NOT name = day And status IN (queued, running) OR id = 3",
            "status =~ \"^qu\"",
            "status !~ bogus",
            "queue = x or id = 17 and status = queued",
            " id=17 ",
            "queue != \"it's\"",
        ] {
            assert!(Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).fits(&job), "{text}");
        }
        for text in [
            "status = running",
            "queue = x and id = 17 or id = 18",
            "name > 3",
            "unique =~ .",
            "groups != a",
            "nothing_is_not = 1",
        ] {
            assert!(!Filter::parse(text).is_ok_and(|filter| filter.fits(&job)), "{text}");
        }
    }

    #[test]
    fn fields_are_named() {
        let filter = Filter::parse("needs.cores > 1 and name = x or name = y").unwrap();
        assert_eq!(filter.fields(), [Field::Name, Field::Needs]);
    }

    #[test]
    fn mistakes_are_placed_and_explained() {
        for (text, message) in [
            ("", "at character 1: expected a comparison"),
            ("status", "at character 7: expected an operator"),
            ("status ~ 3", "at character 8: expected an operator"),
            ("status =", "at character 9: expected a value"),
            ("status in queued", "at character 11: expected a list"),
            ("(queue = a", "at character 11: expected `)`"),
            ("name = \"a", "at character 10: expected the closing quote"),
            ("queue = a queue = b", "at character 11: this does not belong here"),
            ("queue = a and", "at character 14: expected a comparison"),
            ("colour = red", "`colour` is no field of a job"),
            ("name =~ \"(\"", "is no regular expression"),
            ("priority < urgent", "`urgent` is no priority"),
            ("status = bogus", "`bogus` is no status of a job; there are queued, "),
            ("name = x or status in (running, Running)", "`Running` is no status"),
            ("status != 5", "`5` is no status"),
        ] {
            let error = Filter::parse(text).map(|_| ()).expect_err(text);
            assert_eq!(error.matches("expected").count(), message.matches("expected").count(), "{text}: {error}");
            assert!(error.contains(message), "{text}: {error}");
        }
        assert!(Filter::parse(&"(".repeat(100)).is_err());
        assert!(Filter::parse(&format!("{} id = 1", "NOT ".repeat(100))).is_err_and(|error| error.contains("deep")));
        assert!(Filter::parse(&format!("name = {}", "x".repeat(5000))).is_err());
    }
}
