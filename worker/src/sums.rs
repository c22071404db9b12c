//! What an inner step is judged by: where it is not finite, the step is skipped.

use tch::{Device, Kind, Tensor};

use crate::model::ModelError;

/// A step's summed loss in nats and Σ g² of its gradient: two f64, on the host, or on the device
/// that computes them until somebody reads them.
#[derive(Debug)]
pub struct Sums(Tensor);

impl Sums {
    /// Sums that the host knows.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn of(loss: f64, squares: f64) -> Result<Sums, ModelError> {
        Ok(Sums(Tensor::f_from_slice(&[loss, squares])?))
    }

    /// Sums that a device has, each a single f64.
    pub(crate) fn on_device(loss: &Tensor, squares: &Tensor) -> Result<Sums, ModelError> {
        Ok(Sums(Tensor::f_stack(&[loss, squares], 0)?))
    }

    /// Loss and squares. Waits for the device that has them.
    ///
    /// # Errors
    /// What the device has failed at.
    pub fn read(&self) -> Result<[f64; 2], ModelError> {
        let here = self.0.f_to_device(Device::Cpu)?;
        Ok([here.f_double_value(&[0])?, here.f_double_value(&[1])?])
    }

    /// Both sums on `device`: [2].
    pub(crate) fn on(&self, device: Device) -> Result<Tensor, ModelError> {
        Ok(self.0.f_to_device(device)?)
    }
}

/// Whether a step with these sums is made.
pub fn finite(sums: [f64; 2]) -> bool {
    sums.iter().all(|sum| sum.is_finite())
}

/// [`Sums::read`] of several, all on one device, that waits once.
///
/// # Errors
/// What the device has failed at.
pub fn read_all<'a>(sums: impl Iterator<Item = &'a Sums>) -> Result<Vec<[f64; 2]>, ModelError> {
    let tensors: Vec<&Tensor> = sums.map(|sums| &sums.0).collect();
    if tensors.is_empty() {
        return Ok(Vec::new());
    }
    let all = Tensor::f_cat(&tensors, 0)?.f_to_device(Device::Cpu)?;
    let values = Vec::<f64>::try_from(all)?;
    Ok(values.as_chunks::<2>().0.to_vec())
}

/// What sums begin with: a single f64.
pub(crate) fn zero(device: Device) -> Result<Tensor, ModelError> {
    Ok(Tensor::f_zeros([0i64; 0], (Kind::Double, device))?)
}

#[cfg(test)]
mod tests;
