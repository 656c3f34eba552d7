//! drain: submissions are refused, everything else goes on (P5).

use crate::queue::{
    applied::{Answer, Effect},
    limits,
    refusal::Refusal,
    rows::{Row, RowKey},
    settings::Drain,
    step::Step,
};

/// Idempotent: a second drain keeps who, why and since when.
pub fn drain(step: &mut Step, drained: bool, reason: Option<&str>) -> Answer {
    if let Err(refusal) = limits::check_text("reason", reason, limits::TEXT_BYTES_MAX) {
        return Answer::Refused(refusal);
    }
    if drained != step.state.drain.drained {
        let (by, since) = ((&*step.principal).into(), Some(step.wall()));
        step.state.drain = Drain { drained, reason: reason.map(Into::into), by, since };
        step.state.changes.put(RowKey::Drain, Row::Drain(Box::new(step.state.drain.clone())));
        step.emit(Effect::SettingsChanged);
    }
    Answer::Drain(step.state.drain.clone())
}

impl Drain {
    pub fn refusal(&self) -> Option<Refusal> {
        let since_ms = self.since.unwrap_or_default().0;
        self.drained.then(|| Refusal::Drained { by: self.by.clone(), reason: self.reason.clone(), since_ms })
    }
}
