//! SparseLoCo on `&[f32]`: chunk layout, top-k, quantiser, error feedback, wire codec, outer step.
//!
//! Pure: no I/O, no clock, no randomness. `docs/wire-format.md` specifies the bytes.

pub mod aggregate;
mod bits;
pub mod codec;
mod frame;
pub mod layout;
pub mod limit;
mod message;
pub mod outer;
mod params;
mod pass;
mod quantise;
mod select;
mod simd;
#[cfg(test)]
mod testing;

pub use codec::{CompressError, FrameId, PieceAt, PieceInput, PieceStats, WireError};
pub use frame::{HEADER_BYTES, MAGIC, MAGNITUDE_MAX, VERSION};
pub use layout::{Block, ChunkKind, Layout, LayoutError, PieceSpan, TensorShape};
pub use outer::{ApplyError, Dense, OuterParams, PieceState, Rule, Weighted};
pub use params::{CodecParams, ParamsError, ValueBits};
pub use simd::InstructionSet;
