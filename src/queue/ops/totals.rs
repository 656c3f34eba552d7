//! forget a queue: its name makes room among those that are counted each. Its jobs, its pause and the sum of all stay.

use std::sync::Arc;

use crate::queue::{applied::Answer, refusal::Refusal, step::Step};

pub fn forget(step: &mut Step, queue: &Arc<str>) -> Answer {
    if step.state.totals.forget(queue) {
        return Answer::Done;
    }
    Answer::Refused(Refusal::NoQueue { name: (&**queue).into() })
}
