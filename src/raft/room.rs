//! Which commands are still taken when the disks of a majority fill up: what frees space always, new work first not.

use super::status::Space;
use crate::queue::command::{Command, ScheduleChange};

/// Whether there is room enough for a command.
pub fn has_room(space: Space, command: &Command) -> bool {
    match (space, command) {
        (_, Command::Piece { command, .. } | Command::IfVersion { command, .. }) => has_room(space, command),
        (Space::Plenty, _) => true,
        (Space::Low, _) => !brings_jobs(command),
        (Space::Full, _) => frees_or_holds(command),
    }
}

/// New work, or more of it. A schedule that must wait stays where it is, and its slots are missed like any others.
fn brings_jobs(command: &Command) -> bool {
    match command {
        Command::Submit { .. } | Command::Edit { .. } => true,
        Command::Schedule(_) => !frees_or_holds(command),
        _ => false,
    }
}

fn frees_or_holds(command: &Command) -> bool {
    matches!(
        command,
        Command::Tick { .. }
            | Command::Delete { .. }
            | Command::Cancel { .. }
            | Command::Drain { .. }
            | Command::Pause { .. }
            | Command::Pool(_)
            | Command::Settings(_)
            | Command::Forget { .. }
            | Command::ForgetQueue { .. }
            | Command::Schedule(ScheduleChange::Remove { .. } | ScheduleChange::Pause { paused: true, .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_work_waits_first_and_what_frees_space_never() {
        let delete = || Command::Delete { ids: Vec::new() };
        let pause = |paused| Command::Schedule(ScheduleChange::Pause { name: "s".into(), paused });
        for (command, low, full) in [
            (Command::Submit { jobs: Vec::new(), atomic: false }, false, false),
            (Command::Kick { ids: Vec::new() }, true, false),
            (delete(), true, true),
            (Command::Piece { command: Box::new(delete()), ids: Vec::new(), next: None }, true, true),
            (Command::Schedule(ScheduleChange::Run { name: "s".into() }), false, false),
            (pause(true), true, true),
            (pause(false), false, false),
        ] {
            assert!(has_room(Space::Plenty, &command));
            assert_eq!((has_room(Space::Low, &command), has_room(Space::Full, &command)), (low, full), "{command:?}");
        }
    }
}
