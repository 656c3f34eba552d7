//! `raftq watch`: a job's log and output as they come, until nothing more happens by itself.
//!
//! Log lines are replicated and come by serial. Live output is not: the node that runs the command shows the last of it, and
//! what was shown before is found again by where the two overlap ([`Stream::news`]). Lines that a command writes to its output
//! for the log come both ways, and are shown as log lines only ([`Unlogged`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    context::Context,
    failure::{Failure, Outcome},
    fields::{self, Job},
    output,
    wait::{self, Known, Obstacles, Told},
};
use crate::worker::LOG_PREFIX;

#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// Job id
    id: u64,
}

pub async fn run(context: &Context, args: WatchArgs) -> Outcome {
    follow(context, args.id).await
}

/// How often live output is looked at.
const LIVE_POLL: Duration = Duration::from_millis(500);
/// Of one answer; the next brings the rest.
const LOG_LINES_MAX: usize = 1_000;

/// Prints log lines and output as they come, until the job has settled.
pub async fn follow(context: &Context, id: u64) -> Outcome {
    let mut known = Known { version: None, log_serial: Some(0) };
    let told = Told::default();
    let mut obstacles = Obstacles::new(&told);
    let mut shown = Shown::default();
    let mut poll = wait::POLL;
    loop {
        let look = wait::look(context, id, known, poll).await?;
        for line in &look.log {
            known.log_serial = line["serial"].as_u64().or(known.log_serial);
            print_log(context, line)?;
        }
        let job = look.job.map(Job);
        if let Some(job) = &job {
            shown.ended(context, job)?;
        }
        known.version = job.as_ref().map(Job::version).or(known.version);
        if let Some(job) = &job {
            poll = if matches!(job.status(), "running" | "canceling") { LIVE_POLL } else { wait::POLL };
        }
        match job {
            Some(job) if job.is_settled() && look.log.len() < LOG_LINES_MAX => {
                return end(context, &job);
            }
            job => obstacles.warn(context, id, job.as_ref()).await?,
        }
        if poll == LIVE_POLL {
            shown.live(context, id).await?;
        }
    }
}

fn print_log(context: &Context, line: &Value) -> Result<(), Failure> {
    if context.output.is_json() {
        return Ok(context.output.json(line)?);
    }
    let (at, text) = (output::cell("at", &line["at"]), output::cell("text", &line["text"]));
    Ok(context.output.line(&format!("{at}  {text}"))?)
}

fn end(context: &Context, job: &Job) -> Outcome {
    if context.output.is_json() {
        context.output.json(&job.0)?;
    } else {
        context.output.note(&wait::ending(job));
    }
    Ok(wait::command_exit(job))
}

/// What has been printed of each attempt.
#[derive(Default)]
struct Shown {
    /// How many attempts each op has had, as far as is known.
    attempts: Vec<u64>,
    running: BTreeMap<Attempt, Printed>,
    ended: BTreeSet<Attempt>,
}

/// Op, and number of its attempt.
type Attempt = (u64, u64);

#[derive(Default)]
struct Printed {
    stdout: Stream,
    unlogged: Unlogged,
    stderr: Stream,
}

#[derive(Deserialize)]
struct Output {
    op: u64,
    attempt: u64,
    stdout: Option<String>,
    stderr: Option<String>,
}

impl Shown {
    async fn live(&mut self, context: &Context, id: u64) -> Result<(), Failure> {
        let output: Output = context.read(&format!("/v1/jobs/{id}/output"), &[]).await?;
        // One that began after the last look comes behind what ended before it, which the next look tells.
        let known = usize::try_from(output.op).ok().and_then(|op| self.attempts.get(op)).copied().unwrap_or(0);
        if output.attempt > known { Ok(()) } else { self.print(context, &output) }
    }

    /// What attempts wrote that have ended, and was not seen live.
    fn ended(&mut self, context: &Context, job: &Job) -> Result<(), Failure> {
        self.attempts = job.ops().iter().map(|op| op["attempts"].as_u64().unwrap_or(0)).collect();
        for (op, told) in job.ops().iter().enumerate() {
            for attempt in fields::attempts(told) {
                let text = |name: &str| attempt[name].as_str().map(str::to_owned);
                let number = attempt["attempt"].as_u64().unwrap_or(0);
                let op = op as u64;
                self.print(context, &Output { op, attempt: number, stdout: text("stdout"), stderr: text("stderr") })?;
                self.end(context, (op, number))?;
            }
        }
        Ok(())
    }

    fn print(&mut self, context: &Context, output: &Output) -> Result<(), Failure> {
        let attempt = (output.op, output.attempt);
        if context.output.is_json() || self.ended.contains(&attempt) {
            return Ok(());
        }
        let Printed { stdout, unlogged, stderr } = self.running.entry(attempt).or_default();
        let news = unlogged.of(stdout.news(output.stdout.as_deref().unwrap_or("")));
        context.output.raw(news.as_bytes())?;
        eprint!("{}", stderr.news(output.stderr.as_deref().unwrap_or("")));
        Ok(())
    }

    /// Its report has been printed; nothing follows.
    fn end(&mut self, context: &Context, attempt: Attempt) -> Result<(), Failure> {
        self.ended.insert(attempt);
        let rest = self.running.remove(&attempt).map(|printed| printed.unlogged.rest()).unwrap_or_default();
        Ok(context.output.raw(rest.as_bytes())?)
    }
}

/// The end of what was printed of one stream.
#[derive(Default)]
struct Stream {
    seen: String,
}

/// More than a node shows of a stream.
const SEEN_BYTES_MAX: usize = 64 << 10;

impl Stream {
    /// What of `window`, the last part of a stream that only grows, has not been printed yet.
    fn news<'w>(&mut self, window: &'w str) -> &'w str {
        let overlap =
            self.seen.char_indices().map(|(start, _)| &self.seen[start..]).find(|rest| window.starts_with(rest));
        // A report that leaves out the middle begins again with its head, which was printed long ago.
        let news = match (overlap, window.split_once(" bytes ...\n")) {
            (Some(overlap), _) => &window[overlap.len()..],
            (None, Some((_, tail))) if !self.seen.is_empty() => tail,
            (None, _) => window,
        };
        self.seen.push_str(news);
        let surplus = self.seen.len().saturating_sub(SEEN_BYTES_MAX);
        let cut = (surplus..=self.seen.len()).find(|at| self.seen.is_char_boundary(*at)).unwrap_or(0);
        self.seen.drain(..cut);
        news
    }
}

/// Standard output without the lines that stand in the log.
enum Unlogged {
    /// So much of a line has come, and it may yet be one for the log.
    Open(String),
    /// Within a line that is none.
    Show,
    /// Within one that is.
    Skip,
}

impl Default for Unlogged {
    fn default() -> Self {
        Self::Open(String::new())
    }
}

impl Unlogged {
    /// What of `news` is to be shown, with what was held back before.
    fn of(&mut self, news: &str) -> String {
        let mut shown = String::new();
        for part in news.split_inclusive('\n') {
            match self {
                Self::Skip => {}
                Self::Show => shown.push_str(part),
                Self::Open(begun) => {
                    begun.push_str(part);
                    if begun.starts_with(LOG_PREFIX) {
                        *self = Self::Skip;
                    } else if !LOG_PREFIX.starts_with(begun.as_str()) {
                        shown.push_str(begun);
                        *self = Self::Show;
                    }
                }
            }
            if part.ends_with('\n') {
                *self = Self::default();
            }
        }
        shown
    }

    /// What was held back at the end.
    fn rest(self) -> String {
        match self {
            Self::Open(begun) => begun,
            Self::Show | Self::Skip => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_printed_once_however_the_window_slides() {
        let mut stream = Stream::default();
        for (window, news) in [
            ("", ""),
            ("one\n", "one\n"),
            ("one\n", ""),
            ("one\ntwo\n", "two\n"),
            ("two\nthree\n", "three\n"),
            ("three\n", ""),
            ("nine\n", "nine\n"),
        ] {
            assert_eq!(stream.news(window), news, "{window:?}");
        }
    }

    #[test]
    fn omitted_middle_is_not_printed_as_news() {
        let mut stream = Stream::default();
        stream.news("head\nmiddle\n");
        assert_eq!(stream.news("head\n\n... omitting 7 bytes ...\ntail\n"), "tail\n");
    }

    #[test]
    fn lines_for_the_log_are_not_shown_again_however_they_come() {
        let text = "::raftq log one\na\n::raftq lo\n::raftq progress 0.5\nb ::raftq log no\n::raftq log two\n::raf";
        for size in [1, 2, 7, text.len()] {
            let mut unlogged = Unlogged::default();
            let pieces: Vec<char> = text.chars().collect();
            let mut shown: String = pieces.chunks(size).map(|piece| unlogged.of(&String::from_iter(piece))).collect();
            shown.push_str(&unlogged.rest());
            assert_eq!(shown, "a\n::raftq lo\n::raftq progress 0.5\nb ::raftq log no\n::raf");
        }
    }
}
