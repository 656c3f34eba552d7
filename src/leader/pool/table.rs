//! What the pool has in hand: the leases it knows, and what it has yet to tell the queue. Pure: no process, no network.
//!
//! One request is under way at a time, and everything that happens meanwhile goes with the next one, in the order in which
//! it happened: finishes, log lines, and the claim for the slots they leave. An answer may never come. Then the calls go
//! again (the queue answers an identical repeat alike), and what the lost answer may have granted is found by comparing
//! the table with the state ([`Table::compare`]): a write whose outcome is unknown leaks no lease.

use std::collections::{BTreeMap, BTreeSet};

use super::request::first_request;
use crate::queue::{
    applied::{Claimed, LeaseState},
    command::{LeaseAction, LeaseItem, Report},
    ids::{JobId, LeaseId},
    job::{CancelSignal, Needs},
    refusal::Refusal,
};

/// It ran, and its outcome cannot be taken: the reason for it in the table of design 2.2.
const OUTCOME_REFUSED: &str = "invalid_exit";

#[derive(Debug, Default)]
pub struct Table {
    held: BTreeMap<LeaseId, Held>,
    /// Not yet under way, in order.
    outbox: Vec<LeaseItem>,
    /// Under way: the calls of the one request that is out.
    sent: Vec<LeaseItem>,
}

/// A lease that this pool holds, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    job: JobId,
    needs: Needs,
    stage: Stage,
    /// The number of the last touch, so that a repeat doubles no line.
    touches: u64,
    /// The queue is told, or being told, which process it is.
    named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The command's tree lives: a slot is taken.
    Running,
    /// The lease is no longer ours and the command was told to die; its end is nobody's news.
    Disowned,
    /// The tree is gone and the outcome is in the outbox or under way.
    Reported,
}

/// What the caller does about an answer or a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The queue granted it: run it.
    Run(Grant),
    /// A user wants it stopped: TERM and later KILL, or KILL.
    Stop(LeaseId, CancelSignal),
    /// It runs under a lease that is no longer ours.
    Kill(LeaseId),
}

/// A lease to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub job: JobId,
    pub op: u32,
    pub lease: LeaseId,
    pub attempt: u32,
    /// What counts as its needs: asked for, learned, or raised.
    pub needs: Needs,
}

impl Grant {
    pub fn new(claimed: &Claimed, needs: Needs) -> Self {
        Self { job: claimed.job, op: claimed.op, lease: claimed.lease, attempt: claimed.attempts, needs }
    }
}

/// What the state says about a lease of this pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub grant: Grant,
    pub stop: Option<CancelSignal>,
}

impl Table {
    /// Slots taken: commands whose tree may live.
    pub fn occupied(&self) -> usize {
        self.needs().count()
    }

    /// What those need: each takes a slot.
    pub fn needs(&self) -> impl Iterator<Item = Needs> + '_ {
        self.held.values().filter(|held| held.stage != Stage::Reported).map(|held| held.needs)
    }

    /// Jobs whose commands run here under a valid lease.
    pub fn running(&self) -> impl Iterator<Item = (JobId, LeaseId)> + '_ {
        self.held.iter().filter(|(_, held)| held.stage == Stage::Running).map(|(lease, held)| (held.job, *lease))
    }

    /// Every lease that is known.
    pub fn leases(&self) -> BTreeSet<LeaseId> {
        self.held.keys().copied().collect()
    }

    /// Whether no command is left and nothing is left to say.
    pub fn is_settled(&self) -> bool {
        self.held.is_empty() && self.outbox.is_empty() && self.sent.is_empty()
    }

    pub fn has_mail(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Takes what waits to be told, as much as one request may carry, and remembers it until [`Self::answered`] or
    /// [`Self::unanswered`].
    pub fn send(&mut self) -> Vec<LeaseItem> {
        assert!(self.sent.is_empty(), "one request at a time");
        let later = self.outbox.split_off(first_request(&self.outbox));
        self.sent = std::mem::replace(&mut self.outbox, later);
        self.sent.clone()
    }

    /// A running command's process, told once.
    pub fn name(&mut self, lease: LeaseId, pid: u32) {
        let Some(held) = self.held.get_mut(&lease).filter(|held| held.stage == Stage::Running) else { return };
        if !std::mem::replace(&mut held.named, true) {
            let action = LeaseAction::Start { host: None, pid: Some(pid) };
            self.outbox.push(LeaseItem { job: held.job, lease, action });
        }
    }

    /// Log lines or progress of a running command.
    pub fn touch(&mut self, lease: LeaseId, with: impl FnOnce(u64) -> LeaseAction) {
        let Some(held) = self.held.get_mut(&lease).filter(|held| held.stage == Stage::Running) else { return };
        held.touches += 1;
        let item = LeaseItem { job: held.job, lease, action: with(held.touches) };
        self.outbox.push(item);
    }

    /// The command's tree is gone; `outcome` is what the queue is told, unless the lease is no longer ours. Says whether that
    /// leaves room for what did not fit beside it.
    pub fn ended(&mut self, lease: LeaseId, outcome: impl FnOnce(u64) -> LeaseAction) -> bool {
        let Some(held) = self.held.get_mut(&lease) else { return false };
        let leaves_room = held.needs != Needs::default();
        if held.stage == Stage::Disowned {
            self.held.remove(&lease);
            return leaves_room;
        }
        held.stage = Stage::Reported;
        let item = LeaseItem { job: held.job, lease, action: outcome(held.touches + 1) };
        self.outbox.push(item);
        leaves_room
    }

    /// The answers to what was sent, in order, and what the claim beside it was granted.
    pub fn answered(&mut self, results: &[Result<LeaseState, Refusal>], granted: &[Grant]) -> Vec<Order> {
        let sent = std::mem::take(&mut self.sent);
        let mut orders: Vec<_> =
            sent.into_iter().zip(results).filter_map(|(item, result)| self.settle(item, result)).collect();
        orders.extend(granted.iter().filter_map(|grant| self.grant(*grant)));
        orders
    }

    /// No answer came: whether anything of it happened is unknown. It goes again, before what came later.
    pub fn unanswered(&mut self) {
        let later = std::mem::take(&mut self.outbox);
        self.outbox = std::mem::take(&mut self.sent);
        self.outbox.extend(later);
    }

    /// The lease ended by other means than our own call.
    pub fn lost(&mut self, lease: LeaseId) -> Option<Order> {
        let held = self.held.get_mut(&lease)?;
        match held.stage {
            Stage::Running => {
                held.stage = Stage::Disowned;
                self.outbox.retain(|item| item.lease != lease);
                Some(Order::Kill(lease))
            }
            Stage::Disowned => None,
            Stage::Reported => {
                self.forget(lease);
                None
            }
        }
    }

    /// A user wants this one stopped.
    pub fn stop(&self, lease: LeaseId, signal: CancelSignal) -> Option<Order> {
        let held = self.held.get(&lease)?;
        (held.stage == Stage::Running).then_some(Order::Stop(lease, signal))
    }

    /// Compares with every lease that the state says this pool holds. Only meaningful while nothing is under way.
    ///
    /// A lease that only the state knows is the grant of a lost answer: it is run. One that only the table knows has ended.
    pub fn compare(&mut self, standing: &[Standing]) -> Vec<Order> {
        let gone: Vec<LeaseId> =
            self.held.keys().filter(|lease| !standing.iter().any(|s| s.grant.lease == **lease)).copied().collect();
        let mut orders: Vec<_> = gone.into_iter().filter_map(|lease| self.lost(lease)).collect();
        for standing in standing {
            orders.extend(self.grant(standing.grant));
            orders.extend(standing.stop.and_then(|signal| self.stop(standing.grant.lease, signal)));
        }
        orders
    }

    /// Everything not yet told, for whoever leads next, request by request. The table is empty afterwards.
    pub fn take_mail(&mut self) -> Vec<Vec<LeaseItem>> {
        self.unanswered();
        self.held.clear();
        let mut requests = Vec::new();
        while !self.outbox.is_empty() {
            let later = self.outbox.split_off(first_request(&self.outbox));
            requests.push(std::mem::replace(&mut self.outbox, later));
        }
        requests
    }

    fn grant(&mut self, grant: Grant) -> Option<Order> {
        if self.held.contains_key(&grant.lease) {
            return None;
        }
        let held = Held { job: grant.job, needs: grant.needs, stage: Stage::Running, touches: 0, named: false };
        self.held.insert(grant.lease, held);
        Some(Order::Run(grant))
    }

    fn settle(&mut self, item: LeaseItem, result: &Result<LeaseState, Refusal>) -> Option<Order> {
        let ends = !matches!(item.action, LeaseAction::Touch { .. } | LeaseAction::Start { .. });
        match result {
            Ok(_) if ends => {
                self.forget(item.lease);
                None
            }
            Ok(state) => state.cancel.and_then(|signal| self.stop(item.lease, signal)),
            Err(refusal) => {
                tracing::info!(job = item.job.0, lease = item.lease.0, %refusal, "pool call refused");
                self.refused(item, refusal, ends)
            }
        }
    }

    fn refused(&mut self, item: LeaseItem, refusal: &Refusal, ends: bool) -> Option<Order> {
        if is_about_the_lease(refusal) {
            return self.lost(item.lease);
        }
        match ends.then(|| second_best(item.action, refusal)).flatten() {
            Some(action) => self.outbox.push(LeaseItem { action, ..item }),
            None if ends => self.forget(item.lease),
            None => {}
        }
        None
    }

    fn forget(&mut self, lease: LeaseId) {
        self.held.remove(&lease);
        self.outbox.retain(|item| item.lease != lease);
    }
}

fn is_about_the_lease(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::StaleLease { .. } | Refusal::NotClaimed { .. } | Refusal::NotFound { .. } | Refusal::Finished { .. }
    )
}

/// The queue does not take this outcome (a result too large, children refused), and the attempt must still end: as a
/// failure that says why, and if not even that is taken, buried.
fn second_best(outcome: LeaseAction, refusal: &Refusal) -> Option<LeaseAction> {
    match outcome {
        LeaseAction::Success { report, .. } => {
            let error = format!("the command succeeded, and its outcome was refused: {refusal}");
            let report = Report { error: Some(error.into()), log: Vec::new(), log_seq: None, ..*report };
            Some(LeaseAction::Failure {
                fail_reason: OUTCOME_REFUSED.into(),
                retryable: Some(false),
                delay_ms: None,
                report: Box::new(report),
            })
        }
        LeaseAction::Failure { .. } | LeaseAction::Release { .. } => {
            Some(LeaseAction::Bury { reason: Some(format!("its outcome was refused: {refusal}").into()) })
        }
        LeaseAction::Bury { .. } | LeaseAction::Start { .. } | LeaseAction::Touch { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::job::Status;

    const OK: Result<LeaseState, Refusal> = Ok(LeaseState { cancel: None, lease_ms: 0 });

    fn grant(lease: u64) -> Grant {
        let needs = Needs { cores_milli: 100, ..Needs::default() };
        Grant { job: JobId(lease), op: 0, lease: LeaseId(lease), attempt: 1, needs }
    }

    fn standing(lease: u64) -> Standing {
        Standing { grant: grant(lease), stop: None }
    }

    fn success() -> LeaseAction {
        LeaseAction::Success { result: None, jobs: Vec::new(), atomic_children: false, report: Box::default() }
    }

    fn touch(number: u64) -> LeaseAction {
        LeaseAction::Touch { log: Vec::new(), log_seq: Some(number), progress: None, checkpoint: None }
    }

    fn stale() -> Result<LeaseState, Refusal> {
        Err(Refusal::StaleLease { status: Status::Queued, owner: None })
    }

    /// A table that runs these.
    fn running(leases: &[u64]) -> Table {
        let mut table = Table::default();
        table.send();
        let grants: Vec<_> = leases.iter().map(|lease| grant(*lease)).collect();
        assert_eq!(table.answered(&[], &grants).len(), leases.len());
        table
    }

    fn leases(items: &[LeaseItem]) -> Vec<u64> {
        items.iter().map(|item| item.lease.0).collect()
    }

    #[test]
    fn finish_answered_frees_everything() {
        let mut table = running(&[1, 2]);
        assert!(table.ended(LeaseId(1), |_| success()), "what did not fit beside it may fit now");
        assert_eq!(table.occupied(), 1, "the slot is free as soon as the tree is gone");
        assert_eq!(leases(&table.send()), [1]);
        assert_eq!(table.answered(&[OK], &[grant(3)]), [Order::Run(grant(3))]);
        table.ended(LeaseId(2), |_| success());
        table.ended(LeaseId(3), |_| success());
        assert_eq!(leases(&table.send()), [2, 3]);
        assert_eq!(table.answered(&[OK, OK], &[]), []);
        assert!(table.is_settled());
    }

    #[test]
    fn finish_unanswered_goes_again_before_what_came_later() {
        let mut table = running(&[1, 2]);
        table.ended(LeaseId(1), |_| success());
        table.send();
        table.ended(LeaseId(2), |_| success());
        table.unanswered();
        assert_eq!(leases(&table.send()), [1, 2]);
    }

    #[test]
    fn claim_unanswered_is_found_in_the_state_and_run() {
        let mut table = running(&[1]);
        table.send();
        table.unanswered();
        assert_eq!(table.compare(&[standing(1), standing(2)]), [Order::Run(grant(2))]);
        assert_eq!(table.compare(&[standing(1), standing(2)]), []);
        assert_eq!(table.occupied(), 2);
    }

    #[test]
    fn lease_that_only_the_table_knows_is_killed_and_not_reported() {
        let mut table = running(&[1]);
        assert_eq!(table.compare(&[]), [Order::Kill(LeaseId(1))]);
        assert_eq!(table.compare(&[]), [], "once");
        assert_eq!(table.occupied(), 1, "its tree may still live");
        table.ended(LeaseId(1), |_| success());
        assert!(table.is_settled());
    }

    #[test]
    fn touch_refused_as_stale_kills() {
        let mut table = running(&[1]);
        table.touch(LeaseId(1), touch);
        table.send();
        assert_eq!(table.answered(&[stale()], &[]), [Order::Kill(LeaseId(1))]);
    }

    #[test]
    fn touch_refused_otherwise_changes_nothing() {
        let mut table = running(&[1]);
        table.touch(LeaseId(1), touch);
        table.send();
        assert_eq!(table.answered(&[Err(Refusal::TooLarge { message: "log".into() })], &[]), []);
        assert_eq!(table.running().count(), 1);
    }

    #[test]
    fn touch_numbers_rise_into_the_finish() {
        let mut table = running(&[1]);
        table.touch(LeaseId(1), touch);
        table.touch(LeaseId(1), touch);
        let mut last = 0;
        table.ended(LeaseId(1), |number| {
            last = number;
            success()
        });
        assert_eq!(last, 3);
    }

    #[test]
    fn touch_answered_with_cancel_stops() {
        let mut table = running(&[1]);
        table.touch(LeaseId(1), touch);
        table.send();
        let canceled = Ok(LeaseState { cancel: Some(CancelSignal::Term), lease_ms: 0 });
        assert_eq!(table.answered(&[canceled], &[]), [Order::Stop(LeaseId(1), CancelSignal::Term)]);
    }

    #[test]
    fn stop_of_what_has_ended_does_nothing() {
        let mut table = running(&[1]);
        table.ended(LeaseId(1), |_| success());
        assert_eq!(table.stop(LeaseId(1), CancelSignal::Kill), None);
        assert_eq!(table.stop(LeaseId(9), CancelSignal::Kill), None);
    }

    #[test]
    fn outcome_refused_ends_as_failure_and_then_buried() {
        let mut table = running(&[1]);
        table.ended(LeaseId(1), |_| success());
        let refusal = || Err(Refusal::TooLarge { message: "result over 1 MiB".into() });
        table.send();
        table.answered(&[refusal()], &[]);
        let second = table.send();
        assert!(
            matches!(&second[0].action, LeaseAction::Failure { fail_reason, .. } if &**fail_reason == "invalid_exit")
        );
        table.answered(&[refusal()], &[]);
        let third = table.send();
        assert!(matches!(third[0].action, LeaseAction::Bury { .. }));
        table.answered(&[refusal()], &[]);
        assert!(table.is_settled());
    }

    #[test]
    fn mail_of_a_lost_office_is_everything_untold() {
        let mut table = running(&[1, 2]);
        table.ended(LeaseId(1), |_| success());
        table.send();
        table.ended(LeaseId(2), |_| LeaseAction::Release { delay_ms: 0, reason: Some("interrupted".into()) });
        assert_eq!(leases(&table.take_mail().concat()), [1, 2]);
        assert!(table.is_settled());
    }

    #[test]
    fn request_carries_no_more_than_one_entry_should() {
        let mut table = running(&[1, 2, 3, 4]);
        let large = |bytes: usize| {
            let report = Report { stdout: Some("x".repeat(bytes).into()), ..Report::default() };
            LeaseAction::Success { result: None, jobs: Vec::new(), atomic_children: false, report: Box::new(report) }
        };
        for (lease, bytes) in [(1, 700_000), (2, 700_000), (3, 2_000_000), (4, 1)] {
            table.ended(LeaseId(lease), |_| large(bytes));
        }
        assert_eq!(leases(&table.send()), [1]);
        table.answered(&[OK], &[]);
        assert_eq!(leases(&table.send()), [2]);
        table.unanswered();
        let mail: Vec<_> = table.take_mail().iter().map(|request| leases(request)).collect();
        assert_eq!(mail, [vec![2], vec![3], vec![4]]);
    }
}
