//! What status says of an island.

use api::island::{ComputeIsland, ComputeIslandStatus, FoundDevice, PlanPhase, PlanStatus};
use k8s_openapi::jiff::Timestamp;
use rounds::types::{MemberState, MemberView, RunView};

use super::decide::Decision;
use crate::conditions::{Said, conditions};

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The planner's word, or `WaitingForCards`.
    pub reason: &'static str,
    pub why: String,
    /// Whether more cards would do.
    pub for_cards: bool,
}

/// What status is made of.
pub(crate) struct Facts<'a> {
    pub island: &'a ComputeIsland,
    pub plan: Option<PlanStatus>,
    pub decision: &'a Decision,
    pub refused: Option<&'a Refused>,
    /// Cards that were looked at when it was planned; `None` leaves what status says.
    pub devices: Option<Vec<FoundDevice>>,
    pub view: Option<&'a RunView>,
    /// Tokens a second that were measured.
    pub speed: Option<i64>,
    pub now: Timestamp,
}

/// The status that is to be written.
pub(crate) fn status(facts: Facts<'_>) -> ComputeIslandStatus {
    let before = facts.island.status.clone().unwrap_or_default();
    let generation = facts.island.metadata.generation;
    let said = said(&facts);
    let name = facts.island.metadata.name.as_deref().unwrap_or_default();
    let member = facts.view.and_then(|view| view.members.iter().find(|it| it.island == name));
    ComputeIslandStatus {
        observed_generation: generation,
        conditions: conditions(&before.conditions, said, generation, facts.now),
        devices: facts.devices.unwrap_or(before.devices),
        plan: facts.plan,
        round: member.map(|member| member.round as i64).or(before.round),
        tokens: member.map(|member| member.tokens as i64).or(before.tokens),
        tokens_per_second: facts.speed,
        share: facts.view.zip(member).and_then(share).or(before.share),
    }
}

/// A member's share of the run's tokens. Rounds that were lost count for it, but not for the run.
fn share((view, member): (&RunView, &MemberView)) -> Option<String> {
    let share = 100.0 * member.tokens as f64 / view.tokens as f64;
    share.is_finite().then(|| format!("{:.1}%", share.min(100.0)))
}

fn said(facts: &Facts<'_>) -> Vec<Said> {
    let Decision { reason, why, .. } = facts.decision;
    let phase = facts.plan.as_ref().map(|plan| plan.phase);
    let mut said = vec![match phase {
        Some(PlanPhase::Running) => Said::yes("Ready", "Running", why.as_str()),
        Some(PlanPhase::Done) => Said::yes("Ready", "Complete", why.as_str()),
        _ => match facts.refused {
            Some(refused) => Said::no("Ready", refused.reason, refused.why.as_str()),
            None => Said::no("Ready", reason, why.as_str()),
        },
    }];
    said.push(planned(facts));
    said.push(match facts.refused {
        Some(Refused { for_cards: true, why, .. }) => {
            Said::no("CapacitySatisfied", "WaitingForCards", why.as_str())
        }
        _ if phase.is_some() => {
            Said::yes("CapacitySatisfied", "CardsFound", "its cards are set aside")
        }
        _ => Said::unknown("CapacitySatisfied", "NotLookedFor", "no cards were looked for"),
    });
    let name = facts.island.metadata.name.as_deref().unwrap_or_default();
    said.push(joined(name, facts.view));
    said.push(degraded(facts));
    said
}

fn planned(facts: &Facts<'_>) -> Said {
    match (&facts.plan, facts.refused) {
        (Some(plan), Some(refused)) if plan.phase != PlanPhase::Waiting => {
            let why = format!("an earlier plan is kept: {}", refused.why);
            Said::yes("Planned", "EarlierPlan", why)
        }
        (_, Some(refused)) => Said::no("Planned", refused.reason, refused.why.as_str()),
        (Some(plan), None) => {
            let cards = plan.cards;
            let words = format!("{} over {cards} cards (data × pipeline × tensor)", plan.layout);
            Said::yes("Planned", "Planned", words)
        }
        (None, None) => Said::no("Planned", "NotPlanned", facts.decision.why.as_str()),
    }
}

fn joined(name: &str, view: Option<&RunView>) -> Said {
    let Some(view) = view else {
        return Said::unknown("Joined", "RunUnknown", "the coordinator was not asked yet");
    };
    let Some(member) = view.members.iter().find(|member| member.island == name) else {
        return Said::no("Joined", "NotAMember", "the run does not count it as a member");
    };
    let words = |what: &str| match member.complaint.as_str() {
        "" => what.to_owned(),
        complaint => format!("{what}; when it joined: {complaint}"),
    };
    match member.state {
        MemberState::Active => Said::yes("Joined", "Active", words("it takes part in the round")),
        MemberState::Ready => {
            Said::yes("Joined", "Ready", words("it takes part from the next round"))
        }
        MemberState::Syncing => Said::no("Joined", "Syncing", words("it fetches the parameters")),
    }
}

fn degraded(facts: &Facts<'_>) -> Said {
    let Some(plan) = &facts.plan else {
        return Said::no("Degraded", "NotPlanned", "nothing runs");
    };
    match (plan.phase, plan.failures, facts.refused) {
        (PlanPhase::Failed, _, _) => {
            Said::yes("Degraded", facts.decision.reason, facts.decision.why.as_str())
        }
        (_, 1.., _) => {
            let text = format!("{} epochs broke in a row; {}", plan.failures, facts.decision.why);
            Said::yes("Degraded", "Restarting", text)
        }
        (_, 0, Some(refused)) => Said::yes("Degraded", refused.reason, refused.why.as_str()),
        (_, 0, None) => Said::no("Degraded", "AsPlanned", "it goes on as planned"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_island_complains_of_stands_beside_what_it_does() {
        let member = |complaint: &str| MemberView {
            island: "lab".into(),
            state: MemberState::Active,
            complaint: complaint.into(),
            ..MemberView::default()
        };
        let said = |members| joined("lab", Some(&RunView { members, ..RunView::default() }));
        let well = said(vec![member("")]);
        assert_eq!((well.reason, well.message.as_str()), ("Active", "it takes part in the round"));
        let message = said(vec![member("a checkpoint is damaged")]).message;
        assert!(message.ends_with("when it joined: a checkpoint is damaged"), "{message}");
        assert_eq!(said(vec![]).reason, "NotAMember");
    }
}
