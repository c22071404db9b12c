//! What the rounds see of a rank's parameters.

use collective::{CommError, Group};

use crate::MemberError;

/// A rank's parameters, as the rounds see them: the values of its span, in canonical order, which
/// the island's ranks hold between them in whatever sharding they train.
pub trait Theta {
    /// Collects the span's values from the island's ranks; all ranks call it together.
    fn collect(&mut self, group: &mut Group, span: &mut [f32]) -> Result<(), ThetaError>;
    /// Gives the span's values to all ranks that train them; all ranks call it together.
    fn spread(&mut self, group: &mut Group, span: &[f32]) -> Result<(), ThetaError>;
}

/// Why parameters could not be moved between shards and spans.
#[derive(Debug, thiserror::Error)]
pub enum ThetaError {
    /// A rank of the island is lost or confused.
    #[error("failed to move parameters within the island")]
    Group(#[from] CommError),
    /// The device that holds a shard failed.
    #[error("failed to bring parameters to the host or back")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<ThetaError> for MemberError {
    fn from(error: ThetaError) -> MemberError {
        match error {
            ThetaError::Group(source) => {
                MemberError::Group { operation: "move parameters", source }
            }
            ThetaError::Other(source) => MemberError::Theta(source),
        }
    }
}
