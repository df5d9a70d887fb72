//! A kubelet that runs nothing: it gives pods a node, calls them ready, and lets them go when they are told to end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

/// The kubelet. It ends with this value.
pub struct Kubelet {
    /// The agents that start and are never ready, by name.
    pub stuck: Arc<Mutex<BTreeSet<String>>>,
    /// The agents that do not end although they are told to, by name.
    pub lingering: Arc<Mutex<BTreeSet<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Kubelet {
    /// Starts to look after the pods of a namespace.
    pub fn start(client: Client, namespace: &str) -> Self {
        let api: Api<Pod> = Api::namespaced(client, namespace);
        let (stuck, lingering) = (Arc::default(), Arc::default());
        let task = tokio::spawn(look_after(api, Arc::clone(&stuck), Arc::clone(&lingering)));
        Self { stuck, lingering, _task: AbortOnDropHandle::new(task) }
    }
}

async fn look_after(api: Api<Pod>, stuck: Arc<Mutex<BTreeSet<String>>>, lingering: Arc<Mutex<BTreeSet<String>>>) {
    loop {
        for pod in api.list(&ListParams::default().labels("skein.dev/pool")).await.map(|list| list.items).unwrap_or_default() {
            let name = pod.name_any();
            let (is_stuck, lingers) = (stuck.lock().unwrap().contains(&name), lingering.lock().unwrap().contains(&name));
            let begun = pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(|phase| phase != "Pending");
            // Somebody else may have been faster; then there is nothing to do.
            if pod.metadata.deletion_timestamp.is_some() {
                if !lingers {
                    let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
                }
            } else if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
                let binding =
                    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "node"}});
                let _ = api.create_subresource::<Value, Value>("binding", &name, &PostParams::default(), &binding).await;
            } else if !begun && !is_stuck {
                set_status(&api, &name, &ready(true)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// The status of a pod that runs.
pub fn ready(ready: bool) -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]})
}

/// Writes what a kubelet says of a pod, if it is still there.
pub async fn set_status(api: &Api<Pod>, name: &str, status: &Value) {
    let _ = api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await;
}
