//! The operator's process and what it tells of itself.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Processor time in /proc is in hundredths of a second on every Linux.
const TICKS: f64 = 100.0;
/// Bytes of its log that an error has.
const TAIL_MAX: usize = 4_000;

/// A running operator; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Operator {
    child: Child,
    id: u32,
    address: String,
    log: PathBuf,
}

impl Operator {
    /// Starts the program beside this one.
    pub(crate) fn start(dir: &Path, config: &Path) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("failed to find this program")?;
        let program = own.with_file_name("heteroloco-operator");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.context("failed to find a free port")?.to_string();
        let log = dir.join("operator.log");
        let file = File::create(&log).context("failed to make the operator's log")?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&program);
        command
            .args(["--emulate", "--allow-host-path", "--listen", &address])
            .env("KUBECONFIG", config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.kill_on_drop(true).spawn();
        let child = child.with_context(|| format!("failed to start {}", program.display()))?;
        let id = child.id().context("the operator ended at once")?;
        Ok(Self { child, id, address, log })
    }

    /// An error where it ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait().context("failed to look after the operator")?;
        ended.map_or(Ok(()), |status| anyhow::bail!("the operator ended: {status}"))
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(TAIL_MAX)..]).into_owned()
    }

    /// Most memory that it ever had, MiB.
    pub(crate) fn peak_mib(&self) -> anyhow::Result<f64> {
        let status = self.proc("status")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
        Ok(kib.context("/proc tells no VmHWM")? / 1024.0)
    }

    /// Processor time so far.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.proc("stat")?;
        // The name may have spaces: fields count from its closing bracket, the state first.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let times = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
        let times: Result<Vec<f64>, _> = times.collect();
        Ok(times.context("/proc tells no processor time")?.iter().sum::<f64>() / TICKS)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.id);
        fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
    }

    /// The text that it serves under /metrics.
    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        let ask = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            let request = format!(
                "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.address
            );
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map(|_| answer)
        };
        ask.await.context("failed to read the operator's metrics")
    }
}

/// A quantile of the time of a controller's reconciles, seconds: within its bucket of the histogram
/// all times count as equally likely. `None` where none was timed.
pub(crate) fn quantile(metrics: &str, controller: &str, share: f64) -> Option<f64> {
    let own = format!("controller=\"{controller}\"");
    let bucket = |line: &str| {
        let rest = line.strip_prefix("heteroloco_reconcile_duration_seconds_bucket{")?;
        let (labels, value) = rest.split_once("} ")?;
        let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        // An exemplar may follow.
        let count = value.split(' ').next()?.parse::<f64>().ok()?;
        labels.contains(&own).then_some((bound, count))
    };
    let buckets: Vec<(f64, f64)> = metrics.lines().filter_map(bucket).collect();
    let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let at = buckets.iter().position(|(_, count)| *count >= share * all)?;
    let (low, before) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    let (high, count) = buckets[at];
    if high.is_infinite() {
        return Some(low);
    }
    Some(low + (high - low) * (share * all - before) / (count - before))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "\
# TYPE heteroloco_reconcile_duration_seconds histogram
heteroloco_reconcile_duration_seconds_bucket{le=\"0.1\",controller=\"island\"} 50
heteroloco_reconcile_duration_seconds_bucket{le=\"0.2\",controller=\"island\"} 100
heteroloco_reconcile_duration_seconds_bucket{le=\"+Inf\",controller=\"island\"} 100
heteroloco_reconcile_duration_seconds_bucket{le=\"0.1\",controller=\"run\"} 0
heteroloco_reconcile_duration_seconds_bucket{le=\"+Inf\",controller=\"run\"} 2
";

    #[test]
    fn a_quantile_lies_within_its_bucket_and_is_of_one_controller() {
        let near = |share, value: f64| {
            let found = quantile(METRICS, "island", share).expect("times");
            assert!((found - value).abs() < 1e-9, "{share}: {found}");
        };
        near(0.25, 0.05);
        near(0.5, 0.1);
        near(0.99, 0.198);
        // Beyond the last bound nothing more is known.
        assert_eq!(quantile(METRICS, "run", 0.99), Some(0.1));
        assert_eq!(quantile(METRICS, "pool", 0.99), None);
    }
}
