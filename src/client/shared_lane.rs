//! One connection that several loops of a load generator share: a request goes out without waiting for the answers to those
//! before it, and answers come in their order (RFC 9112, 9.3.2).
//!
//! Nobody but the loops moves it. Who has just put a request down lets the others do so before it writes for all of them;
//! who waits for an answer reads for all of them. One that is given up takes the connection with it: what comes on it next
//! would be somebody else's answer.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::lane::{ANSWER_BYTES_MAX, LaneRequest, parse_head};

const READ_BYTES: usize = 16 << 10;

/// A keep-alive HTTP/1.1 connection to one node; clones share it.
#[derive(Clone)]
pub struct SharedLane {
    shared: Rc<RefCell<Shared>>,
    node: Rc<str>,
}

/// What came back.
#[derive(Debug)]
pub struct SharedAnswer {
    pub status: u16,
    /// Of a redirect: `host:port` of the leader.
    pub leader: Option<String>,
    pub body: Vec<u8>,
}

struct Shared {
    stream: TcpStream,
    unsent: Vec<u8>,
    received: Vec<u8>,
    /// Somebody writes once the others have had their turn.
    is_gathering: bool,
    /// In the order in which they were put down.
    asked: VecDeque<Rc<RefCell<Asked>>>,
    is_broken: bool,
}

#[derive(Default)]
struct Asked {
    answer: Option<SharedAnswer>,
    woken: Option<Waker>,
}

impl SharedLane {
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(node: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(node).await?;
        stream.set_nodelay(true)?;
        let (unsent, received, asked) = Default::default();
        let shared = Shared { stream, unsent, received, is_gathering: false, asked, is_broken: false };
        Ok(Self { shared: Rc::new(RefCell::new(shared)), node: node.into() })
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    /// Whether these two are one connection.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether another should be made.
    pub fn is_broken(&self) -> bool {
        self.shared.borrow().is_broken
    }

    /// Sends, and waits for the answer.
    ///
    /// # Errors
    /// The connection has ended, or somebody gave an answer up.
    pub async fn exchange(&self, request: LaneRequest<'_>) -> io::Result<SharedAnswer> {
        let asked = Rc::new(RefCell::new(Asked::default()));
        let turn = {
            let mut shared = self.shared.borrow_mut();
            request.write(&self.node, &mut shared.unsent);
            shared.asked.push_back(Rc::clone(&asked));
            if std::mem::replace(&mut shared.is_gathering, true) { Turn::Wait } else { Turn::Gather }
        };
        Exchange { shared: Rc::clone(&self.shared), asked, turn, is_over: false }.await
    }
}

/// A request that was put down.
struct Exchange {
    shared: Rc<RefCell<Shared>>,
    asked: Rc<RefCell<Asked>>,
    turn: Turn,
    is_over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Lets the others put theirs down, to write for all of them.
    Gather,
    Write,
    Wait,
}

impl Future for Exchange {
    type Output = io::Result<SharedAnswer>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = Rc::clone(&self.shared);
        let mut shared = shared.borrow_mut();
        match self.turn {
            Turn::Gather => {
                self.turn = Turn::Write;
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            Turn::Write => {
                self.turn = Turn::Wait;
                shared.is_gathering = false;
            }
            Turn::Wait => {}
        }
        if self.asked.borrow().answer.is_none() {
            self.asked.borrow_mut().woken = Some(task.waker().clone());
            if let Err(error) = shared.move_on(task) {
                shared.end();
                self.is_over = true;
                return Poll::Ready(Err(error));
            }
        }
        let Some(answer) = self.asked.borrow_mut().answer.take() else { return Poll::Pending };
        self.is_over = true;
        // Somebody has to read on.
        shared.wake_last();
        Poll::Ready(Ok(answer))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.borrow_mut().end();
        }
    }
}

impl Shared {
    /// Writes and reads what can be.
    fn move_on(&mut self, task: &mut Context<'_>) -> io::Result<()> {
        if self.is_broken {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while !self.is_gathering
            && !self.unsent.is_empty()
            && let Poll::Ready(sent) = Pin::new(&mut self.stream).poll_write(task, &self.unsent)
        {
            self.unsent.drain(..sent?);
        }
        while let Poll::Ready(count) = self.read(task) {
            if count? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.deliver()?;
        }
        Ok(())
    }

    fn read(&mut self, task: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.received.len() > ANSWER_BYTES_MAX {
            return Poll::Ready(Err(io::Error::other("the answer is too long")));
        }
        let before = self.received.len();
        self.received.resize(before + READ_BYTES, 0);
        let mut read = ReadBuf::new(&mut self.received[before..]);
        let outcome = Pin::new(&mut self.stream).poll_read(task, &mut read);
        let count = read.filled().len();
        self.received.truncate(before + count);
        outcome.map_ok(|()| count)
    }

    /// Gives whole answers to those whom they are for.
    fn deliver(&mut self) -> io::Result<()> {
        let mut delivered = 0;
        while let Some(head) = parse_head(&self.received[delivered..])? {
            let (from, to) = (delivered + head.length, delivered + head.length + head.body_length);
            let Some(body) = self.received.get(from..to) else { break };
            let asked = self.asked.pop_front().ok_or_else(|| io::Error::other("an answer to nothing"))?;
            let mut asked = asked.borrow_mut();
            asked.answer = Some(SharedAnswer { status: head.status, leader: head.leader, body: body.to_vec() });
            asked.woken.take().into_iter().for_each(Waker::wake);
            delivered = to;
        }
        self.received.drain(..delivered);
        Ok(())
    }

    fn wake_last(&self) {
        if let Some(last) = self.asked.back() {
            last.borrow().woken.iter().for_each(Waker::wake_by_ref);
        }
    }

    /// It is of no more use to anybody.
    fn end(&mut self) {
        self.is_broken = true;
        for asked in self.asked.drain(..) {
            asked.borrow().woken.iter().for_each(Waker::wake_by_ref);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::client::Method;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn request(body: &[u8]) -> LaneRequest<'_> {
        LaneRequest { method: &Method::POST, path: "/", key: None, local: false, timeout_ms: 1000, body }
    }

    /// A lane, and what a node has of it.
    async fn connected() -> (SharedLane, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let lane = SharedLane::connect(&listener.local_addr().expect("bound").to_string()).await.expect("connects");
        (lane, listener.accept().await.expect("it came").0)
    }

    /// Reads requests until these bodies have come, in whatever order.
    async fn both_came(node: &mut TcpStream) -> bool {
        let mut received = Vec::new();
        let has = |received: &[u8], body: &[u8]| received.windows(body.len()).any(|window| window == body);
        while !(has(&received, b"first") && has(&received, b"second")) {
            let read = tokio::time::timeout(PATIENCE, node.read_buf(&mut received)).await;
            assert!(read.expect("in time").expect("open") > 0, "closed");
        }
        received.windows(5).position(|window| window == b"first")
            < received.windows(6).position(|window| window == b"second")
    }

    #[tokio::test]
    async fn answers_go_in_order_to_those_who_asked() {
        let (lane, mut node) = connected().await;
        let answers = async {
            assert!(both_came(&mut node).await, "before either is answered, and in order");
            let answer = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let both = answer("one") + &answer("another");
            // The second answer comes in two pieces.
            for piece in both.as_bytes().chunks(both.len() - 3) {
                node.write_all(piece).await.expect("open");
                tokio::task::yield_now().await;
            }
        };
        let asked = async { tokio::join!(lane.exchange(request(b"first")), lane.exchange(request(b"second"))) };
        let ((first, second), ()) =
            tokio::time::timeout(PATIENCE, async { tokio::join!(asked, answers) }).await.unwrap();
        assert_eq!((first.unwrap().body, second.unwrap().body), (b"one".to_vec(), b"another".to_vec()));
        assert!(!lane.is_broken());
    }

    #[tokio::test]
    async fn who_gives_an_answer_up_ends_the_connection_for_all() {
        let (lane, mut node) = connected().await;
        let given_up = async {
            let asked = lane.exchange(request(b"first"));
            tokio::select! {
                answer = asked => panic!("nobody answers: {answer:?}"),
                _ = both_came(&mut node) => {}
            }
        };
        let (other, ()) = tokio::join!(lane.exchange(request(b"second")), given_up);
        assert!(other.is_err() && lane.is_broken());
    }

    #[tokio::test]
    async fn node_that_is_gone_is_told_to_all() {
        let (lane, node) = connected().await;
        drop(node);
        let (first, second) = tokio::join!(lane.exchange(request(b"first")), lane.exchange(request(b"second")));
        assert!(first.is_err() && second.is_err() && lane.is_broken());
    }
}
