//! QR codes of addresses, for phones that are held up to the screen.

use std::fmt::Write;

use qrcodegen::{QrCode, QrCodeEcc};
use warp::{http::StatusCode, reply::Response};

use super::answer;
use crate::server::{problem::Problem, request::Call};

/// Bytes of a text; a code of more is hard to read from a screen.
const MOST_BYTES: usize = 512;
/// White around it, in modules (ISO 18004 §6.3.8).
const BORDER: i32 = 4;

/// A text as a QR code.
#[utoipa::path(
    get, path = "/api/qr.svg", tag = "server",
    params(("text" = String, Query, description = "what it says, 1 to 512 bytes")),
    responses(
        (status = 200, content_type = "image/svg+xml", body = String),
        (status = 400, description = "`bad_setting`", body = Problem),
    ),
)]
pub fn draw(call: &Call) -> Result<Response, Problem> {
    let bad = || Problem::bad_request("bad_setting", "`text` is 1 to 512 bytes").field("text");
    let text = call.query("text").filter(|text| !text.is_empty() && text.len() <= MOST_BYTES).ok_or_else(bad)?;
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).map_err(|_| bad())?;
    Ok(answer(StatusCode::OK, "image/svg+xml", svg(&code)))
}

fn svg(code: &QrCode) -> String {
    let side = code.size() + 2 * BORDER;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            // Writing into a text does not fail.
            let _ = write!(path, "M{},{}h1v1h-1z", x + BORDER, y + BORDER);
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\"{path}\"/></svg>\n"
    )
}
