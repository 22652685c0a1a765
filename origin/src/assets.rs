//! The built-in pages: files embedded by the build, found by the path of a request, and the
//! responses that carry them.
//! Not here: which routes lead here, methods other than GET and HEAD, errors (the router); what
//! the pages do (`origin/web`).

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};

/// One embedded file.
#[derive(Debug)]
pub struct Asset {
    /// Path below `/assets/`, or the name of a page's document.
    pub path: &'static str,
    /// The `Content-Type` to serve it with.
    pub content_type: &'static str,
    /// A strong entity tag, quotes included: it changes with the bytes.
    pub etag: &'static str,
    /// The file.
    pub bytes: &'static [u8],
    /// The file compressed by gzip, where that is worth it.
    pub gzip: Option<&'static [u8]>,
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Pages load only what this node serves. hls.js starts its worker from a blob and plays one.
const POLICY: &str = "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; \
                      img-src 'self' data:; base-uri 'none'; frame-ancestors 'self'";

/// The player may play from any other node: its own may die, and it is told of the others by its
/// address too.
const PLAYER: &str = "play.html";
const PLAYER_POLICY: &str = "default-src 'self'; media-src 'self' blob: http: https:; \
                             connect-src 'self' http: https:; worker-src 'self' blob:; \
                             img-src 'self' data:; base-uri 'none'; frame-ancestors 'self'";

/// The embedded file for the path of a request: `/`, `/publish/{stream}`, `/play/{stream}`
/// (stream names are checked by the routes that use them), or `/assets/{file}`.
pub fn find(path: &str) -> Option<&'static Asset> {
    let name = match path {
        "/" => "index.html",
        "/favicon.ico" => "img/logo.svg",
        _ => match path.trim_start_matches('/').split_once('/')? {
            ("publish", stream) if !stream.is_empty() => "publish.html",
            ("play", stream) if !stream.is_empty() => "play.html",
            ("assets", file) if !file.ends_with(".html") => file,
            _ => return None,
        },
    };
    ASSETS.iter().find(|asset| asset.path == name)
}

/// The response to a GET for `asset`; for HEAD, take its parts and leave the body.
pub fn respond(asset: &'static Asset, request: &HeaderMap) -> Response<Bytes> {
    let accepts = |wanted: &str| {
        let values =
            request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = matches!(parameters.replace(' ', "").as_str(), "q=0" | "q=0.0");
            name.trim() == wanted && !refused
        })
    };
    let compressed = asset.gzip.filter(|_| accepts("gzip"));
    let fresh = request.get(IF_NONE_MATCH).is_some_and(|tags| {
        let tags = tags.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.into_iter().any(|tag| tag == "*" || tag.trim_start_matches("W/") == asset.etag)
    });
    let body = match compressed {
        _ if fresh => &[][..],
        Some(gzip) => gzip,
        None => asset.bytes,
    };
    let mut response = Response::new(Bytes::from_static(body));
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, asset.content_type),
        (ETAG, asset.etag),
        // Asked for again each time and answered with 304: pages never outlive an upgrade.
        (CACHE_CONTROL, "no-cache"),
        (VARY, "accept-encoding"),
        (CONTENT_SECURITY_POLICY, if asset.path == PLAYER { PLAYER_POLICY } else { POLICY }),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    if compressed.is_some() && !fresh {
        headers.insert(CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn each_route_finds_its_page() {
        for (path, name) in [
            ("/", "index.html"),
            ("/publish/auction/lot-7", "publish.html"),
            ("/play/demo", "play.html"),
            ("/assets/css/style.css", "css/style.css"),
            ("/assets/js/clockcode.js", "js/clockcode.js"),
            ("/favicon.ico", "img/logo.svg"),
        ] {
            assert_eq!(find(path).map(|asset| asset.path), Some(name), "{path}");
        }
    }

    #[test]
    fn what_is_not_embedded_is_not_found() {
        for path in [
            "",
            "/play",
            "/play/",
            "/publish/",
            "/index.html",
            "/assets/index.html",
            "/assets/..",
            "/assets/../Cargo.toml",
            "/assets/",
            "//",
            "/assets/css",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn pages_refer_only_to_files_that_are_embedded() {
        for asset in ASSETS.iter().filter(|asset| !asset.path.starts_with("vendor/")) {
            let text = String::from_utf8_lossy(asset.bytes);
            for start in ["src=\"/assets/", "href=\"/assets/", "from '/assets/", "import '/assets/"]
            {
                for after in text.split(start).skip(1) {
                    let name = after.split(['"', '\'']).next().unwrap_or_default();
                    let found = find(&format!("/assets/{name}")).is_some();
                    // hls.js is there only where npm fetched it.
                    assert!(found || name.starts_with("vendor/"), "{} names {name}", asset.path);
                }
            }
        }
    }

    #[test]
    fn a_browser_that_has_the_page_is_told_so() {
        let page = find("/").expect("the overview is embedded");
        let full = respond(page, &headers(&[]));
        assert_eq!(full.status(), StatusCode::OK);
        assert_eq!(full.body().as_ref(), page.bytes);
        let again = respond(page, &headers(&[("if-none-match", page.etag)]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert!(again.body().is_empty());
        let stale = respond(page, &headers(&[("if-none-match", "\"other\"")]));
        assert_eq!(stale.status(), StatusCode::OK);
    }

    #[test]
    fn the_player_alone_may_load_from_other_nodes() {
        for (path, elsewhere) in [("/", false), ("/publish/a", false), ("/play/a", true)] {
            let page = find(path).expect("the page is embedded");
            let policy = respond(page, &headers(&[])).headers()[CONTENT_SECURITY_POLICY].clone();
            let policy = policy.to_str().expect("the policy is text");
            assert_eq!(policy.contains("connect-src"), elsewhere, "{path}");
            assert!(policy.starts_with("default-src 'self'"), "{path}");
        }
    }

    #[test]
    fn gzip_is_used_where_it_is_accepted() {
        let page = find("/assets/css/style.css").expect("the style is embedded");
        let gzip = page.gzip.expect("the style is large enough");
        for (accepted, expected) in [
            ("gzip, br", gzip),
            ("br;q=1.0, gzip;q=0.8", gzip),
            ("identity", page.bytes),
            ("gzip; q=0", page.bytes),
            ("", page.bytes),
        ] {
            let response = respond(page, &headers(&[("accept-encoding", accepted)]));
            assert_eq!(response.body().as_ref(), expected, "{accepted}");
            let named = response.headers().contains_key(CONTENT_ENCODING);
            assert_eq!(named, expected == gzip, "{accepted}");
        }
    }
}
