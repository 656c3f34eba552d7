//! The machine's memory as the kernel reports it, in `/proc/meminfo` or a file of that form.

use std::{fs, path::Path};

pub const MEMINFO: &str = "/proc/meminfo";

/// A machine with less than this part of its memory available is short: soon the kernel would choose whom to kill.
const SHORT_PART: u64 = 32;

/// In megabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total_mb: u64,
    pub available_mb: u64,
}

impl Memory {
    /// `None` where the kernel does not say.
    pub fn read(meminfo: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(meminfo).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(rest.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
        };
        Some(Self { total_mb: field("MemTotal:")?, available_mb: field("MemAvailable:")? })
    }

    /// How many megabytes must become free before the machine is no longer short; 0 if it is not.
    pub fn lacking_mb(self) -> u64 {
        (self.total_mb / SHORT_PART).saturating_sub(self.available_mb)
    }
}

/// All of this machine's; not limited where the kernel does not say.
pub fn total_mb() -> u64 {
    Memory::read(Path::new(MEMINFO)).map_or(u64::MAX, |memory| memory.total_mb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       33554432 kB\nMemFree:          100 kB\nMemAvailable:    1048575 kB\n";
        let memory = Memory::parse(text);
        assert_eq!(memory, Some(Memory { total_mb: 32_768, available_mb: 1_023 }));
        assert_eq!(Memory::parse("MemTotal: 1 kB\n"), None);
        assert!(Memory::read(Path::new(MEMINFO)).is_some_and(|memory| memory.total_mb > 0));
    }

    #[test]
    fn machine_is_short_below_a_part_of_its_memory() {
        let lacking = |available_mb| Memory { total_mb: 3200, available_mb }.lacking_mb();
        assert_eq!([lacking(101), lacking(100), lacking(99), lacking(0)], [0, 0, 1, 100]);
    }
}
