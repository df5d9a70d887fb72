//! Finds the API server as kubectl does, and says in one sentence what went wrong with it.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::cli::ClusterArgs;

/// How long a person waits for an API server that says nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An API server and the namespace that a command speaks of.
#[derive(Clone)]
pub(super) struct Cluster {
    /// For requests that are answered at once.
    pub(super) client: Client,
    /// The namespace.
    pub(super) namespace: String,
    config: Config,
}

impl Cluster {
    /// Finds the API server.
    ///
    /// # Errors
    /// In one sentence, when the kubeconfig is missing or cannot be used.
    pub(super) async fn find(args: &ClusterArgs) -> Result<Self, String> {
        let mut config = config(args).await?;
        // A person wants the truth now, and a script decides for itself when to ask again.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let mut prompt = config.clone();
        prompt.read_timeout = Some(READ_TIMEOUT);
        let client = client(prompt)?;
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self { client, namespace, config })
    }

    /// A client for requests that may take long to be answered.
    ///
    /// # Errors
    /// As [`Cluster::find`].
    pub(super) fn patient_client(&self) -> Result<Client, String> {
        client(self.config.clone())
    }

    /// Says what went wrong with a request.
    pub(super) fn explain(&self, doing: &str, error: &kube::Error) -> String {
        explain(&self.config.cluster_url.to_string(), doing, error)
    }
}

fn client(config: Config) -> Result<Client, String> {
    Client::try_from(config).map_err(|error| format!("the kubeconfig cannot be used: {}", root(&error)))
}

async fn config(args: &ClusterArgs) -> Result<Config, String> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let found = match (&args.kubeconfig, &args.context) {
        (Some(path), _) => match Kubeconfig::read_from(path) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        },
        (None, Some(_)) => Config::from_kubeconfig(&options).await,
        // As kubectl: a kubeconfig, and without one the account of the pod that this runs in.
        (None, None) => match Config::from_kubeconfig(&options).await {
            Err(KubeconfigError::FindPath | KubeconfigError::ReadConfig(..)) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
                return Config::incluster()
                    .map_err(|error| format!("there is no kubeconfig, and the pod's own account cannot be used: {error}"));
            }
            other => other,
        },
    };
    found.map_err(|error| explain_kubeconfig(&error))
}

fn explain_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(cause, path) => {
            format!("there is no kubeconfig at {}: {cause}; set KUBECONFIG or give --kubeconfig", path.display())
        }
        KubeconfigError::FindPath => "there is no kubeconfig: set KUBECONFIG or give --kubeconfig".to_owned(),
        KubeconfigError::CurrentContextNotSet => "the kubeconfig names no current context: give --context".to_owned(),
        KubeconfigError::LoadContext(name) => {
            format!("the kubeconfig has no context {name:?}: `kubectl config get-contexts` lists those that it has")
        }
        other => format!("the kubeconfig cannot be used: {other}"),
    }
}

/// What went wrong with a request to the API server, in one sentence.
fn explain(server: &str, doing: &str, error: &kube::Error) -> String {
    match error {
        // A group that the server does not know is answered in plain text, an object that is missing is not.
        kube::Error::Api(status)
            if status.code == 404 && status.details.as_ref().is_none_or(|d| d.name.is_empty() && d.kind.is_empty()) =>
        {
            format!("{doing}: the cluster does not know Skein's resources: install them with `skein crds | kubectl apply -f -`")
        }
        kube::Error::Api(status) if status.code == 401 => {
            format!("{doing}: the API server does not take your credentials: log in again, or choose another --context")
        }
        kube::Error::Api(status) => format!("{doing}: {}", status.message),
        kube::Error::SerdeError(cause) => {
            format!(
                "{doing}: the API server's answer is not understood, perhaps because it is of another version than this program: {cause}"
            )
        }
        kube::Error::Auth(cause) => format!("{doing}: no credentials for {server}: {}", root(cause)),
        other => format!("{doing}: the API server at {server} cannot be reached: {}", root(other)),
    }
}

/// The innermost cause: what the operating system, TLS or the server said.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use pretty_assertions::assert_eq;

    fn said(code: u16, message: &str, kind: &str) -> String {
        let details = serde_json::from_value(serde_json::json!({"kind": kind})).unwrap();
        let status = Status { code, message: message.to_owned(), details: Some(details), ..Status::default() };
        explain("https://there", "list topologies", &kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn every_refusal_is_one_sentence_that_says_what_to_do() {
        assert_eq!(
            said(404, "404 page not found", ""),
            "list topologies: the cluster does not know Skein's resources: install them with `skein crds | kubectl apply -f -`"
        );
        assert_eq!(said(404, "namespaces \"x\" not found", "namespaces"), "list topologies: namespaces \"x\" not found");
        assert_eq!(said(403, "you may not", "topologies"), "list topologies: you may not");
        assert!(said(401, "Unauthorized", "").contains("log in again"));
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_missing_is_named() {
        let args = ClusterArgs { kubeconfig: Some("/nowhere/config".into()), ..ClusterArgs::default() };
        let error = Cluster::find(&args).await.err().unwrap();
        assert_eq!(
            error,
            "there is no kubeconfig at /nowhere/config: No such file or directory (os error 2); set KUBECONFIG or give --kubeconfig"
        );
    }
}
