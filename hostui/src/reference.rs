//! The API for people to read: every call, what it needs and what it takes, out of the document that the agent makes
//! from its own routes.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};
use quantix_api::{Right, calls};
use serde_json::Value;

use crate::{
    component::{Badge, Heads, Icon, Level},
    frame::Frame,
    problem::draw,
    session::turned_away,
    web::Web,
};

/// How deep types are followed: a call's body and what is in it.
const DEEPEST: usize = 2;

#[derive(Debug, Template)]
#[template(path = "reference/page.html")]
struct ReferencePage {
    frame: Frame,
    areas: Vec<Area>,
}

/// The calls about one thing.
#[derive(Debug, PartialEq, Eq)]
struct Area {
    title: String,
    calls: Vec<CallShown>,
}

/// A call.
#[derive(Debug, PartialEq, Eq)]
struct CallShown {
    id: String,
    method: String,
    path: String,
    summary: String,
    needs: String,
    parameters: Vec<FieldShown>,
    body: Vec<FieldShown>,
    /// What it is answered with when it is done: status, and the name of the type.
    answers: Vec<(String, String)>,
}

/// A parameter, or a field of a body.
#[derive(Debug, PartialEq, Eq)]
struct FieldShown {
    name: String,
    kind: String,
    required: bool,
    about: String,
}

impl CallShown {
    fn method(&self) -> Badge {
        let level = match self.method.as_str() {
            "GET" => Level::Idle,
            "DELETE" => Level::Bad,
            _ => Level::Accent,
        };
        Badge::new(level, self.method.clone())
    }
}

/// `GET /reference`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    match web.agent.call(&calls::document()).await {
        Ok(document) => draw(&ReferencePage { areas: areas(&document), frame }),
        Err(error) => turned_away(&error),
    }
}

fn areas(document: &Value) -> Vec<Area> {
    let mut areas: BTreeMap<String, Vec<CallShown>> = BTreeMap::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let area = text(&operation["tags"][0]);
            areas.entry(area).or_default().push(call(document, path, method, operation));
        }
    }
    areas.into_iter().map(|(title, calls)| Area { title, calls }).collect()
}

fn call(document: &Value, path: &str, method: &str, operation: &Value) -> CallShown {
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| FieldShown {
        name: text(&parameter["name"]),
        kind: kind(&parameter["schema"]),
        required: parameter["required"] == true,
        about: text(&parameter["description"]),
    });
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let done = operation["responses"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(status, _)| status.starts_with('2'));
    let answers = done.map(|(status, answer)| {
        let content = answer["content"].as_object().and_then(|content| content.iter().next());
        let of = content.map(|(media, content)| match kind(&content["schema"]) {
            kind if media == "application/json" => kind,
            _ => media.clone(),
        });
        (status.clone(), of.unwrap_or_default())
    });
    CallShown {
        id: text(&operation["operationId"]),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(&operation["summary"]),
        needs: needs(operation["x-right"].as_str().unwrap_or_default()),
        parameters: parameters.collect(),
        body: fields(document, body, "", DEEPEST),
        answers: answers.collect(),
    }
}

/// What a call needs, in a sentence.
fn needs(right: &str) -> String {
    match right {
        "nothing" => "Anybody may ask.".to_owned(),
        "begun-session" => "Needs a session or a token, in whatever state.".to_owned(),
        "session" => "Needs a session; the password may still have to be chosen.".to_owned(),
        "person" => "Needs a session of a person; a token is not enough.".to_owned(),
        "signed-in" => "Needs a session or a token.".to_owned(),
        right => match right.parse::<Right>() {
            Ok(known) => format!("Needs the right {right}: {}.", known.title()),
            Err(_) => format!("Needs the right {right}."),
        },
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The name behind a reference.
fn named(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// What a value is, in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(name) = named(schema) {
        return match name.split_once('_') {
            Some(("Page", of)) => format!("page of {of}"),
            _ => name.to_owned(),
        };
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(all) = schema[choice].as_array() {
            let kinds: Vec<_> =
                all.iter().map(kind).filter(|kind| kind != "null" && !kind.is_empty()).collect();
            return kinds.join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("list of {}", self::kind(&schema["items"])),
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .filter(|kind| *kind != "null")
            .collect::<Vec<_>>()
            .join(" or "),
        _ => String::new(),
    }
}

/// The fields of a type, with those of the types in it below their names.
fn fields(document: &Value, schema: &Value, before: &str, deeper: usize) -> Vec<FieldShown> {
    let schema = match named(schema) {
        Some(name) => &document["components"]["schemas"][name],
        None => schema,
    };
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut shown = Vec::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let whole = format!("{before}{name}");
        let inner =
            if deeper > 1 { fields(document, field, &format!("{whole}."), deeper - 1) } else { Vec::new() };
        shown.push(FieldShown {
            kind: kind(field),
            required: required.contains(&name.as_str()),
            about: text(&field["description"]),
            name: whole,
        });
        shown.extend(inner);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_document_is_shown_with_what_it_takes() {
        let document: Value = serde_json::from_str(include_str!("../../appliance/api/openapi.json")).unwrap();
        let areas = areas(&document);
        let all: Vec<_> = areas.iter().flat_map(|area| &area.calls).collect();
        let written: usize =
            document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
        assert_eq!(all.len(), written);
        assert!(all.iter().all(|call| !call.summary.is_empty() && !call.needs.ends_with("right .")));
        let make = all.iter().find(|call| call.id == "post_users").unwrap();
        let fields: Vec<_> = make.body.iter().map(|field| (field.name.as_str(), field.required)).collect();
        assert_eq!(fields, [("role", true), ("username", true)]);
        assert_eq!(make.answers, [("201".to_owned(), "UserPassword".to_owned())]);
        let list = all.iter().find(|call| call.id == "get_users").unwrap();
        assert_eq!(list.answers[0].1, "page of User");
        assert!(list.parameters.iter().any(|parameter| parameter.name == "after" && !parameter.required));
        assert!(list.needs.contains("manage-people: Look after users"), "{}", list.needs);
    }

    #[test]
    fn what_is_no_document_is_shown_as_nothing() {
        for odd in [Value::Null, serde_json::json!({"paths": {"/x": {"get": 7, "put": {"parameters": {}}}}})]
        {
            let _ = areas(&odd);
        }
    }
}
