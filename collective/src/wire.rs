//! The messages between ranks, their limits, and their encoding as gRPC frames.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use proto::v1;

/// Largest encoded message, a hello included.
pub(crate) const MESSAGE_BYTES_MAX: usize = 384 << 10;

/// Largest payload of one message, in bytes. Smaller ones cost more per byte, larger ones leave the
/// caches.
pub(crate) const CHUNK_BYTES: usize = MESSAGE_BYTES_MAX - HEADER_BYTES_MAX;

/// Bounds gRPC's prefix, the header fields and the names in a hello.
const HEADER_BYTES_MAX: usize = 4 << 10;

/// Longest name of a run or an island.
pub(crate) const NAME_BYTES_MAX: usize = 1 << 10;

/// Largest byte string of [`crate::Group::all_gather_bytes`] and
/// [`crate::Group::broadcast_bytes`]: they are for control data.
pub(crate) const CONTROL_BYTES_MAX: usize = 16 << 20;

/// A payload up to this size is copied behind its header, which saves a frame.
const INLINE_BYTES_MAX: usize = 4 << 10;

const PAYLOAD_FIELD: u32 = 7;

/// The operation of a call; it travels in every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Connect = 1,
    AllReduce = 2,
    Broadcast = 5,
    AllGatherBytes = 6,
    BroadcastBytes = 7,
    Send = 8,
    Barrier = 9,
    Exchange = 10,
    /// The sender has failed; the payload names the rank it blames.
    Abort = 15,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::AllReduce => "all-reduce",
            Self::Broadcast => "broadcast",
            Self::AllGatherBytes => "all-gather of bytes",
            Self::BroadcastBytes => "broadcast of bytes",
            Self::Send => "send",
            Self::Barrier => "barrier",
            Self::Exchange => "exchange",
            Self::Abort => "abort",
        })
    }
}

/// One message between two ranks; the fields are those of `proto::v1::Frame`.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) sequence: u64,
    pub(crate) operation: u32,
    pub(crate) total: u64,
    pub(crate) block: u64,
    pub(crate) offset: u64,
    pub(crate) payload: Bytes,
}

impl Message {
    /// Tells a peer that this rank has failed because of `culprit`.
    pub(crate) fn abort(culprit: u32) -> Self {
        Self {
            sequence: 0,
            operation: Operation::Abort as u32,
            total: 4,
            block: 0,
            offset: 0,
            payload: Bytes::copy_from_slice(&culprit.to_le_bytes()),
        }
    }

    /// Whom an abort blames; `None` for every other message.
    pub(crate) fn culprit(&self) -> Option<u32> {
        if self.operation != Operation::Abort as u32 {
            return None;
        }
        self.payload.as_ref().try_into().ok().map(u32::from_le_bytes)
    }

    /// Splits into what goes on the wire: gRPC's prefix with the header fields, then the payload
    /// (empty when it was small enough to stand in the first part).
    pub(crate) fn encode(self) -> (Bytes, Bytes) {
        let payload = self.payload;
        let fields = v1::Frame {
            hello: None,
            sequence: self.sequence,
            operation: self.operation,
            total: self.total,
            block: self.block,
            offset: self.offset,
            payload: Bytes::new(),
        };
        let mut head = BytesMut::with_capacity(5 + 64 + payload.len().min(INLINE_BYTES_MAX));
        head.put_bytes(0, 5);
        fields.encode_raw(&mut head);
        encode_key(PAYLOAD_FIELD, WireType::LengthDelimited, &mut head);
        encode_varint(payload.len() as u64, &mut head);
        set_prefix(&mut head, payload.len());
        if payload.len() > INLINE_BYTES_MAX {
            return (head.freeze(), payload);
        }
        head.put_slice(&payload);
        (head.freeze(), Bytes::new())
    }

    /// The message of a received frame.
    pub(crate) fn decode(frame: v1::Frame) -> Self {
        let v1::Frame { hello: _, sequence, operation, total, block, offset, payload } = frame;
        Self { sequence, operation, total, block, offset, payload }
    }
}

/// The first message of a stream, as it goes on the wire.
pub(crate) fn encode_hello(hello: v1::Hello) -> Bytes {
    let frame = v1::Frame { hello: Some(hello), ..v1::Frame::default() };
    let mut head = BytesMut::with_capacity(5 + frame.encoded_len());
    head.put_bytes(0, 5);
    frame.encode_raw(&mut head);
    set_prefix(&mut head, 0);
    head.freeze()
}

/// Fills in gRPC's prefix: not compressed, and the length of what follows it.
fn set_prefix(head: &mut BytesMut, payload: usize) {
    let length = u32::try_from(head.len() - 5 + payload).expect("chunks are far below 4 GiB");
    head[1..5].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: Vec<u8>) -> Message {
        let payload = Bytes::from(payload);
        Message { sequence: 7, operation: 2, total: 1 << 40, block: 3, offset: 300, payload }
    }

    #[test]
    fn an_encoded_message_is_a_grpc_message_that_prost_decodes() {
        for length in [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, CHUNK_BYTES] {
            let sent = message(vec![9; length]);
            let (head, payload) = sent.clone().encode();
            let wire = [head, payload].concat();
            assert_eq!(wire[0], 0);
            assert_eq!(wire.len() - 5, u32::from_be_bytes(wire[1..5].try_into().unwrap()) as usize);
            let received = Message::decode(v1::Frame::decode(&wire[5..]).unwrap());
            assert_eq!(received.payload, sent.payload);
            assert_eq!(
                (received.sequence, received.operation, received.total, received.block),
                (7, 2, 1 << 40, 3)
            );
            assert_eq!(received.offset, 300);
            assert!(wire.len() <= MESSAGE_BYTES_MAX);
        }
    }

    #[test]
    fn only_an_abort_names_a_culprit() {
        assert_eq!(Message::abort(5).culprit(), Some(5));
        assert_eq!(message(vec![5, 0, 0, 0]).culprit(), None);
    }
}

#[cfg(test)]
mod hostile;
