//! Collects the pages under `web/`, and hls.js where npm has fetched it, into one table that
//! `src/assets.rs` includes; larger texts are stored compressed too.
//! Not here: serving them (`assets`). Without Node the build goes on: the player then says what
//! is missing.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{Error, Write as _};
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};

/// Below this a compressed copy saves less than a packet.
const COMPRESS_FROM_BYTES: usize = 1400;

/// Files that npm fetches, by the path under which they are served.
const FETCHED: [(&str, &str); 2] = [
    ("vendor/hls.js", "node_modules/hls.js/dist/hls.min.js"),
    ("vendor/hls.js.LICENSE.txt", "node_modules/hls.js/LICENSE"),
];

fn main() -> Result<(), Error> {
    let web = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("web");
    let out = PathBuf::from(variable("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", web.display());

    let mut sources = Vec::new();
    for folder in ["", "css", "js", "img"] {
        collect(&web, folder, &mut sources)?;
    }
    for (name, path) in FETCHED {
        if web.join(path).is_file() {
            sources.push((name.to_owned(), web.join(path)));
        }
    }
    sources.sort();

    let mut table = String::from("&[\n");
    for (index, (name, path)) in sources.iter().enumerate() {
        let bytes = fs::read(path)?;
        let compressed = compressed(&bytes, &out, index)?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        writeln!(
            table,
            "Asset {{ path: {name:?}, content_type: {:?}, etag: \"\\\"{:016x}\\\"\", \
             bytes: include_bytes!({:?}), gzip: {compressed} }},",
            content_type(name),
            hasher.finish(),
            path.display().to_string(),
        )
        .map_err(Error::other)?;
    }
    table.push(']');
    fs::write(out.join("assets.rs"), table)
}

fn variable(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|error| Error::other(format!("{name}: {error}")))
}

/// Adds the files that lie directly in one folder of `web/`.
fn collect(web: &Path, folder: &str, into: &mut Vec<(String, PathBuf)>) -> Result<(), Error> {
    let path = web.join(folder);
    if !path.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(&path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let served = [".html", ".css", ".js", ".svg"].iter().any(|ending| name.ends_with(ending));
        if served && entry.file_type()?.is_file() {
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            into.push((name, entry.path()));
        }
    }
    Ok(())
}

/// Stores a compressed copy where that helps; returns the expression that includes it.
fn compressed(bytes: &[u8], out: &Path, index: usize) -> Result<String, Error> {
    if bytes.len() < COMPRESS_FROM_BYTES {
        return Ok("None".to_owned());
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    let path = out.join(format!("asset-{index}.gz"));
    fs::write(&path, encoder.finish()?)?;
    Ok(format!("Some(include_bytes!({:?}))", path.display().to_string()))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}
