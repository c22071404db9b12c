//! `island top`: a live table of islands and runs.

mod table;

use std::io::{self, IsTerminal as _, Write as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::island::ComputeIsland;
use api::run::TrainingRun;
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use plan::words::chain;
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::table::{Shown, cropped, table};
use super::args::TopArgs;
use super::connection::Cluster;
use super::error::ClusterError;

/// Changes that come together are drawn together.
const TOGETHER: Duration = Duration::from_millis(250);
/// Ages are drawn anew after so long.
const AGES: Duration = Duration::from_secs(10);

/// Prints the table once, or shows it until it is stopped; what is left to print.
pub(super) async fn top(cluster: &Cluster, args: &TopArgs) -> Result<String, ClusterError> {
    let all = args.all_namespaces;
    let client = cluster.client.clone();
    let (islands, runs) = match all {
        true => (Api::all(client.clone()), Api::all(client)),
        false => (cluster.own(), cluster.own()),
    };
    // Asked first in any case: a watch tries for ever where a list says what is wrong.
    let listed = ListParams::default();
    let found: Vec<ComputeIsland> =
        cluster.all("list islands", islands.clone(), listed.clone()).await?;
    let found_runs: Vec<TrainingRun> = cluster.all("list runs", runs.clone(), listed).await?;
    if args.once || !io::stdout().is_terminal() {
        let shown = Shown {
            islands: found.iter().collect(),
            runs: found_runs.iter().collect(),
            namespace: (!all).then_some(cluster.namespace.as_str()),
        };
        return Ok(table(shown, Timestamp::now()));
    }
    let (island_store, islands) = watched(islands, found);
    let (run_store, runs) = watched(runs, found_runs);
    let namespace = (!all).then_some(cluster.namespace.as_str());
    let screen = Screen { islands: island_store, runs: run_store, namespace };
    screen.show(stream::select(islands, runs)).await?;
    Ok(String::new())
}

/// A watch of all resources, some of which are known: what is known at any time, and that something
/// changed or went wrong.
fn watched<K>(
    api: Api<K>,
    known: Vec<K>,
) -> (Store<K>, impl Stream<Item = Result<(), watcher::Error>>)
where
    K: kube::Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    K: std::fmt::Debug + serde::de::DeserializeOwned,
{
    let (store, mut writer) = reflector::store();
    let known = known.into_iter().map(watcher::Event::InitApply);
    let list = std::iter::once(watcher::Event::Init).chain(known);
    for event in list.chain(std::iter::once(watcher::Event::InitDone)) {
        writer.apply_watcher_event(&event);
    }
    let changes = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    (store, changes.map(|change| change.map(drop)))
}

/// What is shown on a terminal.
struct Screen<'a> {
    islands: Store<ComputeIsland>,
    runs: Store<TrainingRun>,
    /// The one namespace, or all.
    namespace: Option<&'a str>,
}

impl Screen<'_> {
    /// Draws until standard output is gone.
    async fn show(
        &self,
        changes: impl Stream<Item = Result<(), watcher::Error>>,
    ) -> Result<(), ClusterError> {
        let mut changes = pin!(changes);
        let (mut together, mut ages) = (ticks(TOGETHER), ticks(AGES));
        let (mut changed, mut trouble) = (false, None);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) => {
                        changed = true;
                        trouble = change.err().map(|error| chain(&error));
                    }
                    None => return Ok(()),
                },
                _ = ages.tick() => changed = true,
                _ = together.tick() => if std::mem::take(&mut changed) {
                    match self.draw(trouble.as_deref()) {
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                        drawn => drawn.map_err(ClusterError::Output)?,
                    }
                },
            }
        }
    }

    fn draw(&self, trouble: Option<&str>) -> io::Result<()> {
        let (islands, runs) = (self.islands.state(), self.runs.state());
        let shown = Shown {
            islands: islands.iter().map(Arc::as_ref).collect(),
            runs: runs.iter().map(Arc::as_ref).collect(),
            namespace: self.namespace,
        };
        let mut text = table(shown, Timestamp::now());
        if let Some(trouble) = trouble {
            text += &format!("\nwhat is shown may be old, it is tried again: {trouble}\n");
        }
        let mut output = io::stdout().lock();
        let size = rustix::termios::tcgetwinsize(&output);
        let (columns, rows) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
        // From the top left, over what stands there; the rest of each line and of the screen goes.
        write!(output, "\x1b[H")?;
        for line in cropped(&text, columns.into(), rows.into()) {
            write!(output, "{line}\x1b[K\r\n")?;
        }
        write!(output, "\x1b[J")?;
        output.flush()
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
