//! The resource definitions: that the committed ones are current, that each of their rules does what its
//! message says, and that they keep to the conventions of Kubernetes' API.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "support/golden.rs"]
mod golden;

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::core::cel::{ValidationError, Validator};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use skein::api;

/// Users apply these files; a stale one is another API than the controller speaks.
#[test]
fn the_committed_definitions_are_current() {
    let crds = api::crds();
    for crd in &crds {
        golden::current(&format!("crds/{}.yaml", crd.spec.names.plural), &serde_yaml_ng::to_string(crd).unwrap());
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/crds")).unwrap();
    let files: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let wanted = crds.iter().map(|crd| format!("{}.yaml", crd.spec.names.plural)).collect();
    assert_eq!(files, wanted, "`kubectl apply -f crds/` must find definitions and nothing else");
}

/// `kubectl apply` keeps the whole object in an annotation, which may have 262,144 bytes.
#[test]
fn a_definition_can_be_applied_client_side() {
    for crd in api::crds() {
        let size = serde_json::to_vec(&crd).unwrap().len();
        assert!(size < 262_144, "{} has {size} bytes", crd.spec.names.kind);
    }
}

// --- The rules

fn pool(change: impl FnOnce(&mut Value)) -> Value {
    changed(
        json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": "coder"},
            "spec": {"template": {"spec": {"containers": [{"name": "agent", "image": "i"}]}}},
        }),
        change,
    )
}

fn topology(change: impl FnOnce(&mut Value)) -> Value {
    changed(
        json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "Topology", "metadata": {"name": "team"},
            "spec": {"architecture": "Hierarchical", "members": [{"pool": "a"}, {"pool": "b", "manager": "a"}]},
        }),
        change,
    )
}

fn changed(mut object: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut object);
    object
}

fn schema(object: &Value) -> Value {
    let crd = api::crds().into_iter().find(|crd| object["kind"] == crd.spec.names.kind).unwrap();
    serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// The messages of the rules that an object breaks, made (`old` is none) or changed.
fn broken(object: &Value, old: Option<&Value>) -> Vec<String> {
    let result = Validator::new().validate_with_defaults(&schema(object), object, old);
    result.err().map(|errors| errors.into_vec().into_iter().map(|ValidationError { message, .. }| message).collect()).unwrap_or_default()
}

fn broken_without_cel(object: &Value) -> Vec<&'static str> {
    match object["kind"].as_str() {
        Some("AgentPool") => api::rules::broken_by_pool(&serde_json::from_value(object.clone()).unwrap()),
        _ => api::rules::broken_by_topology(&serde_json::from_value(object.clone()).unwrap()),
    }
}

fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                found.insert(rule["message"].as_str().expect("every rule has a message").to_owned());
            }
            fields.values().for_each(|value| messages(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| messages(value, found)),
        _ => {}
    }
}

/// Each case breaks one rule, and its neighbour just keeps it. Every rule must have a case.
#[test]
fn every_rule_refuses_what_its_message_says_and_nothing_else() {
    let name = |name: String| move |object: &mut Value| object["metadata"]["name"] = name.into();
    let health = |heartbeat: i32, stale: i32| {
        move |pool: &mut Value| pool["spec"]["health"] = json!({"heartbeatSeconds": heartbeat, "staleSeconds": stale})
    };
    let member = |field: &'static str, value: Value| {
        move |topology: &mut Value| {
            topology["spec"]["architecture"] = "Flat".into();
            topology["spec"]["members"] = json!([{"pool": "a"}, {"pool": "b"}]);
            topology["spec"]["members"][1][field] = value;
        }
    };
    let flat = |topology: &mut Value| {
        topology["spec"]["architecture"] = "Flat".into();
        topology["spec"]["members"] = json!([{"pool": "a"}, {"pool": "b"}]);
    };
    // What is refused, and what is not.
    let cases = [
        (pool(name("c".repeat(51))), pool(name("c".repeat(50)))),
        (pool(name("1coder".into())), pool(name("coder1".into()))),
        (pool(name("a.b".into())), pool(name("a-b".into()))),
        (pool(name("coder-".into())), pool(name("c".into()))),
        (pool(health(5, 9)), pool(health(5, 10))),
        // The default of staleSeconds counts as if it had been given.
        (pool(|p| p["spec"]["health"] = json!({"heartbeatSeconds": 16})), pool(|p| p["spec"]["health"] = json!({"heartbeatSeconds": 15}))),
        (topology(name("t".repeat(64))), topology(name("t".repeat(63)))),
        (topology(name("Team".into())), topology(name("team".into()))),
        (topology(member("manager", json!("a"))), topology(flat)),
        (topology(member("peers", json!(["a"]))), topology(member("peers", json!([])))),
        (topology(member("manager", json!("a"))), topology(|t| t["spec"]["architecture"] = "Hybrid".into())),
    ];
    let mut covered = BTreeSet::new();
    for (refused, taken) in &cases {
        let found = broken(refused, None);
        assert_eq!(found.len(), 1, "{refused} breaks {found:?}");
        // `kubectl skein lint` says the same.
        assert_eq!(broken_without_cel(refused), found, "{refused}");
        covered.extend(found);
        assert_eq!(broken(taken, None), [""; 0], "{taken}");
        assert_eq!(broken_without_cel(taken), [""; 0], "{taken}");
    }
    // What may not change.
    let file = topology(|t| t["spec"]["journal"] = json!({"storage": "File", "maxAgeSeconds": 60}));
    let memory = topology(|t| t["spec"]["journal"] = json!({"storage": "Memory"}));
    assert_eq!(broken(&memory, None), [""; 0]);
    assert_eq!(broken(&topology(|_| ()), Some(&file)), [""; 0], "the default is what it was");
    let found = broken(&memory, Some(&file));
    assert_eq!(found.len(), 1, "{found:?}");
    covered.extend(found);

    let mut all = BTreeSet::new();
    api::crds().iter().for_each(|crd| messages(&serde_json::to_value(crd).unwrap(), &mut all));
    assert_eq!(covered, all, "a rule has no case here");
}

// --- The conventions

/// Everything in a schema outside the pod template, with its path.
fn fields(crd: &CustomResourceDefinition) -> Vec<(String, JSONSchemaProps)> {
    fn walk(path: &str, schema: &JSONSchemaProps, found: &mut Vec<(String, JSONSchemaProps)>) {
        found.push((path.to_owned(), schema.clone()));
        if path == "AgentPool.spec.template" {
            return;
        }
        for (name, property) in schema.properties.iter().flatten() {
            walk(&format!("{path}.{name}"), property, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            walk(&format!("{path}[]"), items, found);
        }
    }
    let mut found = Vec::new();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    walk(&crd.spec.names.kind, schema, &mut found);
    found
}

#[test]
fn the_definitions_keep_to_the_conventions() {
    let mut findings = Vec::new();
    for (path, field) in api::crds().iter().flat_map(fields) {
        let mut wrong = |what: &str| findings.push(format!("{path}: {what}"));
        let type_ = field.type_.as_deref();
        let name = path.rsplit('.').next().unwrap_or_default();
        match type_ {
            Some("number") => wrong("is a floating-point number"),
            Some("array") if field.x_kubernetes_list_type.is_none() => wrong("has no list type"),
            Some("array") if field.max_items.is_none() => wrong("is a list without bound"),
            Some("string") if field.max_length.is_none() && field.enum_.is_none() && field.format.as_deref() != Some("date-time") => {
                wrong("is a string without bound");
            }
            Some("boolean") => wrong("is a boolean, which can have no third value later: use an enum"),
            _ => {}
        }
        if field.nullable == Some(true) {
            wrong("may be null: an absent field is absent");
        }
        if field.x_kubernetes_preserve_unknown_fields == Some(true) {
            wrong("takes unknown fields");
        }
        for value in field.enum_.iter().flatten() {
            if !value.0.as_str().is_some_and(|text| text.starts_with(|first: char| first.is_ascii_uppercase())) {
                wrong(&format!("has the value {} which is not PascalCase", value.0));
            }
        }
        let spec = path.contains(".spec.");
        if spec && type_ == Some("integer") && (field.minimum.is_none() || (field.maximum.is_none() && !name.ends_with("Bytes"))) {
            wrong("is a number without bounds");
        }
        let lower = name.to_lowercase();
        if type_ == Some("integer")
            && ["timeout", "interval", "delay", "period", "duration", "age"].iter().any(|word| lower.ends_with(word))
        {
            wrong("is a time without its unit in the name");
        }
        if !name.ends_with("[]") {
            match &field.description {
                None => wrong("has no description"),
                // The first word of what `kubectl explain` prints is the field as it is typed.
                Some(text) if (spec || path.contains(".status.")) && !path.contains(".conditions[]") && !text.starts_with(name) => {
                    wrong(&format!("has a description that does not begin with its name: {text}"));
                }
                Some(_) => {}
            }
        }
    }
    assert_eq!(findings, [""; 0]);
}

/// Without these `kubectl get ap`, `kubectl get skein` and `kubectl scale` do not work.
#[test]
fn the_definitions_serve_kubectl() {
    for crd in api::crds() {
        let names = &crd.spec.names;
        assert_eq!(names.categories, Some(vec!["skein".to_owned()]));
        assert_eq!(names.short_names.as_ref().map(Vec::len), Some(1));
        let version = &crd.spec.versions[0];
        let subresources = version.subresources.as_ref().unwrap();
        assert!(subresources.status.is_some());
        let columns = version.additional_printer_columns.as_ref().unwrap();
        assert!(columns.iter().any(|column| column.json_path == ".metadata.creationTimestamp" && column.type_ == "date"));
        // A column of a field that is not there is empty for ever.
        let known: BTreeSet<_> = fields(&crd).into_iter().map(|(path, _)| path).collect();
        for column in columns.iter().filter(|column| !column.json_path.contains('[') && !column.json_path.starts_with(".metadata")) {
            assert!(known.contains(&format!("{}{}", names.kind, column.json_path)), "{}", column.json_path);
        }
        if let Some(scale) = &subresources.scale {
            for path in [&scale.spec_replicas_path, &scale.status_replicas_path, scale.label_selector_path.as_ref().unwrap()] {
                assert!(known.contains(&format!("{}{path}", names.kind)), "{path}");
            }
        }
    }
}
