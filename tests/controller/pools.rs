//! What becomes of a pool: its pods come, go, roll and rest, and its status tells the truth.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use pretty_assertions::assert_eq;
use serde_json::json;
use skein::bus::{Health, Heartbeat};

use crate::kubelet::{ready, set_status};
use crate::stage::{Stage, message, orphan};
use crate::support::eventually;

fn names(agents: &[(String, String)]) -> Vec<&str> {
    agents.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_lives() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    // What is built must be taken where the rules are strictest.
    let strict = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<Namespace> = Api::all(stage.client());
    namespaces.patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(strict)).await.unwrap();
    let controller = stage.controller("one").await;
    team.create_pool(3, json!({})).await;
    let alone = team.until("Ready=False/NoTopology").await;
    assert!(message(&alone, "Ready").contains("add it to the members of a Topology"));

    team.create_topology().await;
    let pool = team.until("Ready=True/Ready").await;
    assert_eq!(message(&pool, "Ready"), "3 of 3 agents are ready");
    let status = team.until_settled(3).await.status.unwrap();
    assert_eq!((status.topology.as_deref(), status.selector.as_deref()), (Some("team"), Some("skein.dev/pool=coder")));
    let account = stage.api::<ServiceAccount>().get("coder-agent").await.unwrap();
    assert_eq!(account.automount_service_account_token, Some(false));
    let budgets = stage.api::<PodDisruptionBudget>();
    assert!(budgets.get("coder").await.is_ok());

    // Somebody deletes what belongs to the pool: it is made again.
    team.pods.delete("coder-1", &DeleteParams::default()).await.unwrap();
    budgets.delete("coder", &DeleteParams::default()).await.unwrap();
    eventually("the budget is back", || async { budgets.get_opt("coder").await.unwrap() }).await;
    team.until_settled(3).await;
    assert_eq!(names(&team.agents().await), ["coder-0", "coder-1", "coder-2"]);

    team.edit(json!({"replicas": 5})).await;
    team.until_settled(5).await;
    let before: BTreeSet<_> = team.uids().await.into_iter().collect();
    team.edit(json!({"replicas": 2})).await;
    team.until_settled(2).await;
    assert_eq!(names(&team.agents().await), ["coder-0", "coder-1"]);
    assert!(team.uids().await.iter().all(|uid| before.contains(uid)), "scaling replaces nothing");

    team.edit(json!({"operatingMode": "Suspended"})).await;
    team.until_settled(0).await;
    let pool = team.until("Ready=False/Suspended").await;
    assert!(message(&pool, "Ready").contains("operatingMode"));
    team.edit(json!({"operatingMode": "Running"})).await;
    team.until_settled(2).await;

    controller.end().await.unwrap();
    let told: BTreeSet<_> = stage
        .api::<Event>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter(|event| event.regarding.as_ref().is_some_and(|about| about.name.as_deref() == Some("coder")))
        .filter_map(|event| event.reason)
        .collect();
    assert_eq!(told, BTreeSet::from(["AgentsCreated".to_owned(), "AgentsRemoved".to_owned()]));
}

/// A regression here takes a pool down while its template is changed, or leaves it half changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_keeps_all_but_one_ready() {
    let stage = Stage::new().await;
    let (team, kubelet) = (stage.team(), stage.kubelet());
    let _controller = stage.controller("one").await;
    team.create_topology().await;
    team.create_pool(4, json!({})).await;
    team.until_settled(4).await;

    // Follows every change of every pod from here on.
    let (sender, least) = tokio::sync::watch::channel(4);
    let changes = watcher(team.pods.clone(), watcher::Config::default().labels("skein.dev/pool=coder")).default_backoff();
    let follow = tokio::spawn(async move {
        let (mut up, mut listed) = (BTreeSet::new(), false);
        let mut changes = std::pin::pin!(changes);
        while let Ok(Some(event)) = changes.try_next().await {
            match event {
                watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
                    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
                    let ready = conditions.filter(|c| c.type_ == "Ready").any(|c| c.status == "True");
                    if ready && pod.metadata.deletion_timestamp.is_none() {
                        up.insert(pod.name_any());
                    } else {
                        up.remove(&pod.name_any());
                    }
                }
                watcher::Event::Delete(pod) => {
                    up.remove(&pod.name_any());
                }
                watcher::Event::Init => (up, listed) = (BTreeSet::new(), false),
                watcher::Event::InitDone => listed = true,
            }
            if listed {
                sender.send_modify(|least| *least = up.len().min(*least));
            }
        }
    });
    team.use_image("example/coder:2").await;
    team.until_settled(4).await;
    assert!(team.agents().await.iter().all(|(_, image)| image == "example/coder:2"));
    assert_eq!(*least.borrow(), 3, "the smallest number of ready agents");
    follow.abort();

    // A template that never becomes ready stops after one.
    kubelet.stuck.lock().unwrap().insert("coder-3".to_owned());
    team.use_image("example/coder:3").await;
    eventually("one agent is new", || async { team.agents().await.iter().any(|(_, image)| image == "example/coder:3").then_some(()) })
        .await;
    let pulling = json!({"phase": "Pending", "containerStatuses": [{"name": "agent", "image": "example/coder:3", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}]});
    set_status(&team.pods, "coder-3", &pulling).await;
    let pool = team.until("Degraded=True/ImageCannotBePulled").await;
    assert!(message(&pool, "Ready").starts_with("3 of 4 agents are ready: agent coder-3: the image \"example/coder:3\""), "{pool:?}");
    assert_eq!(pool.status.unwrap().updated_replicas, 1);
    // Put right, the one that never ran is replaced at once, and all becomes as it was.
    kubelet.stuck.lock().unwrap().clear();
    team.use_image("example/coder:2").await;
    team.until_settled(4).await;
    team.until("Degraded=False/AsExpected").await;
}

/// A regression here destroys somebody's pod because of its name.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_pod_is_left_alone_and_named() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let foreign: Pod = serde_json::from_value(json!({
        "metadata": {"name": "coder-1"}, "spec": {"containers": [{"name": "c", "image": "example/other:1"}]},
    }))
    .unwrap();
    let foreign = team.pods.create(&PostParams::default(), &foreign).await.unwrap();
    let _controller = stage.controller("one").await;
    team.create_topology().await;
    team.create_pool(3, json!({})).await;
    let pool = team.until("Degraded=True/NameTaken").await;
    assert!(message(&pool, "Degraded").contains("pod coder-1 exists and does not belong to this pool"));
    eventually("the others are there", || async { (team.agents().await.len() == 2).then_some(()) }).await;
    assert_eq!(team.pods.get("coder-1").await.unwrap().uid(), foreign.uid());
    team.pods.delete("coder-1", &DeleteParams::default().grace_period(0)).await.unwrap();
    team.until_settled(3).await;
    team.until("Degraded=False/AsExpected").await;
}

/// `kubectl delete agentpool coder --cascade=orphan`, and then the pool comes again. A regression here ends work
/// that somebody wanted to go on, or tells him to delete it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_comes_again_adopts_the_agents_that_were_left() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let (accounts, budgets) = (stage.api::<ServiceAccount>(), stage.api::<PodDisruptionBudget>());
    let _controller = stage.controller("one").await;
    team.create_topology().await;
    team.create_pool(3, json!({})).await;
    let first = team.until_settled(3).await;
    let before: BTreeSet<_> = team.uids().await.into_iter().collect();

    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    team.pools.delete("coder", &params).await.unwrap();
    // What the garbage collector does, which does not run here.
    for n in 0..3 {
        team.orphan(&format!("coder-{n}")).await;
    }
    orphan(&accounts, "coder-agent").await;
    orphan(&budgets, "coder").await;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    team.pools.patch("coder", &PatchParams::default(), &free).await.unwrap();
    eventually("the pool is gone", || async { team.pools.get_opt("coder").await.unwrap().is_none().then_some(()) }).await;
    let pods = team.pods.list(&ListParams::default()).await.unwrap().items;
    assert!(pods.len() == 3 && pods.iter().all(|pod| pod.owner_references().is_empty()), "a pool that is going adopts nothing");

    team.create_pool(2, json!({})).await;
    let again = team.until_settled(2).await;
    assert!(team.uids().await.iter().all(|uid| before.contains(uid)), "the agents are those that were there");
    team.until("Degraded=False/AsExpected").await;
    assert_ne!(again.uid(), first.uid());
    let owners = async || {
        let pods = team.pods.list(&ListParams::default()).await.unwrap().items;
        let mut all: Vec<_> = pods.into_iter().map(|pod| pod.metadata.owner_references).collect();
        all.push(accounts.get("coder-agent").await.unwrap().metadata.owner_references);
        all.push(budgets.get("coder").await.unwrap().metadata.owner_references);
        all.into_iter().map(|owners| owners.unwrap_or_default().into_iter().map(|owner| Some(owner.uid)).collect::<Vec<_>>())
    };
    eventually("all are the new pool's", || async { owners().await.all(|owners| owners == [again.uid()]).then_some(()) }).await;
    assert_eq!(again.status.unwrap().restarts, None, "nothing was replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_api_server_is_told_in_its_words_and_mends_itself() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let quotas = stage.api::<ResourceQuota>();
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    let used = json!({"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}});
    quotas.patch_status("few", &Default::default(), &Patch::Merge(used)).await.unwrap();
    let _controller = stage.controller("one").await;
    team.create_topology().await;
    team.create_pool(3, json!({})).await;
    let pool = team.until("Degraded=True/QuotaExceeded").await;
    assert!(message(&pool, "Degraded").contains("exceeded quota: few"), "{}", message(&pool, "Degraded"));
    team.until("Ready=False/QuotaExceeded").await;
    quotas.delete("few", &DeleteParams::default()).await.unwrap();
    team.until_settled(3).await;
    team.until("Degraded=False/AsExpected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_makes_no_sense_says_so_and_keeps_what_runs() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let _controller = stage.controller("one").await;
    team.create_topology().await;
    team.create_pool(2, json!({})).await;
    team.until_settled(2).await;
    let before = team.uids().await;
    team.edit(json!({"agent": {"port": 7801}, "replicas": 5})).await;
    let pool = team.until("Accepted=False/ReservedPort").await;
    assert!(message(&pool, "Accepted").contains("agent.port is 7801"));
    assert_eq!(team.uids().await, before);
    team.edit(json!({"agent": {"port": 8080}, "replicas": 2})).await;
    team.until("Accepted=True/Valid").await;
    assert_eq!(team.uids().await, before);
}

/// A regression here lets one bad agent be replaced without end, or a sick one stay for ever.
#[tokio::test(flavor = "multi_thread")]
async fn silent_and_ended_agents_are_replaced_within_the_budget() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let _controller = stage.controller("one").await;
    team.create_topology().await;
    let health = json!({"heartbeatSeconds": 1, "staleSeconds": 5});
    team.create_pool(2, json!({"health": health, "supervision": {"maxRestarts": 2, "withinSeconds": 25}})).await;
    team.until_settled(2).await;

    // One is heard once and never again.
    let pod = team.pods.get("coder-1").await.unwrap();
    let beat = Heartbeat {
        namespace: stage.namespace.clone(),
        pool: "coder".to_owned(),
        agent: "coder-1".to_owned(),
        pod_uid: pod.uid().unwrap(),
        topology: Some("team".to_owned()),
        health: Health::Healthy,
        ready: true,
        reason: None,
        draining: false,
        busy: 1,
        concurrency: 1,
    };
    stage.bus.publish_heartbeat(&beat).await.unwrap();
    let replaced = eventually("the silent agent is replaced", || async {
        let pool = team.pool().await;
        pool.status?.restarts.filter(|restarts| restarts.total == 1)
    })
    .await;
    assert_eq!(replaced.recent.len(), 1);
    eventually("it is gone", || async { (!team.uids().await.contains(&beat.pod_uid)).then_some(()) }).await;
    team.until_settled(2).await;

    // Another one ends for good, and its successor again: that is beyond the budget.
    let ended = json!({"phase": "Failed", "reason": "Evicted", "conditions": []});
    let first = team.pods.get("coder-0").await.unwrap().uid();
    set_status(&team.pods, "coder-0", &ended).await;
    eventually("it is replaced", || async {
        let pod = team.pods.get_opt("coder-0").await.unwrap()?;
        (pod.uid() != first && pod.status?.phase? == "Running").then_some(())
    })
    .await;
    set_status(&team.pods, "coder-0", &ended).await;
    let pool = team.until("Degraded=True/RestartBudgetExceeded").await;
    assert!(message(&pool, "Degraded").contains("agent coder-0 has ended (Evicted)"), "{}", message(&pool, "Degraded"));
    assert_eq!(pool.status.unwrap().restarts.unwrap().total, 2);
    // Once the window has passed, it recovers by itself.
    let pool = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let pool = team.pool().await;
            if pool.status.as_ref().unwrap().restarts.as_ref().unwrap().total == 3 {
                return pool;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    pool.await.expect("the third replacement");
    team.until_settled(2).await;
    team.until("Degraded=False/AsExpected").await;
}

/// A name that does not become free is not waited for without end.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lingers_is_waited_for_for_a_while() {
    let stage = Stage::new().await;
    let (team, kubelet) = (stage.team(), stage.kubelet());
    let _controller = stage.controller("one").await;
    team.create_topology().await;
    team.create_pool(2, json!({})).await;
    team.until_settled(2).await;
    kubelet.lingering.lock().unwrap().insert("coder-1".to_owned());
    team.pods.delete("coder-1", &DeleteParams::default()).await.unwrap();
    let pool = team.until("Ready=False/Starting").await;
    assert_eq!(message(&pool, "Ready"), "1 of 2 agents are ready");
    kubelet.lingering.lock().unwrap().clear();
    team.until_settled(2).await;
    assert_eq!(names(&team.agents().await), ["coder-0", "coder-1"]);
    set_status(&team.pods, "coder-0", &ready(false)).await;
    team.until("Ready=False/Starting").await;
}
