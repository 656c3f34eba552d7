//! What a machine has to give to jobs, and what is left of it: one way of packing for the pool and for remote workers.
//!
//! Packing goes by needs, not by what commands really use, so it is the same whatever the moment. Needs that a job does not
//! say are zero: such jobs are packed by slots alone, until their resource group has learned better.

use std::path::Path;

use super::memory;
use crate::queue::{command::Free, job::Needs};

/// Never more is taken than there is: slots, thousandths of cores, megabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub slots: u32,
    pub cores_milli: u64,
    pub ram_mb: u64,
    pub disk_mb: u64,
}

impl Room {
    /// All of this machine: its cores, its memory, and what is free on the disk of `directory`. A slot for each core.
    pub fn of_machine(directory: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            slots: u32::try_from(cores).unwrap_or(u32::MAX),
            cores_milli: cores as u64 * 1000,
            ram_mb: memory::total_mb(),
            disk_mb: free_disk_mb(directory),
        }
    }

    /// What is left beside jobs with these needs.
    pub fn beside(self, held: impl Iterator<Item = Needs>) -> Self {
        held.fold(self, |room, needs| Self {
            slots: room.slots.saturating_sub(1),
            cores_milli: room.cores_milli.saturating_sub(needs.cores_milli.into()),
            ram_mb: room.ram_mb.saturating_sub(needs.ram_mb),
            disk_mb: room.disk_mb.saturating_sub(needs.disk_mb),
        })
    }

    /// As a claim says it. `time_s`: how long jobs may take; `None` if there is no end.
    pub fn free(self, time_s: Option<u64>) -> Free {
        Free { cores_milli: Some(self.cores_milli), ram_mb: Some(self.ram_mb), disk_mb: Some(self.disk_mb), time_s }
    }
}

/// As of now. A disk that does not say is taken for endless: better than a worker that takes nothing.
fn free_disk_mb(directory: &Path) -> u64 {
    match nix::sys::statvfs::statvfs(directory) {
        Ok(disk) => disk.blocks_available().saturating_mul(disk.fragment_size()) >> 20,
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "free space unknown, and not limited");
            u64::MAX
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_beside_jobs_is_room_less_their_needs() {
        let room = Room { slots: 2, cores_milli: 2000, ram_mb: 1000, disk_mb: 10 };
        let needs = Needs { cores_milli: 1500, ram_mb: 400, disk_mb: 9, time_s: 60 };
        let left = room.beside([needs].into_iter());
        assert_eq!(left, Room { slots: 1, cores_milli: 500, ram_mb: 600, disk_mb: 1 });
        let none = room.beside([needs; 3].into_iter());
        assert_eq!(none, Room { slots: 0, cores_milli: 0, ram_mb: 0, disk_mb: 0 });
        assert_eq!(room.beside([Needs::default()].into_iter()), Room { slots: 1, ..room });
    }

    #[test]
    fn machine_has_something_of_everything() {
        let room = Room::of_machine(Path::new("/"));
        assert!(room.slots > 0 && room.cores_milli >= 1000 && room.ram_mb > 0 && room.disk_mb > 0, "{room:?}");
    }
}
