//! Style, fonts and mark, inside the program. Their address holds a hash of all of them, so a browser keeps them for
//! good and never shows an old style with a new page.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::problem::Page;

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const ASSETS: [Asset; 4] = [
    Asset {
        name: "quantix.css",
        kind: "text/css; charset=utf-8",
        content: include_bytes!("../assets/quantix.css"),
    },
    Asset { name: "mark.svg", kind: "image/svg+xml", content: include_bytes!("../assets/mark.svg") },
    Asset {
        name: "fonts/inter.woff2",
        kind: "font/woff2",
        content: include_bytes!("../assets/fonts/inter.woff2"),
    },
    Asset {
        name: "fonts/jetbrains-mono.woff2",
        kind: "font/woff2",
        content: include_bytes!("../assets/fonts/jetbrains-mono.woff2"),
    },
];

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in ASSETS {
        hash.update(asset.content);
    }
    hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
});

/// The address of an asset.
pub(crate) fn address(name: &str) -> String {
    format!("/assets/{}/{name}", *VERSION)
}

/// `GET /assets/{version}/{name}`: only names in the table exist, so no path leads anywhere else.
pub(crate) async fn asset(Path((version, name)): Path<(String, String)>) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name && version == *VERSION) {
        Some(asset) => {
            let headers = [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            (StatusCode::OK, headers, asset.content).into_response()
        }
        None => Page::not_found().into_response(),
    }
}
