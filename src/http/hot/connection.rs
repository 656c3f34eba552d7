//! One connection, as long as its requests are plain.
//!
//! One task does everything, in rounds: answers that are ready go out, what arrived is read and begun, until neither moves.
//! Between requests a connection holds no buffer: what is read lies in one of the thread's, and only what is not whole yet
//! is kept.

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as Task, Poll, Waker},
    time::Duration,
};

use futures::future::{BoxFuture, MaybeDone};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    Hot, answer,
    handed_over::HandedOver,
    head::{self, Plain, Seen},
};
use crate::http::{Front, call::Call, failure::Failure, guard::caught, reply::Reply};

/// What one read takes at most.
const READ_BYTES: usize = 64 << 10;
/// What is kept of requests that cannot be begun yet; the rest stays in the kernel, and in the client.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// Answers that their client does not take hold up the next ones, and its next requests.
const UNSENT_BYTES_MAX: usize = 256 << 10;
/// Requests under way on one connection.
const UNDER_WAY_MAX: usize = 128;
/// Room for so many is kept while there are none.
const UNDER_WAY_KEPT: usize = 32;
/// A connection whose client sends and sends lets the others have their turn after so many rounds.
const ROUNDS_MAX: usize = 4;
/// A request that is not whole by then comes slowly: hyper has rules for those.
const PART_TIMEOUT: Duration = Duration::from_secs(1);

thread_local! {
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The listener's word that it ends, to all connections.
#[derive(Debug, Default)]
pub struct Closing {
    // Looked at in each round, which would be dear to do with the token.
    begun: AtomicBool,
    told: CancellationToken,
}

impl Closing {
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.told.cancel();
    }
}

/// How long a connection may be without a request, and how long its requests may take once the listener ends.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub idle: Duration,
    pub closing: Duration,
}

/// How it ended here.
#[derive(Debug)]
pub enum End {
    Closed,
    /// The rest is hyper's, with what was taken and not begun.
    Unusual(HandedOver),
}

pub struct Connection {
    /// Until the end.
    stream: Option<TcpStream>,
    front: Arc<Front>,
    /// Read and not begun.
    kept: Vec<u8>,
    /// Answered and not sent, but for the first `sent` bytes.
    unsent: Vec<u8>,
    sent: usize,
    /// The client sends nothing more, but may wait for answers.
    is_at_end: bool,
    /// In the order in which they came and will be answered.
    under_way: VecDeque<UnderWay>,
    /// Set once the last of them is in line for the log.
    in_line: Arc<AtomicBool>,
    next_is_unusual: bool,
    /// When the last request came, was answered, or its answer was taken.
    active: Instant,
    /// Since when `kept` has been the beginning of a request.
    part_since: Option<Instant>,
    closing_since: Option<Instant>,
    patience: Patience,
    closing: Arc<Closing>,
    told: Pin<Box<WaitForCancellationFutureOwned>>,
    timer: Pin<Box<Sleep>>,
    /// Whom `told` and `timer` wake.
    woken: Option<Waker>,
}

struct UnderWay {
    route: &'static str,
    hot: Hot,
    began: Instant,
    answer: MaybeDone<BoxFuture<'static, Answer>>,
}

type Answer = Result<Reply, Failure>;

impl Connection {
    pub fn new(stream: TcpStream, front: Arc<Front>, closing: Arc<Closing>, patience: Patience) -> Self {
        let active = Instant::now();
        Self {
            stream: Some(stream),
            front,
            kept: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            is_at_end: false,
            under_way: VecDeque::new(),
            in_line: Arc::default(),
            next_is_unusual: false,
            active,
            part_since: None,
            closing_since: None,
            patience,
            told: Box::pin(closing.told.clone().cancelled_owned()),
            closing,
            timer: Box::pin(sleep_until(active + patience.idle)),
            woken: None,
        }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("there until the end, and nobody polls it after that"))
    }

    /// Writes those answers that are ready, in order. Whether there were any.
    fn answer(&mut self, task: &mut Task<'_>) -> bool {
        let mut now = None;
        while self.may_answer()
            && let Some(first) = self.under_way.front_mut()
            && Pin::new(&mut first.answer).poll(task).is_ready()
        {
            let now = *now.get_or_insert_with(Instant::now);
            let mut first = self.under_way.pop_front().expect("just seen");
            let answer = Pin::new(&mut first.answer).take_output().expect("it is ready");
            let ends = self.closing_since.is_some() && self.under_way.is_empty();
            let status = answer::put(&mut self.unsent, answer, &self.front, ends, now);
            self.front.metrics.answered_plain(first.route, status.as_u16(), now.saturating_duration_since(first.began));
            self.active = now;
        }
        now.is_some()
    }

    /// Who waits for work is looked after even so: its turn to try would be nobody's.
    fn may_answer(&self) -> bool {
        self.unsent.len() - self.sent < UNSENT_BYTES_MAX || self.waits_for_work()
    }

    /// The only request under way may be a claim that waits; nothing was begun behind it then.
    fn waits_for_work(&self) -> bool {
        let last = self.under_way.back();
        last.is_some_and(|last| last.hot == Hot::Claim) && !self.in_line.load(Ordering::Relaxed)
    }

    /// Whether any bytes went.
    fn send(&mut self, task: &mut Task<'_>) -> io::Result<bool> {
        let unsent = std::mem::take(&mut self.unsent);
        let mut sent = self.sent;
        while sent < unsent.len()
            && let Poll::Ready(written) = self.stream().poll_write(task, &unsent[sent..])
        {
            match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => sent += count,
            }
        }
        let any = sent > self.sent;
        if any {
            self.active = Instant::now();
        }
        // The buffer of what is all sent is let go.
        (self.unsent, self.sent) = if sent < unsent.len() { (unsent, sent) } else { (Vec::new(), 0) };
        Ok(any)
    }

    /// Reads once, and begins what is whole then. Whether anything came; an error when the client is gone.
    fn read(&mut self, task: &mut Task<'_>) -> io::Result<bool> {
        if self.kept.len() >= KEPT_BYTES_MAX || self.is_at_end {
            return Ok(false);
        }
        let mut buffer = READ.take();
        buffer.resize(READ_BYTES, 0);
        let mut read = ReadBuf::new(&mut buffer);
        let outcome = match self.stream().poll_read(task, &mut read) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) if read.filled().is_empty() => {
                self.is_at_end = true;
                // Its client may be gone, and a job that it is handed then is nobody's.
                if self.waits_for_work() {
                    self.under_way.pop_back();
                }
                Ok(true)
            }
            Poll::Ready(Ok(())) => {
                self.arrived(read.filled(), task);
                Ok(true)
            }
        };
        READ.set(buffer);
        outcome
    }

    fn arrived(&mut self, bytes: &[u8], task: &mut Task<'_>) {
        self.active = Instant::now();
        if self.kept.is_empty() {
            let begun = self.begin_those_in(bytes, task);
            self.kept.extend_from_slice(&bytes[begun..]);
        } else {
            self.kept.extend_from_slice(bytes);
            self.begin_kept(task);
        }
    }

    fn begin_kept(&mut self, task: &mut Task<'_>) {
        let mut kept = std::mem::take(&mut self.kept);
        let begun = self.begin_those_in(&kept, task);
        if begun < kept.len() {
            kept.drain(..begun);
            self.kept = kept;
        }
    }

    /// How many bytes of these are begun.
    fn begin_those_in(&mut self, bytes: &[u8], task: &mut Task<'_>) -> usize {
        let front = Arc::clone(&self.front);
        let mut begun = 0;
        while begun < bytes.len() && self.may_begin() {
            match head::see(&bytes[begun..], &front.names) {
                Seen::Part => break,
                Seen::Unusual => self.next_is_unusual = true,
                // As for one that waits already when the end comes.
                Seen::Plain(plain) if plain.hot == Hot::Claim && self.is_at_end => break,
                // It would miss what is on its way.
                Seen::Plain(plain) if plain.hot.is_read() && !self.under_way.is_empty() => break,
                Seen::Plain(plain) => {
                    begun += plain.length;
                    self.begin(plain, task);
                }
            }
        }
        begun
    }

    fn may_begin(&self) -> bool {
        let in_turn = self.under_way.is_empty() || self.in_line.load(Ordering::Relaxed);
        let has_room = self.under_way.len() < UNDER_WAY_MAX && self.unsent.len() - self.sent < UNSENT_BYTES_MAX;
        in_turn && has_room && !self.next_is_unusual && self.closing_since.is_none()
    }

    fn begin(&mut self, plain: Plain<'_>, task: &mut Task<'_>) {
        let Plain { route, hot, .. } = plain;
        self.in_line.store(false, Ordering::Relaxed);
        let answer: BoxFuture<'static, Answer> =
            match Call::plain(Arc::clone(&self.front), &plain, Arc::clone(&self.in_line)) {
                Err(failure) => Box::pin(std::future::ready(Err(failure))),
                Ok(call) if call.context.min_index.is_none() => Box::pin(caught(route, hot.answer(call))),
                Ok(call) => Box::pin(caught(route, async move {
                    call.front.await_token(&call.context).await?;
                    hot.answer(call).await
                })),
            };
        let mut answer = MaybeDone::Future(answer);
        if Pin::new(&mut answer).poll(task).is_ready() {
            // A job may be large: no more are shown at once than one.
            self.in_line.store(!hot.is_read(), Ordering::Relaxed);
        }
        self.under_way.push_back(UnderWay { route, hot, began: self.active, answer });
    }

    /// All that can be done now, for a while. An error when the client is gone.
    fn move_on(&mut self, task: &mut Task<'_>) -> io::Result<()> {
        for _ in 0..ROUNDS_MAX {
            let answered = self.answer(task);
            let sent = self.send(task)?;
            if (answered || sent) && !self.kept.is_empty() {
                self.begin_kept(task);
            }
            let arrived = self.read(task)?;
            if !(answered || sent || arrived) {
                return Ok(());
            }
        }
        task.waker().wake_by_ref();
        Ok(())
    }

    /// For now. Whether that is an end.
    fn pause(&mut self, task: &mut Task<'_>) -> Option<End> {
        let is_at_rest = self.under_way.is_empty() && self.unsent.is_empty();
        if is_at_rest && self.closing_since.is_some() {
            return Some(End::Closed);
        }
        if is_at_rest && self.next_is_unusual {
            return self.hand_over();
        }
        if is_at_rest && self.is_at_end {
            return Some(End::Closed);
        }
        if is_at_rest && self.under_way.capacity() > UNDER_WAY_KEPT {
            self.under_way = VecDeque::new();
        }
        let is_part = is_at_rest && !self.kept.is_empty();
        self.part_since = is_part.then(|| self.part_since.unwrap_or(self.active));
        let deadline = self.deadline();
        if self.timer.is_elapsed() {
            let now = Instant::now();
            match deadline {
                Some(deadline) if now >= deadline && is_part && self.closing_since.is_none() => {
                    return self.hand_over();
                }
                Some(deadline) if now >= deadline => return Some(End::Closed),
                _ => self.set_timer(deadline.unwrap_or(now + self.patience.idle), task),
            }
        } else if let Some(deadline) = deadline.filter(|deadline| *deadline < self.timer.deadline()) {
            self.set_timer(deadline, task);
        }
        None
    }

    /// `None`: requests under way have their own. A client that does not take its answers is idle too.
    fn deadline(&self) -> Option<Instant> {
        let closing = self.closing_since.map(|since| since + self.patience.closing);
        let part = self.part_since.map(|since| since + PART_TIMEOUT);
        let idle = self.under_way.is_empty().then(|| self.active + self.patience.idle);
        closing.or(part).or(idle)
    }

    fn set_timer(&mut self, deadline: Instant, task: &mut Task<'_>) {
        self.timer.as_mut().reset(deadline);
        if self.timer.as_mut().poll(task).is_ready() {
            task.waker().wake_by_ref();
        }
    }

    fn hand_over(&mut self) -> Option<End> {
        Some(End::Unusual(HandedOver::new(self.stream.take()?, std::mem::take(&mut self.kept))))
    }

    /// Has this task woken by timer and listener. They remember it, so that once is enough.
    fn listen(&mut self, task: &mut Task<'_>) {
        if self.woken.as_ref().is_none_or(|woken| !woken.will_wake(task.waker())) {
            self.woken = Some(task.waker().clone());
            // What they have to say is looked up in each round.
            let _ = self.told.as_mut().poll(task);
            let _ = self.timer.as_mut().poll(task);
        }
    }
}

impl Future for Connection {
    type Output = End;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<End> {
        let this = self.get_mut();
        this.listen(task);
        if this.closing_since.is_none() && this.closing.begun.load(Ordering::Acquire) {
            this.closing_since = Some(Instant::now());
        }
        let end = match this.move_on(task) {
            Ok(()) => this.pause(task),
            Err(error) => {
                tracing::debug!(%error, "connection ended");
                Some(End::Closed)
            }
        };
        end.map_or(Poll::Pending, Poll::Ready)
    }
}
