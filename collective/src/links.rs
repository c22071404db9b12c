//! A rank's queues to and from every other rank, and the checks on what comes out of them.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::CommError;
use crate::faults::{Fault, Faults};
use crate::grpc::Carrier;
use crate::pool::Pool;
use crate::wire::{Message, Operation};

/// Messages that wait in one direction of a link; with [`crate::wire::CHUNK_BYTES`] this bounds
/// its memory. The ring relies on it: a rank never has more blocks of its own under way.
pub(crate) const QUEUE_MESSAGES_MAX: usize = 8;

/// How long a failing rank tries to tell the others.
const ABORT_WAIT: Duration = Duration::from_millis(250);

/// How long a rank that leaves waits for each peer to take note.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// An arrival: a message, or why none can arrive any more.
pub(crate) type Arrival = Result<Message, CommError>;

/// One call of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) operation: Operation,
    /// Bounds each wait for a peer.
    pub(crate) timeout: Duration,
    /// Length of the whole buffer, in bytes; `None` where only the sender knows it.
    pub(crate) total: Option<u64>,
}

/// Part of a buffer, as sent and received.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) block: u64,
    /// In bytes.
    pub(crate) offset: u64,
    pub(crate) payload: Bytes,
}

/// All links of one rank.
pub(crate) struct Links {
    pub(crate) rank: u32,
    pub(crate) pool: Pool,
    /// Links to each rank, by rank; `None` for itself.
    outs: Vec<Option<Out>>,
    ins: Vec<Option<In>>,
    faults: Faults,
}

struct Out {
    peer: u32,
    /// `None` when a fault dropped the link.
    queue: Option<mpsc::Sender<Arrival>>,
    /// The carrier of messages to another process; `None` in memory.
    carrier: Option<Carrier>,
    operations: u64,
    fault: Option<Fault>,
}

struct In {
    peer: u32,
    queue: mpsc::Receiver<Arrival>,
    operations: u64,
}

impl Links {
    /// Joins the queues of a rank: by rank, `None` for itself.
    pub(crate) fn new(
        rank: u32,
        outs: Vec<Option<(mpsc::Sender<Arrival>, Option<Carrier>)>>,
        ins: Vec<Option<mpsc::Receiver<Arrival>>>,
        faults: Faults,
    ) -> Self {
        let outs = (0..).zip(outs).map(|(peer, out)| {
            out.map(|(queue, carrier)| Out {
                peer,
                queue: Some(queue),
                carrier,
                operations: 0,
                fault: None,
            })
        });
        let ins = (0..)
            .zip(ins)
            .map(|(peer, queue)| queue.map(|queue| In { peer, queue, operations: 0 }));
        Self { rank, pool: Pool::default(), outs: outs.collect(), ins: ins.collect(), faults }
    }

    pub(crate) fn world_size(&self) -> usize {
        self.outs.len()
    }

    /// Arms the faults that are due at this rank's operation `number`.
    pub(crate) fn strike(&mut self, number: u64) -> Result<(), CommError> {
        for fault in self.faults.at(self.rank, number) {
            match fault {
                Fault::Kill { .. } => return Err(CommError::Killed),
                Fault::DropLink { to, .. } => {
                    if let Some(Some(out)) = self.outs.get_mut(to as usize) {
                        out.queue = None;
                    }
                }
                Fault::Delay { to, .. } | Fault::Garble { to, .. } => {
                    if let Some(Some(out)) = self.outs.get_mut(to as usize) {
                        out.fault = Some(fault);
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins an operation that sends to one peer.
    pub(crate) fn to(&mut self, peer: u32, call: Call) -> Result<Sending<'_>, CommError> {
        let out = self.outs.get_mut(peer as usize).and_then(Option::as_mut);
        out.map(|out| out.begin(call)).ok_or_else(|| no_such_peer(peer, call))
    }

    /// Begins an operation that receives from one peer.
    pub(crate) fn from(&mut self, peer: u32, call: Call) -> Result<Receiving<'_>, CommError> {
        let link = self.ins.get_mut(peer as usize).and_then(Option::as_mut);
        link.map(|link| link.begin(call)).ok_or_else(|| no_such_peer(peer, call))
    }

    /// Begins an operation that receives from one peer and sends to one.
    pub(crate) fn between(
        &mut self,
        from: u32,
        to: u32,
        call: Call,
    ) -> Result<(Receiving<'_>, Sending<'_>), CommError> {
        let link = self.ins.get_mut(from as usize).and_then(Option::as_mut);
        let out = self.outs.get_mut(to as usize).and_then(Option::as_mut);
        let link = link.ok_or_else(|| no_such_peer(from, call))?;
        let out = out.ok_or_else(|| no_such_peer(to, call))?;
        Ok((link.begin(call), out.begin(call)))
    }

    /// Begins an operation between all ranks: what receives from, and what sends to, each peer.
    pub(crate) fn all(&mut self, call: Call) -> (Vec<Receiving<'_>>, Vec<Sending<'_>>) {
        let ins = self.ins.iter_mut().flatten().map(|link| link.begin(call)).collect();
        let outs = self.outs.iter_mut().flatten().map(|out| out.begin(call)).collect();
        (ins, outs)
    }

    /// Waits until all that was sent is in the operating system's hands: nothing moves between
    /// calls.
    pub(crate) async fn flush(&mut self, call: Call) -> Result<(), CommError> {
        for out in self.outs.iter_mut().flatten() {
            let Some(carrier) = &out.carrier else { continue };
            match timeout(call.timeout, carrier.flushed()).await {
                Ok(true) => {}
                Ok(false) => return Err(out.loss(self.ins[out.peer as usize].as_mut()).await),
                Err(_) => {
                    return Err(CommError::Timeout { operation: call.operation, rank: out.peer });
                }
            }
        }
        Ok(())
    }

    /// Tells all peers that this rank has failed, as far as they will listen.
    pub(crate) async fn abort(&mut self, culprit: u32) {
        for out in self.outs.iter_mut().flatten() {
            let Some(queue) = &out.queue else { continue };
            // A full queue means a peer that is not listening: it will see the link end.
            if queue.try_send(Ok(Message::abort(culprit))).is_ok() {
                out.count();
            }
        }
        let told = async {
            for carrier in self.outs.iter().flatten().filter_map(|out| out.carrier.as_ref()) {
                carrier.flushed().await;
            }
        };
        let _ = timeout(ABORT_WAIT, told).await;
    }

    /// Exchanges a word with every peer, or finds out who refuses to.
    pub(crate) async fn greet(&mut self, call: Call) -> Result<(), CommError> {
        for out in self.outs.iter_mut().flatten() {
            let piece = Piece { block: 0, offset: 0, payload: Bytes::new() };
            out.begin(call).send(0, piece).await?;
        }
        for (link, out) in self.ins.iter_mut().flatten().zip(self.outs.iter_mut().flatten()) {
            let mut from = link.begin(call);
            let Some(carrier) = &mut out.carrier else { continue };
            tokio::select! {
                biased;
                greeting = from.recv() => greeting.map(drop)?,
                end = carrier.ended() => {
                    end?;
                    return Err(CommError::PeerLost { rank: out.peer });
                }
            }
        }
        self.flush(call).await
    }

    /// Ends all links in good order, and waits a little for the peers to take note.
    pub(crate) async fn close(mut self) {
        self.ins.clear();
        let mut carriers = Vec::new();
        for out in self.outs.drain(..).flatten() {
            drop(out.queue);
            carriers.extend(out.carrier);
        }
        let closed = async {
            for carrier in &mut carriers {
                // A peer that has gone has nothing left to take note of.
                let _ = carrier.ended().await;
            }
        };
        let _ = timeout(CLOSE_WAIT, closed).await;
    }
}

fn no_such_peer(peer: u32, call: Call) -> CommError {
    let detail = format!("rank {peer} is not another rank of this group");
    CommError::Argument { operation: call.operation, detail }
}

impl Out {
    fn begin(&mut self, call: Call) -> Sending<'_> {
        self.operations += 1;
        Sending { out: self, call }
    }

    /// Why nothing can be sent to the peer: its own word if it left one.
    async fn loss(&mut self, from_peer: Option<&mut In>) -> CommError {
        if let Some(link) = from_peer {
            while let Ok(arrival) = link.queue.try_recv() {
                if let Some(error) = arrival.ok().and_then(|message| link.aborted(&message)) {
                    return error;
                }
            }
        }
        self.why().await
    }

    async fn why(&mut self) -> CommError {
        let lost = CommError::PeerLost { rank: self.peer };
        let Some(carrier) = &mut self.carrier else { return lost };
        match timeout(ABORT_WAIT, carrier.ended()).await {
            Ok(Err(error)) => error,
            _ => lost,
        }
    }

    fn count(&self) {
        if let Some(carrier) = &self.carrier {
            carrier.queued();
        }
    }
}

impl In {
    fn begin(&mut self, call: Call) -> Receiving<'_> {
        self.operations += 1;
        Receiving { link: self, call }
    }

    fn aborted(&self, message: &Message) -> Option<CommError> {
        message.culprit().map(|culprit| CommError::PeerLost { rank: culprit })
    }
}

/// The sending half of an operation on one link.
pub(crate) struct Sending<'a> {
    out: &'a mut Out,
    call: Call,
}

impl Sending<'_> {
    /// Queues one piece of a buffer of `total` bytes.
    pub(crate) async fn send(&mut self, total: u64, piece: Piece) -> Result<(), CommError> {
        let mut message = Message {
            sequence: self.out.operations,
            operation: self.call.operation as u32,
            total,
            block: piece.block,
            offset: piece.offset,
            payload: piece.payload,
        };
        match self.out.fault.take() {
            Some(Fault::Delay { by, .. }) => tokio::time::sleep(by).await,
            Some(Fault::Garble { .. }) => message.sequence ^= 1 << 40,
            _ => {}
        }
        let Some(queue) = &self.out.queue else {
            return Err(CommError::PeerLost { rank: self.out.peer });
        };
        match timeout(self.call.timeout, queue.send(Ok(message))).await {
            Ok(Ok(())) => {
                self.out.count();
                Ok(())
            }
            Ok(Err(_)) => Err(self.out.why().await),
            Err(_) => {
                Err(CommError::Timeout { operation: self.call.operation, rank: self.out.peer })
            }
        }
    }
}

/// The receiving half of an operation on one link.
pub(crate) struct Receiving<'a> {
    link: &'a mut In,
    call: Call,
}

impl Receiving<'_> {
    pub(crate) fn peer(&self) -> u32 {
        self.link.peer
    }

    /// The next piece, and the length of the whole buffer in bytes.
    pub(crate) async fn recv(&mut self) -> Result<(u64, Piece), CommError> {
        let rank = self.link.peer;
        let message = match timeout(self.call.timeout, self.link.queue.recv()).await {
            Ok(Some(arrival)) => arrival?,
            Ok(None) => return Err(CommError::PeerLost { rank }),
            Err(_) => {
                return Err(CommError::Timeout { operation: self.call.operation, rank });
            }
        };
        if let Some(error) = self.link.aborted(&message) {
            return Err(error);
        }
        self.check(&message)?;
        let Message { sequence: _, operation: _, total, block, offset, payload } = message;
        Ok((total, Piece { block, offset, payload }))
    }

    /// An error that blames the peer.
    pub(crate) fn protocol(&self, detail: String) -> CommError {
        CommError::Protocol { rank: self.link.peer, detail }
    }

    fn check(&self, message: &Message) -> Result<(), CommError> {
        let expected = self.call.operation;
        if message.operation != expected as u32 {
            let found = message.operation;
            return Err(self.protocol(format!("operation {found} instead of {expected}")));
        }
        if message.sequence != self.link.operations {
            let (found, expected) = (message.sequence, self.link.operations);
            return Err(self.protocol(format!("operation number {found} instead of {expected}")));
        }
        match self.call.total {
            Some(total) if total != message.total => {
                let found = message.total;
                Err(self.protocol(format!("a buffer of {found} bytes instead of {total}")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
