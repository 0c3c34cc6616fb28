//! The OpenAPI document says what is there: its routes, their parameters, and answers of its shapes.

use super::super::ROUTES;
use super::super::openapi::{OPERATIONS, document};
use super::fixture::{Chain, alice};
use super::requests::ask;
use aitbc_core::json;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn it_has_the_routes_that_are_served_in_their_order() {
    let routes: Vec<&str> = OPERATIONS.iter().map(|operation| operation.route).collect();
    assert_eq!(routes, ROUTES);
}

#[test]
fn every_reference_in_it_leads_somewhere() {
    let document = document();
    let mut names = BTreeSet::new();
    references(&document, &mut names);
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let pointer = name.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{name} is not there");
    }
}

fn references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                names.insert(name.to_owned());
            }
            fields.values().for_each(|field| references(field, names));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        _ => {}
    }
}

/// A handler that takes another parameter, or does not take one of these, says so.
#[tokio::test]
async fn its_parameters_are_those_that_the_handlers_take() {
    let chain = Chain::start().await;
    for operation in OPERATIONS.iter().filter(|operation| operation.route != "GET /metrics") {
        let (method, path) = operation.route.split_once(' ').expect("method and path");
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let path = path.replace(['{', '}'], "");
        let answer: Value = ask(&chain, method, &format!("{path}?zz=1"), "").await.json().await.expect("json");
        let taken = if operation.query.is_empty() { "none here".to_owned() } else { operation.query.join(", ") };
        let allowed = answer["detail"]["allowed"].as_str().unwrap_or_default();
        assert_eq!(allowed, format!("only these parameters: {taken}"), "{}", operation.route);
    }
}

#[tokio::test]
async fn requests_made_of_its_examples_are_understood() {
    let chain = Chain::start().await;
    let document: Value = ask(&chain, Method::GET, "/openapi.json", "").await.json().await.expect("json");
    assert_eq!((&document["openapi"], &document), (&json!("3.1.0"), &super::super::openapi::document()));
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let Some(get) = methods.get("get").filter(|_| !path.contains("/ws/")) else { continue };
        let mut target = path.clone();
        for parameter in get["parameters"].as_array().expect("a list").iter().filter(|p| p["in"] == "path") {
            let (name, example) = (&parameter["name"], &parameter["example"]);
            target =
                target.replace(&format!("{{{}}}", name.as_str().expect("a name")), example.as_str().expect("a text"));
        }
        if path.starts_with("/rpc/receipt/") || path.starts_with("/rpc/escrow/") {
            target += if path.contains("receipt") { "?receipt_id=r" } else { "?job_id=j" };
        }
        let status = ask(&chain, Method::GET, &target, "").await.status().as_u16();
        assert!(status == 200 || status == 404, "{target}: {status}");
    }
}

/// Does a value have the types, fields and patterns of a schema, as far as ours use them?
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{at}: {value} is not {what} of {schema}"));
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).ok_or(format!("{name} is missing"))?;
        conforms(document, target, value, at)?;
    }
    for list in ["anyOf", "oneOf"] {
        if let Some(all) = schema[list].as_array() {
            let any = all.iter().any(|one| conforms(document, one, value, at).is_ok());
            if !any {
                return fail("any");
            }
        }
    }
    for one in schema["allOf"].as_array().into_iter().flatten() {
        conforms(document, one, value, at)?;
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is(kind)) {
        return fail("the type");
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return fail(&format!("complete without {name}"));
            }
        }
        for (name, field) in fields {
            if let Some(inner) = schema["properties"].get(name) {
                conforms(document, inner, field, &format!("{at}.{name}"))?;
            }
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, at)?;
    }
    Ok(())
}

#[tokio::test]
async fn answers_have_the_shapes_that_it_describes() {
    let chain = Chain::start().await;
    let paid = chain.pay(&alice(), 0);
    chain.client().send(&paid).await.expect("taken");
    chain.block().await;
    chain.block().await;
    let document = document();
    let (address, id) = (alice().public().address().to_string(), paid.id(&chain.chain).to_string());
    let mut checked = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let schema = &methods["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let target = path.replace("{address}", &address).replace("{id}", &id).replace("{height}", "1");
        let response = ask(&chain, Method::GET, &target, "").await;
        if response.status().as_u16() == 200 {
            let value: Value = response.json().await.expect("json");
            conforms(&document, schema, &value, path).expect("the shape");
            checked += 1;
        }
    }
    assert!(checked >= 30, "{checked} answers");
    let body = json::to_value(&chain.pay(&alice(), 1), &chain.chain);
    let sent: Value = ask(&chain, Method::POST, "/rpc/transaction", body.to_string()).await.json().await.expect("json");
    let schema =
        &document["paths"]["/rpc/transaction"]["post"]["responses"]["200"]["content"]["application/json"]["schema"];
    conforms(&document, schema, &sent, "sent").expect("the shape");
    conforms(&document, &document["components"]["schemas"]["SignedTransaction"], &body, "body").expect("the shape");
}
