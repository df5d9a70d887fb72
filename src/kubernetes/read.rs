//! The reads. Controllers read stores that watches fill; a list is for the moments when those may lag.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client};

use super::error::{Error, ask};
use super::write::{Object, kind};

/// Lists the objects of a namespace that a selector finds, as they are now.
///
/// # Errors
/// When the server could not be asked or refused.
pub async fn list<K: Object>(client: &Client, namespace: &str, selector: &str) -> Result<Vec<K>, Error> {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let listed = ask(|| format!("list every {} with {selector}", kind::<K>()), api.list(&ListParams::default().labels(selector))).await?;
    Ok(listed.items)
}

/// Reads the metadata of one object, as it is now. `None` when there is no such object.
///
/// # Errors
/// When the server could not be asked or refused.
pub async fn metadata<K: Object>(client: &Client, namespace: &str, name: &str) -> Result<Option<ObjectMeta>, Error> {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = ask(|| format!("read {} {name}", kind::<K>()), api.get_metadata_opt(name)).await?;
    Ok(found.map(|found| found.metadata))
}
