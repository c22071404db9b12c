//! `island logs`: what all ranks of an epoch say, line by line, each with its rank and node.

use std::io::{self, Write as _};
use std::pin::pin;
use std::time::Duration;

use api::names;
use futures::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use tokio::sync::mpsc;

use super::args::LogsArgs;
use super::connection::Cluster;
use super::error::ClusterError;
use super::pods::{self, Rank, Wanted};

/// Ranks that are read at the same time, where all end by themselves.
const AT_ONCE: usize = 16;
/// Ranks that are followed: each takes a connection.
const FOLLOWED_MAX: usize = 256;
/// A longer line is cut in pieces.
const LINE_MAX: u64 = 64 << 10;
/// Lines that are read before they are written.
const AHEAD: usize = 256;
/// A rank that is not followed answers within this time.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two looks whether a followed rank has started.
const LOOK: Duration = Duration::from_secs(2);

/// Prints the logs as they come. What is left to print is nothing.
pub(super) async fn logs(
    cluster: &Cluster,
    args: &LogsArgs,
    tell: &mut impl FnMut(&str),
) -> Result<String, ClusterError> {
    let name = &args.island.name;
    let island = cluster.island(name).await?;
    let pods = pods::of(cluster, &island).await?;
    let plan = island.status.as_ref().and_then(|status| status.plan.as_ref());
    let epoch = plan.and_then(|plan| u64::try_from(plan.epoch).ok());
    let wanted = Wanted { epoch, previous: args.previous_epoch, rank: args.rank };
    let ranks = pods::chosen(pods::ranks(&pods, name), name, wanted);
    let ranks = ranks.map_err(ClusterError::NoLogs)?;
    let count = ranks.len();
    if args.follow && count > FOLLOWED_MAX {
        return Err(ClusterError::NoLogs(format!(
            "{count} ranks are too many to follow: choose one with --rank"
        )));
    }
    let (lines, written) = mpsc::channel(AHEAD);
    let most = if args.follow { FOLLOWED_MAX } else { AT_ONCE };
    // The closure has the only sender of its own: the writer ends when all ranks have ended.
    let readers = stream::iter(ranks).map(move |rank| {
        let reader = Reader { pods: cluster.own(), follow: args.follow, tail: args.tail };
        read(reader, rank, lines.clone())
    });
    let reading = readers.buffer_unordered(most).filter_map(std::future::ready);
    let reading = reading.collect::<Vec<String>>();
    let (silent, written) = futures::future::join(reading, write(written)).await;
    written.map_err(ClusterError::Output)?;
    if silent.len() == count {
        return Err(ClusterError::NoLogs(silent.join("\n")));
    }
    silent.iter().for_each(|why| tell(why));
    Ok(String::new())
}

/// How ranks are read.
struct Reader {
    pods: Api<Pod>,
    follow: bool,
    tail: Option<u32>,
}

/// Reads a rank to its end; why there is nothing to read.
async fn read(from: Reader, rank: Rank, lines: mpsc::Sender<Vec<u8>>) -> Option<String> {
    let params = LogParams {
        container: Some(names::WORKER.into()),
        follow: from.follow,
        tail_lines: from.tail.map(i64::from),
        ..LogParams::default()
    };
    let mut told = false;
    loop {
        let error = match from.within(from.pods.log_stream(&rank.pod, &params)).await {
            Some(Ok(log)) => return from.copy(log, &rank, &lines).await,
            Some(Err(error)) => error,
            None => return Some(slow(&rank)),
        };
        let (waits, why) = match &error {
            kube::Error::Api(status) => (status.code == 400, status.message.clone()),
            other => (false, plan::words::chain(other)),
        };
        let why = format!("{}no log: {why}", prefix(&rank));
        if !(from.follow && waits) {
            return Some(why);
        }
        if !told && lines.send(format!("{why}; it is waited for\n").into()).await.is_err() {
            return None;
        }
        told = true;
        tokio::time::sleep(LOOK).await;
    }
}

impl Reader {
    /// The answer, in time where the rank is not followed.
    async fn within<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        if self.follow {
            return Some(answer.await);
        }
        tokio::time::timeout(ANSWER, answer).await.ok()
    }

    /// Hands on line by line; why it ended too early.
    async fn copy(
        &self,
        log: impl AsyncBufRead,
        rank: &Rank,
        lines: &mpsc::Sender<Vec<u8>>,
    ) -> Option<String> {
        let mut log = pin!(log);
        let prefix = prefix(rank);
        loop {
            match self.within(line(&mut log, &prefix)).await {
                Some(Ok(None)) => return None,
                Some(Ok(Some(line))) => {
                    // Nobody reads any more.
                    if lines.send(line).await.is_err() {
                        return None;
                    }
                }
                Some(Err(error)) => return Some(format!("{prefix}the log broke off: {error}")),
                None => return Some(slow(rank)),
            }
        }
    }
}

fn slow(rank: &Rank) -> String {
    format!("{}no log: nothing came for {} s", prefix(rank), ANSWER.as_secs())
}

/// The next line with its prefix and its end, or a piece of one that is too long.
async fn line(log: &mut (impl AsyncBufRead + Unpin), prefix: &str) -> io::Result<Option<Vec<u8>>> {
    let mut line = prefix.as_bytes().to_vec();
    let read = log.take(LINE_MAX).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    Ok(Some(line))
}

/// `[r0 node] `.
fn prefix(rank: &Rank) -> String {
    format!("[r{} {}] ", rank.rank, rank.node.as_deref().unwrap_or("-"))
}

/// Writes lines to standard output until there are no more, or nobody reads them.
async fn write(mut lines: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(line) = lines.recv().await {
        match io::stdout().lock().write_all(&line) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(at: u32, node: Option<&str>) -> Rank {
        Rank { epoch: 1, rank: at, pod: format!("p{at}"), node: node.map(str::to_owned) }
    }

    async fn copied(mut log: &[u8]) -> Vec<String> {
        let mut copied = Vec::new();
        while let Some(line) = line(&mut log, &prefix(&rank(3, Some("a")))).await.unwrap() {
            copied.push(String::from_utf8(line).unwrap());
        }
        copied
    }

    #[tokio::test]
    async fn every_line_says_its_rank_and_node_and_ends() {
        assert_eq!(copied(b"one\n\ntwo").await, ["[r3 a] one\n", "[r3 a] \n", "[r3 a] two\n"]);
        assert_eq!(prefix(&rank(0, None)), "[r0 -] ");
    }

    #[tokio::test]
    async fn a_long_line_comes_in_pieces() {
        let log = vec![b'x'; LINE_MAX as usize + 5];
        let pieces = copied(&log).await;
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1], "[r3 a] xxxxx\n");
    }
}
