//! The objects of one kind that wait for a look: each at most once, however often it is asked for.
//!
//! What comes out of here goes to the scheduler of [`kube::runtime`], which also knows the looks that are due
//! later; it merges the two, and the earlier time counts.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::Resource;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};

use crate::lock::lock;

/// The objects of one kind that have to be looked at. Requests are dropped while nobody receives them,
/// as on a replica that is not the leader: who starts to receive is given every object first.
pub struct Requests<K>
where
    K: Lookup<DynamicType = ()> + 'static,
{
    state: Mutex<Waiting<K>>,
}

struct Waiting<K>
where
    K: Lookup<DynamicType = ()> + 'static,
{
    sender: Option<UnboundedSender<ObjectRef<K>>>,
    /// Those that were sent and whose turn has not come.
    objects: HashSet<ObjectRef<K>>,
}

impl<K> Default for Requests<K>
where
    K: Lookup<DynamicType = ()> + 'static,
{
    fn default() -> Self {
        Self { state: Mutex::new(Waiting { sender: None, objects: HashSet::new() }) }
    }
}

impl<K> Requests<K>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    /// Asks for a look at an object, which need not exist. One that waits already is not asked for again.
    pub fn push(&self, object: ObjectRef<K>) {
        let mut state = self.state();
        let Some(sender) = state.sender.as_ref().filter(|sender| !sender.is_closed()).cloned() else {
            state.sender = None;
            state.objects.clear();
            return;
        };
        if state.objects.insert(object.clone()) {
            // It fails only when the receiver has gone this very moment, and the next request notices.
            let _ = sender.unbounded_send(object);
        }
    }

    /// Asks for a look at an object of a namespace.
    pub fn ask(&self, namespace: &str, name: &str) {
        self.push(ObjectRef::new(name).within(namespace));
    }

    /// The number of objects whose turn has not come yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().objects.len()
    }

    /// Takes over the requests from whoever received them before, beginning with every object of the store.
    pub(super) fn receive(&self, store: &Store<K>) -> UnboundedReceiver<ObjectRef<K>>
    where
        K: Resource<DynamicType = ()>,
    {
        let (sender, receiver) = unbounded();
        *self.state() = Waiting { sender: Some(sender), objects: HashSet::new() };
        for object in store.state() {
            self.push(ObjectRef::from_obj(object.as_ref()));
        }
        receiver
    }

    /// The turn of an object has come: gives it as it is now. Whoever asks from now on has it looked at once
    /// more; whoever asked before, after it was read from the store, got nothing more for it, and so it is
    /// read again.
    pub(super) fn begin(&self, store: &Store<K>, object: Arc<K>) -> Arc<K>
    where
        K: Resource<DynamicType = ()>,
    {
        let reference = ObjectRef::from_obj(object.as_ref());
        self.state().objects.remove(&reference);
        store.get(&reference).unwrap_or_else(|| {
            // It is gone, which the next turn will find.
            self.push(reference);
            object
        })
    }

    /// The turn of an object has come, and it was not in the store. If it is by now, its turn comes again.
    pub(super) fn missing(&self, store: &Store<K>, reference: ObjectRef<K>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.state().objects.remove(&reference);
        if store.get(&reference).is_some() {
            self.push(reference);
        }
    }

    fn state(&self) -> MutexGuard<'_, Waiting<K>> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::reflector::store::{Writer, store};
    use kube::runtime::watcher::Event;
    use pretty_assertions::assert_eq;

    type Received = UnboundedReceiver<ObjectRef<Pod>>;

    fn pod(name: &str, version: &str) -> Pod {
        let metadata = serde_json::json!({"name": name, "namespace": "work", "resourceVersion": version});
        serde_json::from_value(serde_json::json!({ "metadata": metadata })).unwrap()
    }

    fn put(writer: &mut Writer<Pod>, pod: &Pod) {
        writer.apply_watcher_event(&Event::Apply(pod.clone()));
    }

    fn received(receiver: &mut Received) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|object| object.name).collect()
    }

    /// A regression here lets the queue grow with every heartbeat and every write of a kubelet.
    #[test]
    fn an_object_waits_once_however_often_it_is_asked_for() {
        let (store, mut writer) = store();
        put(&mut writer, &pod("a", "1"));
        let requests = Requests::<Pod>::default();
        requests.ask("work", "a");
        assert_eq!(requests.waiting(), 0, "nobody receives");
        let mut receiver = requests.receive(&store);
        for _ in 0..1000 {
            requests.ask("work", "a");
            requests.ask("work", "b");
        }
        assert_eq!(received(&mut receiver), ["a", "b"]);
        assert_eq!(requests.waiting(), 2, "the scheduler has them, and their turn has not come");
        requests.ask("work", "a");
        assert_eq!(received(&mut receiver), [""; 0]);

        requests.begin(&store, Arc::new(pod("a", "1")));
        requests.ask("work", "a");
        requests.ask("work", "a");
        assert_eq!(received(&mut receiver), ["a"], "what happens during a look needs another one");
    }

    /// A regression here loses the change that came between the scheduler's look at the store and ours.
    #[test]
    fn a_look_sees_whatever_was_asked_for_before_it() {
        let (store, mut writer) = store();
        put(&mut writer, &pod("a", "1"));
        let requests = Requests::<Pod>::default();
        let mut receiver = requests.receive(&store);
        let seen = store.get(&ObjectRef::new("a").within("work")).unwrap();
        put(&mut writer, &pod("a", "2"));
        requests.ask("work", "a");
        assert_eq!(received(&mut receiver), ["a"]);
        assert_eq!(requests.begin(&store, Arc::clone(&seen)).metadata.resource_version.as_deref(), Some("2"));

        requests.ask("work", "a");
        writer.apply_watcher_event(&Event::Delete(pod("a", "3")));
        assert_eq!(received(&mut receiver), ["a"]);
        requests.begin(&store, seen);
        assert_eq!(received(&mut receiver), ["a"], "that it is gone must be found");
    }

    /// A regression here leaves a pool alone that was made again at once after it had been deleted.
    #[test]
    fn an_object_that_comes_back_while_it_is_found_missing_is_looked_at() {
        let (store, mut writer) = store();
        let requests = Requests::<Pod>::default();
        let mut receiver = requests.receive(&store);
        requests.ask("work", "a");
        assert_eq!(received(&mut receiver), ["a"]);
        put(&mut writer, &pod("a", "1"));
        requests.ask("work", "a");
        requests.missing(&store, ObjectRef::new("a").within("work"));
        assert_eq!(received(&mut receiver), ["a"]);
        requests.begin(&store, Arc::new(pod("a", "1")));
        requests.missing(&store, ObjectRef::new("b").within("work"));
        assert_eq!((received(&mut receiver), requests.waiting()), (Vec::new(), 0));
    }

    /// A regression here leaves the next leader of this process without the objects that waited before.
    #[test]
    fn who_receives_next_begins_anew() {
        let (store, mut writer) = store();
        put(&mut writer, &pod("a", "1"));
        let requests = Requests::<Pod>::default();
        drop(requests.receive(&store));
        requests.ask("work", "a");
        assert_eq!(requests.waiting(), 0, "nobody receives any more");
        assert_eq!(received(&mut requests.receive(&store)), ["a"]);
    }
}
