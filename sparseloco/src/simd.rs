//! Runtime choice of instruction set, and the one step that a compiler does not vectorise.
//!
//! Every other loop of this crate is plain Rust that is compiled once per instruction set: a
//! [`Job`] is inlined into a function that enables AVX2 or AVX-512. Rust neither reorders nor
//! fuses float operations, so all of them give the same bits. This is the only module that may
//! use `unsafe`.
#![allow(unsafe_code)]

/// Values that [`Simd::at_least`] looks at.
pub(crate) const ROW: usize = 64;

/// Clears the sign of an f32's bits; magnitudes then order as integers, NaN above all.
pub(crate) const MAGNITUDE: u32 = 0x7fff_ffff;

/// Operations that compilers do not make of plain Rust; one implementation per instruction set.
pub(crate) trait Simd: Copy {
    /// A bit for each value, the first one lowest: whether its bits under `mask` are, as an
    /// unsigned number, at least `least`.
    fn at_least(self, values: &[f32; ROW], mask: u32, least: u32) -> u64;
}

/// Work to be compiled for each instruction set. `run` has to be `#[inline(always)]`.
pub(crate) trait Job {
    /// The result.
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
    pub fn best() -> InstructionSet {
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

/// Asks for the memory of `row`.
#[inline(always)]
pub(crate) fn prefetch(row: &[f32; 64]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 machine has SSE, and a prefetch of any address has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// The instructions that every machine has.
#[derive(Clone, Copy, Debug)]
struct Portable;

impl Simd for Portable {
    #[inline(always)]
    fn at_least(self, values: &[f32; ROW], mask: u32, least: u32) -> u64 {
        let bit = |value: &f32| u64::from(value.to_bits() & mask >= least);
        values.iter().rev().fold(0, |bits, value| bits << 1 | bit(value))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The levels of x86-64. A token exists only on a machine that has its features.

    use std::arch::x86_64::*;

    use super::{Job, ROW, Simd};

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
        fn at_least(self, values: &[f32; ROW], mask: u32, least: u32) -> u64 {
            // SAFETY: `self` proves that the machine has the features of `at_least_avx2`.
            unsafe { at_least_avx2(values, mask, least) }
        }
    }

    impl Simd for Avx512 {
        #[inline(always)]
        fn at_least(self, values: &[f32; ROW], mask: u32, least: u32) -> u64 {
            // SAFETY: `self` proves that the machine has the features of `at_least_avx512`.
            unsafe { at_least_avx512(values, mask, least) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    fn at_least_avx2(values: &[f32; ROW], mask: u32, least: u32) -> u64 {
        let (mask, least) = (_mm256_set1_epi32(mask as i32), _mm256_set1_epi32(least as i32));
        let hits = |eight: &[f32; 8]| {
            // SAFETY: `eight` is 32 readable bytes, and the load needs no alignment.
            let bits = unsafe { _mm256_loadu_si256(eight.as_ptr().cast()) };
            let bits = _mm256_and_si256(bits, mask);
            _mm256_cmpeq_epi32(_mm256_max_epu32(bits, least), bits)
        };
        // Packing works on halves of 16 bytes; `order` undoes what it does to the order of fours.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let half = |four: &[[f32; 8]]| {
            let low = _mm256_packs_epi32(hits(&four[0]), hits(&four[1]));
            let high = _mm256_packs_epi32(hits(&four[2]), hits(&four[3]));
            let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
            u64::from(_mm256_movemask_epi8(bytes) as u32)
        };
        let (low, high) = values.as_chunks().0.split_at(4);
        half(high) << 32 | half(low)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    fn at_least_avx512(values: &[f32; ROW], mask: u32, least: u32) -> u64 {
        let (mask, least) = (_mm512_set1_epi32(mask as i32), _mm512_set1_epi32(least as i32));
        let hits = |sixteen: &[f32; 16]| {
            // SAFETY: `sixteen` is 64 readable bytes, and the load needs no alignment.
            let bits = unsafe { _mm512_loadu_si512(sixteen.as_ptr().cast()) };
            u64::from(_mm512_cmpge_epu32_mask(_mm512_and_si512(bits, mask), least))
        };
        let (sixteens, _) = values.as_chunks();
        sixteens.iter().rev().fold(0, |bits, sixteen| bits << 16 | hits(sixteen))
    }
}
