//! What the gateway does not take, and what it still does.

use std::time::Duration;

use http::Method;
use pretty_assertions::assert_eq;
use skein::api::topology::JournalSpec;
use skein::bus::Team;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{Gateway, Stage};
use crate::support::http::{post, send};
use crate::support::nats::Nats;
use crate::support::{PATIENCE, eventually};

const TWENTY_MIB: usize = 20 << 20;

/// Writes the head of a request and some of its body, and reads the answer without ever ending the body.
async fn half_sent(gateway: &Gateway, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.running.address).await.unwrap();
    let path = "/v1/namespaces/demo/topologies/research/tasks?to=worker&wait=30";
    stream.write_all(format!("POST {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    let reading = async {
        while !answer.windows(13).any(|text| text == b"problems/too-") {
            match stream.read(&mut part).await.unwrap() {
                0 => break,
                read => answer.extend_from_slice(&part[..read]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    let answer = half_sent(&gateway, &format!("content-length: {TWENTY_MIB}"), b"").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let chunk = [format!("{:x}\r\n", 2 << 20).into_bytes(), vec![b'x'; 2 << 20]].concat();
    let answer = half_sent(&gateway, "transfer-encoding: chunked", &chunk).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"limitBytes\":1032192"), "{answer}");

    // A client that sends all of it before it reads must still get the answer, not a reset.
    let response = gateway.post("?to=worker", vec![b'x'; TWENTY_MIB]).await;
    assert_eq!((response.status.as_u16(), response.problem().as_str()), (413, "too-large"));
    assert_eq!(stage.stored().await, 0);
}

#[tokio::test]
async fn twenty_mebibytes_pass_where_the_bus_takes_them() {
    let nats = Nats::start_with("max_payload: 32MB").await;
    let stage = Stage::on(nats, JournalSpec { max_bytes: 256 << 20, ..JournalSpec::default() }).await;
    let gateway = stage.gateway("g-0").await;
    let body: Vec<u8> = (0..TWENTY_MIB).map(|i| (i * 31 % 251) as u8).collect();
    let response = gateway.post("?to=worker&wait=30", body.clone()).await;
    assert_eq!(response.status, 200, "{:?}", response.headers);
    assert!(response.body == body, "the result differs");
    let id = response.header("skein-task-id");
    assert_eq!(gateway.get(&format!("/{id}")).await.json()["result"]["bytes"], TWENTY_MIB);
    assert!(gateway.get(&format!("/{id}/result")).await.body == body, "the result differs the second time");
}

#[tokio::test]
async fn a_full_journal_refuses_and_says_so() {
    let nats = Nats::start().await;
    let stage = Stage::on(nats, JournalSpec { max_bytes: 1 << 20, ..JournalSpec::default() }).await;
    let gateway = stage.gateway("g-0").await;
    let refused = eventually("the journal is full", || async {
        let response = gateway.post("?to=empty", vec![b'x'; 300 << 10]).await;
        (response.status != 202).then_some(response)
    })
    .await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "journal-full"));
    assert_ne!(refused.header("retry-after"), "");
}

#[tokio::test]
async fn a_team_without_a_journal_is_not_ready_yet() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    stage.publish_program(&Team::new("demo", "new"), &[("p", &[], false)]).await;
    let url = format!("http://{}/v1/namespaces/demo/topologies/new/tasks", gateway.running.address);
    let response = eventually("the team is known", || async {
        let response = post(&format!("{url}?to=p"), "x").await;
        (response.status != 404).then_some(response)
    })
    .await;
    assert_eq!((response.status.as_u16(), response.problem().as_str()), (503, "no-journal"));
    let read = crate::support::http::get(&format!("{url}/019ac0de-0000-7000-8000-000000000000")).await;
    assert_eq!((read.status.as_u16(), read.problem().as_str()), (503, "no-journal"));
}

#[tokio::test]
async fn only_so_many_may_wait() {
    let stage = Stage::new().await;
    let gateway = stage.gateway_with("g-0", |args| args.max_waiting = 1).await;
    let waits = gateway.post("?to=worker&wait=30", "hold");
    let refused = async {
        let refused = eventually("the place is taken", || async {
            let response = gateway.post("?to=worker&wait=1", "x").await;
            (response.status == 503).then_some(response)
        })
        .await;
        assert_eq!(refused.problem(), "overloaded");
        assert_eq!(gateway.post("?to=worker", "x").await.status, 202, "who does not wait needs no place");
        stage.released.send_replace(true);
    };
    let (waited, ()) = tokio::join!(waits, refused);
    assert_eq!(waited.status, 200);
    assert_eq!(gateway.post("?to=worker&wait=30", "x").await.status, 200, "the place is free again");
}

/// What nobody can do would only wait; but for the first seconds the gateway cannot know.
#[tokio::test]
async fn a_task_that_no_agent_can_take_is_refused_and_not_stored() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    assert_eq!(gateway.post("?to=empty", "x").await.status, 202, "nothing is believed yet");
    let refused = eventually("the silence is believed", || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let response = gateway.post("?to=empty", "x").await;
        (response.status != 202).then_some(response)
    })
    .await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "no-ready-agent"));
    assert_ne!(refused.header("retry-after"), "");
    let before = stage.stored().await;
    assert_eq!(gateway.post("?to=empty&wait=5", "x").await.problem(), "no-ready-agent");
    assert_eq!(stage.stored().await, before);
    assert_eq!(gateway.post("?to=worker&wait=30", "x").await.status, 200, "others work");
}

#[tokio::test]
async fn what_happens_is_measured() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    assert_eq!(gateway.post("?to=worker&wait=30", "x").await.status, 200);
    assert_eq!(gateway.post("?to=ghost", "x").await.status, 404);
    assert_eq!(send(Method::DELETE, &gateway.url(""), &[], "").await.status, 405);
    let metrics = String::from_utf8(gateway.admin("/metrics").await.body.to_vec()).unwrap();
    for line in [
        "skein_gateway_requests_total{route=\"submit\",status=\"2xx\"} 1",
        "skein_gateway_requests_total{route=\"other\",status=\"4xx\"} 1",
        "skein_gateway_problems_total{problem=\"no-such-method\"} 1",
        "skein_gateway_tasks_total{namespace=\"demo\",pool=\"worker\",topology=\"research\"} 1",
        "skein_gateway_task_duration_seconds_count{namespace=\"demo\",outcome=\"completed\",pool=\"worker\",topology=\"research\"} 1",
        "skein_gateway_waiting 0",
        "skein_gateway_bus_connected 1",
        "skein_gateway_bus_reconnects_total 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}
