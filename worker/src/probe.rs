//! `heteroloco-worker probe`: what this machine's devices and links reach, in training's own
//! operations and over its own transport, as the record that plans are made from.
//!
//! A figure is the median of several repeats after a warm-up. Each has a bound on its time and on
//! its share of the free memory; what a bound leaves out is told.

mod device;
mod error;
mod extent;
mod host;
mod links;
mod pair;
mod peer;
mod report;
mod timing;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use plan::cluster::{Bandwidth, Capability, Curve, Links};

pub use error::ProbeError;
use extent::Extent;

#[cfg(test)]
mod tests;

/// The longest name of a node, as Kubernetes has it.
const NAME_BYTES_MAX: usize = 253;

/// What is measured, and where the figures go.
#[derive(Debug, Args)]
pub struct ProbeArguments {
    /// The node's name in the record [default: this host's name].
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    node: Option<String>,
    /// Measure the CPU as well, where there are cards; without cards it is measured anyway.
    #[arg(long)]
    cpu: bool,
    /// Write the record to this file in place of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Measure the way to another machine too, which runs `probe --serve` at this address. It has
    /// to reach this machine as well, at any port.
    #[arg(long, value_name = "HOST:PORT", value_parser = peer::address)]
    peer: Option<String>,
    /// The peer lies beyond this island's uplink: record bits per second to it and from it.
    #[arg(long, requires = "peer")]
    uplink: bool,
    /// Only answer one machine that measures its way here; listen at this address.
    #[arg(long, value_name = "HOST:PORT", value_parser = peer::address,
          conflicts_with_all = ["node", "cpu", "out", "peer", "uplink"])]
    serve: Option<String>,
}

fn node_name(text: &str) -> Result<String, String> {
    let printable = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !printable {
        return Err(format!("a name has 1 to {NAME_BYTES_MAX} bytes and no blanks"));
    }
    Ok(text.to_owned())
}

/// Measures this machine, or answers another one that measures its way here.
///
/// # Errors
/// A device, the peer or a file cannot be used; the error says what to change.
pub fn probe_command(arguments: &ProbeArguments) -> anyhow::Result<()> {
    if let Some(address) = &arguments.serve {
        return serve(address);
    }
    check_out(arguments)?;
    let mut notes = Vec::new();
    let record = measure(arguments, &Extent::full(), &mut notes)?;
    eprint!("{}", report::table(&record));
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    let mut bytes = serde_json::to_vec_pretty(&record).context("failed to encode the record")?;
    bytes.push(b'\n');
    match &arguments.out {
        Some(path) => Ok(durable::write(path, &bytes)?),
        None => std::io::stdout().write_all(&bytes).context("failed to print the record"),
    }
}

fn serve(address: &str) -> anyhow::Result<()> {
    let waiting = peer::Waiting::bind(address)?;
    eprintln!("waiting at {} for one `probe --peer`", waiting.address());
    let other = waiting.answer()?;
    eprintln!("answered {other}");
    Ok(())
}

/// Tells of a file that cannot be written before seconds are spent on what it should hold.
fn check_out(arguments: &ProbeArguments) -> anyhow::Result<()> {
    let Some(path) = &arguments.out else { return Ok(()) };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => return Ok(()),
    };
    anyhow::ensure!(
        folder.is_dir(),
        "failed to write the record to {}: there is no folder {}; make it first",
        path.display(),
        folder.display()
    );
    Ok(())
}

/// Everything that was asked for; `notes` takes a sentence on each thing that was left out.
fn measure(
    arguments: &ProbeArguments,
    extent: &Extent,
    notes: &mut Vec<String>,
) -> Result<Capability, ProbeError> {
    let node = match &arguments.node {
        Some(name) => name.clone(),
        None => host::name()?,
    };
    let memory = host::memory()?;
    let messages = extent.messages_within(memory.free, notes);
    let far = match &arguments.peer {
        Some(peer) => far(peer, arguments.uplink, &messages)?,
        None => Far::default(),
    };
    let cards = host::cards()?;
    let mut devices = Vec::new();
    for (index, card) in (0..).zip(&cards) {
        devices.push(device::card(index, card, &extent.cuda, notes)?);
    }
    if cards.is_empty() || arguments.cpu {
        devices.push(device::cpu(memory, &extent.cpu, notes)?);
    }
    let process = if cards.len() > 1 { Some(links::process(&messages)?) } else { None };
    let (node_link, all_reduce) = links::node(&messages)?;
    let links = Links { process, node: Some(node_link), network: far.network };
    Ok(Capability { node, devices, links, all_reduce: Some(all_reduce), uplink: far.uplink })
}

/// What was measured to another machine.
#[derive(Debug, Default)]
struct Far {
    network: Option<Curve>,
    uplink: Option<Bandwidth>,
}

/// Of another island a plan asks for bandwidths, of a node of the same one for times.
fn far(address: &str, beyond_uplink: bool, messages: &[u64]) -> Result<Far, ProbeError> {
    let mut leader = peer::join(address)?;
    let far = if beyond_uplink {
        Far { network: None, uplink: Some(links::uplink(&mut leader, messages)?) }
    } else {
        Far { network: Some(links::point_to_point(&mut leader, messages)?), uplink: None }
    };
    leader.end()?;
    Ok(far)
}
