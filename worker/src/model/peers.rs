//! Devices that share every layer of a stage (tensor parallel, Shoeybi et al. 2019, section 3).

use tch::Tensor;
use tch_ext::{Hook, ShimError, changed_backward, changed_forward};

use super::ModelError;
use crate::parallel::Team;

/// This device's peers; none where it has whole layers.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers(Option<(Team, Hook)>);

impl Peers {
    pub(super) fn new(team: Option<Team>) -> Peers {
        Peers(team.map(|team| {
            let hook = team.hook();
            (team, hook)
        }))
    }

    /// Tensor-parallel size.
    pub(super) fn size(&self) -> i64 {
        self.0.as_ref().map_or(1, |(team, _)| team.size() as i64)
    }

    /// Which of them this device is.
    pub(super) fn position(&self) -> i64 {
        self.0.as_ref().map_or(0, |(team, _)| team.position() as i64)
    }

    /// What all peers have, on its way into their parts of a layer: its gradient is the sum of
    /// theirs (f of the paper).
    pub(super) fn enter(&self, x: Tensor) -> Result<Tensor, ModelError> {
        match &self.0 {
            Some((_, hook)) => self.watched(changed_backward(&x, hook)),
            None => Ok(x),
        }
    }

    /// What the peers' parts of a layer give, summed (g of the paper).
    pub(super) fn leave(&self, x: Tensor) -> Result<Tensor, ModelError> {
        match &self.0 {
            Some((_, hook)) => self.watched(changed_forward(&x, hook)),
            None => Ok(x),
        }
    }

    /// Replaces `tensor`, which nobody else has, by the sum over the peers; not differentiable.
    pub(super) fn sum(&self, tensor: &mut Tensor) -> Result<(), ModelError> {
        match &self.0 {
            Some((team, _)) => Ok(team.sum(tensor)?),
            None => Ok(()),
        }
    }

    pub(super) fn abandon(&self) {
        self.0.iter().for_each(|(team, _)| team.abandon());
    }

    /// Says which peer failed, where that is why libtorch did.
    pub(super) fn watched<T>(&self, result: Result<T, ShimError>) -> Result<T, ModelError> {
        result.map_err(|error| {
            let failure = self.0.as_ref().and_then(|(team, _)| team.failure());
            failure.map_or(ModelError::Shim(error), ModelError::Peers)
        })
    }
}
