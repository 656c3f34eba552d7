//! How a filter is written: from text to comparisons of names with what was typed. What the names mean is looked up later.

use winnow::{
    ModalResult, Parser,
    ascii::{Caseless, multispace0},
    combinator::{alt, cut_err, delimited, not, peek, preceded, repeat, separated, terminated},
    error::{ContextError, ErrMode, StrContext, StrContextValue},
    token::{any, none_of, one_of, take_while},
};

/// Longer ones are somebody's mistake.
const BYTES_MAX: usize = 4_096;
/// Parentheses and nots within each other: the parser's stack is finite.
const DEPTH_MAX: usize = 50;

/// Before names are looked up and regular expressions compiled.
pub enum Parsed {
    Or(Vec<Parsed>),
    And(Vec<Parsed>),
    Not(Box<Parsed>),
    Compare(String, Operator, Vec<Literal>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operator {
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

/// What a field is compared with, as it was typed.
#[derive(Clone, Debug)]
pub enum Literal {
    Quoted(String),
    /// A number, a word, `true`, `null`: the field tells.
    Bare(String),
}

impl Literal {
    pub fn text(&self) -> &str {
        match self {
            Literal::Quoted(text) | Literal::Bare(text) => text,
        }
    }
}

/// # Errors
/// A sentence that says where the text goes wrong, and what could stand there.
pub fn parse(text: &str) -> Result<Parsed, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("a filter has at most {BYTES_MAX} bytes"));
    }
    if depth(text) > DEPTH_MAX {
        return Err(format!("parentheses and nots go at most {DEPTH_MAX} deep"));
    }
    terminated(or, multispace0).parse(text).map_err(|error| {
        let at = text[..error.offset()].chars().count() + 1;
        format!("at character {at}: {}", expectation(error.inner()))
    })
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

fn list(input: &mut &str) -> ModalResult<Vec<Literal>> {
    delimited(symbol("("), separated(1.., value, symbol(",")), symbol(")")).parse_next(input)
}

fn value(input: &mut &str) -> ModalResult<Literal> {
    preceded(multispace0, alt((quoted, bare))).parse_next(input)
}

/// In double or single quotes; a backslash takes the next character as it is.
fn quoted(input: &mut &str) -> ModalResult<Literal> {
    let quote = one_of(['"', '\'']).parse_next(input)?;
    let escaped = preceded('\\', any);
    let characters = repeat(0.., alt((escaped, none_of([quote, '\\']))));
    let closed = cut_err(quote.context(expected("the closing quote")));
    terminated(characters, closed).map(Literal::Quoted).parse_next(input)
}

fn bare(input: &mut &str) -> ModalResult<Literal> {
    let text = take_while(1.., |c: char| is_word(c) || matches!(c, '-' | '.' | '/' | ':' | '@'));
    text.map(|text: &str| Literal::Bare(text.to_owned())).parse_next(input)
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
