//! The OpenAPI document, made from the handlers and the types they really use.

use std::sync::OnceLock;

use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{
    api::{
        access, effects, ingests, outputs, participants, pictures, pushes, qr, recording_files, recordings, rooms,
        server,
    },
    problem::Problem,
};

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(title = "Salon", description = "A room media server: rooms, participants, recordings."),
    paths(
        server::health, server::ready, server::metrics, server::openapi, server::describe, qr::draw,
        rooms::list, rooms::create, rooms::get, rooms::change, rooms::close, rooms::set_layout, rooms::graph, rooms::events,
        participants::list, participants::remove,
        ingests::add, ingests::test, ingests::list, ingests::remove,
        pushes::add, pushes::list, pushes::remove,
        outputs::ts, outputs::playlist, outputs::segment,
        effects::list, effects::preview, effects::get_participant, effects::set_participant,
        effects::get_track, effects::set_track, effects::preview_on, effects::get_mix, effects::set_mix,
        pictures::add, pictures::list, pictures::get, pictures::remove,
        recordings::start, recordings::pause, recordings::resume, recordings::mark, recordings::stop, recordings::list,
        recordings::get, recordings::delete,
        recording_files::file, recording_files::named, recording_files::manifest, recording_files::thumbnail,
        recording_files::sprite, recording_files::thumbnails, recording_files::chat, recordings::restore, access::grant,
    ),
    components(schemas(Problem)),
    modifiers(&Security, &Whip),
    security(("secret" = []), ("access" = []))
)]
pub struct Document;

struct Security;

/// One door for several paths, which tells them apart itself.
struct Whip;

impl Modify for Whip {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        crate::dialect::whip::openapi::describe(document);
    }
}

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let secret = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The API secret, or a participant's access token."))
            .build();
        components.add_security_scheme("secret", SecurityScheme::Http(secret));
        let access =
            ApiKeyValue::with_description("access", "A participant's access token; for recordings also a viewing key.");
        components.add_security_scheme("access", SecurityScheme::ApiKey(ApiKey::Query(access)));
    }
}

/// The document as JSON.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| Document::openapi().to_json().unwrap_or_default())
}
