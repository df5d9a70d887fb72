//! What is wrong with a pod, as the kubelet and the scheduler say it, in one sentence that says what to do.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning, ContainerStatus, PodStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Something that is wrong with a pod and does not mend itself by waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A CamelCase word for programs.
    pub reason: Reason,
    /// What is wrong and what to do, without the name of the pod.
    pub message: String,
    /// When it is over, unless something new happens: a container that crashed runs again and has not
    /// shown yet that it lasts.
    pub fades: Option<Timestamp>,
}

impl Trouble {
    fn new(reason: Reason, message: String) -> Self {
        Self { reason, message, fades: None }
    }
}

/// How long a container that crashed more than once must run before it counts as well.
const LASTS: SignedDuration = SignedDuration::from_secs(30);

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
pub fn of(status: &PodStatus) -> Option<Trouble> {
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let mut all: Vec<Trouble> = containers.filter_map(of_container).collect();
    let scheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled");
    if let Some(refused) = scheduled.filter(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable")) {
        let said = refused.message.as_deref().unwrap_or("the scheduler does not say why").trim_end_matches('.');
        all.push(Trouble::new(Reason::Unschedulable, format!("no node takes the pod ({said}): add room, or ask for less in the template")));
    }
    all.into_iter().min_by_key(|trouble| trouble.reason)
}

fn of_container(container: &ContainerStatus) -> Option<Trouble> {
    let state = container.state.as_ref()?;
    let Some(waiting) = &state.waiting else { return crashing(container, state.running.as_ref()) };
    let said = first_line(waiting.message.as_deref().unwrap_or_default());
    let (name, image) = (&container.name, &container.image);
    match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" | "RegistryUnavailable" => {
            Some(Trouble::new(
                Reason::ImageCannotBePulled,
                format!(
                    "the image {image:?} of container {name:?} cannot be pulled ({said}): correct the image in the template, or give the pods access to it"
                ),
            ))
        }
        reason @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            // The commonest one deserves an answer: Skein asks for Pod Security "restricted".
            let what = if said.contains("runAsNonRoot") {
                "set securityContext.runAsUser in the template, or a numeric USER in the image"
            } else {
                "correct the template"
            };
            Some(Trouble::new(Reason::ContainerConfigError, format!("container {name:?} cannot be started ({reason}: {said}): {what}")))
        }
        "CrashLoopBackOff" => crashing(container, None),
        _ => None,
    }
}

/// What is wrong with a container that ends again and again. Between two crashes it runs, and is no
/// better for it until it has lasted.
fn crashing(container: &ContainerStatus, running: Option<&ContainerStateRunning>) -> Option<Trouble> {
    let name = &container.name;
    let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let last = ended(&container.state).or_else(|| ended(&container.last_state));
    let fades = running.and_then(|running| running.started_at.as_ref()).and_then(|at| at.0.checked_add(LASTS).ok());
    let waits = container.state.as_ref().is_some_and(|state| state.waiting.is_some());
    if !waits && (container.restart_count < 2 || last.is_none()) {
        return None;
    }
    let (reason, message) = match last {
        None => (Reason::CrashLoop, format!("container {name:?} ends again and again: see its log (kubectl logs --previous)")),
        Some(last) if last.reason.as_deref() == Some("OOMKilled") => (
            Reason::OutOfMemory,
            format!(
                "container {name:?} was killed because it used more memory than its limit: raise resources.limits.memory in the template"
            ),
        ),
        Some(last) => {
            let how = match last.signal.filter(|signal| *signal != 0) {
                Some(signal) => format!("was ended by signal {signal}"),
                None => format!("ended with exit code {}", last.exit_code),
            };
            let restarts = container.restart_count;
            (Reason::CrashLoop, format!("container {name:?} {how}, restarted {restarts} times: see its log (kubectl logs --previous)"))
        }
    };
    Some(Trouble { reason, message, fades })
}

fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() { "no reason is given" } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: &Value) -> PodStatus {
        serde_json::from_value(status.clone()).unwrap()
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
        assert!(crash.message.contains("exit code 3, restarted 4 times"), "{}", crash.message);

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

    /// A regression here makes Degraded come and go with every crash.
    #[test]
    fn a_container_that_crashed_is_well_only_once_it_has_lasted() {
        let last = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        let running = trouble(&json!({"running": {"startedAt": "2030-01-01T00:00:00Z"}}), &last);
        assert_eq!((running.reason, running.fades), (Reason::CrashLoop, Some("2030-01-01T00:00:30Z".parse().unwrap())));
        assert_eq!(trouble(&last, &json!({})).fades, None);
    }

    #[test]
    fn an_image_that_runs_as_root_is_explained() {
        let refused = json!({"waiting": {"reason": "CreateContainerConfigError", "message": "container has runAsNonRoot and image will run as root"}});
        assert!(trouble(&refused, &json!({})).message.ends_with("or a numeric USER in the image"));
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
