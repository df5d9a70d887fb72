//! Every label, annotation, finalizer and field manager that Skein writes, in one place.

use std::collections::BTreeMap;

/// The pool that a pod, account or budget belongs to.
pub const POOL: &str = "skein.dev/pool";
/// The ordinal of an agent in its pool.
pub const ORDINAL: &str = "skein.dev/ordinal";
/// The revision of the template that a pod was made of.
pub const REVISION: &str = "skein.dev/revision";
/// Kubernetes' recommended label for the tool that manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] on everything that Skein makes.
pub const MANAGER: &str = "skein";
/// Kubernetes' recommended label for the name of an application.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Kubernetes' recommended label for one instance of an application.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";

/// Kubernetes' recommended label for the part that an object plays in an application.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Kubernetes' recommended label for the version of an application.
pub const APP_VERSION: &str = "app.kubernetes.io/version";

/// Keeps a topology until its journal and consumers are gone from the bus.
pub const FINALIZER: &str = "skein.dev/bus";

/// The field manager of the objects that belong to a pool.
pub const FIELD_MANAGER_POOL: &str = "skein/agentpool";
/// The field manager of a pool's status.
pub const FIELD_MANAGER_POOL_STATUS: &str = "skein/agentpool-status";
/// The field manager of a topology's status.
pub const FIELD_MANAGER_TOPOLOGY_STATUS: &str = "skein/topology-status";
/// The field manager of a topology's finalizer.
pub const FIELD_MANAGER_TOPOLOGY: &str = "skein/topology";

/// The labels by which everything of a pool is found.
#[must_use]
pub fn of_pool(pool: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (APP_INSTANCE.to_owned(), pool.to_owned()),
        (APP_NAME.to_owned(), "skein-agent".to_owned()),
        (MANAGED_BY.to_owned(), MANAGER.to_owned()),
        (POOL.to_owned(), pool.to_owned()),
    ])
}

/// The selector that finds the pods of one pool, as `status.selector` states it.
#[must_use]
pub fn selector_of_pool(pool: &str) -> String {
    format!("{POOL}={pool}")
}
