//! One connection, one request at a time, as little work as can be: for load generators, which share their machine with the
//! nodes they measure. Follows nobody and repeats nothing; [`super::Client`] is for everything else.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Method;

/// A keep-alive HTTP/1.1 connection to one node.
pub struct Lane {
    stream: TcpStream,
    node: String,
    sent: Vec<u8>,
    received: Vec<u8>,
}

/// The answer, until the next request.
#[derive(Debug)]
pub struct LaneAnswer<'a> {
    pub status: u16,
    /// Of a redirect: `host:port` of the leader.
    pub leader: Option<String>,
    pub body: &'a [u8],
}

/// What to ask.
#[derive(Clone, Copy, Debug)]
pub struct LaneRequest<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub key: Option<&'a str>,
    pub local: bool,
    pub timeout_ms: u64,
    pub body: &'a [u8],
}

impl LaneRequest<'_> {
    /// Appends what is sent to `node`.
    pub(super) fn write(self, node: &str, out: &mut Vec<u8>) {
        let LaneRequest { method, path, key, local, timeout_ms, body } = self;
        let parts = [method.as_str(), " ", path, " HTTP/1.1\r\nhost: ", node, "\r\nraftq-timeout-ms: "];
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.extend_from_slice(timeout_ms.to_string().as_bytes());
        if let Some(key) = key {
            out.extend_from_slice(b"\r\nidempotency-key: ");
            out.extend_from_slice(key.as_bytes());
        }
        if local {
            out.extend_from_slice(b"\r\nraftq-consistency: local");
        }
        if !body.is_empty() {
            out.extend_from_slice(b"\r\ncontent-type: application/json\r\ncontent-length: ");
            out.extend_from_slice(body.len().to_string().as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }
}

const HEADERS_MAX: usize = 32;
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;
const READ_BYTES: usize = 16 << 10;

impl Lane {
    pub async fn connect(node: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(node).await?;
        stream.set_nodelay(true)?;
        let node = node.to_owned();
        Ok(Self { stream, node, sent: Vec::new(), received: Vec::with_capacity(READ_BYTES) })
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    /// Sends and waits for the whole answer. After an error the connection is of no more use.
    pub async fn exchange(&mut self, request: LaneRequest<'_>) -> io::Result<LaneAnswer<'_>> {
        self.sent.clear();
        request.write(&self.node, &mut self.sent);
        self.stream.write_all(&self.sent).await?;
        self.received.clear();
        let head = loop {
            self.read_more().await?;
            if let Some(head) = parse_head(&self.received)? {
                break head;
            }
        };
        while self.received.len() < head.length + head.body_length {
            self.read_more().await?;
        }
        let body = &self.received[head.length..head.length + head.body_length];
        Ok(LaneAnswer { status: head.status, leader: head.leader, body })
    }

    async fn read_more(&mut self) -> io::Result<()> {
        if self.received.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer is too long"));
        }
        self.received.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Of an answer.
pub(super) struct Head {
    pub status: u16,
    pub leader: Option<String>,
    pub length: usize,
    pub body_length: usize,
}

/// `None`: not all of it is there yet.
pub(super) fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let body_length = header("content-length").and_then(|length| length.trim().parse().ok());
    Ok(Some(Head {
        status: response.code.unwrap_or(0),
        leader: header("location").and_then(|location| Some(super::nodes::Authority::parse(location)?.to_string())),
        length,
        body_length: body_length.ok_or_else(|| io::Error::other("an answer without content-length"))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_complete() {
        let text = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:7402/v1/jobs\r\nContent-Length: 2\r\n\r\n{}";
        assert!(parse_head(&text[..40]).expect("a part").is_none());
        let head = parse_head(text).expect("valid").expect("complete");
        assert_eq!((head.status, head.length, head.body_length), (307, text.len() - 2, 2));
        assert_eq!(head.leader.as_deref(), Some("127.0.0.1:7402"));
        assert!(parse_head(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
    }
}
