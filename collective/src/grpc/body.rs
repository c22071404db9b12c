//! The body of an outgoing stream: messages go to HTTP/2 as they are, without a copy.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use super::flow::Flow;
use crate::links::Arrival;

/// gRPC messages, each as one part, or as two: its header, and its payload.
pub(crate) struct Messages {
    /// The next part, if one is ready.
    part: Bytes,
    queue: mpsc::Receiver<Arrival>,
    flow: Arc<Flow>,
}

impl Messages {
    pub(crate) fn new(hello: Bytes, queue: mpsc::Receiver<Arrival>, flow: Arc<Flow>) -> Self {
        flow.queue();
        flow.take(hello.len());
        Self { part: hello, queue, flow }
    }
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.part.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.part)))));
        }
        let Some(Ok(message)) = ready!(self.queue.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        let (head, payload) = message.encode();
        self.flow.take(head.len() + payload.len());
        self.part = payload;
        Poll::Ready(Some(Ok(Frame::data(head))))
    }
}
