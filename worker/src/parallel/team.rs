//! Devices that add up their tensors, in one process or in several.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use collective::Group;
use tch::Tensor;
use tch_ext::{Hook, host_slice};

use super::{PeerError, to_host};

const SUM: &str = "add up tensors";

/// One device's place in a team.
#[derive(Clone, Debug)]
pub struct Team {
    meeting: Arc<Meeting>,
    index: usize,
    position: usize,
    size: usize,
}

/// Where the devices of one process that belong to a team meet, and their way to its others.
#[derive(Debug)]
pub struct Meeting {
    devices: usize,
    wait: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// With the team's other processes.
    group: Option<Group>,
    /// By device of this process.
    arrived: Vec<Option<Tensor>>,
    sum: Option<Tensor>,
    taken: usize,
    failure: Option<PeerError>,
}

impl Meeting {
    /// A meeting of so many devices of this process, each of which waits so long for the others.
    pub fn new(devices: usize, group: Option<Group>, wait: Duration) -> Arc<Meeting> {
        let arrived = (0..devices).map(|_| None).collect();
        let state = State { group, arrived, sum: None, taken: 0, failure: None };
        Arc::new(Meeting { devices, wait, state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done`, a failure, or the end of patience; all but the first are errors.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        done: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'a, State>, PeerError> {
        let start = Instant::now();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if done(&state) {
                return Ok(state);
            }
            let left = self.wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                let late = PeerError::Late { operation: SUM, wait: self.wait };
                return Err(self.fail(&mut state, late));
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn fail(&self, state: &mut State, error: PeerError) -> PeerError {
        state.failure.get_or_insert_with(|| error.clone());
        self.changed.notify_all();
        error
    }

    /// The sum of what all devices bring; the last one to come adds up.
    fn meet(&self, index: usize, tensor: &Tensor) -> Result<Tensor, PeerError> {
        let mut state = self.wait(self.lock(), |state| state.sum.is_none())?;
        state.arrived[index] = Some(tensor.shallow_clone());
        if state.arrived.iter().all(Option::is_some) {
            let tensors: Vec<Tensor> = state.arrived.iter_mut().filter_map(Option::take).collect();
            match add_up(tensors, state.group.as_mut()) {
                Ok(sum) => state.sum = Some(sum),
                Err(error) => return Err(self.fail(&mut state, error)),
            }
            self.changed.notify_all();
        }
        let mut state = self.wait(state, |state| state.sum.is_some())?;
        let sum = state.sum.as_ref().map(Tensor::shallow_clone);
        state.taken += 1;
        if state.taken == self.devices {
            state.taken = 0;
            state.sum = None;
            self.changed.notify_all();
        }
        sum.ok_or(PeerError::Gone { operation: SUM })
    }
}

/// Adds in the order of the devices, so that the bits do not depend on who came first; then over
/// the other processes.
fn add_up(tensors: Vec<Tensor>, group: Option<&mut Group>) -> Result<Tensor, PeerError> {
    let _no_grad = tch::no_grad_guard();
    let torch = PeerError::torch(SUM);
    let mut tensors = tensors.into_iter();
    // What one device alone brings is its own and may be changed.
    let Some(mut sum) = tensors.next() else { return Err(PeerError::Gone { operation: SUM }) };
    for tensor in tensors {
        let here = tensor.f_to_device(sum.device()).map_err(&torch)?;
        sum = sum.f_add(&here).map_err(&torch)?;
    }
    let Some(group) = group else { return Ok(sum) };
    // The same tensor where it is on the host already.
    let mut host = to_host(&sum).map_err(&torch)?;
    group.all_reduce(host_slice(&mut host)?).map_err(PeerError::Group)?;
    if host.data_ptr() != sum.data_ptr() {
        sum.f_copy_(&host).map_err(&torch)?;
    }
    Ok(sum)
}

impl Team {
    /// The place of the device `index` of this process, which is the one at `position` of `size`.
    pub fn new(meeting: &Arc<Meeting>, index: usize, position: usize, size: usize) -> Team {
        Team { meeting: Arc::clone(meeting), index, position, size }
    }

    /// This device's position in the team.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Devices of the team.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Replaces `tensor` by the sum over the team: the same bits on every device. All devices of
    /// the team call it in the same order. Nobody else may have the tensor.
    ///
    /// # Errors
    /// A peer that is gone or late; the team is then of no more use.
    pub fn sum(&self, tensor: &mut Tensor) -> Result<(), PeerError> {
        let sum = self.meeting.meet(self.index, tensor)?;
        if sum.data_ptr() != tensor.data_ptr() {
            let _no_grad = tch::no_grad_guard();
            tensor.f_copy_(&sum).map_err(PeerError::torch(SUM))?;
        }
        Ok(())
    }

    /// [`Team::sum`] for a graph. Why it failed is in [`Team::failure`].
    pub fn hook(&self) -> Hook {
        let team = self.clone();
        Hook::new(move |tensor| team.sum(tensor).is_ok())
    }

    /// Ends the team because this device has failed: nobody waits for it any longer.
    pub fn abandon(&self) {
        let mut state = self.meeting.lock();
        self.meeting.fail(&mut state, PeerError::Gone { operation: SUM });
        // Other processes see it end.
        state.group = None;
    }

    /// Why the team is of no more use.
    pub fn failure(&self) -> Option<PeerError> {
        self.meeting.lock().failure.clone()
    }
}
