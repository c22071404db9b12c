//! Machines, the cards in them, and how long messages take between them: what plans are made for.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::gpu;

#[cfg(test)]
mod records;

/// A machine with cards.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The places that it stands in.
    pub topology: Topology,
    /// Its cards, by index.
    pub cards: Vec<NodeCard>,
    /// The links that were measured on it; the catalogue and [`Links::default`] speak where it is
    /// absent.
    pub links: Links,
}

/// The places that a node stands in; what is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// The rack, by whatever label the cluster has for it.
    pub rack: Option<String>,
    /// `nvidia.com/gpu.clique`: the NVLink domain over several nodes.
    pub clique: Option<String>,
}

/// A card of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeCard {
    /// Product, as GPU feature discovery writes it.
    pub product: String,
    /// Bytes.
    pub memory: u64,
    /// The speeds that it was measured to reach.
    pub measured: Option<Reached>,
}

impl NodeCard {
    /// The card that `pattern` names by the catalogue, the fastest of a family; without memory
    /// where the catalogue lacks it, and where it is shared by who knows how many.
    pub fn named(pattern: &str) -> NodeCard {
        let whole = gpu::lookup(pattern).map(|card| (card.product, card.memory()));
        let part = || gpu::part(pattern).filter(|_| !gpu::is_shared(pattern));
        let part = || part().map(|(_, share)| (pattern, share.memory));
        let (product, memory) = whole.or_else(part).unwrap_or((pattern, 0));
        NodeCard { product: product.to_owned(), memory, measured: None }
    }
}

/// The speeds that a device reaches in training's own operations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Reached {
    /// TFLOP/s of large matrix products in f32.
    #[serde(deserialize_with = "rate")]
    pub f32_tflops: f64,
    /// The same in bf16; absent where the device has none.
    #[serde(default, deserialize_with = "some_rate", skip_serializing_if = "Option::is_none")]
    pub bf16_tflops: Option<f64>,
    /// GB/s of reading and writing its memory.
    #[serde(deserialize_with = "rate")]
    pub bandwidth_gbps: f64,
}

/// How long messages take, by where they go; absent ones are assumed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Links {
    /// Between two devices of one process: peer copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Curve>,
    /// Between two processes of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Curve>,
    /// Between nodes of an island.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Curve>,
}

/// Seconds of a message by its bytes: measured points with straight lines between them. Beyond the
/// last, further bytes go as fast as between the last two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Point>", into = "Vec<Point>")]
pub struct Curve {
    points: Vec<Point>,
}

/// A message that was timed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Its bytes.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Points that make no curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurveError {
    /// Fewer than two.
    #[error("a curve needs two points at least")]
    TooFew,
    /// A time that is not positive, or bytes that do not grow.
    #[error("point {0}: bytes have to grow and seconds to be above 0 and not to fall")]
    OutOfOrder(usize),
}

impl Curve {
    /// A link of so many seconds before the first byte and so many bytes a second after it.
    pub fn linear(latency: f64, bytes_per_second: f64) -> Curve {
        const BYTES: u64 = 1 << 30;
        let at = |bytes: u64| Point { bytes, seconds: latency + bytes as f64 / bytes_per_second };
        Curve { points: vec![at(0), at(BYTES)] }
    }

    /// A curve through measured points.
    ///
    /// # Errors
    /// When they are fewer than two, or not in order.
    pub fn through(points: Vec<Point>) -> Result<Curve, CurveError> {
        if points.len() < 2 {
            return Err(CurveError::TooFew);
        }
        let sound = |point: &Point| point.seconds.is_finite() && point.seconds > 0.0;
        let wrong = points.iter().position(|point| !sound(point));
        let falls = points
            .windows(2)
            .position(|pair| pair[1].bytes <= pair[0].bytes || pair[1].seconds < pair[0].seconds);
        match wrong.or(falls.map(|before| before + 1)) {
            Some(at) => Err(CurveError::OutOfOrder(at)),
            None => Ok(Curve { points }),
        }
    }

    /// Seconds of a message of so many bytes.
    pub fn seconds(&self, bytes: f64) -> f64 {
        let last = self.points.len() - 2;
        let ends = self.points[1..].iter().position(|point| bytes <= point.bytes as f64);
        let (from, to) = {
            let at = ends.unwrap_or(last).min(last);
            (self.points[at], self.points[at + 1])
        };
        if bytes <= from.bytes as f64 {
            return from.seconds;
        }
        let slope = (to.seconds - from.seconds) / (to.bytes - from.bytes) as f64;
        from.seconds + (bytes - from.bytes as f64) * slope
    }
}

impl TryFrom<Vec<Point>> for Curve {
    type Error = CurveError;

    fn try_from(points: Vec<Point>) -> Result<Curve, CurveError> {
        Curve::through(points)
    }
}

impl From<Curve> for Vec<Point> {
    fn from(curve: Curve) -> Vec<Point> {
        curve.points
    }
}

/// The figures that `heteroloco-worker probe` measured on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Capability {
    /// The node.
    pub node: String,
    /// Its devices, by index.
    pub devices: Vec<DeviceCapability>,
    /// Its links.
    pub links: Links,
    /// An all-reduce between two processes of the node, by the bytes of the tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_reduce: Option<Curve>,
    /// Its way to other islands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Bandwidth>,
}

/// The figures that were measured on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DeviceCapability {
    /// Product, as GPU feature discovery writes it; `cpu` for one thread of the host.
    pub product: String,
    /// CUDA index; absent for the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes that nobody used.
    pub free_bytes: u64,
    /// How fast it is.
    pub reached: Reached,
}

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Outwards.
    #[serde(deserialize_with = "rate")]
    pub up: f64,
    /// Inwards.
    #[serde(deserialize_with = "rate")]
    pub down: f64,
}

/// A product's name as GPU feature discovery writes it, of the name that the driver gives.
pub fn product_label(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join("-")
}

/// A measured rate: plans divide by it.
fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    sound(f64::deserialize(from)?).map_err(D::Error::custom)
}

fn some_rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Option::deserialize(from)?.map(sound).transpose().map_err(D::Error::custom)
}

fn sound(rate: f64) -> Result<f64, String> {
    if rate.is_finite() && rate > 0.0 {
        return Ok(rate);
    }
    Err(format!("{rate} is no rate: measure again, it has to be above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(u64, f64)]) -> Result<Curve, CurveError> {
        let points =
            points.iter().map(|(bytes, seconds)| Point { bytes: *bytes, seconds: *seconds });
        Curve::through(points.collect())
    }

    #[test]
    fn a_curve_goes_through_its_points_and_straight_on() {
        let curve = curve(&[(100, 1.0), (200, 2.0), (400, 3.0)]).expect("in order");
        let at = |bytes| curve.seconds(bytes);
        assert_eq!(
            [at(0.0), at(100.0), at(150.0), at(300.0), at(600.0)],
            [1.0, 1.0, 1.5, 2.5, 4.0]
        );
        let line = Curve::linear(1e-3, 1e9);
        assert!((line.seconds(4e9) - 4.001).abs() < 1e-9);
    }

    #[test]
    fn a_name_is_spelt_as_gpu_feature_discovery_does() {
        assert_eq!(product_label("NVIDIA H100 80GB HBM3"), "NVIDIA-H100-80GB-HBM3");
    }

    #[test]
    fn a_record_is_read_back_and_one_with_rates_that_are_none_refused() {
        let text = r#"{"node":"lab","devices":[{"product":"cpu","memoryBytes":2,"freeBytes":1,
            "reached":{"f32Tflops":0.1,"bf16Tflops":0.2,"bandwidthGbps":9.0}}],
            "links":{"node":[{"bytes":4,"seconds":0.1},{"bytes":8,"seconds":0.1}]},
            "uplink":{"up":1.0,"down":2.0}}"#;
        let record: Capability = serde_json::from_str(text).expect("a record");
        let again = serde_json::to_string(&record).expect("no map keys");
        assert_eq!(serde_json::from_str::<Capability>(&again).expect("the same"), record);
        for (right, wrong) in [("0.1,", "0.0,"), ("0.2", "-1.0"), ("9.0", "0"), ("2.0", "-0.0")] {
            let refused = serde_json::from_str::<Capability>(&text.replacen(right, wrong, 1));
            let refused = refused.expect_err(wrong).to_string();
            assert!(refused.contains("is no rate"), "{refused}");
        }
        let none = serde_json::from_str::<Capability>(&text.replacen("0.2", "null", 1));
        assert_eq!(none.expect("null is absent").devices[0].reached.bf16_tflops, None);
    }

    #[test]
    fn points_that_fall_or_are_none_make_no_curve() {
        assert_eq!(curve(&[(1, 1.0)]), Err(CurveError::TooFew));
        assert_eq!(curve(&[(1, 2.0), (2, 1.0)]), Err(CurveError::OutOfOrder(1)));
        assert_eq!(curve(&[(1, 1.0), (1, 2.0)]), Err(CurveError::OutOfOrder(1)));
        assert_eq!(curve(&[(1, f64::NAN), (2, 2.0)]), Err(CurveError::OutOfOrder(0)));
        let text = "[{\"bytes\":1,\"seconds\":1.0}]";
        assert!(serde_json::from_str::<Curve>(text).is_err());
    }
}
