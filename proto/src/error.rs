//! The error of a message: what is wrong, and in which field.

/// A message that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the field `{field}` of a message: {problem}")]
pub struct ProtoError {
    /// The field, with the path to it: `contribution.digest`.
    pub field: String,
    /// The problem with it.
    pub problem: Problem,
}

/// A problem of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It has to be there.
    #[error("it is missing")]
    Missing,
    /// A digest of another length.
    #[error("a digest has 32 bytes, not {0}")]
    DigestLength(usize),
    /// Text over its bound.
    #[error("it has {bytes} bytes; at most {max} are accepted")]
    TooLong {
        /// Bytes that came.
        bytes: usize,
        /// Bytes that are accepted.
        max: usize,
    },
    /// A list over its bound.
    #[error("it has {count} entries; at most {max} are accepted")]
    TooMany {
        /// Entries that came.
        count: usize,
        /// Entries that are accepted.
        max: usize,
    },
    /// A name with other characters than a Kubernetes name has.
    #[error("a name consists of letters, digits, `-`, `.` and `_`")]
    NotAName,
    /// An address that is not `host:port`.
    #[error("an address is host:port, not {0:?}")]
    NotAnAddress(String),
    /// NaN or infinite.
    #[error("it has to be finite")]
    NotFinite,
    /// An enum's value that this version does not know.
    #[error("the value {0} is unknown")]
    UnknownValue(i32),
    /// A number outside its range.
    #[error("{0}")]
    OutOfRange(&'static str),
    /// It contradicts another field.
    #[error("it differs from `{0}`")]
    Differs(&'static str),
}

impl ProtoError {
    pub(crate) fn new(field: impl Into<String>, problem: Problem) -> ProtoError {
        ProtoError { field: field.into(), problem }
    }

    /// The same problem, seen from the message that contains this one in `outer`.
    pub(crate) fn within(mut self, outer: &str) -> ProtoError {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}
