//! What the installed controller may do, taken from the manifest that people apply, and which right a request needs.

use std::collections::BTreeSet;

use http::Method;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;

use super::{checkout, eventually};

/// The name of the controller's roles, bindings and lease.
const NAME: &str = "skein-controller";
/// Whom the API server takes the controller for.
pub const USER: &str = "system:serviceaccount:skein-system:skein-controller";

/// The object of the manifest that has the controller's name.
fn manifest<K: DeserializeOwned>(kind: &str) -> K {
    let text = std::fs::read_to_string(checkout("deploy/manifests/skein.yaml")).unwrap();
    let mut all = serde_yaml_ng::Deserializer::from_str(&text).map(|object| serde_yaml_ng::Value::deserialize(object).unwrap());
    let found = all.find(|object| object["kind"] == kind && object["metadata"]["name"] == NAME);
    serde_yaml_ng::from_value(found.unwrap_or_else(|| panic!("the manifest has no {kind} {NAME}"))).unwrap()
}

/// Gives the controller its rights in a namespace, and no others. Its own namespace is this one, and it
/// may call its lease one of these names, too: tests let several lead there.
pub async fn grant(client: &Client, namespace: &str, leases: &[&str]) {
    put(Api::all(client.clone()), &manifest::<ClusterRole>("ClusterRole")).await;
    put(Api::all(client.clone()), &manifest::<ClusterRoleBinding>("ClusterRoleBinding")).await;
    let (mut role, mut binding): (Role, RoleBinding) = (manifest("Role"), manifest("RoleBinding"));
    (role.metadata.namespace, binding.metadata.namespace) = (Some(namespace.to_owned()), Some(namespace.to_owned()));
    for names in role.rules.iter_mut().flatten().filter_map(|rule| rule.resource_names.as_mut()) {
        assert_eq!(*names, [NAME]);
        names.extend(leases.iter().map(|&name| name.to_owned()));
    }
    put(Api::namespaced(client.clone(), namespace), &role).await;
    put(Api::namespaced(client.clone(), namespace), &binding).await;

    // The server learns of its own objects a moment later.
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    for (group, resource, name) in [("skein.dev", "topologies", "team"), ("coordination.k8s.io", "leases", NAME)] {
        let attributes = ResourceAttributes {
            verb: Some("watch".to_owned()),
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(USER.to_owned()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        eventually("the rights are in force", || async {
            let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
            answer.status.is_some_and(|status| status.allowed).then_some(())
        })
        .await;
    }
}

async fn put<K: Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned>(api: Api<K>, object: &K) {
    api.patch(NAME, &PatchParams::apply("tests").force(), &Patch::Apply(object)).await.unwrap();
}

/// Every right of the controller: `patch topologies.skein.dev/status`.
pub fn granted() -> BTreeSet<String> {
    let (everywhere, at_home): (ClusterRole, Role) = (manifest("ClusterRole"), manifest("Role"));
    everywhere.rules.into_iter().chain(at_home.rules).flatten().flat_map(rights).collect()
}

fn rights(rule: PolicyRule) -> Vec<String> {
    let (groups, resources) = (rule.api_groups.unwrap(), rule.resources.unwrap());
    let places = groups.iter().flat_map(|group| resources.iter().map(move |resource| place(group, resource)));
    places.flat_map(|place| rule.verbs.iter().map(move |verb| format!("{verb} {place}"))).collect()
}

/// A resource with its group: `topologies.skein.dev/status`.
fn place(group: &str, resource: &str) -> String {
    let (plural, rest) = resource.split_once('/').map_or((resource, String::new()), |(plural, rest)| (plural, format!("/{rest}")));
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    format!("{plural}{group}{rest}")
}

/// The right that a request needs.
pub fn needed(method: &Method, uri: &str) -> String {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut parts = path.trim_start_matches('/').split('/');
    let group = if parts.next() == Some("apis") { parts.next().unwrap() } else { "" };
    let rest: Vec<_> = parts.skip(1).collect();
    let rest = if rest.len() > 2 && rest[0] == "namespaces" { &rest[2..] } else { &rest[..] };
    let verb = match (method.as_str(), rest.len()) {
        ("GET", 1) if query.contains("watch=true") => "watch",
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", 1) => "deletecollection",
        ("DELETE", _) => "delete",
        _ => panic!("{method} {uri}"),
    };
    let resource = if rest.len() > 2 { format!("{}/{}", rest[0], rest[2]) } else { rest[0].to_owned() };
    format!("{verb} {}", place(group, &resource))
}

#[test]
fn a_request_needs_one_right() {
    assert_eq!(needed(&Method::GET, "/api/v1/pods?&labelSelector=a&watch=true"), "watch pods");
    assert_eq!(needed(&Method::GET, "/api/v1/namespaces/a/pods?limit=5"), "list pods");
    assert_eq!(needed(&Method::GET, "/api/v1/namespaces/a/pods/b"), "get pods");
    assert_eq!(
        needed(&Method::PATCH, "/apis/skein.dev/v1alpha1/namespaces/a/topologies/b/status?force=true"),
        "patch topologies.skein.dev/status"
    );
    assert_eq!(needed(&Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"), "update leases.coordination.k8s.io");
    assert_eq!(
        needed(&Method::GET, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/topologies.skein.dev"),
        "get customresourcedefinitions.apiextensions.k8s.io"
    );
}
