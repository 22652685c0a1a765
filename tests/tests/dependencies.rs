//! Holds the tree of crates to `deny.toml`: licences, banned crates, one door per foreign
//! library, sources. A small reading of the same file that `cargo deny` reads, which takes longer
//! to build than everything else here.
//! Not here: advisories, which need a database from outside.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

struct Tree {
    packages: Vec<Value>,
    /// Names of the packages that depend on a package, by its id.
    dependants: HashMap<String, HashSet<String>>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies inside the workspace")
}

fn tree() -> Tree {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(&cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let mut packages = metadata["packages"].as_array().expect("a list of packages").clone();
    // The metadata's graph holds optional crates that no feature turns on (`crate?/feature`).
    let built = built(&cargo);
    packages.retain(|package| {
        built.contains(&(text(package, "name").to_owned(), text(package, "version").to_owned()))
    });
    let name_of: HashMap<&str, &str> =
        packages.iter().map(|package| (text(package, "id"), text(package, "name"))).collect();
    let mut dependants: HashMap<String, HashSet<String>> = HashMap::new();
    for node in metadata["resolve"]["nodes"].as_array().expect("a list of nodes") {
        let Some(name) = name_of.get(text(node, "id")).copied() else { continue };
        for dependency in node["dependencies"].as_array().into_iter().flatten() {
            let id = dependency.as_str().unwrap_or_default().to_owned();
            dependants.entry(id).or_default().insert(name.to_owned());
        }
    }
    Tree { packages, dependants }
}

/// Names and versions of all packages that are built for some feature, test and target of
/// `deny.toml`'s.
fn built(cargo: &str) -> HashSet<(String, String)> {
    let words = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    let mut packages = HashSet::new();
    for target in strings(&rules()["graph"]["targets"]) {
        let output = Command::new(cargo)
            .args(["tree", "--workspace", "--locked", "--all-features", "--target", &target])
            .args(["--edges", "all", "--prefix", "none", "--format", "{p}"])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        packages.extend(String::from_utf8_lossy(&output.stdout).lines().filter_map(words));
    }
    packages
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn rules() -> toml::Table {
    let path = root().join("deny.toml");
    std::fs::read_to_string(path).expect("deny.toml is there").parse().expect("deny.toml is TOML")
}

fn strings(value: &toml::Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item.as_str())
        .map(str::to_owned)
        .collect()
}

/// Whether a licence expression (SPDX, or the old form with slashes) can be met by `allowed`.
fn permitted(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let met = any_of(&mut rest, allowed);
    met && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all_of(rest, allowed);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        met |= all_of(rest, allowed);
    }
    met
}

fn all_of(rest: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(rest, allowed);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let met = any_of(rest, allowed);
            if let [")", tail @ ..] = *rest {
                *rest = tail;
            }
            met
        }
        [licence, "WITH", exception, tail @ ..] => {
            *rest = tail;
            allowed(&format!("{licence} WITH {exception}"))
        }
        [licence, tail @ ..] => {
            *rest = tail;
            allowed(licence)
        }
        [] => false,
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    let allowed =
        |licence: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&licence);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("(MIT OR ISC) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("MIT MIT", false),
        ("", false),
    ] {
        assert_eq!(permitted(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let rules = rules();
    let allow = strings(&rules["licenses"]["allow"]);
    let exceptions = rules["licenses"]["exceptions"].as_array().expect("a list").clone();
    let complaints: Vec<_> = tree()
        .packages
        .iter()
        .filter(|package| {
            let name = text(package, "name");
            let own: Vec<_> = exceptions
                .iter()
                .filter(|exception| exception["crate"].as_str() == Some(name))
                .flat_map(|exception| strings(&exception["allow"]))
                .collect();
            let allowed =
                |licence: &str| allow.iter().chain(&own).any(|allowed| allowed == licence);
            !permitted(text(package, "license"), &allowed)
        })
        .map(|package| format!("{} is under {}", package["id"], package["license"]))
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn foreign_libraries_come_in_by_their_one_door() {
    let tree = tree();
    let mut complaints = Vec::new();
    let rules = rules();
    for ban in rules["bans"]["deny"].as_array().expect("a list of bans") {
        let banned = ban["crate"].as_str().expect("a ban names a crate");
        let doors = ban.get("wrappers").map(strings).unwrap_or_default();
        for package in tree.packages.iter().filter(|package| text(package, "name") == banned) {
            for user in tree.dependants.get(text(package, "id")).into_iter().flatten() {
                if !doors.contains(user) {
                    complaints.push(format!("{user} depends on {banned}; its doors: {doors:?}"));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn crates_come_from_the_registry_or_from_here() {
    let rules = rules();
    let registries = strings(&rules["sources"]["allow-registry"]);
    for package in tree().packages {
        let Some(source) = package["source"].as_str() else { continue };
        let known = registries.iter().any(|registry| source == format!("registry+{registry}"));
        assert!(known, "{} comes from {source}", package["id"]);
    }
}
