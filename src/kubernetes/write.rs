//! The writes: create what is absent, apply, patch a status, adopt and delete under preconditions.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Resource;
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Error, ask};

/// An object of a namespace that can be written.
pub trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}
impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// What came of a request to create.
#[derive(Clone, Debug)]
pub enum Created<K> {
    /// It was absent, and is there now.
    New(K),
    /// Something of that name was there before; look whose it is.
    Exists(K),
}

/// What came of a request to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The server took the request; the object may be ending for a while.
    Accepted,
    /// It was gone already.
    Gone,
}

/// What came of a request to change an object that may have been deleted meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is written.
    Done,
    /// There is no such object any more: nobody looks at it, and nothing is left to do.
    Gone,
}

/// Creates an object unless there is one of its name.
///
/// # Errors
/// When the server could not be asked or refused, and when the object of that name was gone again by
/// the time that it was looked at: a conflict, so try again.
pub async fn create<K: Object>(client: &Client, object: &K) -> Result<Created<K>, Error> {
    let (namespace, name) = place(object.meta());
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let said = || format!("create {} {name}", kind::<K>());
    match ask(said, api.create(&PostParams::default(), object)).await {
        Ok(new) => Ok(Created::New(new)),
        Err(conflict) if conflict.code() == Some(409) => match ask(|| format!("read {} {name}", kind::<K>()), api.get_opt(name)).await? {
            Some(existing) => Ok(Created::Exists(existing)),
            None => Err(conflict),
        },
        Err(other) => Err(other),
    }
}

/// Makes the fields of an object that this manager owns equal to what is given (server-side apply).
///
/// # Errors
/// When the server could not be asked or refused.
pub async fn apply<K: Object>(client: &Client, manager: &str, object: &K) -> Result<K, Error> {
    let (namespace, name) = place(object.meta());
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::apply(manager).force();
    ask(|| format!("apply {} {name}", kind::<K>()), api.patch(name, &params, &Patch::Apply(typed(object)))).await
}

/// Makes the fields of a status that this manager owns equal to what is given (server-side apply).
/// With a `uid`, only of that very object: another one of its name is left alone, as a conflict.
///
/// # Errors
/// When the server could not be asked or refused, or when the object is another one. That it was deleted
/// meanwhile is no error.
pub async fn apply_status<K: Object>(client: &Client, manager: &str, of: &K, status: &impl Serialize) -> Result<Written, Error> {
    let (namespace, name) = place(of.meta());
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let patch = serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "uid": of.uid()},
        "status": status,
    });
    let params = PatchParams::apply(manager).force();
    written(ask(|| format!("write the status of {} {name}", kind::<K>()), api.patch_status(name, &params, &Patch::Apply(patch))).await)
}

/// Makes an owner the one that controls an object. Only of that very object in the state in which the caller
/// saw it: in any other state it is left alone, as a conflict.
///
/// # Errors
/// When the server could not be asked or refused, or when the object has changed. That it was deleted
/// meanwhile is no error.
pub async fn adopt<K: Object>(client: &Client, of: &K, owner: &OwnerReference) -> Result<Written, Error> {
    let (namespace, name) = place(of.meta());
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    // Owners that do not control it stay: the server merges the list by UID.
    let patch = serde_json::json!({
        "metadata": {"uid": of.uid(), "resourceVersion": of.resource_version(), "ownerReferences": [owner]},
    });
    written(ask(|| format!("adopt {} {name}", kind::<K>()), api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))).await)
}

fn written<K>(answer: Result<K, Error>) -> Result<Written, Error> {
    match answer {
        Ok(_) => Ok(Written::Done),
        Err(gone) if gone.code() == Some(404) => Ok(Written::Gone),
        Err(other) => Err(other),
    }
}

/// Makes the finalizers of an object that this manager owns equal to what is given (server-side apply).
/// Only of that very object: one that is gone is not made again, and another one of its name is left
/// alone, as a conflict.
///
/// # Errors
/// When the server could not be asked or refused, or when the object is another one.
pub async fn finalizers<K: Object>(client: &Client, manager: &str, of: &K, finalizers: &[&str]) -> Result<K, Error> {
    let (namespace, name) = place(of.meta());
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let patch = serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "uid": of.uid(), "finalizers": finalizers},
    });
    let params = PatchParams::apply(manager).force();
    ask(|| format!("write the finalizers of {} {name}", kind::<K>()), api.patch(name, &params, &Patch::Apply(patch))).await
}

/// Deletes one very object: another one of its name, and with a `version` also the same one in another
/// state than the caller saw, is left alone, as a conflict.
///
/// # Errors
/// When the server could not be asked or refused, or when a precondition does not hold.
pub async fn delete<K: Object>(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
    version: Option<&str>,
    grace_seconds: Option<u32>,
) -> Result<Deleted, Error> {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: version.map(str::to_owned) };
    let params = DeleteParams { preconditions: Some(preconditions), grace_period_seconds: grace_seconds, ..DeleteParams::default() };
    match ask(|| format!("delete {} {name}", kind::<K>()), api.delete(name, &params)).await {
        Ok(_) => Ok(Deleted::Accepted),
        Err(gone) if gone.code() == Some(404) => Ok(Deleted::Gone),
        Err(other) => Err(other),
    }
}

/// The UID of the object that controls this one.
#[must_use]
pub fn controller_uid(meta: &ObjectMeta) -> Option<&str> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// Whether everything that `wanted` says is so in `actual`, which may say more.
#[must_use]
pub fn covers(actual: &impl Serialize, wanted: &impl Serialize) -> bool {
    match (serde_json::to_value(actual), serde_json::to_value(wanted)) {
        (Ok(actual), Ok(wanted)) => contains(&actual, &wanted),
        _ => false,
    }
}

fn contains(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| actual.get(key).is_some_and(|actual| contains(actual, wanted)))
        }
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len() && actual.iter().zip(wanted).all(|(actual, wanted)| contains(actual, wanted))
        }
        _ => actual == wanted,
    }
}

fn place(meta: &ObjectMeta) -> (&str, &str) {
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

pub(super) fn kind<K: Object>() -> String {
    K::kind(&()).to_lowercase()
}

/// The object with its type, which server-side apply wants and some types leave out.
fn typed<K: Object>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("apiVersion".to_owned(), K::api_version(&()).into());
        fields.insert("kind".to_owned(), K::kind(&()).into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_adds_is_no_drift() {
        let actual = json!({"spec": {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}, "metadata": {"uid": "x"}});
        assert!(covers(&actual, &json!({"spec": {"maxUnavailable": 1}})));
        assert!(!covers(&actual, &json!({"spec": {"maxUnavailable": 2}})));
        assert!(!covers(&actual, &json!({"metadata": {"labels": {}}})));
        assert!(!covers(&json!([1, 2]), &json!([1])), "a list that is longer is another list");
    }
}
