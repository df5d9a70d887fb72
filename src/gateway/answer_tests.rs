use super::*;
use crate::bus::envelope::{Payload, Trace};
use crate::bus::{Outcome, Task};
use pretty_assertions::assert_eq;

fn stored() -> StoredTask {
    StoredTask {
        task: Task {
            id: "t".into(),
            correlation_id: "c".into(),
            parent_id: None,
            ancestry: vec![],
            from_pool: "_gateway".into(),
            from_agent: "g-0".into(),
            created: 1_000,
            deadline: Some(61_000),
            trace: Trace { parent: Some("00-a-b-01".into()), state: None },
            payload: Payload { body: bytes::Bytes::new(), content_type: Some("text/plain".into()) },
        },
        pool: "p".into(),
        sequence: 7,
        bytes: 5,
    }
}

fn ended(outcome: Outcome) -> TaskResult {
    TaskResult {
        task_id: "t".into(),
        correlation_id: "c".into(),
        from_pool: "p".into(),
        from_agent: "p-1".into(),
        created: 2_500,
        outcome,
        reason: (outcome != Outcome::Completed).then(|| "no such file".into()),
        trace: Trace::default(),
        payload: Payload { body: "done".into(), content_type: None },
    }
}

#[test]
fn the_state_of_a_task_tells_all_but_the_payloads() {
    assert_eq!(
        state(&stored(), None),
        json!({
            "id": "t", "outcome": "pending", "correlationId": "c", "pool": "p",
            "created": "1970-01-01T00:00:01Z", "deadline": "1970-01-01T00:01:01Z", "traceparent": "00-a-b-01",
            "input": {"contentType": "text/plain", "bytes": 5},
        })
    );
    let failed = StoredResult { result: ended(Outcome::Failed), sequence: 9, bytes: 4 };
    let state = state(&stored(), Some(&failed));
    assert_eq!(state["outcome"], "failed");
    assert_eq!(state["ended"], "1970-01-01T00:00:02.5Z");
    assert_eq!(state["agent"], "p-1");
    assert_eq!(state["reason"], "no such file");
    assert_eq!(state["result"], json!({"bytes": 4}));
}

#[test]
fn only_a_completed_task_has_a_result() {
    let response = result(ended(Outcome::Completed)).unwrap();
    let headers: Vec<_> = ["content-type", "skein-task-id", "skein-correlation-id", "x-content-type-options"]
        .map(|name| response.headers()[name].to_str().unwrap())
        .into();
    assert_eq!(headers, ["application/octet-stream", "t", "c", "nosniff"]);
    for (outcome, status) in [(Outcome::Failed, 502), (Outcome::Dead, 502), (Outcome::Expired, 504), (Outcome::Cancelled, 410)] {
        let problem = result(ended(outcome)).unwrap_err();
        assert_eq!(problem.status, status, "{outcome}");
        assert_eq!(problem.members["outcome"], outcome.as_str());
        assert_eq!(problem.members["reason"], "no such file");
        assert_eq!(problem.members["id"], "t");
    }
}

/// An agent chooses the media type; what cannot stand in a header must not fail the answer.
#[test]
fn a_media_type_that_is_none_is_left_out() {
    let mut odd = ended(Outcome::Completed);
    odd.payload.content_type = Some("a\u{1}b".into());
    assert!(result(odd).unwrap().headers().get("content-type").is_none());
}
