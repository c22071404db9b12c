//! Runtime choice of instruction set, and the one step that a compiler does not vectorise.
//!
//! Every other loop of this crate is plain Rust that is compiled once per instruction set: a
//! [`Job`] is inlined into a function that enables AVX2 or AVX-512. Rust neither reorders nor
//! fuses float operations, so all of them give the same bits. This is the only module that may
//! use `unsafe`.
#![allow(unsafe_code)]

/// Candidates are stored this many at a time, so their buffers need as much slack.
pub(crate) const LANES: usize = 16;

/// Clears the sign of an f32's bits; magnitudes then order as integers, NaN above all.
pub(crate) const MAGNITUDE: u32 = 0x7fff_ffff;

/// Finds large values; one implementation per instruction set, all with the same result.
pub(crate) trait Simd: Copy {
    /// Writes the indices of all values whose magnitude's bits are at least `floor` to the start
    /// of `indices`, in increasing order, and returns how many there are. `values.len()` is a
    /// multiple of [`LANES`], and `indices` is longer by at least that. What stands in `indices`
    /// after those is unspecified.
    fn at_least(self, values: &[f32], floor: u32, indices: &mut [u32]) -> usize;
}

/// Work to be compiled for each instruction set. `run` has to be `#[inline(always)]`.
pub(crate) trait Job {
    /// What it returns.
    type Output;
    /// The work.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set that this machine has. Which one is used changes the speed, never a bit of
/// the result; the functions of [`crate::codec`] and [`crate::outer`] use the best.
#[derive(Clone, Copy, Debug)]
pub struct InstructionSet(Set);

#[derive(Clone, Copy, Debug)]
enum Set {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
}

impl InstructionSet {
    /// All that this machine has, slowest first.
    pub fn available() -> Vec<InstructionSet> {
        let mut sets = vec![Set::Portable(Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(x86::Avx2::detect().map(Set::Avx2));
            sets.extend(x86::Avx512::detect().map(Set::Avx512));
        }
        sets.into_iter().map(InstructionSet).collect()
    }

    /// The fastest of this machine.
    pub(crate) fn best() -> InstructionSet {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = x86::Avx512::detect() {
                return InstructionSet(Set::Avx512(simd));
            }
            if let Some(simd) = x86::Avx2::detect() {
                return InstructionSet(Set::Avx2(simd));
            }
        }
        InstructionSet(Set::Portable(Portable))
    }

    /// `portable`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => "avx512",
        }
    }

    /// Runs `job` with this set.
    pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
        match self.0 {
            Set::Portable(simd) => job.run(simd),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(simd) => simd.run(job),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => simd.run(job),
        }
    }
}

/// Asks for the cache line that holds `values[at]`, if there is such a value.
#[inline(always)]
pub(crate) fn prefetch(values: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(value) = values.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 machine has SSE, and a prefetch of any address has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}

/// What every machine can do.
#[derive(Clone, Copy, Debug)]
struct Portable;

impl Simd for Portable {
    #[inline(always)]
    fn at_least(self, values: &[f32], floor: u32, indices: &mut [u32]) -> usize {
        let mut found = 0;
        for (index, value) in (0u32..).zip(values) {
            indices[found] = index;
            found += usize::from(value.to_bits() & MAGNITUDE >= floor);
        }
        found
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The levels of x86-64. A token exists only on a machine that has its features.

    use std::arch::x86_64::*;

    use super::{Job, MAGNITUDE, Simd};

    /// Proof that this machine has AVX2, BMI1, BMI2 and POPCNT.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Avx2(());

    /// Proof that this machine has AVX-512 F, BW, DQ and VL, and what [`Avx2`] proves.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Avx512(Avx2);

    impl Avx2 {
        pub(super) fn detect() -> Option<Avx2> {
            let has = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt");
            has.then_some(Avx2(()))
        }

        pub(super) fn run<J: Job>(self, job: J) -> J::Output {
            #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
            fn enabled<J: Job>(job: J, simd: Avx2) -> J::Output {
                job.run(simd)
            }
            // SAFETY: `self` proves that the machine has the features that `enabled` enables.
            unsafe { enabled(job, self) }
        }
    }

    impl Avx512 {
        pub(super) fn detect() -> Option<Avx512> {
            let has = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            Avx2::detect().filter(|_| has).map(Avx512)
        }

        pub(super) fn run<J: Job>(self, job: J) -> J::Output {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
            fn enabled<J: Job>(job: J, simd: Avx512) -> J::Output {
                job.run(simd)
            }
            // SAFETY: `self` proves that the machine has the features that `enabled` enables.
            unsafe { enabled(job, self) }
        }
    }

    impl Simd for Avx2 {
        #[inline(always)]
        fn at_least(self, values: &[f32], floor: u32, indices: &mut [u32]) -> usize {
            // SAFETY: `self` proves that the machine has the features of `at_least_avx2`.
            unsafe { at_least_avx2(values, floor, indices) }
        }
    }

    impl Simd for Avx512 {
        #[inline(always)]
        fn at_least(self, values: &[f32], floor: u32, indices: &mut [u32]) -> usize {
            // SAFETY: `self` proves that the machine has the features of `at_least_avx512`.
            unsafe { at_least_avx512(values, floor, indices) }
        }
    }

    /// For each mask of 8 lanes, the lanes that are set, packed to the front, a byte each.
    static PACKED: [u64; 256] = packed();

    const fn packed() -> [u64; 256] {
        let mut table = [0; 256];
        let mut mask = 0;
        while mask < 256 {
            let (mut lane, mut found) = (0, 0);
            while lane < 8 {
                if mask >> lane & 1 == 1 {
                    table[mask] |= lane << (8 * found);
                    found += 1;
                }
                lane += 1;
            }
            mask += 1;
        }
        table
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    fn at_least_avx2(values: &[f32], floor: u32, indices: &mut [u32]) -> usize {
        // Magnitudes are below 2^31, so the signed comparison that AVX2 has serves; a floor above
        // them (as for floor = 2^31) selects nothing.
        let below = _mm256_set1_epi32((floor.min(MAGNITUDE + 1) as i32).wrapping_sub(1));
        let magnitude = _mm256_set1_epi32(MAGNITUDE as i32);
        let mut lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mut found = 0;
        for eight in values.as_chunks::<8>().0 {
            // SAFETY: `eight` is 32 readable bytes, and the load needs no alignment.
            let bits = unsafe { _mm256_loadu_si256(eight.as_ptr().cast()) };
            let hits = _mm256_cmpgt_epi32(_mm256_and_si256(bits, magnitude), below);
            let mask = _mm256_movemask_ps(_mm256_castsi256_ps(hits));
            let order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(PACKED[mask as usize] as i64));
            let to = indices[found..].first_chunk_mut::<8>().expect("slack after the last index");
            let packed = _mm256_permutevar8x32_epi32(lanes, order);
            // SAFETY: `to` is 32 writable bytes, and the store needs no alignment.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), packed) };
            found += mask.count_ones() as usize;
            lanes = _mm256_add_epi32(lanes, _mm256_set1_epi32(8));
        }
        found
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    fn at_least_avx512(values: &[f32], floor: u32, indices: &mut [u32]) -> usize {
        let floor = _mm512_set1_epi32(floor as i32);
        let magnitude = _mm512_set1_epi32(MAGNITUDE as i32);
        let mut lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let mut found = 0;
        for sixteen in values.as_chunks::<16>().0 {
            // SAFETY: `sixteen` is 64 readable bytes, and the load needs no alignment.
            let bits = unsafe { _mm512_loadu_si512(sixteen.as_ptr().cast()) };
            let mask = _mm512_cmpge_epu32_mask(_mm512_and_si512(bits, magnitude), floor);
            let to = indices[found..].first_chunk_mut::<16>().expect("slack after the last index");
            let packed = _mm512_maskz_compress_epi32(mask, lanes);
            // SAFETY: `to` is 64 writable bytes, and the store needs no alignment.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), packed) };
            found += mask.count_ones() as usize;
            lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(16));
        }
        found
    }
}
