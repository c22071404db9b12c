//! Bit planes: the first bit is the lowest of the first byte.

/// Writes a plane of bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    at: usize,
    word: u64,
    used: u32,
}

impl BitWriter {
    /// A writer of a plane of at most `bits` bits.
    pub(crate) fn new(bits: usize) -> BitWriter {
        BitWriter { bytes: vec![0; bits.div_ceil(64) * 8 + 8], at: 0, word: 0, used: 0 }
    }

    /// Appends the lowest `count` bits of `value`, at most 64; the others are zero.
    #[inline(always)]
    pub(crate) fn put(&mut self, value: u64, count: u32) {
        self.word |= value << self.used;
        let total = self.used + count;
        if total < 64 {
            self.used = total;
            return;
        }
        self.store();
        self.at += 8;
        self.word = if self.used == 0 { 0 } else { value >> (64 - self.used) };
        self.used = total - 64;
    }

    /// Appends `zeros` zeros and a one.
    #[inline(always)]
    pub(crate) fn put_unary(&mut self, mut zeros: u32) {
        while zeros > 63 {
            self.put(0, 63);
            zeros -= 63;
        }
        self.put(1 << zeros, zeros + 1);
    }

    #[inline(always)]
    fn store(&mut self) {
        self.bytes[self.at..][..8].copy_from_slice(&self.word.to_le_bytes());
    }

    /// The plane, with zeros up to a whole byte.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.store();
        &self.bytes[..self.at + self.used.div_ceil(8) as usize]
    }
}

/// 64 bits from bit `at` on; zeros past the end.
#[inline(always)]
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    let (byte, shift) = (at / 8, at % 8);
    let nine = match bytes.get(byte..).and_then(|rest| rest.first_chunk::<9>()) {
        Some(nine) => *nine,
        None => tail(bytes, byte),
    };
    let [low @ .., high] = nine;
    u64::from_le_bytes(low) >> shift | (u64::from(high) << 1) << (63 - shift)
}

/// `count` bits from bit `at` on, at most 16; zeros past the end.
#[inline(always)]
pub(crate) fn field(bytes: &[u8], at: usize, count: u32) -> u32 {
    word(bytes, at) as u32 & ((1 << count) - 1)
}

/// Eight fields of `width` bits, at most 12, from bit `at` on; zeros past the end.
#[inline(always)]
pub(crate) fn eight_fields(bytes: &[u8], at: usize, width: u32) -> [u32; 8] {
    let words = [word(bytes, at), word(bytes, at + 4 * width as usize)];
    let mask = (1u64 << width) - 1;
    let mut fields = [0; 8];
    for (lane, field) in fields.iter_mut().enumerate() {
        *field = (words[lane / 4] >> (lane % 4 * width as usize) & mask) as u32;
    }
    fields
}

#[cold]
fn tail<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut some = [0; N];
    for (to, byte) in some.iter_mut().zip(bytes.iter().skip(from)) {
        *to = *byte;
    }
    some
}

/// Index of the one with `rank` ones below it; `word` has more than `rank` ones.
#[inline(always)]
pub(crate) fn select(mut word: u64, mut rank: u32) -> u32 {
    let mut base = 0;
    let mut width = 32;
    while width >= 8 {
        let low = word & ((1 << width) - 1);
        let ones = low.count_ones();
        if rank >= ones {
            rank -= ones;
            base += width;
            word >>= width;
        } else {
            word = low;
        }
        width /= 2;
    }
    for _ in 0..rank {
        word &= word - 1;
    }
    base + word.trailing_zeros()
}
