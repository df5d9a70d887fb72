//! What is wrong with a pod, as the kubelet and the scheduler say it, in one sentence that says what to do.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

/// Something that is wrong with a pod and does not mend itself by waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A CamelCase word for programs.
    pub reason: Reason,
    /// What is wrong and what to do, without the name of the pod.
    pub message: String,
}

/// What can be wrong with a pod; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The image cannot be had.
    ImageCannotBePulled,
    /// The container cannot be made from its configuration.
    ContainerConfigError,
    /// The container used more memory than it may.
    OutOfMemory,
    /// The container ends again and again.
    CrashLoop,
    /// No node takes the pod.
    Unschedulable,
}

impl Reason {
    /// The CamelCase word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ImageCannotBePulled => "ImageCannotBePulled",
            Self::ContainerConfigError => "ContainerConfigError",
            Self::OutOfMemory => "OutOfMemory",
            Self::CrashLoop => "CrashLoop",
            Self::Unschedulable => "Unschedulable",
        }
    }
}

/// The worst that the status of a pod tells.
#[must_use]
pub fn of(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let mut all: Vec<Trouble> = containers.filter_map(of_container).collect();
    let scheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled");
    if let Some(refused) = scheduled.filter(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable")) {
        all.push(Trouble {
            reason: Reason::Unschedulable,
            message: format!(
                "no node takes the pod ({}): add room, or ask for less in the template",
                refused.message.as_deref().unwrap_or("the scheduler does not say why").trim_end_matches('.')
            ),
        });
    }
    all.into_iter().min_by_key(|trouble| trouble.reason)
}

fn of_container(container: &ContainerStatus) -> Option<Trouble> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let said = waiting.message.as_deref().unwrap_or_default();
    let name = &container.name;
    match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" | "RegistryUnavailable" => {
            Some(Trouble {
                reason: Reason::ImageCannotBePulled,
                message: format!(
                    "the image {:?} of container {name:?} cannot be pulled ({}): correct the image in the template, or give the pods access to it",
                    container.image,
                    first_line(said)
                ),
            })
        }
        reason @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => Some(Trouble {
            reason: Reason::ContainerConfigError,
            message: format!("container {name:?} cannot be started ({reason}: {}): correct the template", first_line(said)),
        }),
        "CrashLoopBackOff" => Some(crashing(container)),
        _ => None,
    }
}

fn crashing(container: &ContainerStatus) -> Trouble {
    let name = &container.name;
    let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let Some(last) = ended(&container.last_state) else {
        return Trouble {
            reason: Reason::CrashLoop,
            message: format!("container {name:?} ends again and again: see its log (kubectl logs --previous)"),
        };
    };
    if last.reason.as_deref() == Some("OOMKilled") {
        return Trouble {
            reason: Reason::OutOfMemory,
            message: format!("container {name:?} was killed because it used more memory than its limit: raise resources.limits.memory"),
        };
    }
    let how = match last.signal.filter(|signal| *signal != 0) {
        Some(signal) => format!("was ended by signal {signal}"),
        None => format!("ended with exit code {}", last.exit_code),
    };
    Trouble {
        reason: Reason::CrashLoop,
        message: format!("container {name:?} {how}, {} restarts so far: see its log (kubectl logs --previous)", container.restart_count),
    }
}

fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() { "no reason is given" } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"status": status})).unwrap()
    }

    fn container(state: &Value, last: &Value) -> Value {
        json!({"name": "agent", "image": "example/agent:1", "imageID": "", "ready": false, "restartCount": 4, "state": state, "lastState": last})
    }

    fn trouble(state: &Value, last: &Value) -> Trouble {
        of(&pod(&json!({"containerStatuses": [container(state, last)]}))).unwrap()
    }

    /// A regression here sends people looking in the wrong place.
    #[test]
    fn the_cause_is_named_with_what_to_do() {
        let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
        let image = trouble(&waiting("ImagePullBackOff", "Back-off pulling image"), &json!({}));
        assert_eq!(image.reason, Reason::ImageCannotBePulled);
        assert!(image.message.contains("example/agent:1") && image.message.contains("Back-off"), "{}", image.message);

        let crash = trouble(&waiting("CrashLoopBackOff", ""), &json!({"terminated": {"exitCode": 3, "reason": "Error"}}));
        assert_eq!(crash.reason, Reason::CrashLoop);
        assert!(crash.message.contains("exit code 3, 4 restarts"), "{}", crash.message);

        let memory = trouble(&waiting("CrashLoopBackOff", ""), &json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}));
        assert_eq!(memory.reason, Reason::OutOfMemory);

        let config = trouble(&waiting("CreateContainerConfigError", "secret \"key\" not found"), &json!({}));
        assert!(config.message.contains("secret \"key\" not found"), "{}", config.message);
    }

    #[test]
    fn a_pod_that_no_node_takes_carries_the_words_of_the_scheduler() {
        let status = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient memory."}]});
        let trouble = of(&pod(&status)).unwrap();
        assert!(trouble.message.contains("(0/3 nodes are available: 3 Insufficient memory): add room"), "{}", trouble.message);
    }

    #[test]
    fn starting_is_no_trouble_and_the_worst_is_told() {
        assert_eq!(
            of(&pod(&json!({"containerStatuses": [container(&json!({"waiting": {"reason": "ContainerCreating"}}), &json!({}))]}))),
            None
        );
        let two = json!({"containerStatuses": [
            container(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &json!({})),
            container(&json!({"waiting": {"reason": "InvalidImageName"}}), &json!({})),
        ]});
        assert_eq!(of(&pod(&two)).unwrap().reason, Reason::ImageCannotBePulled);
    }
}
