//! One file for each family of routes.

pub mod archive;
pub mod backup;
pub mod bulk;
pub mod claim;
pub mod cluster;
pub mod contract;
pub mod edit;
pub mod events;
mod granted;
pub mod health;
pub mod job;
pub mod leases;
pub mod limits;
pub mod list;
pub mod schedules;
pub mod settings;
pub mod stats;
pub mod submit;
pub mod verbs;
pub mod wait;
pub mod why;
pub mod workers;
