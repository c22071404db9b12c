//! SparseLoCo on `&[f32]`: chunk layout, top-k, quantiser, error feedback, wire codec, outer step.
//!
//! Pure: no I/O, no clock, no randomness. `docs/wire-format.md` specifies the bytes.

pub mod codec;
pub mod layout;
pub mod outer;

pub use codec::{
    CodecParams, CompressError, FrameId, ParamsError, PieceAt, PieceInput, PieceStats, ValueBits,
    WireError,
};
pub use layout::{Layout, LayoutError, PieceSpan, TensorShape};
pub use outer::{ApplyError, OuterParams, PieceState, Rule, Weighted};
