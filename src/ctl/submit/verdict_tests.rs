use super::*;
use pretty_assertions::assert_eq;

fn reply(status: u16, content_type: &str, body: &[u8]) -> Reply {
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
    headers.insert("skein-task-id", "t".parse().unwrap());
    Reply { status: http::StatusCode::from_u16(status).unwrap(), headers, body: Bytes::copy_from_slice(body) }
}

fn printed(reply: Reply, output: Output, waited: Option<u32>) -> (String, Vec<String>, Exit) {
    let answer = answer(judge(reply), output, waited, true, |id| format!("ask {id}"));
    (String::from_utf8(answer.out).unwrap(), answer.notes, answer.exit)
}

fn problem(status: u16, kind: &str, more: &str) -> Reply {
    let body =
        format!(r#"{{"type":"https://skein.dev/problems/{kind}","title":"Title","status":{status},"detail":"what is wrong"{more}}}"#);
    reply(status, "application/problem+json", body.as_bytes())
}

#[test]
fn a_result_is_printed_as_it_is() {
    assert_eq!(printed(reply(200, "text/plain", b"a\n"), Output::Table, Some(1)), ("a\n".into(), vec![], Exit::Well));
    let (out, notes, _) = printed(reply(200, "text/html; charset=utf-8", b"<a>"), Output::Table, Some(1));
    assert_eq!(out, "<a>");
    assert!(notes[0].contains("rewrites links"), "{notes:?}");
}

#[test]
fn a_document_holds_json_text_or_base64() {
    let parsed =
        |kind: &str, body: &[u8]| -> Value { serde_json::from_str(&printed(reply(200, kind, body), Output::Json, None).0).unwrap() };
    assert_eq!(
        parsed("application/json", b"{\"a\":[1]}"),
        json!({"id": "t", "outcome": "completed", "contentType": "application/json", "result": {"a": [1]}})
    );
    assert_eq!(parsed("text/plain", b"1")["result"], "1");
    assert_eq!(parsed("application/json", b"{")["result"], "{");
    assert_eq!(parsed("image/png", &[0xff])["resultBase64"], "/w==");
}

#[test]
fn a_pending_task_is_named_and_whoever_waited_is_told() {
    let accepted = || reply(202, "application/json", br#"{"id":"t"}"#);
    let (out, notes, exit) = printed(accepted(), Output::Table, None);
    assert_eq!((out.as_str(), exit), ("t\n", Exit::Well));
    assert_eq!(notes, ["the task is stored; ask for its result: ask t"]);
    let (out, notes, exit) = printed(accepted(), Output::Json, Some(9));
    assert_eq!((out.as_str(), exit), ("{\n  \"id\": \"t\",\n  \"outcome\": \"pending\"\n}\n", Exit::Pending));
    assert_eq!(notes, ["the task has not ended within 9 s; ask again: ask t"]);
}

#[test]
fn a_problem_is_one_sentence_and_the_exit_code_says_whose_it_is() {
    let one = vec!["Title: what is wrong".to_owned()];
    assert_eq!(
        printed(problem(502, "task-dead", r#","outcome":"dead""#), Output::Table, Some(1)),
        (String::new(), one.clone(), Exit::TaskFailed)
    );
    assert!(printed(problem(504, "task-expired", r#","outcome":"expired""#), Output::Json, Some(1)).0.contains("\"expired\""));
    assert_eq!(printed(problem(404, "unknown-pool", ""), Output::Json, None), (String::new(), one.clone(), Exit::Failed));
    assert_eq!(printed(problem(503, "no-ready-agent", ""), Output::Table, None), (String::new(), one, Exit::Failed));
}

/// Only what may not have been heard is sent again.
#[test]
fn an_answer_that_is_not_the_gateways_is_told_apart() {
    let status =
        |code: u16, message: &str| reply(code, "application/json", format!(r#"{{"kind":"Status","message":"{message}"}}"#).as_bytes());
    assert_eq!(judge(status(503, "no endpoints")), Verdict::NoAnswer("the gateway was not reached: no endpoints".to_owned()));
    assert_eq!(judge(reply(502, "text/plain", b"")), Verdict::NoAnswer("the gateway was not reached: 502 Bad Gateway".to_owned()));
    assert!(matches!(judge(status(403, "you may not")), Verdict::Refused(_)));
    assert!(matches!(judge(problem(503, "perhaps-stored", r#","id":"t""#)), Verdict::NoAnswer(_)));
    assert!(matches!(judge(problem(503, "bus-unavailable", "")), Verdict::Unavailable(_)));
    assert!(matches!(judge(reply(202, "text/plain", b"ok")), Verdict::NoAnswer(_)));
}
