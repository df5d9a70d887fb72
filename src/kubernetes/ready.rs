//! Waiting for custom resource definitions: a controller that starts before they are installed says so
//! and waits, instead of failing.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};

use super::error::ask;

/// The time between two looks.
const PERIOD: Duration = Duration::from_secs(2);

/// Waits until a definition is established and serves a version. While it is not, `waiting` is told why.
pub async fn established(client: &Client, name: &str, version: &str, mut waiting: impl FnMut(String)) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    loop {
        let problem = match ask(|| format!("read the custom resource definition {name}"), api.get_opt(name)).await {
            Ok(Some(crd)) => match missing(&crd, version) {
                None => return,
                Some(problem) => problem,
            },
            Ok(None) => format!("the custom resource definition {name} is not installed: kubectl apply -f crds/"),
            Err(error) => error.to_string(),
        };
        waiting(problem);
        tokio::time::sleep(PERIOD).await;
    }
}

fn missing(crd: &CustomResourceDefinition, version: &str) -> Option<String> {
    let name = crd.metadata.name.as_deref().unwrap_or_default();
    if !crd.spec.versions.iter().any(|v| v.name == version && v.served) {
        return Some(format!("the custom resource definition {name} does not serve {version}: install the one of this release"));
    }
    let conditions = crd.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let established = conditions.filter(|c| c.type_ == "Established").any(|c| c.status == "True");
    (!established).then(|| format!("the API server has not established the custom resource definition {name} yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_definition_is_not_enough() {
        let crd = crate::api::crds().remove(0);
        assert!(missing(&crd, "v1alpha1").is_some_and(|m| m.contains("has not established")));
        assert!(missing(&crd, "v2").is_some_and(|m| m.contains("does not serve v2")));
    }
}
