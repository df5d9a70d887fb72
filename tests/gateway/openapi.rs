//! The document that describes the gateway must describe this gateway.

use std::collections::BTreeSet;

use serde_json::Value;
use skein::gateway::ROUTES;

#[test]
fn the_document_has_exactly_the_routes_that_exist() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/gateway-openapi.yaml");
    let document: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(|method| (method.clone(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let existing = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned())).into();
    assert_eq!(described, existing);
    check_references(&document, &document);
}

/// Every `$ref` must lead somewhere.
fn check_references(value: &Value, document: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
            members.values().for_each(|member| check_references(member, document));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(item, document)),
        _ => {}
    }
}
