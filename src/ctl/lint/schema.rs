//! What the schema of a definition refuses: fields that do not exist, types, bounds. Pure.
//!
//! Structural schemas only, as definitions have them. Rules in CEL are not looked at, nor are lists whose
//! items have keys: `api::rules` and the checks of the resources say more of both.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use regex::Regex;
use serde_json::{Map, Value};

/// Makes of a value what reaches the schema in a cluster: fields that are empty and may be missing are taken
/// away, as the API server does; and numbers and truth values are read as kubectl reads them: `3.0` is 3, and
/// by the older YAML 1.1 `0644` is octal and `yes` is true.
pub(super) fn as_sent(schema: &JSONSchemaProps, value: &mut Value) {
    match value {
        Value::String(text) => match schema.type_.as_deref() {
            Some("integer") if text.starts_with('0') => {
                if let Ok(number) = i64::from_str_radix(text, 8) {
                    *value = number.into();
                }
            }
            Some("boolean") => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" => *value = true.into(),
                "no" | "off" | "n" => *value = false.into(),
                _ => {}
            },
            _ => {}
        },
        Value::Number(number) if schema.type_.as_deref() == Some("integer") => {
            if let Some(whole) = number.as_f64().and_then(whole) {
                *value = whole.into();
            }
        }
        Value::Object(fields) => {
            let required = |name: &String| schema.required.iter().flatten().any(|required| required == name);
            fields.retain(|name, field| !field.is_null() || required(name));
            for (name, field) in fields {
                if let Some(schema) = property(schema, name) {
                    as_sent(schema, field);
                }
            }
        }
        Value::Array(list) => {
            if let Some(schema) = items(schema) {
                list.iter_mut().for_each(|item| as_sent(schema, item));
            }
        }
        _ => {}
    }
}

/// The whole number that a float is.
fn whole(float: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "it is whole, and smaller than where floats have gaps")]
    (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
}

/// What is wrong with a value, in sentences that begin with the path.
pub(super) fn wrong(schema: &JSONSchemaProps, path: &str, value: &Value) -> Vec<String> {
    let mut found = Found { sentences: Vec::new() };
    found.look(schema, path, value);
    found.sentences
}

fn property<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    schema.properties.as_ref().and_then(|all| all.get(name)).or(match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(every)) => Some(every.as_ref()),
        _ => None,
    })
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

struct Found {
    sentences: Vec<String>,
}

impl Found {
    fn say(&mut self, sentence: String) {
        self.sentences.push(sentence);
    }

    fn look(&mut self, schema: &JSONSchemaProps, path: &str, value: &Value) {
        if value.is_null() {
            return self.say(format!("{path} is empty: give it a value"));
        }
        if let Some(values) = &schema.enum_ {
            let values: Vec<_> = values.iter().filter_map(|value| value.0.as_str()).collect();
            if !value.as_str().is_some_and(|value| values.contains(&value)) {
                self.say(format!("{path} must be {}, and is {value}", either(&values)));
            }
            return;
        }
        let type_ =
            if schema.x_kubernetes_int_or_string == Some(true) { "integer or string" } else { schema.type_.as_deref().unwrap_or_default() };
        match (type_, value) {
            ("object", Value::Object(fields)) => self.object(schema, path, fields),
            ("array", Value::Array(list)) => self.list(schema, path, list),
            ("string" | "integer or string", Value::String(text)) => self.text(schema, path, text),
            ("integer" | "integer or string", Value::Number(number)) => self.number(schema, path, number),
            ("boolean", Value::Bool(_)) | ("", _) => {}
            _ => {
                let wanted = match type_ {
                    "object" => "have fields",
                    "array" => "be a list",
                    "string" => "be text, in quotes where it looks like something else",
                    "integer" => "be a whole number",
                    "integer or string" => "be a whole number or text",
                    _ => "be true or false",
                };
                self.say(format!("{path} must {wanted}, and is {}", shown(value)));
            }
        }
    }

    fn object(&mut self, schema: &JSONSchemaProps, path: &str, fields: &Map<String, Value>) {
        for name in schema.required.iter().flatten().filter(|name| !fields.contains_key(*name)) {
            self.say(format!("{path}.{name} is missing"));
        }
        let open = schema.x_kubernetes_preserve_unknown_fields == Some(true) || schema.properties.is_none();
        for (name, field) in fields {
            match property(schema, name) {
                Some(schema) => self.look(schema, &format!("{path}.{name}"), field),
                None if open => {}
                None => {
                    let known = schema.properties.iter().flat_map(|all| all.keys());
                    let meant = known.map(|known| (distance(name, known), known)).min().filter(|(distance, _)| *distance <= 2);
                    let hint = meant.map_or_else(|| "remove it".to_owned(), |(_, known)| format!("perhaps {known} is meant"));
                    self.say(format!("{path} has no field {name:?}: {hint}"));
                }
            }
        }
    }

    fn list(&mut self, schema: &JSONSchemaProps, path: &str, list: &[Value]) {
        self.size(path, "item", list.len(), schema.min_items, schema.max_items);
        if schema.x_kubernetes_list_type.as_deref() == Some("set") {
            for (place, item) in list.iter().enumerate().filter(|(place, item)| list[..*place].contains(item)) {
                self.say(format!("{path}[{place}] is {item}, which is in the list already: remove it"));
            }
        }
        if let Some(schema) = items(schema) {
            for (place, item) in list.iter().enumerate() {
                self.look(schema, &format!("{path}[{place}]"), item);
            }
        }
    }

    fn text(&mut self, schema: &JSONSchemaProps, path: &str, text: &str) {
        self.size(path, "character", text.chars().count(), schema.min_length, schema.max_length);
        let fits = |pattern: &String| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
        if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !fits(pattern)) {
            self.say(format!("{path} must match {pattern}, and is {text:?}"));
        }
    }

    fn size(&mut self, path: &str, what: &str, size: usize, least: Option<i64>, most: Option<i64>) {
        let bound = |bound: i64| usize::try_from(bound).unwrap_or(0);
        let (few, many) = (least.is_some_and(|least| size < bound(least)), most.is_some_and(|most| size > bound(most)));
        match (least, most) {
            (Some(least), _) if few => self.say(format!("{path} must have at least {least} {what}{}, and has {size}", plural(least))),
            (_, Some(most)) if many => self.say(format!("{path} must have at most {most} {what}{}, and has {size}", plural(most))),
            _ => {}
        }
    }

    fn number(&mut self, schema: &JSONSchemaProps, path: &str, number: &serde_json::Number) {
        let Some(value) = number.as_i64() else {
            return self.say(format!("{path} must be a whole number of 64 bits, and is {number}"));
        };
        let whole = |bound: f64| format!("{bound}");
        #[allow(clippy::cast_precision_loss, reason = "bounds are far below what a float holds exactly")]
        let (low, high) = (schema.minimum.filter(|least| (value as f64) < *least), schema.maximum.filter(|most| (value as f64) > *most));
        match (low, high) {
            (Some(least), _) => self.say(format!("{path} must be {} or more, and is {value}", whole(least))),
            (_, Some(most)) => self.say(format!("{path} must be {} or less, and is {value}", whole(most))),
            _ => {}
        }
    }
}

fn plural(count: i64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// A value as a sentence shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "a mapping".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}

/// `A`, `A or B`, `A, B or C`.
fn either(values: &[&str]) -> String {
    match values {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// How many letters must be put in, taken out or changed to make one word of another.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (left, against) in other.iter().enumerate() {
            let changed = diagonal + usize::from(!letter.eq_ignore_ascii_case(against));
            diagonal = row[left + 1];
            row[left + 1] = changed.min(row[left] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::super::judge::DEFINITIONS;
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn of(kind: &str, mut spec: Value) -> Vec<String> {
        let crd = DEFINITIONS.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let root = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let schema = property(root, "spec").unwrap();
        as_sent(schema, &mut spec);
        wrong(schema, "spec", &spec)
    }

    fn pool(field: &str, value: Value) -> Vec<String> {
        let mut spec = json!({"template": {"spec": {"containers": [{"name": "agent", "image": "i"}]}}});
        spec[field] = value;
        of("AgentPool", spec)
    }

    /// A regression here passes what the API server refuses, or sends people after mistakes that are none.
    #[test]
    fn every_kind_of_mistake_is_one_sentence() {
        assert_eq!(pool("replicas", json!(3)), [""; 0]);
        assert_eq!(pool("repilcas", json!(3)), ["spec has no field \"repilcas\": perhaps replicas is meant"]);
        assert_eq!(pool("nonsense", json!(3)), ["spec has no field \"nonsense\": remove it"]);
        assert_eq!(pool("replicas", json!("3")), ["spec.replicas must be a whole number, and is \"3\""]);
        assert_eq!(pool("replicas", json!(0.5)), ["spec.replicas must be a whole number of 64 bits, and is 0.5"]);
        assert_eq!(pool("replicas", json!(-1)), ["spec.replicas must be 0 or more, and is -1"]);
        assert_eq!(pool("replicas", json!(10_001)), ["spec.replicas must be 10000 or less, and is 10001"]);
        assert_eq!(pool("agent", json!({"path": "x"})), ["spec.agent.path must match ^/, and is \"x\""]);
        assert_eq!(pool("agent", json!({"path": ""})).len(), 2);
        assert_eq!(pool("capabilities", json!("x")), ["spec.capabilities must be a list, and is \"x\""]);
        assert_eq!(
            pool("capabilities", json!(["x", "y", "x"])),
            ["spec.capabilities[2] is \"x\", which is in the list already: remove it"]
        );
        assert_eq!(pool("operatingMode", json!("On")), ["spec.operatingMode must be Running or Suspended, and is \"On\""]);
        assert_eq!(pool("template", json!({})), [""; 0]);
        assert_eq!(pool("template", json!({"spec": {}})), ["spec.template.spec.containers is missing"]);
        assert_eq!(
            of("Topology", json!({"members": []})),
            ["spec.architecture is missing", "spec.members must have at least 1 item, and has 0"]
        );
        let container = |field: &str, value: Value| pool("template", json!({"spec": {"containers": [{"name": "a", field: value}]}}));
        let at = "spec.template.spec.containers[0]";
        assert_eq!(container("tty", json!("true")), [format!("{at}.tty must be true or false, and is \"true\"")]);
        assert_eq!(container("tty", json!("yes")), [""; 0]);
        assert_eq!(pool("replicas", json!("010")), [""; 0]);
        assert_eq!(pool("replicas", json!("08")).len(), 1);
        assert_eq!(
            container("image", json!(7)),
            [format!("{at}.image must be text, in quotes where it looks like something else, and is 7")]
        );
        assert_eq!(container("resources", json!([])), [format!("{at}.resources must have fields, and is a list")]);
        assert_eq!(container("resources", json!({"limits": {"cpu": 1, "memory": "1Gi"}})), [""; 0]);
        assert_eq!(
            container("resources", json!({"limits": {"cpu": true}})),
            [format!("{at}.resources.limits.cpu must be a whole number or text, and is true")]
        );
    }

    #[test]
    fn a_line_without_a_value_is_a_line_less() {
        assert_eq!(pool("agent", json!({"port": null, "path": null})), [""; 0]);
        assert_eq!(pool("agent", Value::Null), [""; 0]);
        assert_eq!(pool("template", Value::Null), ["spec.template is empty: give it a value"]);
        assert_eq!(of("Topology", json!({"architecture": "Flat", "members": [null]})), ["spec.members[0] is empty: give it a value"]);
    }

    #[test]
    fn words_that_are_nearly_another() {
        assert_eq!(
            [distance("replica", "replicas"), distance("Replicas", "replicas"), distance("abc", "cba"), distance("", "ab")],
            [1, 0, 2, 2]
        );
    }
}
