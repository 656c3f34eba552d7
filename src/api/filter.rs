//! `filter`: which jobs, in words.
//!
//! ```text
//!   status in (queued, running) and not queue = etl
//!   priority < normal and name =~ "^night" or needs.ram_mb >= 1000
//! ```
//!
//! A comparison is FIELD OPERATOR VALUE. Fields are those of a job, with dots into objects (`needs.cores`, `meta.team`);
//! operators are `=` `!=` `<` `<=` `>` `>=` `=~` (a regular expression) `!~` and `in (...)`. Values are numbers, true, false,
//! null, "text", or a bare word. For a list (`groups`, `ops.kind`), a comparison holds if it holds for one member. `and`
//! binds closer than `or`; `not` and parentheses as usual. Case matters in names and values, and not in these four words.
//! What no job can satisfy is refused ([`shape`]).

mod grammar;
mod shape;

use std::{cmp::Ordering, collections::BTreeSet};

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use self::{
    grammar::{Literal, Operator, Parsed},
    shape::Named,
};
use super::job::Field;

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

/// What one regular expression may take when compiled.
const REGEX_BYTES_MAX: usize = 256 << 10;

impl Filter {
    /// # Errors
    /// A sentence that says where the expression goes wrong, and what could stand there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields = BTreeSet::new();
        let expression = check(grammar::parse(text)?, &mut fields)?;
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

fn check(parsed: Parsed, fields: &mut BTreeSet<Field>) -> Result<Expression, String> {
    let mut each = |terms: Vec<Parsed>| terms.into_iter().map(|term| check(term, fields)).collect::<Result<_, _>>();
    match parsed {
        Parsed::Or(terms) => each(terms).map(Expression::Or),
        Parsed::And(terms) => each(terms).map(Expression::And),
        Parsed::Not(term) => check(*term, fields).map(|term| Expression::Not(Box::new(term))),
        Parsed::Compare(name, operator, literals) => {
            let path: Vec<String> = name.split('.').map(str::to_owned).collect();
            let field = Field::parse(&path[0]).ok_or_else(|| unknown_field(&path[0]))?;
            let test = test(&Named::find(&name, field, &path[1..])?, operator, &literals)?;
            fields.insert(field);
            Ok(Expression::Compare(Comparison { path, test }))
        }
    }
}

fn unknown_field(name: &str) -> String {
    let known: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
    format!("`{name}` is no field of a job; there are {}", known.join(", "))
}

fn test(named: &Named, operator: Operator, literals: &[Literal]) -> Result<Test, String> {
    let operands = literals.iter().map(|literal| named.operand(operator, literal));
    let mut operands = operands.collect::<Result<Vec<_>, _>>()?;
    if operator == Operator::In {
        return Ok(Test::In(operands));
    }
    let value = operands.pop().unwrap_or(Value::Null);
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

fn regex(pattern: &Value) -> Result<Regex, String> {
    let text = pattern.as_str().unwrap_or_default();
    let built = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
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
        match &self.test {
            Test::Is(value) => any(job, &self.path, &|found| same(found, value)),
            Test::IsNot(value) => !any(job, &self.path, &|found| same(found, value)),
            Test::In(values) => any(job, &self.path, &|found| values.iter().any(|value| same(found, value))),
            Test::Order(orders, value) => {
                any(job, &self.path, &|found| order(found, value).is_some_and(|order| orders.contains(&order)))
            }
            Test::Matches(regex) => any(job, &self.path, &|found| matches(found, regex)),
            Test::MatchesNot(regex) => !any(job, &self.path, &|found| matches(found, regex)),
        }
    }
}

/// Whether the test holds for what stands at this path; of lists on the way, in one member.
fn any(value: &Value, path: &[String], test: &dyn Fn(&Value) -> bool) -> bool {
    match (value, path) {
        (Value::Array(members), _) => members.iter().any(|member| any(member, path, test)),
        (value, [name, inner @ ..]) => any(&value[name.as_str()], inner, test),
        (value, []) => test(value),
    }
}

fn same(found: &Value, value: &Value) -> bool {
    match (found, value) {
        // What users leave in `meta` may be a number in quotes.
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
            "meta": { "team": "a", "build": "7", "tags": ["x", "y"] }, "exit_code": 3, "comment": "007",
            "ops": [{ "kind": "exec", "history": [{ "exit_code": 1 }, { "exit_code": 3 }] }, { "kind": "mail", "history": [] }],
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
            "meta.city = null",
            "meta.team = a and meta.build = 7 and meta.tags = y and meta.tags != z",
            "meta =~ team and meta != null",
            "id > 3 and (queue = x or queue = etl)",
            "NOT name = day And status IN (queued, running) OR id = 3",
            "status =~ \"^qu\"",
            "status !~ bogus",
            "queue = x or id = 17 and status = queued",
            " id=17 ",
            "queue != \"it's\"",
            "comment = 007 and comment != 7 and comment < 01",
            "ops.kind = mail and ops.history.exit_code = 3 and not ops.kind = sleep",
            "exit_code in (3, 4) and exit_code != null",
        ] {
            assert!(Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).fits(&job), "{text}");
        }
        for text in [
            "status = running",
            "queue = x and id = 17 or id = 18",
            "name < 3",
            "meta.team = null",
            "ops.history.exit_code = 2",
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
        ] {
            let error = Filter::parse(text).map(|_| ()).expect_err(text);
            assert_eq!(error.matches("expected").count(), message.matches("expected").count(), "{text}: {error}");
            assert!(error.contains(message), "{text}: {error}");
        }
        assert!(Filter::parse(&"(".repeat(100)).is_err());
        assert!(Filter::parse(&format!("{} id = 1", "NOT ".repeat(100))).is_err_and(|error| error.contains("deep")));
        assert!(Filter::parse(&format!("name = {}", "x".repeat(5000))).is_err());
    }

    /// They matched nothing, and did not say why.
    #[test]
    fn comparison_that_no_job_satisfies_is_refused_with_what_would_be_right() {
        for (text, message) in [
            ("attempts > many", "`attempts` is never `many`; it is a number: compare it with numbers by = "),
            ("attempts = \"3\"", "`attempts` is never `\"3\"`; it is a number"),
            ("exit_code in (1, fail)", "`exit_code` is never `fail`; it is a number"),
            ("id = null", "`id` is never null; it is a number"),
            ("exit_code < null", "nothing is less or more than null; `exit_code` is compared with it by = and !="),
            (
                "received_at > 2026-11-20",
                "`received_at` is never `2026-11-20`; it is a time in milliseconds since 1970",
            ),
            ("needs.cores = all", "`needs.cores` is never `all`; it is a number"),
            ("needs = 3", "`needs` is never `3`; compare what is in it: needs.cores, needs.ram_mb, "),
            ("needs.gpus > 1", "there is no `gpus` in `needs`; there are needs.cores, "),
            ("ops.history.code = 1", "there is no `code` in `ops.history`; there are ops.history.attempt, "),
            ("queue.name = x", "there is nothing inside `queue`; leave `.name` out"),
            ("meta = etl", "`meta` is never `etl`; compare what is in it, as in meta.team = x"),
            ("priority < urgent", "`priority` is never `urgent`; it is a number, or one of very-high, high, "),
            ("archived = yes", "`archived` is never `yes`; it is true or false"),
            ("archived > false", "nothing is less or more than `archived`; it is true or false"),
            ("status = bogus", "`bogus`; it is one of queued, "),
            ("name = x or status in (running, Running)", "`status` is never `Running`; it is one of "),
            ("status != 5", "`status` is never `5`; it is one of "),
            ("status < running", "nothing is less or more than `status`; it is one of "),
            ("on_failure = retry", "`on_failure` is never `retry`; it is one of bury, error"),
            ("attempts =~ 1", "=~ and !~ are for text; `attempts`: it is a number"),
            ("not archived !~ t", "=~ and !~ are for text; `archived`: it is true or false"),
        ] {
            let error = Filter::parse(text).map(|_| ()).expect_err(text);
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
