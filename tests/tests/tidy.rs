//! Rules about the sources that no lint knows: module headers, file sizes, links in the docs,
//! and nothing in them that is true on one machine only.
//! Not here: dependencies (`dependencies`), formatting and lints (rustfmt and clippy).
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Past this a file is split by idea, in the same change.
const FILE_LINES_MAX: usize = 600;

/// A file shorter than this holds nothing that a header could explain.
const HEADER_WANTED_FROM_LINES: usize = 5;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies inside the workspace")
}

/// Every file of the work tree with one of these endings, apart from what is built or fetched.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                let skipped = ["target", "node_modules", "out", ".git", "headwater-data", "corpus"];
                if !skipped.contains(&name) {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no file ends with any of {endings:?}");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for_and_what_it_is_not_for() {
    let mut complaints = Vec::new();
    for path in files(&[".rs"]) {
        let text = fs::read_to_string(&path).expect("UTF-8 source");
        // A file of unit tests belongs to the module beside it, whose header speaks for both.
        let of_tests = path.file_name().is_some_and(|name| name == "tests.rs");
        if of_tests || text.lines().count() < HEADER_WANTED_FROM_LINES {
            continue;
        }
        let header: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if header.is_empty() {
            complaints.push(format!("{}: no `//!` header on its first line", shown(&path)));
        } else if !header.iter().any(|line| line.contains("Not here")) {
            complaints.push(format!("{}: its header has no \"Not here: …\" line", shown(&path)));
        }
    }
    none(&complaints);
}

#[test]
fn no_source_file_is_too_long_to_read() {
    let mut complaints = Vec::new();
    for path in files(&[".rs", ".js", ".mjs", ".css", ".html"]) {
        let lines = fs::read_to_string(&path).expect("UTF-8 source").lines().count();
        if lines > FILE_LINES_MAX {
            complaints.push(format!("{}: {lines} lines, split it by idea", shown(&path)));
        }
    }
    none(&complaints);
}

/// The targets of the inline links of a Markdown text, code blocks left out.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, tail)) = after.split_once(')') else { break };
            found.push(target);
            rest = tail;
        }
    }
    found
}

#[test]
fn links_are_found_in_markdown() {
    let text = "see [a](one.md#x), [b](two.md)\n```\n[c](three.md)\n```\n![d](four.svg)";
    assert_eq!(links(text), ["one.md#x", "two.md", "four.svg"]);
}

#[test]
fn every_relative_link_of_the_docs_leads_somewhere() {
    let mut complaints = Vec::new();
    for path in files(&[".md", ".rs"]).iter().filter(|path| shown(path).ends_with(".md")) {
        let text = fs::read_to_string(path).expect("UTF-8 text");
        for link in links(&text) {
            let target = link.split(['#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let folder = path.parent().expect("a file lies in a folder");
            if !folder.join(target).exists() {
                complaints.push(format!("{}: {link} leads nowhere", shown(path)));
            }
        }
    }
    none(&complaints);
}

#[test]
fn nothing_names_a_folder_of_one_machine() {
    // Put together here, so that this file does not name what it forbids.
    let forbidden = ["/wor", "/hom", "/Use"].map(|start| match start {
        "/wor" => format!("{start}k/"),
        "/hom" => format!("{start}e/"),
        _ => format!("{start}rs/"),
    });
    let mut complaints = Vec::new();
    for path in
        files(&[".rs", ".toml", ".md", ".js", ".mjs", ".json", ".css", ".html", ".lock", "run"])
    {
        let text = fs::read_to_string(&path).expect("UTF-8 text");
        for (number, line) in text.lines().enumerate() {
            // A path of a URL, a route or a pattern is no folder of a machine.
            let named = forbidden.iter().any(|folder| {
                line.match_indices(folder.as_str()).any(|(at, _)| {
                    line[..at].chars().next_back().is_none_or(|c| " \"'`=:(".contains(c))
                })
            });
            if named {
                complaints.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    none(&complaints);
}

#[test]
fn every_metric_says_what_it_means() {
    let help = root().join("origin/src/metrics/help.rs");
    let help = fs::read_to_string(help).expect("the list of meanings");
    let mut seen = 0;
    let mut complaints = Vec::new();
    for path in files(&[".rs"]) {
        let text = fs::read_to_string(&path).expect("UTF-8 source");
        for call in ["counter!(", "gauge!(", "histogram!("] {
            for (_, after) in text.match_indices(call).map(|(at, _)| text.split_at(at + call.len()))
            {
                let Some(name) = after.trim_start().strip_prefix('"') else { continue };
                let name = name.split('"').next().unwrap_or_default();
                if !name.starts_with("headwater_") || name.starts_with("headwater_test_") {
                    continue;
                }
                seen += 1;
                if !help.contains(&format!("\"{name}\",")) {
                    complaints.push(format!("{}: {name} is not in metrics/help.rs", shown(&path)));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} metrics were found");
    none(&complaints);
}
