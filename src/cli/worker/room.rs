//! What this worker has to give, and what is left of it.

use serde::Serialize;

use super::WorkerArgs;
use crate::api::{Cores, FreeSpec, NeedsSpec};

/// Never more is taken than there is: slots, thousandths of cores, megabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Room {
    pub slots: u32,
    pub cores: Cores,
    pub ram_mb: u64,
    pub disk_mb: Option<u64>,
}

impl Room {
    pub fn of_machine(args: &WorkerArgs) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        Self {
            slots: args.slots.unwrap_or(u32::try_from(cores).unwrap_or(u32::MAX)),
            cores: args.cores.unwrap_or(Cores { milli: cores * 1000 }),
            ram_mb: args.ram.unwrap_or_else(memory_mb),
            disk_mb: args.disk,
        }
    }

    /// `None`: a slot is what is missing first.
    pub fn left<'a>(&self, held: impl Iterator<Item = &'a NeedsSpec>) -> Option<Self> {
        held.into_iter().try_fold(*self, |room, needs| {
            Some(Self {
                slots: room.slots.checked_sub(1)?,
                cores: Cores { milli: room.cores.milli.saturating_sub(needs.cores.milli) },
                ram_mb: room.ram_mb.saturating_sub(needs.ram_mb),
                disk_mb: room.disk_mb.map(|disk| disk.saturating_sub(needs.disk_mb)),
            })
        })
    }

    pub fn free(&self, time_s: Option<u64>) -> FreeSpec {
        FreeSpec { cores: Some(self.cores), ram_mb: Some(self.ram_mb), disk_mb: self.disk_mb, time_s }
    }
}

pub fn cores(text: &str) -> Result<Cores, String> {
    serde_json::from_str(text).map_err(|_| format!("`{text}` is no number of cores; write 2, or 0.5"))
}

/// All of the machine's, or nothing if it does not say.
fn memory_mb() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_left_is_room_less_what_is_held() {
        let room = Room { slots: 2, cores: Cores { milli: 2000 }, ram_mb: 1000, disk_mb: None };
        let needs = NeedsSpec { cores: Cores { milli: 1500 }, ram_mb: 400, disk_mb: 9, time_s: 60 };
        let left = room.left([needs].iter()).expect("a slot is left");
        assert_eq!(left, Room { slots: 1, cores: Cores { milli: 500 }, ram_mb: 600, disk_mb: None });
        assert_eq!(room.left([needs, needs].iter()).map(|left| (left.slots, left.cores.milli)), Some((0, 0)));
        assert_eq!(room.left([needs; 3].iter()), None);
    }
}
