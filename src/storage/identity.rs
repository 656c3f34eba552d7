//! Who a disk is. Both stores of a node carry the same record.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    error::StorageError,
    store::{Batch, Family, Store, Synced},
};
use crate::codec::{self, Format};

/// The layout of keys and records in both stores.
pub const FORMAT_VERSION: u32 = 1;
/// Both stores have this family, and the identity under this key in it.
pub(super) const META: Family = Family::new("meta");
const KEY: &[u8] = b"identity";

/// Random, made once at a disk's first start. Raft's promises are promises of disks: an empty disk under an old node id
/// has promised nothing, and must not vote as if it had.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskId(pub u128);

/// Random, made when a cluster is formed.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub u128);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub format: u32,
    pub node: u64,
    pub disk: DiskId,
    /// `None` until the node is invited: a pristine store.
    pub cluster: Option<ClusterId>,
    /// The cluster removed this node; its id is spent.
    pub removed: bool,
}

impl Identity {
    pub(super) fn fresh(node: u64) -> Self {
        Self { format: FORMAT_VERSION, node, disk: DiskId(rand::random()), cluster: None, removed: false }
    }

    pub(super) fn read(store: &Store) -> Result<Option<Self>, StorageError> {
        let Some(bytes) = store.get(META, KEY)? else { return Ok(None) };
        let path = store.path().to_path_buf();
        let identity: Self =
            codec::decode(Format::META, &bytes).map_err(|error| StorageError::undecodable(&path, &error))?;
        if identity.format > FORMAT_VERSION {
            let what = format!("the store has format {}, this one reads up to {FORMAT_VERSION}", identity.format);
            return Err(StorageError::NewerFormat { path, what });
        }
        Ok(Some(identity))
    }

    pub(super) fn write(&self, store: &Store, synced: Synced) -> Result<(), StorageError> {
        let mut batch = Batch::new();
        batch.put(META, KEY, codec::encode(Format::META, self));
        store.write(batch, synced)?;
        match synced {
            Synced::Yes => Ok(()),
            Synced::No => store.flush(),
        }
    }

    pub(super) fn check_node(&self, path: &Path, wanted: u64) -> Result<(), StorageError> {
        if self.node == wanted {
            return Ok(());
        }
        Err(StorageError::OtherNode { path: path.to_path_buf(), found: self.node, wanted })
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskId({self})")
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl std::str::FromStr for ClusterId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}
