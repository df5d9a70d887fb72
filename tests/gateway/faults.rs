//! Brokers and gateways that come and go.

use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;

use crate::stage::{Gateway, Stage};
use crate::support::eventually;

#[tokio::test]
async fn without_the_bus_a_task_is_refused_at_once_and_later_taken_again() {
    let mut stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    stage.nats.kill().await;
    let response = eventually("the loss is noticed", || async {
        let response = gateway.post("?to=worker", "x").await;
        (response.problem() == "bus-unavailable").then_some(response)
    })
    .await;
    assert_eq!(response.status, 503);
    assert_ne!(response.header("retry-after"), "");
    let began = Instant::now();
    for path in ["/019ac0de-0000-7000-8000-000000000000", "/019ac0de-0000-7000-8000-000000000000/result?wait=30"] {
        assert_eq!(gateway.get(path).await.problem(), "bus-unavailable");
    }
    assert_eq!(gateway.post("?to=worker&wait=30", "x").await.problem(), "bus-unavailable");
    assert!(began.elapsed() < Duration::from_secs(5), "refused after {:?}", began.elapsed());
    assert_eq!(gateway.post("?to=ghost", "x").await.problem(), "unknown-pool", "what is known stays known");
    assert_eq!(gateway.admin("/readyz").await.status, 503);
    assert_eq!(gateway.admin("/livez").await.status, 200);

    stage.nats.restart().await;
    eventually("the gateway is ready again", || async { (gateway.admin("/readyz").await.status == 200).then_some(()) }).await;
    let response = eventually("the team works again", || async {
        let response = gateway.post("?to=worker&wait=30", "x").await;
        (response.status == 200).then_some(response)
    })
    .await;
    assert_eq!(&response.body[..], b"x");
    let metrics = String::from_utf8(gateway.admin("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains("skein_gateway_bus_reconnects_total 1"), "{metrics}");
}

/// The outcome is stored while nobody listens: it must be found, not only heard.
#[tokio::test]
async fn who_waits_while_the_bus_restarts_gets_the_result() {
    let mut stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    let address = gateway.url("?to=worker&wait=60");
    let waiting = tokio::spawn(async move { crate::support::http::post(&address, "hold").await });
    eventually("the task is stored", || async { (stage.stored().await == 1).then_some(()) }).await;
    stage.nats.kill().await;
    stage.released.send_replace(true);
    stage.nats.restart().await;
    let response = waiting.await.unwrap();
    assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"hold"[..]));
}

/// A gateway that starts before its broker must not need to be started again.
#[tokio::test]
async fn a_gateway_waits_for_its_bus() {
    let mut stage = Stage::new().await;
    stage.nats.kill().await;
    let gateway = Gateway::start(&stage.nats.url(), &stage.team, "g-0", |_| {}).await;
    assert_eq!(gateway.admin("/readyz").await.status, 503);
    let refused = gateway.post("?to=worker", "x").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "bus-unavailable"));
    stage.nats.restart().await;
    gateway.is_ready().await;
    assert_eq!(gateway.post("?to=worker", "x").await.status, 202);
}

#[tokio::test]
async fn who_waits_when_the_gateway_ends_is_told_the_id() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    let (early, late) = (gateway.url("?to=worker&wait=60"), gateway.url("?to=worker&wait=60"));
    let waiting = tokio::spawn(async move { crate::support::http::post(&early, "hold").await });
    eventually("the task is stored", || async { (stage.stored().await == 1).then_some(()) }).await;
    gateway.shutdown.cancel();
    eventually("the gateway says that it ends", || async { (gateway.admin("/readyz").await.status == 503).then_some(()) }).await;
    let response = waiting.await.unwrap();
    assert_eq!(response.status, 202);
    let id = response.json()["id"].as_str().unwrap().to_owned();
    tokio::time::timeout(crate::support::PATIENCE, gateway.running.ended()).await.unwrap();
    assert!(crate::support::http::try_send(http::Method::POST, &late, &[], "x").await.is_err(), "nobody listens any more");

    stage.released.send_replace(true);
    let next = stage.gateway("g-1").await;
    assert_eq!(next.get(&format!("/{id}/result?wait=30")).await.status, 200);
}
