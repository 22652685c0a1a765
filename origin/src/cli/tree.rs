//! A stream's tree as text: a line a node, under the node that it takes the stream from.
//!
//! Not here: asking for it (`cluster`), planning it (`headwater_relay::plan`).

use std::collections::HashMap;

use serde_json::Value as Json;

/// Draws an answer of `/api/v1/cluster/tree/{stream}`.
pub(super) fn drawing(answer: &Json) -> String {
    let nodes = answer.get("nodes").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let names: HashMap<u64, String> =
        nodes.iter().filter_map(|node| Some((number(node, "id")?, title(node)))).collect();
    let mut children: HashMap<u64, Vec<&Json>> = HashMap::new();
    for node in nodes {
        if let Some(parent) = number(node, "parent") {
            children.entry(parent).or_default().push(node);
        }
    }
    let figure = |key| number(answer, key).map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mut out = format!(
        "{}, epoch {}: {} nodes, {} hops at most; seen from node {}\
         \n{} gateways a region, {} children a node at most\n",
        text(answer, "stream"),
        figure("epoch"),
        nodes.len(),
        figure("depth"),
        figure("this"),
        figure("gateways"),
        figure("max_children"),
    );
    // What is left to draw: a node, what stands before it, and what before its children.
    let mut left: Vec<(&Json, String, String)> = nodes
        .iter()
        .filter(|node| number(node, "parent").is_none())
        .map(|node| (node, String::new(), String::new()))
        .collect();
    while let Some((node, before, below)) = left.pop() {
        out += &format!("{before}{}\n", described(node, &names));
        let mine = number(node, "id").and_then(|id| children.remove(&id)).unwrap_or_default();
        for (at, child) in mine.iter().enumerate().rev() {
            let (turn, line) =
                if at + 1 == mine.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            left.push((child, format!("{below}{turn}"), format!("{below}{line}")));
        }
    }
    out
}

fn described(node: &Json, names: &HashMap<u64, String>) -> String {
    let mut words = format!("{} {}, {}", title(node), text(node, "region"), text(node, "role"));
    if text(node, "state") != "up" {
        words += &format!(", {}", text(node, "state"));
    }
    words += &format!(": {}", text(node, "reason"));
    if let Some(second) = number(node, "second") {
        let name = names.get(&second).cloned().unwrap_or_else(|| second.to_string());
        words += &format!("; else from {name}");
    }
    words
}

fn title(node: &Json) -> String {
    let id = number(node, "id").map_or_else(|| "-".to_owned(), |id| id.to_string());
    format!("{} ({id})", text(node, "name"))
}

fn text<'a>(value: &'a Json, key: &str) -> &'a str {
    value.get(key).and_then(Json::as_str).unwrap_or("-")
}

fn number(value: &Json, key: &str) -> Option<u64> {
    value.get(key).and_then(Json::as_u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_stands_under_its_parent_with_the_reason_and_the_way_out() {
        let node = |id: u64, parent: Option<u64>, second: Option<u64>, region: &str, why: &str| {
            serde_json::json!({
                "id": id, "name": format!("n{id}"), "role": "relay", "region": region,
                "state": if id == 4 { "draining" } else { "up" }, "parent": parent,
                "second": second, "reason": why,
            })
        };
        let answer = serde_json::json!({
            "stream": "a/b", "this": 3, "epoch": 7, "depth": 2, "gateways": 2, "max_children": 32,
            "nodes": [
                node(1, None, None, "eu", "owns it"),
                node(3, Some(1), Some(2), "us", "gateway 1 of its region"),
                node(4, Some(3), Some(5), "us", "from a gateway of its region"),
                node(5, Some(1), Some(2), "us", "gateway 2 of its region"),
                node(2, Some(1), None, "eu", "in the owner's region"),
            ],
        });
        let expected = "\
a/b, epoch 7: 5 nodes, 2 hops at most; seen from node 3
2 gateways a region, 32 children a node at most
n1 (1) eu, relay: owns it
├─ n3 (3) us, relay: gateway 1 of its region; else from n2 (2)
│  └─ n4 (4) us, relay, draining: from a gateway of its region; else from n5 (5)
├─ n5 (5) us, relay: gateway 2 of its region; else from n2 (2)
└─ n2 (2) eu, relay: in the owner's region
";
        assert_eq!(drawing(&answer), expected);
        assert_eq!(drawing(&Json::Null).lines().count(), 2);
    }

    #[test]
    fn an_answer_that_makes_no_tree_is_drawn_as_far_as_it_does() {
        let node = |id: u64, parent: u64| serde_json::json!({ "id": id, "parent": parent });
        let answer = serde_json::json!({ "nodes": [node(1, 2), node(2, 1)] });
        assert_eq!(drawing(&answer).lines().count(), 2);
    }
}
