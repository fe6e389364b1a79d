//! The document of the API (OpenAPI 3.1), made from the routes. What a route needs, and how it refuses, is the same for
//! a whole section and written into the document here.

use std::sync::{Arc, LazyLock};

use axum::{body::Bytes, http::header, response::IntoResponse};
use quantix_api::Problem;
use serde_json::json;
use utoipa::{
    OpenApi,
    openapi::{
        ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApiBuilder, PathItem, Ref, RefOr,
        Response, ResponseBuilder,
        extensions::ExtensionsBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use super::{Agent, person::Needs, sections};

const SESSION: &str = "session";

/// How requests are refused, besides what a route says itself.
const REFUSALS: [(&str, &str); 8] = [
    ("400", "The request cannot be read."),
    ("409", "The idempotency key was used for something else."),
    ("412", "Somebody else has changed it since it was read."),
    ("413", "The request is too large."),
    ("422", "A field of the request is not acceptable."),
    ("429", "Too many attempts: wait as long as the answer says."),
    ("503", "The host is busy, or too few hosts of the cluster answer."),
    ("507", "The change could not be written to disk."),
];
/// The same where somebody must be signed in.
const REFUSALS_TO_PEOPLE: [(&str, &str); 3] = [
    ("401", "Nobody is signed in."),
    ("403", "Whoever is signed in may not do this."),
    ("404", "There is no such object."),
];

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| text().into());

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "host", responses((status = 200, body = Object)))]
pub(crate) async fn show() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

/// The document as it is checked in, and as it is shown.
fn text() -> String {
    // By way of a value, whose keys are in order.
    let document = serde_json::to_value(document()).unwrap_or_default();
    format!("{document:#}\n")
}

#[derive(OpenApi)]
#[openapi(components(schemas(Problem)))]
struct Everywhere;

fn document() -> utoipa::openapi::OpenApi {
    let info = InfoBuilder::new()
        .title("Quantix")
        .version("1")
        .description(Some(
            "Everything that pages, command line and hosts do. `x-right` says what a call needs: nothing, a session \
             that was begun, a session, a person who is signed in, anybody who is signed in, or a right.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()));
    let components = ComponentsBuilder::new().security_scheme(
        SESSION,
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    let components =
        REFUSALS.iter().chain(&REFUSALS_TO_PEOPLE).fold(components, |components, (status, what)| {
            components.response(refusal_name(status), refusal(what))
        });
    let mut document = OpenApiBuilder::new().info(info.build()).components(Some(components.build())).build();
    document.merge(Everywhere::openapi());
    for (needs, section) in sections() {
        document.merge(of_section(needs, section));
    }
    document
}

fn of_section(needs: Needs, section: OpenApiRouter<Arc<Agent>>) -> utoipa::openapi::OpenApi {
    let mut document = section.into_openapi();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(name(method, path));
            describe(needs, operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A name that no other call has, for programs that are made from the document.
fn name(method: &str, path: &str) -> String {
    let parts = path.trim_start_matches("/api/v1/").split('/').map(|part| part.trim_matches(['{', '}']));
    format!("{method}_{}", parts.collect::<Vec<_>>().join("_").replace(['-', '.'], "_"))
}

fn describe(needs: Needs, operation: &mut Operation) {
    let right = ExtensionsBuilder::new().add("x-right", json!(needs.name())).build();
    operation.extensions.get_or_insert_default().merge(right);
    let mut refusals = REFUSALS.to_vec();
    if needs != Needs::Nothing {
        operation.security = Some(vec![SecurityRequirement::new(SESSION, [""; 0])]);
        refusals.extend(REFUSALS_TO_PEOPLE);
    }
    for answer in operation.responses.responses.values_mut() {
        if let RefOr::T(answer) = answer
            && answer.description.is_empty()
        {
            answer.description = "Done.".to_owned();
        }
    }
    for (status, _) in refusals {
        let refusal = RefOr::Ref(Ref::from_response_name(refusal_name(status)));
        operation.responses.responses.entry(status.to_owned()).or_insert(refusal);
    }
}

fn refusal_name(status: &str) -> String {
    format!("Refused{status}")
}

fn refusal(what: &str) -> Response {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(what).content(Problem::CONTENT_TYPE, problem).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `QUANTIX_WRITE=1 cargo test -p quantixd the_document` writes it anew.
    #[test]
    fn the_document_that_is_checked_in_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/openapi.json");
        if std::env::var_os("QUANTIX_WRITE").is_some() {
            std::fs::write(path, text()).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == text(),
            "appliance/api/openapi.json is not what the routes say; see above how to write it"
        );
    }
}
