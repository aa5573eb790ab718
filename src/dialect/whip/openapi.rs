//! What the OpenAPI document says of this door. `docs/protocol/whip.md` says more.

use utoipa::openapi::{
    ContentBuilder, HttpMethod, ObjectBuilder, OpenApi, Ref, RefOr, Required, ResponseBuilder, Schema, Type,
    path::{OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
};

use super::message::{FRAGMENT, SDP};

/// One request.
struct Described {
    method: HttpMethod,
    path: &'static str,
    does: &'static str,
    /// The media type of its body.
    takes: Option<&'static str>,
    /// Status, what it is, and the media type of what comes.
    gives: &'static [(&'static str, &'static str, Option<&'static str>)],
}

const BEGINS: &[(&str, &str, Option<&str>)] =
    &[("201", "the answer, with all candidates; `Location` is the session, `ETag` its ICE", Some(SDP))];
const PATCHES: &[(&str, &str, Option<&str>)] = &[
    ("200", "ICE is restarted: our credentials and candidates, under a new `ETag`", Some(FRAGMENT)),
    ("204", "the candidates are added", None),
];
const ENDS: &[(&str, &str, Option<&str>)] = &[("200", "it is over", None)];
const PATCHED: &str = "Adds a client's candidates, or restarts ICE: `If-Match` is the session's `ETag`";

const REQUESTS: [Described; 8] = [
    begins("/whip/{room}", "Publishes what the offer sends (WHIP, RFC 9725); the room appears if there is none"),
    begins("/whep/{room}", "Plays what the first publisher in the room publishes (WHEP)"),
    begins("/whep/{room}/mix", "Plays the room's mix: H.264 and Opus"),
    begins("/whep/{room}/{track}", "Plays one track"),
    at_session(HttpMethod::Patch, "/whip/session/{id}", PATCHED, Some(FRAGMENT), PATCHES),
    at_session(HttpMethod::Delete, "/whip/session/{id}", "Ends what is published", None, ENDS),
    at_session(HttpMethod::Patch, "/whep/session/{id}", PATCHED, Some(FRAGMENT), PATCHES),
    at_session(HttpMethod::Delete, "/whep/session/{id}", "Ends what is played", None, ENDS),
];

const fn begins(path: &'static str, does: &'static str) -> Described {
    Described { method: HttpMethod::Post, path, does, takes: Some(SDP), gives: BEGINS }
}

const fn at_session(
    method: HttpMethod,
    path: &'static str,
    does: &'static str,
    takes: Option<&'static str>,
    gives: &'static [(&'static str, &'static str, Option<&'static str>)],
) -> Described {
    Described { method, path, does, takes, gives }
}

/// Adds the door's requests to the document.
pub fn describe(document: &mut OpenApi) {
    for Described { method, path, does, takes, gives } in REQUESTS {
        let parts = path.split(['{', '}']).skip(1).step_by(2);
        let parameters = parts.map(|name| {
            let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path);
            parameter.required(Required::True).schema(Some(text())).build()
        });
        let mut operation = OperationBuilder::new().tag("whip").summary(Some(does)).parameters(Some(parameters));
        if let Some(takes) = takes {
            let body = RequestBodyBuilder::new().required(Some(Required::True));
            operation = operation.request_body(Some(body.content(takes, content(text())).build()));
        }
        for (status, is, comes) in gives {
            let response = ResponseBuilder::new().description(*is);
            let response = comes.iter().fold(response, |response, comes| response.content(*comes, content(text())));
            operation = operation.response(*status, response.build());
        }
        let refused = ResponseBuilder::new().description("refused, with a `code`");
        let problem = content(Ref::from_schema_name("Problem"));
        let refused = refused.content("application/problem+json", problem).build();
        operation = operation.response("default", refused);
        document.paths.add_path_operation(path, vec![method], operation);
    }
}

fn text() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}

fn content(schema: impl Into<RefOr<Schema>>) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(schema)).build()
}
