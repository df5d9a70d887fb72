//! The page of fields is made from the resource definitions.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use crate::golden;

fn fields(path: &str, schema: &JSONSchemaProps, table: &mut String) {
    for (name, field) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|required| required == name);
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let items = match &field.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items.as_ref()),
            _ => None,
        };
        let default = match &field.default {
            Some(value) if !value.0.is_object() => format!("`{}`", value.0),
            _ if required => "required".to_owned(),
            _ => String::new(),
        };
        let text = field.description.clone().unwrap_or_default().replace('|', "\\|");
        // The table says it in a column of its own.
        let text = text.split_once(" Default ").filter(|_| !default.is_empty()).map_or(text.as_str(), |(text, _)| text);
        writeln!(table, "| `{here}` | {} | {default} | {text} |", type_of(field)).unwrap();
        if matches!(here.as_str(), "spec.template" | "status.conditions") {
            continue;
        }
        fields(&here, field, table);
        if let Some(items) = items {
            fields(&format!("{here}[]"), items, table);
        }
    }
}

fn type_of(field: &JSONSchemaProps) -> String {
    if let Some(values) = &field.enum_ {
        return values.iter().filter_map(|value| value.0.as_str()).map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    let whole = |number: f64| format!("{number}");
    match (field.type_.as_deref(), &field.items) {
        (Some("array"), Some(JSONSchemaPropsOrArray::Schema(items))) => {
            let most = field.max_items.map(|most| format!(", {most} at most")).unwrap_or_default();
            format!("list of {}{most}", type_of(items))
        }
        (Some("integer"), _) => match (field.minimum, field.maximum) {
            (Some(least), Some(most)) => format!("{} to {}", whole(least), whole(most)),
            (Some(least), None) => format!("{} or more", whole(least)),
            _ => "integer".to_owned(),
        },
        (Some("string"), _) if field.format.as_deref() == Some("date-time") => "time".to_owned(),
        (type_, _) => type_.unwrap_or_default().to_owned(),
    }
}

fn resource(crd: &CustomResourceDefinition) -> String {
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let names = &crd.spec.names;
    let mut page = format!("## {}\n\n{}\n\n", names.kind, plain(schema.description.as_deref().unwrap_or_default()));
    let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    writeln!(page, "`kubectl get {}`; short {short}.\n", names.plural).unwrap();
    for part in ["spec", "status"] {
        let mut properties = schema.clone();
        properties.properties.as_mut().unwrap().retain(|name, _| name == part);
        page.push_str("| Field | Type | Default | Meaning |\n| --- | --- | --- | --- |\n");
        fields("", &properties, &mut page);
        page.push('\n');
    }
    page.push_str("Refused by the API server:\n\n");
    let json = serde_json::to_value(schema).unwrap();
    let mut rules = Vec::new();
    messages(&json, &mut rules);
    rules.iter().for_each(|rule| writeln!(page, "- {}", plain(rule)).unwrap());
    page
}

/// Text that Markdown takes for text.
fn plain(text: &str) -> String {
    text.replace('<', "&lt;")
}

fn messages(schema: &serde_json::Value, found: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            let rules = fields.get("x-kubernetes-validations").and_then(|rules| rules.as_array()).into_iter().flatten();
            found.extend(rules.filter_map(|rule| rule["message"].as_str()).map(str::to_owned));
            fields.values().for_each(|value| messages(value, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| messages(value, found)),
        _ => {}
    }
}

#[test]
fn the_page_of_the_api_lists_every_field() {
    let page = skein::api::crds().iter().map(resource).collect::<Vec<_>>().join("\n");
    golden::current_part("docs/reference/api.md", &page);
}
