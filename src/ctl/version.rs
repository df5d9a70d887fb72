//! `version`: of this program, and of the controller and the gateway that run in the cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use serde::Serialize;

use super::cluster::Cluster;
use super::table::table;
use super::{Answer, Exit, json};
use crate::api::labels;
use crate::cli::{Output, VersionArgs};

/// The roles that a cluster runs on its own; the sidecars are as many as the agents.
const ROLES: [&str; 2] = ["controller", "gateway"];

/// What `-o json` prints.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Vec<Running>>,
}

/// Pods of one role that run one image.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Running {
    component: String,
    version: String,
    namespace: String,
    pods: usize,
    image: String,
}

pub(super) async fn run(args: VersionArgs) -> Answer {
    let (cluster, note, exit) = if args.client {
        (None, None, Exit::Well)
    } else {
        match ask(&args).await {
            Ok(found) if found.is_empty() => {
                let note = format!("no controller and no gateway run in the cluster: no pod has the label {}=skein", labels::APP_NAME);
                (Some(found), Some(note), Exit::Well)
            }
            Ok(found) => (Some(found), None, Exit::Well),
            Err(why) => (None, Some(why), Exit::Failed),
        }
    };
    let versions = Versions { client: env!("CARGO_PKG_VERSION"), cluster };
    let out = match args.output {
        Output::Json => json(&versions),
        Output::Table => text(&versions).into_bytes(),
    };
    Answer { out, notes: note.into_iter().collect(), exit }
}

async fn ask(args: &VersionArgs) -> Result<Vec<Running>, String> {
    let cluster = Cluster::find(&args.cluster).await?;
    let selector = ListParams::default().labels(&format!("{}=skein", labels::APP_NAME));
    let everywhere = Api::<Pod>::all(cluster.client.clone()).list(&selector).await;
    let pods = match everywhere {
        // Who may not look everywhere may perhaps look here.
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Api::<Pod>::namespaced(cluster.client.clone(), &cluster.namespace).list(&selector).await
        }
        other => other,
    };
    pods.map(|pods| running(&pods.items)).map_err(|error| cluster.explain("list pods", &error))
}

fn running(pods: &[Pod]) -> Vec<Running> {
    let mut found: BTreeMap<(String, String, String), (usize, Option<String>)> = BTreeMap::new();
    for pod in pods {
        let labels = pod.labels();
        let Some(component) = labels.get(labels::APP_COMPONENT).filter(|c| ROLES.contains(&c.as_str())) else { continue };
        let image = pod.spec.iter().flat_map(|spec| &spec.containers).find_map(|c| c.image.clone()).unwrap_or_default();
        let entry = found.entry((component.clone(), pod.namespace().unwrap_or_default(), image)).or_default();
        entry.0 += 1;
        entry.1 = labels.get(labels::APP_VERSION).cloned();
    }
    found
        .into_iter()
        .map(|((component, namespace, image), (pods, label))| Running {
            component,
            version: tag(&image).map(str::to_owned).or(label).unwrap_or_default(),
            namespace,
            pods,
            image,
        })
        .collect()
}

/// The tag of an image: what runs, whatever the labels say.
fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or(image);
    name.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag)
}

fn text(versions: &Versions) -> String {
    let mut rows = vec![vec!["client".to_owned(), versions.client.to_owned()]];
    rows.extend(versions.cluster.iter().flatten().map(|running| {
        let Running { component, version, namespace, pods, image } = running;
        vec![component.clone(), version.clone(), pods.to_string(), namespace.clone(), image.clone()]
    }));
    table(&["COMPONENT", "VERSION", "PODS", "NAMESPACE", "IMAGE"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn pod(component: &str, image: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "x", "namespace": "skein-system", "labels": {labels::APP_NAME: "skein", labels::APP_COMPONENT: component}},
            "spec": {"containers": [{"name": "skein", "image": image}]},
        }))
        .unwrap()
    }

    #[test]
    fn replicas_of_one_image_are_one_line_and_a_rollout_shows_both() {
        let pods = [
            pod("gateway", "r:5000/skein:0.2.0"),
            pod("gateway", "r:5000/skein:0.1.0"),
            pod("gateway", "r:5000/skein:0.1.0"),
            pod("nats", "nats:2"),
        ];
        let versions = Versions { client: "0.1.0", cluster: Some(running(&pods)) };
        assert_eq!(
            text(&versions),
            "\
COMPONENT  VERSION  PODS  NAMESPACE     IMAGE
client     0.1.0
gateway    0.1.0    2     skein-system  r:5000/skein:0.1.0
gateway    0.2.0    1     skein-system  r:5000/skein:0.2.0
"
        );
    }

    #[test]
    fn a_tag_is_no_port_and_no_digest() {
        assert_eq!(tag("host:5000/skein"), None);
        assert_eq!(tag("host:5000/skein:1@sha256:00"), Some("1"));
        assert_eq!(tag("skein@sha256:00"), None);
    }
}
