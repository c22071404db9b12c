//! One direction of a pipeline's boundary: tensors from a device of one stage to its counterpart of
//! the next, while both compute.
//!
//! Between processes a thread on either side moves them: the sender's takes what is queued, the
//! receiver's stays two tensors ahead.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use collective::Group;
use crossbeam_channel::{
    Receiver, RecvTimeoutError, SendTimeoutError, Sender, TrySendError, bounded,
};
use tch::{Device, Kind, Tensor};
use tch_ext::host_slice;

use super::{PeerError, spawn, to_host};

const SEND: &str = "send activations to another stage";
const RECEIVE: &str = "receive activations of another stage";
/// Tensors that a receiver has ahead of what is computed.
const AHEAD: usize = 2;
/// Orders of tensors that wait.
const ORDERS: usize = 4;

/// The sending end.
#[derive(Debug)]
pub struct LaneOut {
    queue: Sender<Tensor>,
    failure: Arc<OnceLock<PeerError>>,
    wait: Duration,
    bytes: u64,
}

/// The receiving end.
#[derive(Debug)]
pub struct LaneIn {
    queue: Receiver<Tensor>,
    /// Between processes: what the thread is to receive.
    orders: Option<Sender<Order>>,
    failure: Arc<OnceLock<PeerError>>,
    wait: Duration,
}

/// Tensors of one shape.
#[derive(Clone, Copy, Debug)]
struct Order {
    count: u32,
    shape: [i64; 2],
}

/// A lane within this process on which at most `waiting` tensors wait, each at most so long.
pub fn lane(waiting: usize, wait: Duration) -> (LaneOut, LaneIn) {
    let (sender, receiver) = bounded(waiting);
    let failure = Arc::new(OnceLock::new());
    let out = LaneOut { queue: sender, failure: Arc::clone(&failure), wait: 2 * wait, bytes: 0 };
    (out, LaneIn { queue: receiver, orders: None, failure, wait: 2 * wait })
}

impl LaneOut {
    /// The sending end of a lane to `peer`, the other rank of `group`, on which at most `waiting`
    /// tensors wait.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn to(group: Group, peer: u32, waiting: usize) -> Result<LaneOut, PeerError> {
        let (queue, tensors) = bounded::<Tensor>(waiting);
        let failure = Arc::new(OnceLock::new());
        let (told, wait) = (Arc::clone(&failure), 2 * group.timeout());
        spawn("lane out", move || {
            if let Err(error) = send_all(group, peer, &tensors) {
                let _ = told.set(error);
            }
        })?;
        Ok(LaneOut { queue, failure, wait, bytes: 0 })
    }

    /// Sends a tensor [rows, columns] that nobody changes any more. Waits where too many wait.
    ///
    /// # Errors
    /// The other side is gone or late.
    pub fn send(&mut self, tensor: Tensor) -> Result<(), PeerError> {
        self.bytes += tensor.numel() as u64 * size_of::<f32>() as u64;
        self.queue.send_timeout(tensor, self.wait).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => PeerError::Late { operation: SEND, wait: self.wait },
            SendTimeoutError::Disconnected(_) => {
                let failure = self.failure.get().cloned();
                failure.unwrap_or(PeerError::Gone { operation: SEND })
            }
        })
    }

    /// Bytes sent since this was last asked.
    pub fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }
}

impl LaneIn {
    /// The receiving end of a lane from `peer`, the other rank of `group`.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn from(group: Group, peer: u32) -> Result<LaneIn, PeerError> {
        let (queue, tensors) = bounded(AHEAD);
        let (orders, ordered) = bounded::<Order>(ORDERS);
        let failure = Arc::new(OnceLock::new());
        // Longer than the group waits, whose word tells more.
        let (told, wait) = (Arc::clone(&failure), 2 * group.timeout());
        spawn("lane in", move || {
            if let Err(error) = receive_all(group, peer, &ordered, &queue) {
                let _ = told.set(error);
            }
        })?;
        Ok(LaneIn { queue: tensors, orders: Some(orders), failure, wait })
    }

    /// Says that `count` tensors of this shape will be received: nothing arrives unasked.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn expect(&self, count: u32, shape: [i64; 2]) -> Result<(), PeerError> {
        let Some(orders) = &self.orders else { return Ok(()) };
        orders.try_send(Order { count, shape }).map_err(|error| match error {
            TrySendError::Full(_) => PeerError::Late { operation: RECEIVE, wait: self.wait },
            TrySendError::Disconnected(_) => self.gone(),
        })
    }

    /// The next tensor, on `device`.
    ///
    /// # Errors
    /// The other side is gone or late.
    pub fn receive(&self, device: Device) -> Result<Tensor, PeerError> {
        let tensor = self.queue.recv_timeout(self.wait).map_err(|error| match error {
            RecvTimeoutError::Disconnected => self.gone(),
            RecvTimeoutError::Timeout => PeerError::Late { operation: RECEIVE, wait: self.wait },
        })?;
        tensor.f_to_device(device).map_err(PeerError::torch(RECEIVE))
    }

    fn gone(&self) -> PeerError {
        self.failure.get().cloned().unwrap_or(PeerError::Gone { operation: RECEIVE })
    }
}

fn send_all(mut group: Group, peer: u32, tensors: &Receiver<Tensor>) -> Result<(), PeerError> {
    while let Ok(tensor) = tensors.recv() {
        let mut host = to_host(&tensor).map_err(PeerError::torch(SEND))?;
        group.send(peer, host_slice(&mut host)?).map_err(PeerError::Group)?;
    }
    Ok(())
}

fn receive_all(
    mut group: Group,
    peer: u32,
    orders: &Receiver<Order>,
    queue: &Sender<Tensor>,
) -> Result<(), PeerError> {
    let torch = PeerError::torch(RECEIVE);
    while let Ok(order) = orders.recv() {
        for _ in 0..order.count {
            let empty = Tensor::f_empty(order.shape, (Kind::Float, Device::Cpu));
            let mut tensor = empty.map_err(&torch)?;
            group.recv(peer, host_slice(&mut tensor)?).map_err(PeerError::Group)?;
            if queue.send(tensor).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
