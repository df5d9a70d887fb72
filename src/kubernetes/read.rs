//! The reads. Controllers read stores that watches fill; a list is for the moments when those may lag.

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
