//! Why a replica is split as it is, in sentences.

use super::refusal::Refusal;
use super::sharding::{Candidate, Search};

/// The reasons for a layout; `whole` is why the cards do not each hold the model.
pub(super) fn reasons(
    search: &Search<'_>,
    best: &Candidate,
    whole: Option<Refusal>,
) -> Vec<String> {
    let mut reasons = vec![chosen(search, best, whole)];
    reasons.extend(uneven(best));
    reasons.extend(recompute(search, best));
    reasons.extend(compression(search, best));
    if best.batches.iter().any(|batch| *batch != best.batches[0]) {
        let reason = "faster replicas take more micro-batches, so that all end a step together";
        reasons.push(reason.into());
    }
    reasons.extend(left_out(search, best));
    reasons
}

fn chosen(search: &Search<'_>, best: &Candidate, whole: Option<Refusal>) -> String {
    let layout = &search.island.parallelism;
    let ways = format!("pp {} × tp {}", best.sharding.stages.len(), best.sharding.tensor);
    match whole {
        Some(whole) => format!(
            "a replica is split {ways}: the model {}; of the ways that fit this is the fastest",
            whole.message
        ),
        None if layout.tensor.is_some() && layout.pipeline.is_some() => {
            format!("a replica is split {ways}, as asked")
        }
        None => format!("a replica is split {ways}, the fastest way that fits what is asked"),
    }
}

fn uneven(best: &Candidate) -> Option<String> {
    let layers: Vec<_> = best.sharding.stages.iter().map(|stage| stage.layers).collect();
    let (least, most) = (layers.iter().min()?, layers.iter().max()?);
    let alike = best.groups.iter().flatten().all(|group| group.kind == best.groups[0][0].kind);
    let why = if alike { "memory and the head's time" } else { "the cards' speed and memory" };
    (most - least > 1).then(|| format!("stages hold {least} to {most} layers, by {why}"))
}

fn recompute(search: &Search<'_>, best: &Candidate) -> Option<String> {
    let stages = (0..).zip(&best.sharding.stages).filter(|(_, stage)| stage.recompute);
    let stages: Vec<u32> = stages.map(|(index, _)| index).collect();
    let why = match search.island.pipeline.recompute {
        Some(_) => "as asked",
        None => "where memory does not hold them",
    };
    let named = match stages[..] {
        [] => return None,
        [one] => format!("stage {one} computes"),
        _ if stages.len() == best.sharding.stages.len() => "all stages compute".into(),
        [first, .., last] => format!("{} stages of {first} to {last} compute", stages.len()),
    };
    Some(format!("{named} activations again in backward, {why}"))
}

fn compression(search: &Search<'_>, best: &Candidate) -> Option<String> {
    let rank = search.island.pipeline.compression?.rank;
    let hidden = search.planner.run.model.config().hidden_size;
    Some(match best.sharding.compression {
        Some(_) => format!("{rank} of {hidden} values of a token cross between stages"),
        None => "pipeline.compression has no effect on a single stage".into(),
    })
}

/// Cards without a place, by product.
fn left_out(search: &Search<'_>, best: &Candidate) -> Vec<String> {
    let mut used = vec![false; search.cards.len()];
    for index in best.groups.iter().flatten().flat_map(|group| &group.cards) {
        used[*index] = true;
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (card, _) in search.cards.iter().zip(&used).filter(|(_, used)| !**used) {
        match counts.iter_mut().find(|(product, _)| *product == card.product) {
            Some((_, count)) => *count += 1,
            None => counts.push((&card.product, 1)),
        }
    }
    let sentence = |(product, count): &(&str, usize)| {
        format!("left out {count} × {product}: no way with more of them is faster")
    };
    counts.iter().map(sentence).collect()
}
