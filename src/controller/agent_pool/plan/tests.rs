//! Cases that are worth reading, and then a small cluster in memory in which anything happens: the
//! invariants of the algorithm must hold at each step, and once nothing happens any more the pool must
//! become what is wanted and stay so.

use std::collections::BTreeSet;

use super::*;
use crate::controller::agent_pool::testing::{NEW, at, running, target};
use crate::controller::pods::{Phase, PodFacts};
use crate::controller::trouble::{Reason, Trouble};
use crate::resilience::Streak;
use pretty_assertions::assert_eq;
use proptest::prelude::*;

const OLD: &str = "old";

fn agent(ordinal: u32, revision: &str, change: impl FnOnce(&mut PodFacts)) -> Agent {
    let mut pod = PodFacts { revision: revision.to_owned(), ..running("a", ordinal) };
    change(&mut pod);
    let heard = Heard { age: Duration::from_secs(2), busy: 0, draining: false, unhealthy: false, reason: None };
    Agent { ending: pod.ending, pod: Arc::new(pod), heard: Some(heard), streak: None }
}

fn observed(agents: impl IntoIterator<Item = Agent>) -> Observed {
    let ordinal = |agent: &Agent| agent.pod.name.strip_prefix("a-").unwrap().parse().unwrap();
    Observed { agents: agents.into_iter().map(|agent| (ordinal(&agent), agent)).collect(), ..Observed::default() }
}

fn unready(pod: &mut PodFacts) {
    pod.ready = false;
}

fn pending(pod: &mut PodFacts) {
    (pod.ready, pod.phase) = (false, Phase::Pending);
}

fn deleted(plan: &Plan) -> Vec<(u32, Why)> {
    plan.delete.iter().map(|deletion| (deletion.ordinal, deletion.why)).collect()
}

#[test]
fn all_missing_agents_are_created_at_once_with_the_lowest_free_ordinals() {
    assert_eq!(plan(&observed([]), &target(3), at(9)).create, [0, 1, 2]);
    assert_eq!(plan(&observed([agent(1, NEW, |_| {}), agent(3, NEW, |_| {})]), &target(4), at(9)).create, [0, 2]);
}

#[test]
fn a_pool_that_is_as_wanted_is_left_alone() {
    let mut all = observed((0..3).map(|n| agent(n, NEW, |_| {})));
    let plan = plan(&all, &target(3), at(9));
    assert_eq!(plan, Plan { again: Some(Duration::from_secs(28)), ..Plan::default() });
    all.blind = Some(Duration::from_secs(30));
    assert_eq!(super::plan(&all, &target(3), at(9)).again, Some(Duration::from_secs(30)));
}

#[test]
fn the_least_useful_go_first() {
    let mut agents = [agent(0, NEW, unready), agent(1, NEW, |_| {}), agent(2, NEW, |_| {}), agent(3, NEW, |_| {})];
    agents[3].heard.as_mut().unwrap().busy = 2;
    agents[2].heard.as_mut().unwrap().busy = 1;
    agents[1].heard.as_mut().unwrap().busy = 1;
    let all = observed(agents);
    let gone = |desired| deleted(&plan(&all, &target(desired), at(9))).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    assert_eq!((gone(3), gone(2), gone(1)), (vec![0], vec![0, 2], vec![0, 2, 1]));
    assert_eq!(gone(0).len(), 4);
}

#[test]
fn a_rollout_replaces_one_after_the_other_from_the_highest_ordinal() {
    let mut all = observed((0..3).map(|n| agent(n, OLD, |_| {})));
    assert_eq!(deleted(&plan(&all, &target(3), at(9))), [(2, Why::Outdated)]);
    assert_eq!(plan(&all, &target(3), at(9)).create, Vec::<u32>::new(), "the name is waited for");
    all.agents.remove(&2);
    assert_eq!(plan(&all, &target(3), at(9)).create, [2]);
    all.agents.insert(2, agent(2, NEW, pending));
    let waiting = plan(&all, &target(3), at(9));
    assert_eq!((waiting.create.len(), waiting.delete.len()), (0, 0), "the new one is not ready yet");
    all.agents.insert(2, agent(2, NEW, |_| {}));
    assert_eq!(deleted(&plan(&all, &target(3), at(9))), [(1, Why::Outdated)]);
}

/// A regression here leaves a pool whose image was wrong down for as long as one agent after the other
/// takes to start, although nothing can be lost.
#[test]
fn what_never_ran_is_replaced_at_once() {
    let all = observed([agent(0, OLD, pending), agent(1, OLD, pending), agent(2, OLD, |_| {})]);
    assert_eq!(deleted(&plan(&all, &target(3), at(9))), [(1, Why::Outdated), (0, Why::Outdated)]);
    let idle = Target { member: false, ..target(3) };
    assert_eq!(plan(&all, &idle, at(9)).delete.len(), 3, "without a topology no agent has work");
}

/// A regression here restarts a whole pool at once when its template changes while the bus is away.
#[test]
fn agents_that_run_but_are_not_ready_are_replaced_first_and_count() {
    let all = observed([agent(0, OLD, unready), agent(1, OLD, |_| {}), agent(2, OLD, unready)]);
    assert_eq!(deleted(&plan(&all, &target(3), at(9))), [(2, Why::Outdated)]);
    let two = Target { max_unavailable: 2, ..target(3) };
    assert_eq!(deleted(&plan(&all, &two, at(9))), [(2, Why::Outdated), (0, Why::Outdated)]);
}

#[test]
fn a_silent_agent_is_replaced_only_when_its_silence_means_something() {
    let quiet = |change: &dyn Fn(&mut PodFacts)| {
        let mut agent = agent(0, NEW, |pod| change(pod));
        agent.heard.as_mut().unwrap().age = Duration::from_secs(31);
        observed([agent])
    };
    assert_eq!(deleted(&plan(&quiet(&|_| {}), &target(1), at(99))), [(0, Why::Silent)]);
    assert_eq!(plan(&quiet(&|_| {}), &target(1), at(99)).create, [1], "its node may be lost, and its name with it");
    let blind = Observed { blind: Some(Duration::from_secs(5)), ..quiet(&|_| {}) };
    assert_eq!(plan(&blind, &target(1), at(99)).delete, []);
    assert_eq!(plan(&quiet(&pending), &target(1), at(99)).delete, []);
    let trouble = Trouble { reason: Reason::CrashLoop, message: String::new(), fades: None };
    assert_eq!(plan(&quiet(&|pod| pod.trouble = Some(trouble.clone())), &target(1), at(99)).delete, []);
    let mut never = observed([agent(0, NEW, |_| {})]);
    never.agents.get_mut(&0).unwrap().heard = None;
    assert_eq!(plan(&never, &target(1), at(59)).delete, []);
    assert_eq!(plan(&never, &target(1), at(59)).again, Some(Duration::from_secs(1)));
    assert_eq!(deleted(&plan(&never, &target(1), at(60))), [(0, Why::Silent)]);
}

#[test]
fn beyond_the_budget_nothing_is_replaced_until_the_window_has_passed() {
    let ended = |pod: &mut PodFacts| (pod.ready, pod.phase) = (false, Phase::Ended("Error".to_owned()));
    let mut all = observed((0..3).map(|n| agent(n, NEW, ended)));
    all.recent = vec![at(10), at(20)];
    let first = plan(&all, &target(3), at(100));
    assert_eq!((deleted(&first), first.held, first.exhausted), (vec![(0, Why::Ended)], vec![1, 2], true));
    assert_eq!(first.again, Some(NAME_WAIT));
    all.recent.push(at(100));
    let later = plan(&all, &target(3), at(120));
    assert_eq!((later.delete, later.held.len(), later.again), (vec![], 3, Some(Duration::from_secs(190))));
    assert_eq!(plan(&all, &target(3), at(310)).delete.len(), 1);
}

#[test]
fn an_agent_that_is_replaced_again_and_again_waits_longer() {
    let mut all = observed([agent(0, NEW, |pod| pod.phase = Phase::Ended("Error".to_owned()))]);
    all.agents.get_mut(&0).unwrap().streak = Some(Streak { count: 3, last: at(100) });
    let plan = plan(&all, &target(1), at(105));
    assert_eq!((plan.delete.len(), plan.held.clone(), plan.exhausted), (0, vec![0], false));
    assert!(plan.again.is_some_and(|wait| wait >= Duration::from_secs(11) && wait <= Duration::from_secs(19)), "{plan:?}");
}

#[test]
fn a_name_is_waited_for_but_not_for_ever() {
    let ending = |pod: &mut PodFacts| pod.ending = Some(at(100));
    let all = observed([agent(0, NEW, ending), agent(1, NEW, |_| {})]);
    let early = plan(&all, &target(2), at(110));
    assert_eq!((early.create, early.again), (vec![], Some(Duration::from_secs(20))));
    assert_eq!(plan(&all, &target(2), at(130)).create, [2]);
}

#[test]
fn somebody_elses_pod_is_reported_and_not_worked_around() {
    let all = Observed { foreign: BTreeSet::from([1]), ..observed([agent(0, NEW, |_| {})]) };
    let plan = plan(&all, &target(3), at(9));
    assert_eq!((plan.create, plan.taken, plan.delete), (vec![2], vec![1], vec![]));
}

#[test]
fn an_agent_that_has_ended_its_work_and_does_not_exit_is_hurried_once() {
    let mut all = observed([agent(0, NEW, |pod| (pod.ending, pod.grace_seconds) = (Some(at(100)), Some(630)))]);
    all.agents.get_mut(&0).unwrap().heard.as_mut().unwrap().draining = true;
    assert_eq!(plan(&all, &target(0), at(102)).again, Some(Duration::from_secs(3)));
    assert_eq!(deleted(&plan(&all, &target(0), at(105))), [(0, Why::Lingers)]);
    let own = Target { ends_by_us: false, ..target(0) };
    assert_eq!(plan(&all, &own, at(105)).delete, []);
    all.agents.get_mut(&0).unwrap().heard.as_mut().unwrap().busy = 1;
    assert_eq!(plan(&all, &target(0), at(105)).delete, []);
}

/// A pod of the small cluster.
#[derive(Clone, Debug)]
struct Pod {
    facts: PodFacts,
    foreign: bool,
    /// Never gone once it is told to end, and silent.
    lost: bool,
    silent: bool,
    busy: u32,
}

#[derive(Clone, Debug, Default)]
struct Cluster {
    pods: BTreeMap<u32, Pod>,
    made: u32,
    now: u32,
    recent: Vec<Timestamp>,
    streaks: BTreeMap<u32, Streak>,
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Happening {
    Scale(u32),
    Template(u8),
    Suspend,
    Turn { ordinal: u32, ready: bool },
    End(u32),
    Lose(u32),
    Silence(u32),
    Work { ordinal: u32, busy: u32 },
    Gone(u32),
    Foreign(u32),
    Wait(u32),
}

fn happening() -> impl Strategy<Value = Happening> {
    let ordinal = 0..8u32;
    prop_oneof![
        (0..7u32).prop_map(Happening::Scale),
        (0..3u8).prop_map(Happening::Template),
        Just(Happening::Suspend),
        (ordinal.clone(), prop::bool::weighted(0.7)).prop_map(|(ordinal, ready)| Happening::Turn { ordinal, ready }),
        ordinal.clone().prop_map(Happening::End),
        ordinal.clone().prop_map(Happening::Lose),
        ordinal.clone().prop_map(Happening::Silence),
        (ordinal.clone(), 0..3u32).prop_map(|(ordinal, busy)| Happening::Work { ordinal, busy }),
        ordinal.clone().prop_map(Happening::Gone),
        ordinal.prop_map(Happening::Foreign),
        (1..60u32).prop_map(Happening::Wait),
    ]
}

impl Cluster {
    fn observe(&self) -> Observed {
        let mut observed = Observed { recent: self.recent.clone(), ..Observed::default() };
        for (ordinal, pod) in &self.pods {
            if pod.foreign {
                observed.foreign.insert(*ordinal);
                continue;
            }
            let age = if pod.silent || pod.lost { Duration::from_secs(100) } else { Duration::from_secs(1) };
            let heard = Heard { age, busy: pod.busy, draining: false, unhealthy: false, reason: None };
            let agent = Agent {
                ending: pod.facts.ending,
                pod: Arc::new(pod.facts.clone()),
                heard: Some(heard),
                streak: self.streaks.get(ordinal).copied(),
            };
            observed.agents.insert(*ordinal, agent);
        }
        observed
    }

    fn happen(&mut self, happening: &Happening, target: &mut Target) {
        let now = at(self.now);
        match happening {
            Happening::Scale(desired) => target.desired = *desired,
            Happening::Template(revision) => target.revision = format!("r{revision}"),
            Happening::Suspend => target.desired = 0,
            Happening::Wait(seconds) => self.now += seconds,
            Happening::Foreign(ordinal) => {
                self.made += 1;
                let facts = (*agent(*ordinal, "", |_| {}).pod).clone();
                self.pods.entry(*ordinal).or_insert(Pod { facts, foreign: true, lost: false, silent: false, busy: 0 });
            }
            Happening::Gone(ordinal) => {
                self.pods.remove(ordinal);
            }
            Happening::Turn { ordinal, .. }
            | Happening::End(ordinal)
            | Happening::Lose(ordinal)
            | Happening::Silence(ordinal)
            | Happening::Work { ordinal, .. } => {
                let Some(pod) = self.pods.get_mut(ordinal) else { return };
                match happening {
                    Happening::Turn { ready, .. } if !matches!(pod.facts.phase, Phase::Ended(_)) => {
                        (pod.facts.phase, pod.facts.ready) = (Phase::Running, *ready);
                    }
                    Happening::End(_) => (pod.facts.phase, pod.facts.ready) = (Phase::Ended("Error".to_owned()), false),
                    Happening::Lose(_) => (pod.lost, pod.facts.ending) = (true, pod.facts.ending.or(Some(now))),
                    Happening::Silence(_) => pod.silent = true,
                    Happening::Work { busy, .. } => pod.busy = *busy,
                    _ => {}
                }
            }
        }
    }

    /// Carries a plan out, and checks everything that a plan may never do.
    fn carry_out(&mut self, plan: &Plan, observed: &Observed, target: &Target) {
        let now = at(self.now);
        let standing = |agent: &Agent| agent.standing(target, observed.blind, now);
        let here: Vec<_> = observed.agents.iter().filter(|(_, agent)| standing(agent) != Standing::Ending).collect();
        let desired = target.desired as usize;
        let count = |why: Why| plan.delete.iter().filter(|deletion| deletion.why == why).count();
        assert!(count(Why::Surplus) <= here.len().saturating_sub(desired), "more deleted than there are too many: {plan:?}");

        let gone: BTreeSet<u32> = plan.delete.iter().map(|deletion| deletion.ordinal).collect();
        assert_eq!(gone.len(), plan.delete.len(), "a pod is deleted twice: {plan:?}");
        let stays_ready = here.iter().filter(|(n, agent)| !gone.contains(n) && standing(agent) == Standing::Ready).count();
        let rolled_ready = plan.delete.iter().any(|d| d.why == Why::Outdated && standing(&observed.agents[&d.ordinal]) == Standing::Ready);
        if rolled_ready && target.member {
            let least = desired.saturating_sub(target.max_unavailable as usize + plan.taken.len());
            assert!(stays_ready >= least, "{stays_ready} ready of {least} at least: {plan:?}");
        }
        for deletion in &plan.delete {
            let pod = self.pods.get_mut(&deletion.ordinal).unwrap();
            assert!(!pod.foreign, "somebody else's pod is deleted: {plan:?}");
            pod.facts.ending = pod.facts.ending.or(Some(now));
            pod.facts.ready = false;
            if deletion.why.is_replacement() {
                self.recent.push(now);
                let streak = Streak::next(self.streaks.get(&deletion.ordinal).copied(), now);
                self.streaks.insert(deletion.ordinal, streak);
            }
        }
        assert!(target.budget.counting(&self.recent, now).len() <= target.budget.max.max(observed.recent.len()), "over budget: {plan:?}");
        assert!(here.len() - gone.len().min(here.len()) + plan.create.len() <= desired.max(here.len()), "too many: {plan:?}");
        for ordinal in &plan.create {
            self.made += 1;
            let mut facts = (*agent(*ordinal, &target.revision, pending).pod).clone();
            (facts.uid, facts.begun) = (format!("uid-{}", self.made), now);
            let before = self.pods.insert(*ordinal, Pod { facts, foreign: false, lost: false, silent: false, busy: 0 });
            assert!(before.is_none(), "two pods of one name: {plan:?}");
        }
    }

    /// Nothing bad happens any more: pods start, and those that are told to end do, unless they are lost.
    fn calm(&mut self) {
        for pod in self.pods.values_mut().filter(|pod| !pod.foreign && pod.facts.ending.is_none()) {
            if pod.facts.phase == Phase::Pending {
                (pod.facts.phase, pod.facts.ready) = (Phase::Running, true);
            } else if pod.facts.phase == Phase::Running {
                pod.facts.ready = true;
            }
        }
        self.pods.retain(|_, pod| pod.foreign || pod.lost || pod.facts.ending.is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    /// A regression here takes a pool down, lets it run without end, or never finishes.
    #[test]
    fn whatever_happens_the_limits_hold_and_the_pool_becomes_what_is_wanted(
        happenings in prop::collection::vec(happening(), 0..60), max_unavailable in 1..4u32, member in prop::bool::weighted(0.8),
    ) {
        let mut target = Target { max_unavailable, member, ..target(3) };
        let mut cluster = Cluster::default();
        for happening in &happenings {
            cluster.happen(happening, &mut target);
            let observed = cluster.observe();
            let plan = plan(&observed, &target, at(cluster.now));
            cluster.carry_out(&plan, &observed, &target);
        }
        let mut rounds = 0;
        loop {
            cluster.calm();
            let observed = cluster.observe();
            let plan = plan(&observed, &target, at(cluster.now));
            if plan.create.is_empty() && plan.delete.is_empty() && plan.held.is_empty() {
                let ready = observed.agents.values().filter(|a| a.standing(&target, None, at(cluster.now)) == Standing::Ready);
                let ready = ready.filter(|agent| agent.pod.revision == target.revision).count();
                let ending = observed.agents.values().filter(|a| a.ending.is_some()).count();
                if ready + plan.taken.len() == target.desired as usize {
                    prop_assert!(observed.agents.len() - ending == ready, "nothing else is here");
                    break;
                }
            }
            cluster.carry_out(&plan, &observed, &target);
            let wait = plan.again.map_or(1, |again| u32::try_from(again.as_secs()).unwrap() + 1);
            cluster.now += wait;
            rounds += 1;
            prop_assert!(rounds < 200, "no end: {plan:?} of {cluster:?}");
        }
        cluster.now += 1000;
        let plan = plan(&cluster.observe(), &target, at(cluster.now));
        prop_assert!(plan.create.is_empty() && plan.delete.is_empty(), "it does not stay: {plan:?}");
    }
}
