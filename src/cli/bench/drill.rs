//! `raftq drill`: disturbs the master again and again under load, and counts.
//!
//! The load is whole lives: submit, claim, finish. A round is one disturbance: a planned handover, or any command that is
//! given (`--do 'scripts/cluster kill-master'`). Its gap is the longest silence of the whole cluster before the next round.
//! Afterwards nothing acknowledged may be missing, and no job may have been granted twice: its lease was still running.

use std::{collections::HashMap, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

use super::{
    LoadArgs,
    driver::{ATTEMPT_DISTURBED, Target},
    modes::{Mode, Run},
    samples::{Pulse, Samples, Window},
    stage::Stage,
};
use crate::cli::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    units,
};

#[derive(Debug, Args)]
pub struct DrillArgs {
    /// Disturbances
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Shell line that disturbs, in place of a planned handover
    #[arg(long = "do", value_name = "LINE")]
    disturb: Option<String>,
    /// Shell line that brings back what the disturbance took, before the next round
    #[arg(long, value_name = "LINE", requires = "disturb")]
    restore: Option<String>,
    /// Time between a round and the next
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = units::duration)]
    pause: Duration,
    /// Lives under way at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    in_flight: usize,
}

/// Rounds end the run, not the clock.
const DAY: Duration = Duration::from_secs(86_400);

pub async fn run(context: &Context, args: DrillArgs) -> Outcome {
    let load = LoadArgs::lives();
    let mode = Mode::Life { take_next: false };
    let target = Target::find(context).await?;
    let stage = Stage::set(context, &load, mode).await?;
    let (pulse, from) = (Pulse::default(), Instant::now());
    let window = Window { from, to: from + DAY };
    let run =
        Run { target: &target, stage: &stage, pulse: &pulse, window, mode, load: &load, attempt: ATTEMPT_DISTURBED };
    let disturbing = async {
        let disturbed = disturb(context, &args, &pulse).await;
        pulse.stop();
        disturbed
    };
    let (samples, disturbed) = futures::join!(run.go(args.in_flight), disturbing);
    let samples = samples?;
    disturbed?;
    let missing = stage.missing(context, &samples).await?;
    stage.clear(context).await;
    print(context, &pulse.rounds(), &samples, missing)
}

async fn disturb(context: &Context, args: &DrillArgs, pulse: &Pulse) -> Result<(), Failure> {
    let progress = context.output.progress(Some(u64::from(args.rounds)), "rounds");
    for _ in 0..args.rounds {
        tokio::time::sleep(args.pause).await;
        pulse.begin_round();
        match &args.disturb {
            Some(line) => shell(line).await?,
            None => drop(context.post("/v1/cluster/transfer", &json!({})).await?),
        }
        if let Some(line) = &args.restore {
            tokio::time::sleep(args.pause).await;
            shell(line).await?;
        }
        progress.inc(1);
    }
    tokio::time::sleep(args.pause).await;
    progress.finish_and_clear();
    Ok(())
}

async fn shell(line: &str) -> Result<(), Failure> {
    let output = Command::new("sh").args(["-c", line]).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::usage(format!("`{line}` failed ({}): {}", output.status, said.lines().last().unwrap_or(""))))
}

fn print(context: &Context, gaps: &[Duration], samples: &Samples, missing: u64) -> Outcome {
    let twice = granted_twice(samples);
    let milliseconds: Vec<u64> = gaps.iter().map(|gap| gap.as_millis() as u64).collect();
    let (median, longest) = (median(&milliseconds), milliseconds.iter().max().copied().unwrap_or(0));
    let counts = [
        ("submitted", samples.submitted.len() as u64),
        ("finished", samples.finished.len() as u64),
        ("repeats", samples.repeats),
        ("missing", missing),
        ("granted twice", twice),
        ("median gap ms", median),
        ("longest gap ms", longest),
    ];
    if context.output.is_json() {
        let mut report: Value = json!({ "gaps_ms": milliseconds });
        counts.iter().for_each(|(name, count)| report[name.replace(' ', "_")] = (*count).into());
        context.output.json(&report)?;
    } else {
        let row = |(round, gap): (usize, &u64)| vec![(round + 1).to_string(), gap.to_string()];
        let rows: Vec<Vec<String>> = milliseconds.iter().enumerate().map(row).collect();
        context.output.rows(&["round", "gap ms"], &rows)?;
        let record: Vec<(&str, String)> = counts.iter().map(|(name, count)| (*name, count.to_string())).collect();
        context.output.record(&record)?;
    }
    Ok(Exit::ok_if(missing == 0 && twice == 0))
}

fn granted_twice(samples: &Samples) -> u64 {
    let mut grants: HashMap<u64, u32> = HashMap::new();
    samples.granted.iter().for_each(|id| *grants.entry(*id).or_default() += 1);
    grants.values().filter(|count| **count > 1).count() as u64
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    match (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => low.midpoint(*high),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[]), 0);
        assert_eq!(median(&[7]), 7);
        assert_eq!(median(&[9, 1, 5]), 5);
        assert_eq!(median(&[4, 1, 2, 9]), 3);
    }

    #[test]
    fn jobs_granted_twice_are_counted_once_each() {
        let samples = Samples { granted: vec![1, 2, 1, 3, 1, 2], ..Samples::default() };
        assert_eq!(granted_twice(&samples), 2);
    }
}
