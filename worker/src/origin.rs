//! θ of round 0, for whichever part of it a rank holds: from the run's seed, or from a model that
//! is there already.

use std::num::NonZero;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use plan::model::TensorSpec;
use sparseloco::Layout;
use sparseloco::layout::BLOCK;

use crate::hugging_face::{Folder, ImportError};
use crate::init;

/// Where θ of round 0 comes from.
#[derive(Debug)]
pub enum Origin {
    /// Random values, as [`init`] makes them.
    Seed {
        /// Seed of the run.
        seed: u64,
        /// Standard deviation of the matrices.
        range: f64,
    },
    /// A folder in Hugging Face's form, checked against the same tensors.
    Folder(Folder),
}

impl Origin {
    /// Rows of a tensor; a vector is a single row.
    fn rows(
        &self,
        (index, tensor): (usize, &TensorSpec),
        rows: Range<u64>,
        out: &mut [f32],
    ) -> Result<(), ImportError> {
        match self {
            Self::Seed { seed, range } => init::fill_rows(*seed, tensor, *range, rows, out),
            Self::Folder(folder) => folder.rows(index, rows, out)?,
        }
        Ok(())
    }
}

/// At most 64 rows of a tensor, which the canonical order has as one run of values.
struct Band<'a> {
    tensor: (usize, &'a TensorSpec),
    rows: Range<u64>,
    columns: usize,
    /// Where its wanted values begin, counted from its first.
    skip: usize,
    out: &'a mut [f32],
}

/// The values of the pieces `span` in the canonical order of `layout`, which is that of `tensors`.
/// Besides the result there is one band of 64 rows in memory for each thread.
///
/// # Errors
/// The folder cannot be read, or has values that are not finite.
///
/// # Panics
/// The layout has fewer pieces, or is not of these tensors.
pub fn span_values(
    origin: &Origin,
    layout: &Layout,
    tensors: &[TensorSpec],
    span: Range<u32>,
) -> Result<Vec<f32>, ImportError> {
    let all: u64 = tensors.iter().map(TensorSpec::numel).sum();
    assert_eq!(all, layout.values() as u64, "values of the layout");
    let wanted = layout.span(span);
    let mut values = vec![0.0; wanted.len()];
    let queue = Mutex::new(bands(tensors, wanted, &mut values).into_iter());
    let work = || -> Result<(), ImportError> {
        let mut buffer = Vec::new();
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(band) = next() {
            if let Err(error) = fill(origin, band, &mut buffer) {
                // Nobody reads on in vain.
                queue.lock().unwrap_or_else(PoisonError::into_inner).by_ref().for_each(drop);
                return Err(error);
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let joined = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.fold(own, Result::and)
    })?;
    Ok(values)
}

/// The bands that have wanted values, each with its part of `out`.
fn bands<'a>(tensors: &'a [TensorSpec], wanted: Range<usize>, out: &'a mut [f32]) -> Vec<Band<'a>> {
    let (mut found, mut rest, mut at) = (Vec::new(), out, 0);
    for tensor in tensors.iter().enumerate() {
        let (height, width) = match tensor.1.shape[..] {
            [rows, columns] => (rows, columns as usize),
            _ => (1, tensor.1.numel() as usize),
        };
        for first in (0..height).step_by(BLOCK) {
            let rows = first..height.min(first + BLOCK as u64);
            let end = at + (rows.end - rows.start) as usize * width;
            let (start, stop) = (wanted.start.max(at), wanted.end.min(end));
            if start < stop {
                let (out, after) = rest.split_at_mut(stop - start);
                found.push(Band { tensor, rows, columns: width, skip: start - at, out });
                rest = after;
            }
            at = end;
        }
    }
    found
}

/// Reads a band row by row into `buffer`, and puts its blocks one after another. Wanted are whole
/// blocks, or runs of a vector.
fn fill(origin: &Origin, band: Band<'_>, buffer: &mut Vec<f32>) -> Result<(), ImportError> {
    let Band { tensor, rows, columns, skip, out } = band;
    let height = (rows.end - rows.start) as usize;
    buffer.resize(height * columns, 0.0);
    origin.rows(tensor, rows, buffer)?;
    if tensor.1.shape.len() < 2 {
        out.copy_from_slice(&buffer[skip..skip + out.len()]);
        return Ok(());
    }
    // A block of full width has as many values as go before the next.
    let mut left = skip / height;
    let mut rest = out;
    while !rest.is_empty() {
        let width = BLOCK.min(columns - left);
        let (block, after) = rest.split_at_mut(height * width);
        for (row, line) in block.chunks_exact_mut(width).zip(buffer.chunks_exact(columns)) {
            row.copy_from_slice(&line[left..left + width]);
        }
        (rest, left) = (after, left + width);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
