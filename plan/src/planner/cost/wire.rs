//! How many bytes an island sends.

use crate::model::Llama;
use crate::spec::SparseSpec;

/// Values of a full chunk.
const CHUNK: f64 = 4096.0;
/// Bits a Rice-coded position takes above log2(chunk / k); measured: 7.5 at k = 64.
const RICE_BITS: f64 = 1.5;
/// Bits of scale, framing and checksums for each kept value; measured.
const FRAMING_BITS: f64 = 0.5;

/// Expected bytes of one contribution: for each kept value its position, sign and magnitude bits,
/// and its part of the framing. An estimate: Rice codes vary with the positions.
pub(crate) fn contribution_bytes(model: &Llama, sparse: &SparseSpec) -> u64 {
    let k = f64::from(sparse.top_k);
    let kept = model.parameters() as f64 * k / CHUNK;
    let position = ((CHUNK / k).log2() + RICE_BITS).max(1.0);
    let bits = kept * (position + f64::from(sparse.value_bits) + FRAMING_BITS);
    (bits / 8.0).ceil() as u64
}
