//! A real API server (etcd and kube-apiserver, nothing else) with both custom resource definitions.
//! Tests that run at the same time share one, each in namespaces of its own; it ends with the last of them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use skein::lock::lock;
use tempfile::TempDir;

use super::{checkout, until};

static SHARED: Mutex<Weak<ApiServer>> = Mutex::new(Weak::new());

/// An API server; it ends with the last holder of this value.
pub struct ApiServer {
    directory: TempDir,
    kubeconfig: PathBuf,
}

impl ApiServer {
    /// The API server of this test process.
    pub fn shared() -> Arc<Self> {
        let mut shared = lock(&SHARED);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *shared = Arc::downgrade(&server);
        server
    }

    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let up = Command::new(checkout("deploy/local/apiserver")).args(["up", "--dir"]).arg(directory.path()).output().unwrap();
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let kubeconfig = PathBuf::from(String::from_utf8(up.stdout).unwrap().lines().last().unwrap().trim());
        Self { directory, kubeconfig }
    }

    /// A client of its own, once the definitions are there.
    pub async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in skein::api::crds() {
            let name = crd.name_any();
            api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&crd)).await.unwrap();
            skein::kubernetes::ready::established(&client, &name, skein::api::VERSION, |_| {}).await;
        }
        client
    }

    /// A new namespace.
    pub async fn namespace(&self, client: &Client) -> String {
        let api: Api<Namespace> = Api::all(client.clone());
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some("test-".to_owned());
        let name = until("a new namespace", async || api.create(&PostParams::default(), &namespace).await.map_err(|e| e.to_string())).await;
        name.name_any()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let _ = Command::new(checkout("deploy/local/apiserver")).args(["down", "--dir"]).arg(self.directory.path()).output();
    }
}
