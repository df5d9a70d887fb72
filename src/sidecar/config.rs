//! From the command line to what the sidecar needs to know.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::cli::SidecarArgs;

/// The configuration of a sidecar, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The addresses of the bus.
    pub nats_url: String,
    /// Whom the sidecar serves.
    pub identity: Identity,
    /// How the agent is reached; `None` when it pulls.
    pub push: Option<Push>,
    /// How many tasks the agent works on at a time.
    pub concurrency: u32,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// The time between two heartbeats.
    pub heartbeat: Duration,
    /// How long tasks may go on once the agent is told to end.
    pub drain_timeout: Duration,
    /// What the kubelet's requests to drain carry, so that nobody else can make them.
    pub hook_key: String,
    /// Where the agent finds the local API.
    pub api_address: SocketAddr,
    /// Where probes and metrics are served.
    pub admin_address: SocketAddr,
}

/// The agent that a sidecar serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The namespace of its pod.
    pub namespace: String,
    /// Its pool.
    pub pool: String,
    /// Its name, which is that of its pod.
    pub agent: String,
    /// The UID of its pod.
    pub pod_uid: String,
}

/// How tasks are pushed to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Where it listens.
    pub address: SocketAddr,
    /// The path that tasks are POSTed to.
    pub path: String,
    /// The path of its health check.
    pub health_path: String,
}

impl Config {
    /// Checks the command line.
    ///
    /// # Errors
    /// One sentence: which flag is wrong and what would be right.
    pub fn resolve(args: SidecarArgs) -> Result<Self, String> {
        if !args.api_address.ip().is_loopback() {
            return Err(format!(
                "--api-address {} is not on the loopback interface: the local API is for the agent alone",
                args.api_address
            ));
        }
        for (flag, name) in [("--namespace", &args.namespace), ("--pool", &args.pool), ("--agent", &args.agent)] {
            let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            if name.is_empty() || !plain {
                return Err(format!("{flag} {name:?} is not a name: use lower-case letters, digits and hyphens"));
            }
        }
        if args.hook_key.is_empty() {
            return Err("--hook-key is empty: give the UID of the pool, as the hooks of the pod do".to_owned());
        }
        for (flag, number) in [
            ("--concurrency", args.concurrency),
            ("--timeout-seconds", args.timeout_seconds),
            ("--heartbeat-seconds", args.heartbeat_seconds),
        ] {
            if number == 0 {
                return Err(format!("{flag} is 0: it must be 1 or more"));
            }
        }
        for (flag, path) in [("--agent-path", &args.agent_path), ("--agent-health-path", &args.agent_health_path)] {
            let is_path = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
            if !is_path {
                return Err(format!("{flag} {path:?} is not a path: it must begin with a slash and hold no space"));
            }
        }
        let push = match args.agent_port {
            None => None,
            Some(port) if port == 0 || port == args.api_address.port() || port == args.admin_address.port() => {
                return Err(format!(
                    "--agent-port {port} is not a port that an agent can listen on: the sidecar itself has it, or it is 0"
                ));
            }
            Some(port) => Some(Push {
                address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                path: args.agent_path,
                health_path: args.agent_health_path,
            }),
        };
        Ok(Self {
            nats_url: args.bus.nats_url,
            identity: Identity { namespace: args.namespace, pool: args.pool, agent: args.agent, pod_uid: args.pod_uid },
            push,
            concurrency: args.concurrency,
            timeout: Duration::from_secs(args.timeout_seconds.into()),
            heartbeat: Duration::from_secs(args.heartbeat_seconds.into()),
            drain_timeout: Duration::from_secs(args.drain_timeout_seconds.into()),
            hook_key: args.hook_key,
            api_address: args.api_address,
            admin_address: args.admin_address,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    pub(in crate::sidecar) fn resolve(more: &[&str]) -> Result<Config, String> {
        let base = ["skein", "sidecar", "--namespace", "n", "--pool", "p", "--agent", "p-0", "--pod-uid", "u"];
        let key = if more.contains(&"--hook-key") { &[][..] } else { &["--hook-key", "k"] };
        match Cli::parse_from([&base[..], key, more].concat()).command {
            Command::Sidecar(args) => Config::resolve(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_port_the_agent_pulls() {
        assert_eq!(resolve(&[]).unwrap().push, None);
        assert_eq!(resolve(&["--agent-port", "8080"]).unwrap().push.unwrap().address.to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_flag_that_is_wrong() {
        for (flags, flag) in [
            (["--api-address", "0.0.0.0:7800"], "--api-address"),
            (["--agent-port", "7801"], "--agent-port"),
            (["--agent-path", "tasks"], "--agent-path"),
            (["--agent-health-path", "/a b"], "--agent-health-path"),
            (["--concurrency", "0"], "--concurrency"),
            (["--hook-key", ""], "--hook-key"),
        ] {
            let error = resolve(&flags).unwrap_err();
            assert!(error.starts_with(flag), "{error}");
        }
        let error = resolve(&["--timeout-seconds", "0"]).unwrap_err();
        assert!(error.starts_with("--timeout-seconds"), "{error}");
    }
}
