//! One file for each family of routes.

pub mod archive;
pub mod claim;
pub mod cluster;
mod granted;
pub mod health;
pub mod job;
pub mod leases;
pub mod list;
pub mod settings;
pub mod submit;
pub mod verbs;
pub mod wait;
