//! From documents to remarks. Pure.
//!
//! A document is looked at as the API server would (schema and rules), then as the controller would (the
//! checks of pools and topologies), and at last together with the others: whether the pools that a
//! topology names are there and are its own, and what is weak in its design.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::ResourceExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::files::{Document, Place};
use super::schema;
use crate::api::{self, AgentPool, GROUP, Problem, Topology, VERSION, rules};
use crate::topology::{PoolFacts, check, edges, findings, membership};

/// The definitions, which take a while to make.
pub(super) static DEFINITIONS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(api::crds);

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in super::super) enum Severity {
    /// It is refused, by the API server or by the controller.
    Error,
    /// It is taken, and it will cost its owner.
    Warning,
    /// It is worth knowing.
    Info,
}

/// Something to say of one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Remark {
    #[serde(flatten)]
    pub(in super::super) place: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) name: Option<String>,
    pub(in super::super) severity: Severity,
    #[serde(rename = "type")]
    pub(in super::super) type_: String,
    pub(in super::super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) remedy: Option<String>,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match (&self.kind, &self.name) {
            (Some(kind), Some(name)) => write!(f, "{kind}/{name}: ")?,
            (Some(kind), None) => write!(f, "{kind}: ")?,
            _ => {}
        }
        write!(f, "{:?} {}: {}", self.severity, self.type_, self.message)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; to mend it: {remedy}"))
    }
}

/// What `-o json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// The number of AgentPools that were read.
    pub(super) pools: usize,
    /// The number of Topologies that were read.
    pub(super) topologies: usize,
    /// What there is to say, in the order of the documents, and of one document the worst first.
    pub(super) remarks: Vec<Remark>,
}

/// Judges documents; those that name no namespace are in `namespace`.
pub(super) fn judge(documents: &[Document], namespace: &str) -> Report {
    let mut all = All::default();
    for (place, document) in documents.iter().enumerate() {
        all.take(place, document, &DEFINITIONS, namespace);
    }
    all.compare();
    let kinds = |kind: &str| all.known.keys().filter(|id| id.kind == kind).count();
    let (pools, topologies) = (kinds("AgentPool"), kinds("Topology"));
    all.remarks.sort_by_key(|(place, remark)| (*place, remark.severity));
    Report { pools, topologies, remarks: all.remarks.into_iter().map(|(_, remark)| remark).collect() }
}

/// What documents hold that makes sense, and what is wrong with the rest.
#[derive(Debug)]
pub(in super::super) struct Sound {
    /// Topologies that could be read, each with its namespace.
    pub(in super::super) topologies: Vec<Topology>,
    /// Pools that could be read, each with its namespace.
    pub(in super::super) pools: Vec<AgentPool>,
    /// What is wrong with single documents.
    pub(in super::super) errors: Vec<Remark>,
}

/// Reads documents without comparing them; those that name no namespace are in `namespace`.
pub(in super::super) fn sound(documents: &[Document], namespace: &str) -> Sound {
    let mut all = All::default();
    for (place, document) in documents.iter().enumerate() {
        all.take(place, document, &DEFINITIONS, namespace);
    }
    Sound {
        topologies: all.topologies.into_values().collect(),
        pools: all.pools.into_values().collect(),
        errors: all.remarks.into_iter().map(|(_, remark)| remark).collect(),
    }
}

/// What a resource is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    kind: String,
    namespace: String,
    name: String,
}

/// Everything that was read.
#[derive(Default)]
struct All {
    /// Where each resource stands for the first time, also those that make no sense.
    known: BTreeMap<Id, (usize, Place)>,
    pools: BTreeMap<Id, AgentPool>,
    topologies: BTreeMap<Id, Topology>,
    /// Remarks with the number of their document.
    remarks: Vec<(usize, Remark)>,
}

impl All {
    /// Looks at one document by itself, and keeps what makes sense.
    fn take(&mut self, number: usize, document: &Document, definitions: &[CustomResourceDefinition], namespace: &str) {
        let text = |pointer: &str| document.value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let mut about = About { number, place: &document.place, kind, name, remarks: &mut self.remarks };
        let (Some(version), Some(kind)) = (version, kind) else {
            let missing = if kind.is_none() { "kind" } else { "apiVersion" };
            return about.wrong("Invalid", format!("{missing} is missing: this is no resource"));
        };
        let Some((_, version)) = version.split_once('/').filter(|(group, _)| *group == GROUP) else { return };
        let Some(definition) = definitions.iter().find(|definition| definition.spec.names.kind == kind) else {
            let kinds: Vec<_> = definitions.iter().map(|definition| definition.spec.names.kind.as_str()).collect();
            return about.wrong("Invalid", format!("{GROUP} has no kind {kind:?}: it has {}", kinds.join(" and ")));
        };
        if version != VERSION {
            return about.wrong("Invalid", format!("{GROUP} has no version {version:?}: it has {VERSION}"));
        }
        let Some(name) = name else {
            return about.wrong("Invalid", "metadata.name is missing".to_owned());
        };
        let id =
            Id { kind: kind.to_owned(), namespace: text("/metadata/namespace").unwrap_or(namespace).to_owned(), name: name.to_owned() };
        let mut value = document.value.clone();
        if let Some(schema) = definition.spec.versions.first().and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref()) {
            about.shape(schema, &mut value);
        }
        value["metadata"]["namespace"] = id.namespace.clone().into();
        if let Some((_, before)) = self.known.get(&id) {
            return about.wrong("Duplicate", format!("it is in {before} too: of two, the one that is applied last stays"));
        }
        let sound = about.remarks.last().is_none_or(|(last, _)| *last != number);
        if kind == "AgentPool" {
            if let Some(pool) = about.typed::<AgentPool>(value, sound) {
                rules::broken_by_pool(&pool).into_iter().for_each(|rule| about.wrong("Invalid", rule.to_owned()));
                about.problems(api::check::check(&pool));
                self.pools.insert(id.clone(), pool);
            }
        } else if let Some(topology) = about.typed::<Topology>(value, sound) {
            // Who breaks the rule of Flat is named by the check.
            let rules = rules::broken_by_topology(&topology).into_iter().filter(|rule| *rule != rules::FLAT);
            rules.for_each(|rule| about.wrong("Invalid", rule.to_owned()));
            about.problems(check(&topology.spec));
            self.topologies.insert(id.clone(), topology);
        }
        self.known.insert(id, (number, document.place.clone()));
    }

    /// Looks at what several documents say together.
    fn compare(&mut self) {
        let mut named = BTreeSet::new();
        let mut remarks = Vec::new();
        for (id, topology) in &self.topologies {
            let Some((number, place)) = self.known.get(id) else { continue };
            let mut about = About { number: *number, place, kind: Some(&id.kind), name: Some(&id.name), remarks: &mut remarks };
            let mut facts = BTreeMap::new();
            for member in &topology.spec.members {
                let pool = Id { kind: "AgentPool".to_owned(), namespace: id.namespace.clone(), name: member.pool.clone() };
                let owner = membership::owner(&id.namespace, &member.pool, self.topologies.values()).map(ResourceExt::name_any);
                if let Some(owner) = owner.filter(|owner| *owner != id.name) {
                    about.wrong(
                        "PoolInAnotherTopology",
                        format!("pool {} is a member of topology {owner} too, and belongs to the older one alone: remove it from the members of one of the two", member.pool),
                    );
                } else if let Some(pool) = self.pools.get(&pool) {
                    facts.insert(member.pool.clone(), PoolFacts::of(&pool.spec));
                } else if !self.known.contains_key(&pool) {
                    about.weak(
                        "PoolNotFound",
                        format!("pool {} is not in these files: name its file too, or what is said here is not all of it", member.pool),
                        None,
                    );
                }
                named.insert(pool);
            }
            if check(&topology.spec).is_empty() {
                for finding in findings(&topology.spec, &edges(&topology.spec), &facts) {
                    about.weak(&finding.type_, finding.message, Some(finding.remedy));
                }
            }
        }
        for id in self.known.keys().filter(|id| id.kind == "AgentPool" && !named.contains(*id)) {
            let Some((number, place)) = self.known.get(id) else { continue };
            let mut about = About { number: *number, place, kind: Some(&id.kind), name: Some(&id.name), remarks: &mut remarks };
            about.say(
                Severity::Info,
                "NoTopology",
                "no topology in these files names it, and without one it gets no work".to_owned(),
                None,
            );
        }
        self.remarks.append(&mut remarks);
    }
}

/// The document that remarks are made of.
struct About<'a> {
    number: usize,
    place: &'a Place,
    kind: Option<&'a str>,
    name: Option<&'a str>,
    remarks: &'a mut Vec<(usize, Remark)>,
}

impl About<'_> {
    fn say(&mut self, severity: Severity, type_: &str, message: String, remedy: Option<String>) {
        let remark = Remark {
            place: self.place.clone(),
            kind: self.kind.map(str::to_owned),
            name: self.name.map(str::to_owned),
            severity,
            type_: type_.to_owned(),
            message,
            remedy,
        };
        self.remarks.push((self.number, remark));
    }

    fn wrong(&mut self, type_: &str, message: String) {
        self.say(Severity::Error, type_, message, None);
    }

    fn weak(&mut self, type_: &str, message: String, remedy: Option<String>) {
        self.say(Severity::Warning, type_, message, remedy);
    }

    fn problems(&mut self, problems: Vec<Problem>) {
        problems.into_iter().for_each(|problem| self.wrong(problem.reason, problem.message));
    }

    /// Looks at the shape of a resource. Metadata are the API server's, and the status is the controller's.
    fn shape(&mut self, schema: &JSONSchemaProps, value: &mut Value) {
        let known = |name: &str| schema.properties.as_ref().and_then(|all| all.get(name));
        let others = value.as_object().into_iter().flat_map(|fields| fields.keys());
        let everybodys = ["apiVersion", "kind", "metadata"];
        let unknown: Vec<_> = others.filter(|name| known(name).is_none() && !everybodys.contains(&name.as_str())).cloned().collect();
        for name in unknown {
            self.wrong("Invalid", format!("there is no field {name:?} beside spec: remove it"));
        }
        let Some(schema) = known("spec") else { return };
        match value.get_mut("spec") {
            None => self.wrong("Invalid", "spec is missing".to_owned()),
            Some(spec) => {
                schema::as_sent(schema, spec);
                schema::wrong(schema, "spec", spec).into_iter().for_each(|sentence| self.wrong("Invalid", sentence));
            }
        }
    }

    /// The resource as the controller would read it. Why it cannot be is told when the shape seemed right.
    fn typed<T: DeserializeOwned>(&mut self, mut value: Value, sound: bool) -> Option<T> {
        value.as_object_mut().map(|fields| fields.remove("status"));
        match serde_json::from_value(value) {
            Ok(resource) => Some(resource),
            Err(error) => {
                if sound {
                    self.wrong("Invalid", error.to_string());
                }
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
