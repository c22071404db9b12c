//! From a `ComputeIsland` to the planner's input.

use plan::cluster::Bandwidth;
use plan::request::{self, DeviceRequest, IslandRequest, PipelineRequest};
use plan::spec::PipelineCompression;

use super::{Check, Wanted};
use crate::advice;
use crate::island::{
    CARDS_MAX, CompressionMode, ComputeIsland, Count, CountRange, Device, Objective, Pipeline,
    Toleration, TolerationOperator, Uplink,
};
use crate::schema::FieldProblem;
use crate::text::Decimal;

impl ComputeIsland {
    /// The planner's input, which names no nodes: whoever knows them asks `spec.nodeSelector`.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn request(&self) -> Result<IslandRequest, Vec<FieldProblem>> {
        let mut check = Check::default();
        let spec = &self.spec;
        let devices = check.devices(&spec.devices, spec.objective);
        let memory = check.memory("spec.minMemory", spec.min_memory.as_ref());
        let uplink = spec.uplink.as_ref().and_then(|uplink| check.uplink(uplink));
        if let Some(selector) = &spec.node_selector {
            check.problems.extend(selector.problems("spec.nodeSelector"));
        }
        if let Some(cooldown) = spec.idle.as_ref().and_then(|idle| idle.cooldown.as_ref()) {
            check.parse("spec.idle.cooldown", cooldown.parse());
        }
        if let Some(deadline) = &spec.start_deadline {
            check.parse("spec.startDeadline", deadline.parse());
        }
        check.problems.extend(tolerations(&spec.tolerations, "spec.tolerations"));
        let layout = spec.parallelism.clone().unwrap_or_default();
        check.finish(|| {
            Some(IslandRequest {
                name: self.metadata.name.clone()?,
                devices,
                min_memory: memory.unwrap_or(0),
                parallelism: request::Parallelism {
                    tensor: layout.tensor,
                    pipeline: layout.pipeline,
                    data: layout.data,
                },
                pipeline: pipeline(spec.pipeline.as_ref()),
                objective: objective(spec.objective),
                uplink,
                nodes: None,
                correction: 1.0,
            })
        })
    }
}

/// Tolerations that no pod may have: the API server refuses them.
pub(crate) fn tolerations(all: &[Toleration], path: &str) -> Vec<FieldProblem> {
    let problem = |(i, toleration): (usize, &Toleration)| {
        let exists = toleration.operator == TolerationOperator::Exists;
        let path = format!("{path}[{i}]");
        if toleration.key.as_ref().is_none_or(String::is_empty) && !exists {
            let message = "without a key it tolerates every taint: write `operator: Exists` too";
            Some(FieldProblem::new(path, message))
        } else if exists && toleration.value.as_ref().is_some_and(|value| !value.is_empty()) {
            let message = "Exists takes no value: leave it out";
            Some(FieldProblem::new(format!("{path}.value"), message))
        } else {
            None
        }
    };
    all.iter().enumerate().filter_map(problem).collect()
}

pub(crate) fn objective(objective: Objective) -> request::Objective {
    match objective {
        Objective::Throughput => request::Objective::Throughput,
        Objective::PerWatt => request::Objective::PerWatt,
        Objective::PerCost => request::Objective::PerCost,
    }
}

pub(crate) fn pipeline(pipeline: Option<&Pipeline>) -> PipelineRequest {
    let compression = pipeline.and_then(|pipeline| pipeline.compression.as_ref());
    PipelineRequest {
        compression: compression.map(|asked| PipelineCompression { rank: asked.rank }),
        compress_where_slow: compression.is_some_and(|it| it.mode == CompressionMode::WhereSlow),
        recompute: pipeline.and_then(|pipeline| pipeline.recompute),
    }
}

impl Check {
    fn devices(&mut self, devices: &[Device], objective: Objective) -> Vec<DeviceRequest> {
        let mut requests = Vec::with_capacity(devices.len());
        for (i, device) in devices.iter().enumerate() {
            let path = format!("spec.devices[{i}]");
            requests.push(self.device(&path, device));
            if devices[..i].iter().any(|other| other.product == device.product) {
                let message = "it stands there already: list every product once";
                self.problem(&format!("{path}.product"), message);
            }
            if objective == Objective::PerCost && device.cost_per_hour.is_none() {
                let message = "missing: objective PerCost needs it of every device; say what one \
                               card costs an hour, or choose another objective";
                self.problem(&format!("{path}.costPerHour"), message);
            }
        }
        requests
    }

    fn device(&mut self, path: &str, device: &Device) -> DeviceRequest {
        let (min, max) = match device.count {
            Count::Exactly(count) => (count, count),
            Count::Between(CountRange { min, max }) => (min, max),
        };
        if max == 0 || max > CARDS_MAX {
            let message = format!("{max} is not between 1 and {CARDS_MAX}");
            self.problem(&format!("{path}.count"), message);
        } else if min > max {
            let bounds = advice::write(&format!("{{min: {max}, max: {min}}}"));
            let message = match min <= CARDS_MAX {
                true => format!("min {min} is above max {max}: {bounds}"),
                false => format!("min {min} is above max {max}"),
            };
            self.problem(&format!("{path}.count"), message);
        }
        let memory = self.memory(&format!("{path}.memory"), device.memory.as_ref());
        if memory == Some(0) {
            let message = "0 is no memory: write what one card has, such as `24Gi`";
            self.problem(&format!("{path}.memory"), message);
        }
        let mut number = |name: &str, text: Option<&Decimal>, wanted| {
            text.and_then(|text| self.number(&format!("{path}.{name}"), text, wanted))
        };
        let tflops = number("tflops", device.tflops.as_ref(), Wanted::Tflops);
        let cost = number("costPerHour", device.cost_per_hour.as_ref(), Wanted::Positive);
        DeviceRequest {
            product: device.product.clone(),
            min,
            max,
            memory,
            tflops,
            cost_per_hour: cost,
        }
    }

    fn uplink(&mut self, uplink: &Uplink) -> Option<Bandwidth> {
        let up = self.parse("spec.uplink.up", uplink.up.bits());
        let down = self.parse("spec.uplink.down", uplink.down.bits());
        let bits = |value: Option<u64>| value.map(|bits| bits as f64);
        Some(Bandwidth { up: bits(up)?, down: bits(down)? })
    }
}
