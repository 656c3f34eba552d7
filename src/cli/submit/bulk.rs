//! Many jobs from JSON lines, in batches, in order.
//!
//! Batches go one after another: ids then rise with the lines, and a refusal is about a line that is known. Relative
//! dependencies (`-1`, `"@name"`) reach back within one batch.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use bytes::Bytes;
use serde_json::{json, value::RawValue};

use super::super::{
    context::Context,
    failure::{Exit, Failure, Outcome, exit_of_code},
    wait,
};
use crate::{
    api::{SubmitAnswer, SubmitResult},
    client::{Call, Method},
};

pub struct Plan<'a> {
    pub file: &'a Path,
    pub atomic: bool,
    pub batch: usize,
    pub wait: bool,
}

/// Well under the 16 MiB that a request may have.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What came of the lines so far.
#[derive(Default)]
struct Tally {
    ids: Vec<u64>,
    existed: u64,
    refused: u64,
    /// The code of the last refusal, for the exit code when nothing was taken.
    code: Option<String>,
}

pub async fn run(context: &Context, plan: Plan<'_>) -> Outcome {
    let mut lines = Lines::open(plan.file)?;
    let progress = context.output.progress(lines.count_ahead(plan.file), "submitted");
    let mut tally = Tally::default();
    loop {
        let size = if plan.atomic { usize::MAX } else { plan.batch };
        let batch = lines.batch(size).map_err(|failure| tally.so_far(failure))?;
        if batch.is_empty() {
            break;
        }
        let answer = submit(context, &batch, plan.atomic).await.map_err(|failure| tally.so_far(failure))?;
        tally.take(context, &plan, &batch, answer.results)?;
        progress.inc(batch.len() as u64);
    }
    progress.finish_and_clear();
    tally.report(context)?;
    if plan.wait && !tally.ids.is_empty() {
        let ended = wait::for_all(context, &tally.ids).await?;
        return Ok(if tally.refused > 0 { Exit::Failed } else { ended });
    }
    Ok(tally.exit())
}

async fn submit(context: &Context, batch: &[Line], atomic: bool) -> Result<SubmitAnswer, Failure> {
    let bytes: usize = batch.iter().map(|line| line.text.len() + 1).sum();
    let mut body = String::with_capacity(bytes + 32);
    body.push_str(if atomic { r#"{"atomic":true,"jobs":["# } else { r#"{"jobs":["# });
    for (index, line) in batch.iter().enumerate() {
        body.push_str(if index > 0 { "," } else { "" });
        body.push_str(&line.text);
    }
    body.push_str("]}");
    let call = Call::write_bytes(Method::POST, "/v1/jobs", Bytes::from(body), context.deadline());
    Ok(context.client.call(call).await?.json()?)
}

impl Tally {
    /// Prints the ids in a pipe, unless the jobs are waited for: then they are printed as they end.
    fn take(
        &mut self,
        context: &Context,
        plan: &Plan<'_>,
        batch: &[Line],
        results: Vec<SubmitResult>,
    ) -> Result<(), Failure> {
        let print_ids = !plan.wait && !context.output.is_terminal();
        for (line, result) in batch.iter().zip(results) {
            let number = line.number;
            if let Some(id) = result.id {
                self.ids.push(id.0);
                self.existed += u64::from(result.existed == Some(true));
            }
            if let Some(error) = &result.error {
                self.refused += 1;
                self.code = Some(error.code.to_string());
                context.output.refused("line", number, error);
            }
            if context.output.is_json() {
                let mut value = json!(result);
                value["line"] = number.into();
                context.output.json(&value)?;
            } else if print_ids && let Some(id) = result.id {
                context.output.line(&id.to_string())?;
            }
        }
        Ok(())
    }

    /// People get a sentence; a pipe has had the ids already.
    fn report(&self, context: &Context) -> Result<(), Failure> {
        if !context.output.is_terminal() {
            return Ok(());
        }
        let range = match (self.ids.first(), self.ids.last()) {
            (Some(first), Some(last)) if first != last => format!(", ids {first} to {last}"),
            (Some(first), _) => format!(", id {first}"),
            _ => String::new(),
        };
        let new = self.ids.len() as u64 - self.existed;
        context.output.line(&format!("{new} submitted, {} existed, {} refused{range}", self.existed, self.refused))?;
        Ok(())
    }

    fn exit(&self) -> Exit {
        match &self.code {
            Some(code) if self.ids.is_empty() => exit_of_code(code),
            Some(_) => Exit::Failed,
            None => Exit::Ok,
        }
    }

    /// A failure half-way must say what has been done.
    fn so_far(&self, failure: Failure) -> Failure {
        match self.ids.last() {
            Some(last) => {
                failure.after(format!("{} jobs were submitted before this, the last is {last}", self.ids.len()))
            }
            None => failure,
        }
    }
}

struct Line {
    number: u64,
    text: String,
}

struct Lines {
    source: Box<dyn BufRead>,
    number: u64,
    held: Option<Line>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let source: Box<dyn BufRead> = if path == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(path)
                .map_err(|error| Failure::usage(format!("`{}` cannot be read: {error}", path.display())))?;
            Box::new(BufReader::with_capacity(1 << 18, file))
        };
        Ok(Self { source, number: 0, held: None })
    }

    /// For the progress bar: how many lines a file has; standard input does not say.
    fn count_ahead(&self, path: &Path) -> Option<u64> {
        if path == Path::new("-") {
            return None;
        }
        let file = BufReader::new(File::open(path).ok()?);
        Some(file.split(b'\n').map_while(Result::ok).filter(|line| !line.trim_ascii().is_empty()).count() as u64)
    }

    /// The next lines, as many as fit.
    fn batch(&mut self, most: usize) -> Result<Vec<Line>, Failure> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < most {
            let Some(line) = self.next()? else { break };
            if !batch.is_empty() && most != usize::MAX && bytes + line.text.len() > BATCH_BYTES_MAX {
                self.held = Some(line);
                break;
            }
            bytes += line.text.len();
            batch.push(line);
        }
        Ok(batch)
    }

    fn next(&mut self) -> Result<Option<Line>, Failure> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        loop {
            let mut text = String::new();
            let bad = |number, error: &dyn std::fmt::Display| Failure::usage(format!("line {number}: {error}"));
            if self.source.read_line(&mut text).map_err(|error| bad(self.number + 1, &error))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !text.trim().is_empty() {
                let spec: &RawValue = serde_json::from_str(&text)
                    .map_err(|error| bad(self.number, &format!("this is not JSON: {error}")))?;
                return Ok(Some(Line { number: self.number, text: spec.get().to_owned() }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &'static str) -> Lines {
        Lines { source: Box::new(text.as_bytes()), number: 0, held: None }
    }

    #[test]
    fn batches_keep_line_numbers_and_skip_blank_lines() {
        let mut lines = lines("{\"sleep\":1}\n\n  \n{\"sleep\":2}\n{\"sleep\":3}");
        let numbers = |batch: Vec<Line>| batch.iter().map(|line| line.number).collect::<Vec<_>>();
        assert_eq!(numbers(lines.batch(2).expect("good lines")), [1, 4]);
        assert_eq!(numbers(lines.batch(2).expect("good lines")), [5]);
        assert!(lines.batch(2).expect("the end").is_empty());
    }

    #[test]
    fn bad_line_is_named() {
        let failure = lines("{\"sleep\":1}\n{nonsense}\n").batch(10).err().expect("refused");
        assert!(failure.to_string().starts_with("line 2: this is not JSON"), "{failure}");
    }
}
