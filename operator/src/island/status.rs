//! What status says of an island.

use std::fmt;

use api::island::{ComputeIsland, ComputeIslandStatus, FoundDevice, PlanPhase};
use api::status::ConditionType;
use k8s_openapi::jiff::Timestamp;
use rounds::types::{MemberState, MemberView, RunView};

use super::decide::Decision;
use super::reason::{Reason, Refusal};
use super::standing::Plan;
use crate::conditions::{AsReason, Said, conditions};

/// What status is made of.
pub(crate) struct Facts<'a> {
    pub island: &'a ComputeIsland,
    pub plan: Option<&'a Plan>,
    pub decision: &'a Decision,
    pub refused: Option<&'a Refusal>,
    /// Cards that were looked at when it was planned; `None` leaves what status says.
    pub devices: Option<Vec<FoundDevice>>,
    pub view: Option<&'a RunView>,
    /// Tokens a second that were measured.
    pub speed: Option<i64>,
    pub now: Timestamp,
}

/// What a condition says beyond why something was decided or refused.
enum Word<'a> {
    /// All ranks run.
    Running(&'a Reason),
    /// The island has done its part.
    Complete(&'a Reason),
    /// More cards would do.
    WaitingForCards(&'a Refusal),
    /// Cards are set aside.
    CardsFound,
    /// None were looked for.
    NotLookedFor,
    /// There is a plan.
    Planned(&'a Plan),
    /// There is one, and no better one.
    EarlierPlan(&'a Refusal),
    /// There is none yet.
    NotPlanned(&'a Reason),
    /// The coordinator said nothing yet.
    RunUnknown,
    /// It knows no such member.
    NotAMember,
    /// It does, in this state.
    Member(&'a MemberView),
    /// Nothing runs.
    NothingRuns,
    /// Epochs broke.
    Restarting(&'a Plan, &'a Reason),
    /// It goes on.
    AsPlanned,
}

impl AsReason for Word<'_> {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Running(_) => "Running",
            Self::Complete(_) => "Complete",
            Self::WaitingForCards(_) => "WaitingForCards",
            Self::CardsFound => "CardsFound",
            Self::NotLookedFor => "NotLookedFor",
            Self::Planned(_) => "Planned",
            Self::EarlierPlan(_) => "EarlierPlan",
            Self::NotPlanned(_) | Self::NothingRuns => "NotPlanned",
            Self::RunUnknown => "RunUnknown",
            Self::NotAMember => "NotAMember",
            Self::Member(member) => match member.state {
                MemberState::Active => "Active",
                MemberState::Ready => "Ready",
                MemberState::Syncing => "Syncing",
            },
            Self::Restarting(..) => "Restarting",
            Self::AsPlanned => "AsPlanned",
        }
    }
}

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(reason) | Self::Complete(reason) | Self::NotPlanned(reason) => {
                reason.fmt(f)
            }
            Self::WaitingForCards(refusal) => refusal.fmt(f),
            Self::CardsFound => f.write_str("its cards are set aside"),
            Self::NotLookedFor => f.write_str("no cards were looked for"),
            Self::Planned(plan) => {
                let (layout, cards) = (&plan.layout, plan.cards);
                write!(f, "{layout} over {cards} cards (data × pipeline × tensor)")
            }
            Self::EarlierPlan(refusal) => write!(f, "an earlier plan is kept: {refusal}"),
            Self::RunUnknown => f.write_str("the coordinator was not asked yet"),
            Self::NotAMember => f.write_str("the run does not count it as a member"),
            Self::Member(member) => {
                f.write_str(match member.state {
                    MemberState::Active => "it takes part in the round",
                    MemberState::Ready => "it takes part from the next round",
                    MemberState::Syncing => "it fetches the parameters",
                })?;
                match member.complaint.as_str() {
                    "" => Ok(()),
                    complaint => write!(f, "; when it joined: {complaint}"),
                }
            }
            Self::NothingRuns => f.write_str("nothing runs"),
            Self::Restarting(plan, reason) => {
                write!(f, "{} epochs broke in a row; {reason}", plan.failures)
            }
            Self::AsPlanned => f.write_str("it goes on as planned"),
        }
    }
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
        plan: facts.plan.map(Plan::written),
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
    let name = facts.island.metadata.name.as_deref().unwrap_or_default();
    vec![ready(facts), planned(facts), capacity(facts), joined(name, facts.view), degraded(facts)]
}

fn ready(facts: &Facts<'_>) -> Said {
    let (reason, kind) = (&facts.decision.reason, ConditionType::Ready);
    match (facts.plan.map(|plan| plan.phase), facts.refused) {
        (Some(PlanPhase::Running), _) => Said::yes(kind, &Word::Running(reason)),
        (Some(PlanPhase::Done), _) => Said::yes(kind, &Word::Complete(reason)),
        (_, Some(refused)) => Said::no(kind, refused),
        (_, None) => Said::no(kind, reason),
    }
}

fn planned(facts: &Facts<'_>) -> Said {
    let kind = ConditionType::Planned;
    match (facts.plan, facts.refused) {
        (Some(plan), Some(refused)) if plan.phase != PlanPhase::Waiting => {
            Said::yes(kind, &Word::EarlierPlan(refused))
        }
        (_, Some(refused)) => Said::no(kind, refused),
        (Some(plan), None) => Said::yes(kind, &Word::Planned(plan)),
        (None, None) => Said::no(kind, &Word::NotPlanned(&facts.decision.reason)),
    }
}

fn capacity(facts: &Facts<'_>) -> Said {
    let kind = ConditionType::CapacitySatisfied;
    match (facts.refused.filter(|refused| refused.for_cards()), facts.plan) {
        (Some(refused), _) => Said::no(kind, &Word::WaitingForCards(refused)),
        (None, Some(_)) => Said::yes(kind, &Word::CardsFound),
        (None, None) => Said::unknown(kind, &Word::NotLookedFor),
    }
}

fn joined(name: &str, view: Option<&RunView>) -> Said {
    let kind = ConditionType::Joined;
    let Some(view) = view else { return Said::unknown(kind, &Word::RunUnknown) };
    let Some(member) = view.members.iter().find(|member| member.island == name) else {
        return Said::no(kind, &Word::NotAMember);
    };
    match member.state {
        MemberState::Active | MemberState::Ready => Said::yes(kind, &Word::Member(member)),
        MemberState::Syncing => Said::no(kind, &Word::Member(member)),
    }
}

fn degraded(facts: &Facts<'_>) -> Said {
    let (reason, kind) = (&facts.decision.reason, ConditionType::Degraded);
    let Some(plan) = facts.plan else { return Said::no(kind, &Word::NothingRuns) };
    match (plan.phase, plan.failures, facts.refused) {
        (PlanPhase::Failed, _, _) => Said::yes(kind, reason),
        (_, 1.., _) => Said::yes(kind, &Word::Restarting(plan, reason)),
        (_, 0, Some(refused)) => Said::yes(kind, refused),
        (_, 0, None) => Said::no(kind, &Word::AsPlanned),
    }
}

#[cfg(test)]
mod tests {
    use api::status::{Condition, ConditionStatus};
    use plan::planner;
    use serde_json::json;

    use super::super::decide::Step;
    use super::super::examples::{self, L4, at, island};
    use super::super::reason::Competitors;
    use super::*;

    fn member(state: MemberState, complaint: &str) -> MemberView {
        MemberView {
            island: "lab".into(),
            state,
            complaint: complaint.into(),
            ..MemberView::default()
        }
    }

    fn made(
        plan: Option<&Plan>,
        refused: Option<&Refusal>,
        reason: Reason,
        before: Option<ComputeIslandStatus>,
    ) -> ComputeIslandStatus {
        let mut island = island(&[L4], &json!({}));
        island.status = before;
        let decision = Decision { step: Step::Keep(None), reason };
        status(Facts {
            island: &island,
            plan,
            decision: &decision,
            refused,
            devices: None,
            view: None,
            speed: None,
            now: at(500),
        })
    }

    /// Each condition that there is, such as `Ready=True:Running`.
    fn short(status: &ComputeIslandStatus) -> Vec<String> {
        let short = |it: &Condition| format!("{}={:?}:{}", it.kind, it.status, it.reason);
        status.conditions.iter().map(short).collect()
    }

    fn too_few() -> Refusal {
        let (message, remedy) = ("1 of 2 cards".into(), "lower count".into());
        let reason = planner::Reason::NotEnoughCards;
        let refusal = planner::Refusal { island: None, reason, message, remedy };
        Refusal::Planner(refusal, Competitors::default())
    }

    /// The status is `Ready`, `Planned`, `CapacitySatisfied` and `Degraded` so.
    fn check(plan: Option<Plan>, refused: Option<&Refusal>, reason: Reason, said: [&str; 4]) {
        let what = format!("{plan:?}, {refused:?}, {reason:?}");
        let status = made(plan.as_ref(), refused, reason, None);
        let [ready, planned, capacity, degraded] = said;
        let expected = [
            format!("Ready={ready}"),
            format!("Planned={planned}"),
            format!("CapacitySatisfied={capacity}"),
            "Joined=Unknown:RunUnknown".into(),
            format!("Degraded={degraded}"),
        ];
        assert_eq!(short(&status), expected, "{what}");
        assert_eq!(status.plan, plan.map(|plan| plan.written()), "{what}");
    }

    #[test]
    fn an_island_without_a_plan_says_what_it_lacks() {
        let (few, wrong) = (too_few(), Refusal::InvalidSpec("devices".into()));
        let (idle, unknown) = ("False:NotPlanned", "Unknown:NotLookedFor");
        let none = |refused, said| check(None, refused, Reason::Unplanned, said);
        none(None, ["False:Planning", "False:NotPlanned", unknown, idle]);
        let lacks = "False:NotEnoughCards";
        none(Some(&few), [lacks, lacks, "False:WaitingForCards", idle]);
        none(Some(&wrong), ["False:InvalidSpec", "False:InvalidSpec", unknown, idle]);
    }

    #[test]
    fn an_island_with_a_plan_says_how_it_fares_and_whether_it_could_have_another() {
        use PlanPhase::{Done, Failed, Planned, Running, Waiting};
        let plan = |phase, failures| Some(examples::plan(phase, failures));
        let few = too_few();
        let (planned, found) = ("True:Planned", "True:CardsFound");
        let (waits, well) = ("False:WaitingForCards", "False:AsPlanned");
        let said = ["False:RunNotBegun", planned, found, well];
        check(plan(Planned, 0), None, Reason::RunNotBegun, said);
        check(plan(Running, 0), None, Reason::Running, ["True:Running", planned, found, well]);
        check(plan(Done, 0), None, Reason::Complete, ["True:Complete", planned, found, well]);
        let said = ["True:Running", "True:EarlierPlan", waits, "True:NotEnoughCards"];
        check(plan(Running, 0), Some(&few), Reason::SpecChanged, said);
        let lacks = "False:NotEnoughCards";
        let said = [lacks, lacks, waits, "True:Restarting"];
        check(plan(Waiting, 2), Some(&few), Reason::WaitOver, said);
        let said = ["False:RanksLost", planned, found, "True:RanksLost"];
        check(plan(Failed, 1), None, Reason::AskedToEnd(0), said);
    }

    #[test]
    fn sentences_quote_why_it_was_decided_or_refused() {
        let few = too_few();
        let running = examples::plan(PlanPhase::Running, 0);
        let status = made(Some(&running), Some(&few), Reason::SpecChanged, None);
        let said = |kind| Condition::find(&status.conditions, kind).expect("said").message.as_str();
        assert_eq!(said(ConditionType::Ready), "its spec changed");
        let kept = "an earlier plan is kept: 1 of 2 cards: lower count";
        assert_eq!(said(ConditionType::Planned), kept);
        let again = examples::plan(PlanPhase::Waiting, 3);
        let status = made(Some(&again), None, Reason::Cleared, None);
        let degraded = Condition::find(&status.conditions, ConditionType::Degraded);
        let message = degraded.expect("said").message.as_str();
        assert_eq!(message, "3 epochs broke in a row; it is tried again soon");
        let planned = Condition::find(&status.conditions, ConditionType::Planned);
        let message = planned.expect("said").message.as_str();
        assert_eq!(message, "1×2×1 over 2 cards (data × pipeline × tensor)");
    }

    #[test]
    fn what_is_not_known_now_stays_as_it_was() {
        let device =
            FoundDevice { node: "a".into(), product: L4.into(), count: 1, memory: "24Gi".into() };
        let before = ComputeIslandStatus {
            devices: vec![device.clone()],
            round: Some(7),
            tokens: Some(70),
            tokens_per_second: Some(9),
            share: Some("12.0%".into()),
            ..ComputeIslandStatus::default()
        };
        let status = made(None, None, Reason::Unplanned, Some(before));
        assert_eq!(status.devices, [device]);
        assert_eq!((status.round, status.tokens), (Some(7), Some(70)));
        assert_eq!(status.share.as_deref(), Some("12.0%"));
        assert_eq!(status.tokens_per_second, None, "it is of the epoch that ran");
    }

    #[test]
    fn a_share_is_one_of_the_tokens_that_count() {
        let of = |own: u64, all: u64| {
            let view = RunView { tokens: all, ..RunView::default() };
            share((&view, &MemberView { tokens: own, ..member(MemberState::Active, "") }))
        };
        assert_eq!(of(1, 3).as_deref(), Some("33.3%"));
        assert_eq!(of(4, 3).as_deref(), Some("100.0%"), "rounds were lost");
        assert_eq!(of(0, 0), None);
    }

    #[test]
    fn what_an_island_complains_of_stands_beside_what_it_does() {
        let said = |members| joined("lab", Some(&RunView { members, ..RunView::default() }));
        let well = said(vec![member(MemberState::Active, "")]);
        assert_eq!((well.reason, well.message.as_str()), ("Active", "it takes part in the round"));
        let message = said(vec![member(MemberState::Active, "a checkpoint is damaged")]).message;
        assert!(message.ends_with("when it joined: a checkpoint is damaged"), "{message}");
        assert_eq!(said(vec![]).reason, "NotAMember");
        let syncing = said(vec![member(MemberState::Syncing, "")]);
        assert_eq!((syncing.status, syncing.reason), (ConditionStatus::False, "Syncing"));
    }
}
