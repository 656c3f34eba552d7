//! Machines that misbehave: a library between a node and the C library (`faults.c`), which needs no root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    cluster::{Cluster, SETTLE},
    node::Node,
    world::World,
};

const SOURCE: &str = include_str!("faults.c");

/// What can be wrong with a node's machine.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The wall clock is so many seconds ahead.
    ClockAhead(u64),
    /// A sync of a file does not return.
    HungDisk,
    /// No file can be written.
    FullDisk,
    /// So many bytes are free, as the file system says.
    LittleSpace(u64),
}

impl Fault {
    fn file(self) -> (&'static str, u64) {
        match self {
            Self::ClockAhead(seconds) => ("jump", seconds),
            Self::HungDisk => ("hang", 0),
            Self::FullDisk => ("full", 0),
            Self::LittleSpace(bytes) => ("space", bytes),
        }
    }
}

impl Cluster {
    /// Three nodes on machines that can fail; none, and said so, where that cannot be built.
    pub fn failing() -> Option<Self> {
        let mut cluster = Self::builder().lay_out();
        if !cluster.can_fail() {
            return None;
        }
        cluster.start_all();
        cluster.settle();
        Some(cluster)
    }

    /// Kills a follower, spoils what its directory holds, and starts it again: it must not come up, and the others go on.
    pub fn spoil_one(&self, spoil: impl FnOnce(&Path)) -> &Node {
        let world = World::new(self, "q");
        let id = world.submit(&world.task(1));
        let node = self.followers()[0];
        node.kill();
        spoil(&node.data_dir());
        node.start();
        assert!(!node.wait_exit(SETTLE).success(), "it started with a spoilt store");
        assert_eq!(world.status(id), "queued", "the others go on");
        node
    }

    /// Loads the library into every node, from its next start on. False, and said so, where there is no C compiler: the
    /// crate itself needs one only for RocksDB.
    fn can_fail(&mut self) -> bool {
        let Some(library) = build(self.directory()) else {
            eprintln!("skipped: there is no C compiler (cc) for the library that makes machines fail");
            return false;
        };
        self.nodes.iter_mut().for_each(|node| node.preload(&library));
        true
    }
}

impl Node {
    /// From now on, until [`Self::mend`].
    pub fn fail(&self, fault: Fault) {
        let (name, number) = fault.file();
        // Renamed into place: the node never reads half of it.
        let (written, path) = (self.faults().join("written"), self.faults().join(name));
        fs::create_dir_all(self.faults()).expect("a directory can be made");
        fs::write(&written, number.to_string()).expect("a file can be written");
        fs::rename(written, path).expect("a file can be renamed");
    }

    pub fn mend(&self, fault: Fault) {
        fs::remove_file(self.faults().join(fault.file().0)).expect("it was failing");
    }
}

fn build(directory: &Path) -> Option<PathBuf> {
    let (source, library) = (directory.join("faults.c"), directory.join("faults.so"));
    fs::write(&source, SOURCE).expect("a file can be written");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl").status();
    built.is_ok_and(|status| status.success()).then_some(library)
}
