//! Knows whether all that was queued for a peer has been handed to the operating system.
//!
//! HTTP/2 keeps frames back (flow control, a full socket) without a word to whoever sends them.
//! A group moves nothing between its calls, so a call may not end before its last frame is out.
//! The frames that pass by on their way to the socket are counted: `DATA` carries messages,
//! and nothing else does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Bytes that a client sends before its first frame.
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;

/// Counts of one outgoing stream.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Messages given to the queue.
    queued: AtomicU64,
    /// Messages taken from the queue, and their bytes as encoded.
    taken: AtomicU64,
    taken_bytes: AtomicU64,
    /// Bytes of `DATA` frames that the socket has taken.
    written_bytes: AtomicU64,
    ended: AtomicBool,
    changed: Notify,
}

impl Flow {
    pub(crate) fn queue(&self) {
        self.queued.fetch_add(1, Relaxed);
    }

    /// Counts a message that goes to HTTP/2.
    pub(crate) fn take(&self, bytes: usize) {
        self.taken.fetch_add(1, Relaxed);
        self.taken_bytes.fetch_add(bytes as u64, Relaxed);
    }

    fn write(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Relaxed);
        self.changed.notify_waiters();
    }

    /// Nothing will be written any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// Waits until all queued messages are written; false when they never will be.
    pub(crate) async fn flushed(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            if self.taken.load(Relaxed) >= self.queued.load(Relaxed)
                && self.written_bytes.load(Relaxed) >= self.taken_bytes.load(Relaxed)
            {
                return true;
            }
            if self.ended.load(Relaxed) {
                return false;
            }
            changed.await;
        }
    }
}

/// A socket whose writes are counted.
pub(crate) struct Counted {
    pub(crate) stream: TcpStream,
    pub(crate) flow: Arc<Flow>,
    pub(crate) scan: Scan,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut left)) = written {
            let mut data = 0;
            for slice in slices {
                let part = left.min(slice.len());
                data += self.scan.pass(&slice[..part]);
                left -= part;
            }
            self.flow.write(data);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows a client's HTTP/2 bytes, cut anywhere.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Left of the preface or of a frame's payload.
    left: usize,
    is_data: bool,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
}

impl Scan {
    pub(crate) fn new() -> Self {
        Self { left: PREFACE_BYTES, is_data: false, header: [0; HEADER_BYTES], header_filled: 0 }
    }

    /// Returns how many of these bytes are payload of `DATA` frames.
    fn pass(&mut self, mut bytes: &[u8]) -> u64 {
        let mut data = 0;
        while !bytes.is_empty() {
            let part = if self.left > 0 {
                let part = self.left.min(bytes.len());
                self.left -= part;
                data += if self.is_data { part as u64 } else { 0 };
                part
            } else {
                self.pass_header(bytes)
            };
            bytes = &bytes[part..];
        }
        data
    }

    fn pass_header(&mut self, bytes: &[u8]) -> usize {
        let part = (HEADER_BYTES - self.header_filled).min(bytes.len());
        self.header[self.header_filled..][..part].copy_from_slice(&bytes[..part]);
        self.header_filled += part;
        if self.header_filled == HEADER_BYTES {
            let [a, b, c, kind, ..] = self.header;
            self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            self.is_data = kind == DATA;
            self.header_filled = 0;
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_bytes_are_counted_however_the_stream_is_cut() {
        let mut stream = vec![b'P'; PREFACE_BYTES];
        for (kind, length) in [(4, 6), (1, 40), (DATA, 300), (DATA, 0), (8, 4), (DATA, 70_000)] {
            let header = [0, (length >> 8) as u8, length as u8, kind, 0, 0, 0, 0, 1];
            stream.extend(header);
            stream[PREFACE_BYTES] = 0;
            let start = stream.len() - HEADER_BYTES;
            stream[start] = (length >> 16) as u8;
            stream.extend(vec![0xff; length]);
        }
        for cut in [1, 7, 9, 10, 24, 1000, stream.len()] {
            let mut scan = Scan::new();
            let data: u64 = stream.chunks(cut).map(|part| scan.pass(part)).sum();
            assert_eq!(data, 70_300, "cut into parts of {cut}");
        }
    }
}

#[cfg(test)]
mod counts;
