//! Values to bytes and back: little-endian f32, whatever the alignment of the bytes.

/// `out = incoming + own`.
pub(crate) fn add(out: &mut [u8], incoming: &[u8], own: &[f32]) {
    assert_lengths(out.len(), own.len());
    assert_lengths(incoming.len(), own.len());
    let incoming = incoming.as_chunks::<4>().0;
    let out = out.as_chunks_mut::<4>().0;
    for ((out, incoming), own) in out.iter_mut().zip(incoming).zip(own) {
        *out = (f32::from_le_bytes(*incoming) + own).to_le_bytes();
    }
}

/// `own += incoming`.
pub(crate) fn add_assign(own: &mut [f32], incoming: &[u8]) {
    assert_lengths(incoming.len(), own.len());
    for (own, incoming) in own.iter_mut().zip(incoming.as_chunks::<4>().0) {
        *own += f32::from_le_bytes(*incoming);
    }
}

/// `own = incoming`.
pub(crate) fn load(own: &mut [f32], incoming: &[u8]) {
    assert_lengths(incoming.len(), own.len());
    for (own, incoming) in own.iter_mut().zip(incoming.as_chunks::<4>().0) {
        *own = f32::from_le_bytes(*incoming);
    }
}

/// `out = own`.
pub(crate) fn store(out: &mut [u8], own: &[f32]) {
    assert_lengths(out.len(), own.len());
    for (out, own) in out.as_chunks_mut::<4>().0.iter_mut().zip(own) {
        *out = own.to_le_bytes();
    }
}

fn assert_lengths(bytes: usize, values: usize) {
    assert_eq!(bytes, values * 4, "lengths were compared when the message came");
}
