//! A team on the bus, set up as the controller does it, and a sender outside of it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use skein::api::topology::JournalSpec;
use skein::bus::envelope::{Payload, Trace};
use skein::bus::nats::{Bus, BusError, Results, journal};
use skein::bus::{Task, TaskResult, Team as Name, ids, subjects};
use skein::topology::{Delegation, Edge, PoolFacts, Relation, program};

use super::nats::Nats;
use super::{until, within};

/// A team of pools, each of which may be sent to by those that its edges say.
pub struct Team {
    pub name: Name,
    pub bus: Bus,
    pub results: Results,
    /// How far a task may be passed on; to be followed by [`Self::write_programs`] when it changes.
    pub delegation: Delegation,
    edges: Vec<Edge>,
    pools: BTreeMap<String, PoolFacts>,
}

impl Team {
    /// Sets up a team in which pool `a` may send to pool `b` for each `(a, b)` of `edges`.
    pub async fn start(nats: &Nats, pools: &[&str], edges: &[(&str, &str)]) -> Self {
        let team = Self::plan(nats, pools, edges).await;
        team.set_up().await;
        team
    }

    /// Knows what the team should be, and puts nothing on the bus.
    pub async fn plan(nats: &Nats, pools: &[&str], edges: &[(&str, &str)]) -> Self {
        let bus = nats.bus("test").await;
        let results = Results::start(&bus, subjects::GATEWAY, "test");
        let edges =
            edges.iter().map(|(from, to)| Edge { from: (*from).to_owned(), to: (*to).to_owned(), relation: Relation::Delegate }).collect();
        let pools = pools
            .iter()
            .map(|pool| {
                let facts = PoolFacts {
                    capabilities: vec![],
                    agents: 1,
                    suspended: false,
                    max_deliveries: 3,
                    hearing: skein::topology::Hearing::default(),
                };
                ((*pool).to_owned(), facts)
            })
            .collect();
        Self { name: Name::new("test", "team"), bus, results, delegation: Delegation::default(), edges, pools }
    }

    /// Changes what is known of a pool; to be followed by [`Self::write_programs`].
    pub fn pool(&mut self, pool: &str) -> &mut PoolFacts {
        self.pools.get_mut(pool).unwrap()
    }

    /// Puts journal, queues and programs on the bus.
    pub async fn set_up(&self) {
        within("the bus", self.bus.state().wait_for(|connected| *connected)).await.unwrap();
        let bucket = journal::bucket(1);
        self.retry(|| self.bus.create_stream(&bucket)).await;
        let spec = JournalSpec { max_bytes: 512 << 20, ..JournalSpec::default() };
        let stream = journal::stream(&self.name, "uid", &spec);
        self.retry(|| self.bus.create_stream(&stream)).await;
        for pool in self.pools.keys() {
            let queue = journal::consumer(&self.name, pool, None);
            self.retry(|| self.bus.create_queue(&self.name, &queue)).await;
        }
        self.write_programs().await;
    }

    pub async fn write_programs(&self) {
        let program = program(&self.name.topology, self.delegation, &self.edges, &self.pools);
        for (pool, program) in &program.pools {
            let key = subjects::pool_program_key(&self.name.namespace, pool);
            let program = Bytes::from(serde_json::to_vec(program).unwrap());
            self.retry(|| self.bus.put_program(&key, program.clone())).await;
        }
    }

    async fn retry<T, F: Future<Output = Result<T, BusError>>>(&self, mut ask: impl FnMut() -> F) {
        until("the bus is set up", || {
            let asked = ask();
            async { asked.await.map_err(|error| error.to_string()) }
        })
        .await;
    }

    /// A task from outside the team.
    #[allow(clippy::unused_self, reason = "it reads well")]
    pub fn task(&self, body: &str) -> Task {
        let id = ids::fresh();
        Task {
            correlation_id: id.clone(),
            id,
            parent_id: None,
            ancestry: vec![],
            from_pool: subjects::GATEWAY.to_owned(),
            from_agent: "test".to_owned(),
            created: jiff::Timestamp::now().as_millisecond(),
            deadline: None,
            trace: Trace::default(),
            payload: Payload { body: Bytes::copy_from_slice(body.as_bytes()), content_type: Some("text/plain".to_owned()) },
        }
    }

    /// Sends a task from outside and waits for its outcome.
    pub async fn ask(&self, pool: &str, task: &Task) -> TaskResult {
        let waiting = self.results.expect(&self.name, &task.id);
        self.send(pool, task).await;
        within(&format!("the outcome of {}", task.id), waiting).await
    }

    pub async fn send(&self, pool: &str, task: &Task) {
        self.retry(|| self.bus.publish_task(&self.name, pool, task)).await;
    }

    /// Every outcome of a task that the journal holds: there must be exactly one.
    pub async fn outcomes(&self, id: &str) -> usize {
        self.count("skein.journal.test.team.result.>", id).await
    }

    /// Every dead letter of a task.
    pub async fn dead(&self, id: &str) -> usize {
        self.count("skein.journal.test.team.dead.>", id).await
    }

    async fn count(&self, filter: &str, id: &str) -> usize {
        use async_nats::jetstream::consumer::{AckPolicy, pull};
        use futures::StreamExt as _;
        let stream = self.bus.jetstream().get_stream(self.name.stream()).await.unwrap();
        let config = pull::Config { ack_policy: AckPolicy::None, filter_subject: filter.to_owned(), ..pull::Config::default() };
        let consumer = stream.create_consumer(config).await.unwrap();
        let pending = usize::try_from(consumer.cached_info().num_pending).unwrap();
        if pending == 0 {
            return 0;
        }
        let messages = consumer.fetch().max_messages(pending).expires(Duration::from_secs(10)).messages().await.unwrap();
        let of_task = |message: &async_nats::Message| {
            message.headers.as_ref().and_then(|headers| headers.get("Skein-Task-Id")).is_some_and(|value| value.as_str() == id)
        };
        messages.take(pending).filter(|message| std::future::ready(of_task(message.as_ref().unwrap()))).count().await
    }

    /// Waits until every task of a pool is acknowledged.
    pub async fn nothing_left(&self, pool: &str) {
        until("nothing is left in the queue", || async {
            let progress = self.bus.queues(&self.name).await.map_err(|error| error.to_string())?[pool].progress;
            if progress.pending == 0 && progress.in_flight == 0 { Ok(()) } else { Err(format!("{progress:?}")) }
        })
        .await;
    }

    /// How many tasks of a pool have been given out and not acknowledged.
    pub async fn in_flight(&self, pool: &str) -> u64 {
        self.bus.queues(&self.name).await.unwrap()[pool].progress.in_flight
    }
}
