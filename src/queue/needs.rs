//! Needs: what a job asks of a machine, what its group has taught, and what a failure raised (design 2.2, learning).
//!
//! Histograms are integers in coarse steps, so every replica finds the same recommendation. A shape carries what was asked
//! for; what counts is computed when a claim looks at it, so queued jobs profit from what was learned meanwhile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    command::Report,
    job::{Needs, Shape},
};

const RAM_STEP_MB: u64 = 100;
const TIME_STEP_S: u64 = 1800;
/// 400 GiB, and 85 days: what lies beyond counts as this.
const STEPS_MAX: u64 = 4096;
/// Below this many runs the maximum counts, from it on the 95th percentile.
const RUNS_FOR_PERCENTILE: u64 = 20;
/// Up to this peak, memory is doubled after a failure for want of it.
const DOUBLE_UP_TO_MB: u64 = 8192;

/// What the runs of a resource group have needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    ram: Histogram,
    time: Histogram,
    /// What follows from these, found when a run is added: claims ask far more often than runs end.
    ram_mb: Option<u64>,
    time_s: Option<u64>,
}

/// Runs by the number of steps that they needed, rounded up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Histogram(BTreeMap<u32, u64>);

impl Histogram {
    fn add(&mut self, amount: u64, step: u64) {
        let steps = amount.div_ceil(step).clamp(1, STEPS_MAX);
        let runs = self.0.entry(steps as u32).or_default();
        *runs = runs.saturating_add(1);
    }

    fn runs(&self) -> u64 {
        self.0.values().sum()
    }

    fn recommended(&self, step: u64) -> Option<u64> {
        let runs = self.runs();
        let enough = if runs < RUNS_FOR_PERCENTILE { runs } else { (runs * 95).div_ceil(100) };
        let mut below = 0;
        for (steps, here) in &self.0 {
            below += here;
            if below >= enough {
                return Some(u64::from(*steps) * step);
            }
        }
        None
    }
}

impl Learned {
    /// A success, or a failure for want of memory or time.
    pub fn add(&mut self, report: &Report) {
        if let Some(peak_ram_mb) = report.peak_ram_mb {
            self.ram.add(peak_ram_mb, RAM_STEP_MB);
            self.ram_mb = self.ram.recommended(RAM_STEP_MB);
        }
        if let Some(wall_ms) = report.wall_ms {
            self.time.add(wall_ms.div_ceil(1000), TIME_STEP_S);
            self.time_s = self.time.recommended(TIME_STEP_S);
        }
    }

    pub fn ram_mb(&self) -> Option<u64> {
        self.ram_mb
    }

    pub fn time_s(&self) -> Option<u64> {
        self.time_s
    }

    pub fn runs(&self) -> u64 {
        self.ram.runs().max(self.time.runs())
    }
}

/// What counts for a shape, given what its group has learned.
pub fn effective(shape: &Shape, learned: Option<&Learned>) -> Needs {
    let own = shape.needs;
    let choose = |own: u64, learned: Option<u64>| match (shape.needs_override, learned) {
        (0, Some(learned)) => learned,
        (1, Some(learned)) => own.max(learned),
        _ => own,
    };
    Needs {
        cores_milli: own.cores_milli,
        ram_mb: choose(own.ram_mb, learned.and_then(Learned::ram_mb)).max(shape.ram_floor_mb),
        disk_mb: own.disk_mb,
        time_s: choose(own.time_s, learned.and_then(Learned::time_s)).max(shape.time_floor_s),
    }
}

/// The memory to ask for after a run with this peak failed for want of memory: never less than before.
pub fn raised_ram_mb(before_mb: u64, peak_mb: u64) -> u64 {
    let more = if peak_mb <= DOUBLE_UP_TO_MB { peak_mb * 2 } else { peak_mb.saturating_mul(13).div_ceil(10) };
    let wanted = more.max(peak_mb.saturating_add(1000));
    wanted.checked_next_multiple_of(RAM_STEP_MB).unwrap_or(u64::MAX).max(before_mb).min(super::limits::RAM_MB_MAX)
}

/// The time to ask for after a run took too long.
pub fn raised_time_s(before_s: u64) -> u64 {
    before_s.saturating_add(3600).min(super::limits::TIME_S_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(peaks: impl IntoIterator<Item = u64>) -> Learned {
        let mut learned = Learned::default();
        for peak_ram_mb in peaks {
            learned.add(&Report { peak_ram_mb: Some(peak_ram_mb), wall_ms: Some(1_000), ..Report::default() });
        }
        learned
    }

    #[test]
    fn learned_under_20_runs_recommends_the_maximum() {
        assert_eq!(learned((1..19).chain([950])).ram_mb(), Some(1_000));
    }

    #[test]
    fn learned_from_20_runs_recommends_the_95th_percentile() {
        assert_eq!(learned((1..=10).chain(1..=10)).ram_mb(), Some(100));
        assert_eq!(learned((1..20).chain([950])).ram_mb(), Some(100));
        assert_eq!(learned((1..20).chain([950, 960])).ram_mb(), Some(1_000));
        assert_eq!(learned(1..=20).time_s(), Some(1_800));
        assert_eq!(learned([]).ram_mb(), None);
    }

    #[test]
    fn ram_raised_is_twice_the_peak_and_a_gigabyte_at_least_and_never_lower() {
        assert_eq!(raised_ram_mb(0, 300), 1_300);
        assert_eq!(raised_ram_mb(0, 4_050), 8_100);
        assert_eq!(raised_ram_mb(0, 8_192), 16_400);
        assert_eq!(raised_ram_mb(0, 10_000), 13_000);
        assert_eq!(raised_ram_mb(50_000, 300), 50_000);
        assert_eq!(raised_ram_mb(0, u64::MAX), super::super::limits::RAM_MB_MAX);
    }
}
