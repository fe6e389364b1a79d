//! Style, script, icons, fonts and mark, inside the program. Their address holds a hash of all of them, so a browser
//! keeps them for good and never shows an old style with a new page. They are compressed once, when first asked for.

use std::{io::Write, sync::LazyLock};

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use crate::problem::Page;

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        Asset { name: $name, kind: $kind, content: include_bytes!(concat!("../assets/", $name)) }
    };
}

const ASSETS: [Asset; 15] = [
    asset!("quantix.css", "text/css; charset=utf-8"),
    asset!("quantix.js", SCRIPT),
    asset!("password.js", SCRIPT),
    asset!("upload.js", SCRIPT),
    asset!("wizard.js", SCRIPT),
    asset!("console.js", SCRIPT),
    asset!("novnc.min.js", SCRIPT),
    asset!("xterm.min.js", SCRIPT),
    asset!("xterm.css", "text/css; charset=utf-8"),
    asset!("htmx.min.js", SCRIPT),
    asset!("htmx-sse.min.js", SCRIPT),
    asset!("icons.svg", "image/svg+xml"),
    asset!("mark.svg", "image/svg+xml"),
    asset!("fonts/inter.woff2", "font/woff2"),
    asset!("fonts/jetbrains-mono.woff2", "font/woff2"),
];

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in ASSETS {
        hash.update(asset.content);
    }
    hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
});

/// Each asset compressed, where that makes it smaller.
static COMPRESSED: LazyLock<[Option<Vec<u8>>; ASSETS.len()]> = LazyLock::new(|| {
    ASSETS.map(|asset| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(asset.content).ok()?;
        encoder.finish().ok().filter(|compressed| compressed.len() < asset.content.len() * 9 / 10)
    })
});

/// The address of an asset.
pub(crate) fn address(name: &str) -> String {
    format!("/assets/{}/{name}", *VERSION)
}

/// `GET /assets/{version}/{name}`: only names in the table exist, so no path leads anywhere else.
pub(crate) async fn asset(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let found = ASSETS.iter().zip(COMPRESSED.iter()).find(|(asset, _)| asset.name == name);
    let Some((asset, compressed)) = found.filter(|_| version == *VERSION) else {
        return Page::not_found().into_response();
    };
    let kept = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::VARY, "accept-encoding"),
    ];
    match compressed {
        Some(compressed) if takes_gzip(&headers) => {
            let encoding = [(header::CONTENT_ENCODING, "gzip")];
            (StatusCode::OK, kept, encoding, compressed.as_slice()).into_response()
        }
        _ => (StatusCode::OK, kept, asset.content).into_response(),
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.unwrap_or_default().split(',').any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip")
            && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All the script a page loads that is no console, before compression.
    const MOST_SCRIPT: usize = 100_000;
    /// What is ours of it.
    const MOST_OWN_SCRIPT: usize = 20_000;

    #[test]
    fn script_stays_small() {
        let of_consoles = ["console.js", "novnc.min.js", "xterm.min.js"];
        let scripts =
            ASSETS.iter().filter(|asset| asset.kind == SCRIPT && !of_consoles.contains(&asset.name));
        let sum: usize = scripts.map(|asset| asset.content.len()).sum();
        assert!(sum <= MOST_SCRIPT, "{sum}");
        let own = ASSETS.iter().find(|asset| asset.name == "quantix.js").unwrap().content.len();
        assert!(own <= MOST_OWN_SCRIPT, "{own}");
    }

    #[test]
    fn what_is_compressed_is_the_same() {
        use std::io::Read;
        for (asset, compressed) in ASSETS.iter().zip(COMPRESSED.iter()) {
            assert_eq!(compressed.is_none(), asset.name.ends_with("woff2"), "{}", asset.name);
            let Some(compressed) = compressed else { continue };
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(compressed.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == asset.content, "{}", asset.name);
        }
    }

    #[test]
    fn gzip_is_sent_to_whoever_takes_it() {
        let check = |value: &str| {
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]))
        };
        assert!(check("br, gzip;q=0.8") && check("GZIP"));
        assert!(!check("br") && !check("gzip;q=0") && !takes_gzip(&HeaderMap::new()));
    }
}
