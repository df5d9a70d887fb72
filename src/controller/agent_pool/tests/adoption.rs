//! What becomes of what a former pool of the name left behind, before a scripted API server.

use pretty_assertions::assert_eq;

use super::*;
use crate::kubernetes::Class;

/// What is left of a pool that was deleted with `--cascade=orphan`.
fn orphans() -> Vec<(String, Value)> {
    let pool = pool(|_| {});
    let valid = validate::validate(&pool).unwrap();
    let agents = build::Agents::new(&valid, &config());
    let pods = (0..3).map(|n| ("POST pods".to_owned(), serde_json::to_value(agents.pod(n)).unwrap()));
    let account = serde_json::to_value(build::service_account(&valid)).unwrap();
    let budget = serde_json::to_value(build::disruption_budget(&valid)).unwrap();
    let others = [("POST serviceaccounts".to_owned(), account), ("POST poddisruptionbudgets".to_owned(), budget)];
    let mut all: Vec<_> = pods.chain(others).collect();
    for (_, object) in &mut all {
        object["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    }
    all
}

/// The pods, as the server lists them, after some change to each.
fn listed(change: fn(&mut Value)) -> (u16, Value) {
    let pods = orphans().into_iter().filter(|(request, _)| request == "POST pods").map(|(_, pod)| {
        let mut pod = stored(&pod);
        change(&mut pod);
        pod
    });
    (200, json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods.collect::<Vec<_>>()}))
}

fn the_pool(change: fn(&mut Value)) -> (u16, Value) {
    let mut pool = serde_json::to_value(pool(|_| {})).unwrap();
    change(&mut pool);
    (200, pool)
}

fn remembering(method: &Method, path: &str, body: &Value) -> (u16, Value) {
    match *method {
        Method::GET if path.ends_with("/agentpools/coder") => the_pool(|_| {}),
        Method::GET if path.ends_with("/pods") => listed(|_| {}),
        Method::PATCH if !path.contains("/agentpools/") => (200, stored(&json!({"metadata": {"name": "any"}}))),
        _ => obliging(method, path, body),
    }
}

fn patches(asked: &[(String, Value)]) -> Vec<&(String, Value)> {
    asked.iter().filter(|(request, _)| request.starts_with("PATCH") && !request.ends_with("/status")).collect()
}

/// A regression here tells people to delete their agents, or makes others beside them.
#[tokio::test]
async fn what_a_former_pool_left_behind_is_adopted() {
    let mut scene = Scene::new(remembering).await;
    scene.show(&orphans());
    scene.reconcile(&pool(|_| {})).await.unwrap();
    let asked = scene.server.take();
    let adopted = patches(&asked);
    let names: Vec<_> = adopted.iter().map(|(request, _)| request.as_str()).collect();
    assert_eq!(
        names,
        [
            "PATCH pods/coder-0",
            "PATCH pods/coder-1",
            "PATCH pods/coder-2",
            "PATCH serviceaccounts/coder-agent",
            "PATCH poddisruptionbudgets/coder"
        ]
    );
    for (request, body) in &adopted {
        let name = request.rsplit('/').next().unwrap();
        let owner =
            json!([{"apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "name": "coder", "uid": "pool-uid", "controller": true}]);
        let metadata = json!({"uid": format!("uid-{name}"), "resourceVersion": "7", "ownerReferences": owner});
        assert_eq!(*body, json!({ "metadata": metadata }), "{request}");
    }
    assert!(!asked.iter().any(|(request, _)| request.starts_with("POST") || request.starts_with("DELETE")), "{asked:#?}");
    let status = with_status(pool(|_| {}), &asked).status.unwrap();
    assert_eq!((status.replicas, status.updated_replicas), (3, 3), "they are its own, and of its revision");
    assert!(!crate::api::condition::is_true(&status.conditions, "Degraded"));

    // The watches show nothing of it yet; then everything.
    scene.reconcile(&with_status(pool(|_| {}), &asked)).await.unwrap();
    assert_eq!(scene.server.requests(), Vec::<String>::new());
    let owned = orphans().into_iter().map(|(request, mut object)| {
        object["metadata"]["ownerReferences"] = serde_json::to_value([pool(|_| {}).controller_owner_ref(&()).unwrap()]).unwrap();
        (request, object)
    });
    scene.show(&owned.collect::<Vec<_>>());
    assert_eq!(scene.reconcile(&with_status(pool(|_| {}), &asked)).await.unwrap(), Outcome::Done);
    assert_eq!(scene.server.requests(), Vec::<String>::new());
}

/// A regression here takes what is somebody else's, or ends it together with the pool.
#[tokio::test]
async fn what_is_somebody_elses_is_left_alone() {
    let others = |method: &Method, path: &str, body: &Value| match *method {
        Method::GET if path.ends_with("/pods") => listed(|pod| {
            let somebody = json!([{"apiVersion": "v1", "kind": "Somebody", "name": "else", "uid": "other", "controller": true}]);
            match pod["metadata"]["name"].as_str().unwrap() {
                "coder-0" => pod["metadata"]["ownerReferences"] = somebody,
                "coder-1" => pod["metadata"]["labels"] = json!({"skein.dev/pool": "coder"}),
                _ => pod["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z"),
            }
        }),
        _ => remembering(method, path, body),
    };
    let mut scene = Scene::new(others).await;
    scene.show(&orphans().into_iter().filter(|(request, _)| request == "POST pods").collect::<Vec<_>>());
    scene.reconcile(&pool(|_| {})).await.unwrap();
    let asked = scene.server.take();
    assert_eq!(patches(&asked), Vec::<&(String, Value)>::new());
    assert!(!asked.iter().any(|(request, _)| request.starts_with("DELETE")), "{asked:#?}");
}

/// A regression here lets Kubernetes delete the agents that somebody wanted to keep: the store may show a pool
/// that is being deleted with `--cascade=orphan` as it was, and its pods as they are.
#[tokio::test]
async fn a_pool_that_is_going_adopts_nothing() {
    let going = |method: &Method, path: &str, body: &Value| match *method {
        Method::GET if path.ends_with("/agentpools/coder") => {
            the_pool(|pool| pool["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z"))
        }
        _ => remembering(method, path, body),
    };
    let gone = |method: &Method, path: &str, body: &Value| match *method {
        Method::GET if path.ends_with("/agentpools/coder") => refuse(404, "NotFound", "there is none"),
        _ => remembering(method, path, body),
    };
    let another = |method: &Method, path: &str, body: &Value| match *method {
        Method::GET if path.ends_with("/agentpools/coder") => the_pool(|pool| pool["metadata"]["uid"] = json!("another")),
        _ => remembering(method, path, body),
    };
    for script in [going as Script, gone, another] {
        let mut scene = Scene::new(script).await;
        scene.show(&orphans());
        assert_eq!(scene.reconcile(&pool(|_| {})).await.unwrap(), Outcome::Done);
        assert_eq!(scene.server.requests(), ["GET agentpools/coder"]);
    }
}

/// Somebody writes to a pod between the look at it and its adoption, as its kubelet often does.
#[tokio::test]
async fn an_orphan_that_changes_is_looked_at_again_at_once() {
    let busy = |method: &Method, path: &str, body: &Value| match *method {
        Method::PATCH if path.ends_with("/pods/coder-1") => refuse(409, "Conflict", "the object has been modified"),
        _ => remembering(method, path, body),
    };
    let mut scene = Scene::new(busy).await;
    scene.show(&orphans());
    let failed = scene.reconcile(&pool(|_| {})).await.unwrap_err();
    assert_eq!(failed.class, Class::Conflict);
    let asked = scene.server.requests();
    assert!(!asked.iter().any(|request| request.ends_with("/status")), "nobody is told that the name is taken: {asked:?}");
}

/// A regression here hides from an administrator that a right is missing, or stops the rest of the pool.
#[tokio::test]
async fn who_may_not_adopt_goes_on_and_says_so() {
    let forbidden = |method: &Method, path: &str, body: &Value| match *method {
        Method::PATCH if path.contains("/pods/") => refuse(403, "Forbidden", "pods is forbidden: cannot patch"),
        _ => remembering(method, path, body),
    };
    let mut scene = Scene::new(forbidden).await;
    scene.show(&orphans());
    let failed = scene.reconcile(&pool(|spec| spec["replicas"] = json!(4))).await.unwrap_err();
    assert!(failed.class == Class::Refused && failed.message.contains("cannot patch"), "{failed}");
    let asked = scene.server.requests();
    assert!(asked.contains(&"PATCH agentpools/coder/status".to_owned()) && asked.contains(&"POST pods".to_owned()), "{asked:?}");
}
