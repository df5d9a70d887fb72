//! What the derived schemas need to become good CRDs: a pod template that fits, list types, and
//! bounds for what Kubernetes' own types leave without.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use schemars::{JsonSchema as _, Schema, SchemaGenerator};

use super::condition::MAX_MESSAGE;

/// The schema of a pod template, without its descriptions, and with the bounds of its numbers.
///
/// A CRD above 262,144 bytes cannot be applied client-side (the whole object is copied into an
/// annotation), and the descriptions inside the template are most of it. The API server takes `format` for
/// a remark: without bounds it would store numbers of more than 32 bits, which nobody could read back.
pub(super) fn pod_template(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = PodTemplateSpec::json_schema(generator);
    fit(&mut schema);
    schema
}

fn fit(schema: &mut Schema) {
    schema.remove("description");
    if schema.get("format").and_then(serde_json::Value::as_str) == Some("int32") {
        schema.insert("minimum".to_owned(), i32::MIN.into());
        schema.insert("maximum".to_owned(), i32::MAX.into());
    }
    schemars::transform::transform_subschemas(&mut fit, schema);
}

/// Gives every list a list type, as server-side apply wants it (a list without one is atomic, and says
/// so here), and takes `nullable` away: an absent field is absent, never null.
pub(super) fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
    crd
}

fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if schema.type_.as_deref() == Some("array") && schema.x_kubernetes_list_type.is_none() {
        schema.x_kubernetes_list_type = Some("atomic".to_owned());
    }
    for (name, property) in schema.properties.iter_mut().flatten() {
        tidy(property);
        if let ("conditions", Some(JSONSchemaPropsOrArray::Schema(condition))) = (name.as_str(), property.items.as_mut()) {
            bound(condition);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        tidy(items);
    }
}

/// Gives a condition the bounds that Kubernetes gives it in its own definitions; the Rust type has none.
fn bound(condition: &mut JSONSchemaProps) {
    for (name, property) in condition.properties.iter_mut().flatten() {
        match name.as_str() {
            "type" => (property.min_length, property.max_length) = (Some(1), Some(316)),
            "status" => property.enum_ = Some(["True", "False", "Unknown"].map(|status| JSON(status.into())).to_vec()),
            "reason" => (property.min_length, property.max_length) = (Some(1), Some(1024)),
            "message" => property.max_length = i64::try_from(MAX_MESSAGE).ok(),
            _ => {}
        }
    }
}
