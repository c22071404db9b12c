//! The outer optimisers that are compared.

use anyhow::Context;
use sparseloco::codec::compress_piece;
use sparseloco::layout::Layout;
use sparseloco::outer::{OuterParams, PieceState, Rule, Weighted, apply_piece, local_start};
use sparseloco::{CodecParams, FrameId, PieceAt, PieceInput, ValueBits};

/// An outer optimiser with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Arm {
    /// AdamW on the mean gradient at every step.
    DataParallel,
    /// θ ← θ − α·mean Δ.
    DenseSgd {
        /// α.
        alpha: f32,
    },
    /// DiLoCo: Nesterov momentum on the mean Δ (arXiv 2311.08105, algorithm 1).
    DiLoCo {
        /// Outer learning rate.
        alpha: f32,
        /// Momentum.
        momentum: f32,
    },
    /// SparseLoCo: top 64 of 4,096, 2-bit values, error feedback 0.95.
    Sparse {
        /// How contributions are combined.
        rule: Rule,
        /// α.
        alpha: f32,
        /// λ.
        retention: f32,
    },
}

/// The outer state of all islands.
pub struct Outer {
    arm: Arm,
    layout: Layout,
    codec: CodecParams,
    anchor: Vec<f32>,
    residuals: Vec<Vec<f32>>,
    frames: Vec<Vec<Vec<u8>>>,
    delta_sum: Vec<f32>,
    velocity: Vec<f32>,
}

impl Outer {
    /// State for `islands` islands of a model with this layout.
    pub fn new(arm: &Arm, layout: Layout, islands: usize) -> anyhow::Result<Outer> {
        let retention = match arm {
            Arm::Sparse { retention, .. } => *retention,
            _ => 0.0,
        };
        let codec = CodecParams::new(64, ValueBits::Two, 0.95, retention)?;
        let values = layout.values();
        Ok(Outer {
            arm: arm.clone(),
            codec,
            anchor: vec![0.0; values],
            residuals: vec![vec![0.0; values]; islands],
            frames: vec![Vec::new(); islands],
            delta_sum: vec![0.0; values],
            velocity: vec![0.0; values],
            layout,
        })
    }

    /// Takes the initial θ (flat).
    pub fn begin(&mut self, theta: &[f32]) {
        self.layout.gather(0..self.layout.pieces(), theta, &mut self.anchor);
    }

    /// Writes θ (flat).
    pub fn theta_into(&self, flat: &mut [f32]) {
        self.layout.scatter(0..self.layout.pieces(), &self.anchor, flat);
    }

    /// Writes where an island starts its round (flat).
    pub fn start_into(&self, island: usize, flat: &mut [f32]) {
        let mut start = self.anchor.clone();
        if matches!(self.arm, Arm::Sparse { .. }) {
            local_start(&self.codec, &self.anchor, &self.residuals[island], &mut start);
        }
        self.layout.scatter(0..self.layout.pieces(), &start, flat);
    }

    /// Takes an island's θ (flat) after its inner steps.
    pub fn collect(&mut self, island: usize, theta: &[f32]) -> anyhow::Result<()> {
        let mut after = vec![0.0; self.anchor.len()];
        self.layout.gather(0..self.layout.pieces(), theta, &mut after);
        if !matches!(self.arm, Arm::Sparse { .. }) {
            for ((sum, anchor), after) in self.delta_sum.iter_mut().zip(&self.anchor).zip(after) {
                *sum += anchor - after;
            }
            return Ok(());
        }
        let id = self.frame_id();
        self.frames[island].clear();
        for piece in 0..self.layout.pieces() {
            let values = self.layout.piece(piece).values;
            let mut frame = Vec::new();
            let at = PieceAt { layout: &self.layout, params: &self.codec, piece };
            let input =
                PieceInput { anchor: &self.anchor[values.clone()], theta: &after[values.clone()] };
            compress_piece(at, &id, input, &mut self.residuals[island][values], &mut frame)
                .context("training diverged")?;
            self.frames[island].push(frame);
        }
        Ok(())
    }

    /// The outer step; every island trained on `tokens`.
    pub fn step(&mut self, tokens: u64) -> anyhow::Result<()> {
        let scale = 1.0 / self.residuals.len() as f32;
        match self.arm {
            Arm::DataParallel => {}
            Arm::DenseSgd { alpha } => {
                for (anchor, sum) in self.anchor.iter_mut().zip(&mut self.delta_sum) {
                    *anchor -= alpha * std::mem::take(sum) * scale;
                }
            }
            Arm::DiLoCo { alpha, momentum } => {
                let state = self.anchor.iter_mut().zip(&mut self.velocity);
                for ((anchor, velocity), sum) in state.zip(&mut self.delta_sum) {
                    let delta = std::mem::take(sum) * scale;
                    *velocity = momentum * *velocity + delta;
                    *anchor -= alpha * (delta + momentum * *velocity);
                }
            }
            Arm::Sparse { rule, alpha, .. } => {
                self.sparse_step(OuterParams { rule, alpha }, tokens)?
            }
        }
        Ok(())
    }

    /// The same for all islands and rounds, as no frame leaves this process.
    fn frame_id(&self) -> FrameId {
        FrameId::new("convergence", "island", 0, self.layout.hash(&self.codec))
    }

    fn sparse_step(&mut self, outer: OuterParams, tokens: u64) -> anyhow::Result<()> {
        let id = self.frame_id();
        for piece in 0..self.layout.pieces() {
            let values = self.layout.piece(piece).values;
            let before = self.anchor[values.clone()].to_vec();
            for (island, residual) in self.residuals.iter_mut().enumerate() {
                let set: Vec<Weighted<'_>> = self
                    .frames
                    .iter()
                    .map(|frames| Weighted { weight: tokens, id, bytes: &frames[piece as usize] })
                    .collect();
                let at = PieceAt { layout: &self.layout, params: &self.codec, piece };
                // Every island makes the same outer step; each clips its own residual.
                let anchor = &mut self.anchor[values.clone()];
                anchor.copy_from_slice(&before);
                let state = PieceState { anchor, residual: &mut residual[values.clone()] };
                apply_piece(at, &outer, &set, Some(island), state)?;
            }
        }
        Ok(())
    }
}
