//! The header of a safetensors file: eight bytes of length, then JSON, then the values.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::ImportError;

/// A longer header is refused, as other readers of the format do.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    /// Within the file.
    pub(super) bytes: Range<u64>,
}

/// How values are stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    Bf16,
}

impl Kind {
    pub(super) fn named(name: &str) -> Option<Kind> {
        match name {
            "F64" => Some(Self::F64),
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Bytes of a value.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The values of `bytes`. f32 has all of them but those of f64, which are rounded.
    pub(super) fn convert(self, bytes: &[u8], out: &mut [f32]) {
        let (words, halves) = (bytes.as_chunks::<4>().0, bytes.as_chunks::<2>().0);
        match self {
            Self::F64 => out.iter_mut().zip(bytes.as_chunks::<8>().0).for_each(|(out, word)| {
                *out = f64::from_le_bytes(*word) as f32;
            }),
            Self::F32 => {
                out.iter_mut().zip(words).for_each(|(out, word)| *out = f32::from_le_bytes(*word));
            }
            Self::F16 => out.iter_mut().zip(halves).for_each(|(out, half)| {
                *out = from_f16(u16::from_le_bytes(*half));
            }),
            Self::Bf16 => out.iter_mut().zip(halves).for_each(|(out, half)| {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*half)) << 16);
            }),
        }
    }
}

/// IEEE 754's binary16. Its exponent and fraction, moved to where f32 has them, are the value over
/// 2¹¹² (the difference of the biases), subnormal ones included.
fn from_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    if magnitude >= 0x7c00 {
        // Neither infinity nor NaN is ever used: which of them it is does not matter.
        return f32::NAN;
    }
    let scale = f32::from_bits((127 + 112) << 23);
    let value = f32::from_bits(magnitude << 13) * scale;
    if bits & 0x8000 == 0 { value } else { -value }
}

/// Reads and checks a file's header.
pub(super) fn read(file: &File, path: &Path) -> Result<BTreeMap<String, Entry>, ImportError> {
    #[derive(Deserialize)]
    struct Stored {
        dtype: String,
        shape: Vec<u64>,
        data_offsets: (u64, u64),
    }
    let damaged = |reason: String| ImportError::Damaged { path: path.into(), reason };
    let size = file.metadata().map_err(ImportError::io("read", path))?.len();
    let mut length = [0; 8];
    if size < length.len() as u64 {
        return Err(damaged(format!("it has {size} bytes, too few for a safetensors file")));
    }
    file.read_exact_at(&mut length, 0).map_err(ImportError::io("read", path))?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX || length > size - 8 {
        return Err(damaged(format!("a header of {length} bytes does not fit its {size} bytes")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact_at(&mut header, 8).map_err(ImportError::io("read", path))?;
    let tensors: BTreeMap<String, Value> =
        serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let mut entries = BTreeMap::new();
    for (name, value) in tensors.into_iter().filter(|(name, _)| name != "__metadata__") {
        let Stored { dtype, shape, data_offsets: (start, end) } =
            serde_json::from_value(value).map_err(|error| damaged(format!("{name}: {error}")))?;
        let room = size - 8 - length;
        if start > end || end > room {
            let reason = format!("{name} lies at {start}..{end} of {room} bytes: the file is cut");
            return Err(damaged(reason));
        }
        let bytes = 8 + length + start..8 + length + end;
        entries.insert(name, Entry { dtype, shape, bytes });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: Kind, bits: u16) -> f32 {
        let mut out = [0.0];
        kind.convert(&bits.to_le_bytes(), &mut out);
        out[0]
    }

    #[test]
    fn half_precision_is_read_exactly() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc100, -2.5),
            (0x7bff, 65_504.0),
            (0x0400, 1.0 / 16_384.0),
            (0x0001, 1.0 / 16_777_216.0),
            (0x83ff, -1023.0 / 16_777_216.0),
        ];
        for (bits, value) in cases {
            assert_eq!(one(Kind::F16, bits), value, "{bits:x}");
        }
        assert!(one(Kind::F16, 0x8000).is_sign_negative());
        assert!(
            [0x7c00, 0xfc00, 0x7e00].map(|bits| one(Kind::F16, bits)).iter().all(|v| v.is_nan())
        );
        assert_eq!(one(Kind::Bf16, 0xc020), -2.5);
        let mut out = [0.0];
        Kind::F64.convert(&(-2.5_f64).to_le_bytes(), &mut out);
        assert_eq!(out, [-2.5]);
    }
}

#[cfg(test)]
mod hostile;
