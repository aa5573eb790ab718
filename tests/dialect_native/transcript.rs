//! Replays transcripts. A line is `# a comment`, or a client's name and what he does:
//!
//! | line | means |
//! | --- | --- |
//! | `a > {…}` | he sends this text, with `$variables` filled in |
//! | `a < {…}` | he gets, now or later, a frame that has at least these fields; `"$x"` takes a value for later, or must equal the one taken before |
//! | `a closed 1000` | the server closes his socket with this code |
//! | `a killed` | his socket is gone |
//! | `a large 300000`, `a deep 200`, `a binary` | he sends a frame that is so large, nested so deep, or binary |

use std::collections::HashMap;

use salon::media::{CodecName, Kind, fake::made_up_offer};
use serde_json::{Value, json};

use super::client::{Client, House, answer, offer};

pub async fn replay(text: &str, connect: impl AsyncFn() -> Client) {
    let mut clients: HashMap<&str, Client> = HashMap::new();
    let mut variables = given();
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let (name, rest) = line.split_once(' ').expect("a name and what he does");
        let (verb, argument) = rest.split_once(' ').unwrap_or((rest, ""));
        if !clients.contains_key(name) {
            clients.insert(name, connect().await);
        }
        let client = clients.get_mut(name).expect("just put there");
        match verb {
            ">" => client.send_text(filled(argument, &variables)),
            "<" => {
                let pattern: Value = serde_json::from_str(argument).unwrap_or_else(|e| panic!("line {number}: {e}"));
                let what = format!("line {number}: {line}");
                let found = client.find(&what, |frame| matches(&pattern, frame, &variables)).await;
                bind(&pattern, &found, &mut variables);
            }
            "closed" => assert_eq!(client.closed().await, argument.parse().ok(), "line {number}"),
            "killed" => drop(clients.remove(name)),
            "large" => client.send_text("x".repeat(argument.parse().expect("bytes"))),
            "deep" => client.send_text("[".repeat(argument.parse().expect("levels"))),
            "binary" => client.send_binary(vec![1, 2, 3]),
            other => panic!("line {number}: what is `{other}`?"),
        }
    }
}

/// Over a pipe in memory.
pub async fn replay_in_memory(text: &str, house: &House) {
    replay(text, async || Client::in_memory(&house.hub)).await;
}

fn given() -> HashMap<String, Value> {
    let h263 = offer().replace("VP8", "H263");
    let screen = made_up_offer(&[("0", Kind::Video, CodecName::Vp8)]);
    HashMap::from([
        ("offer".into(), json!(offer())),
        ("answer".into(), json!(answer())),
        ("screen_offer".into(), json!(screen)),
        ("h263_offer".into(), json!(h263)),
        ("huge_sdp".into(), json!("v=0\r\n".repeat(20_000))),
        ("long_name".into(), json!("x".repeat(10_000))),
    ])
}

fn filled(text: &str, variables: &HashMap<String, Value>) -> String {
    let mut names: Vec<_> = variables.keys().collect();
    // The longest first: `$offer2` is not `$offer` and a 2.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    names
        .into_iter()
        .fold(text.to_owned(), |text, name| text.replace(&format!("\"${name}\""), &variables[name].to_string()))
}

fn matches(pattern: &Value, frame: &Value, variables: &HashMap<String, Value>) -> bool {
    match (pattern, frame) {
        (Value::String(name), value) if name.starts_with('$') => {
            variables.get(&name[1..]).is_none_or(|taken| taken == value)
        }
        (Value::Object(pattern), Value::Object(frame)) => {
            pattern.iter().all(|(key, value)| frame.get(key).is_some_and(|found| matches(value, found, variables)))
        }
        (Value::Array(pattern), Value::Array(frame)) => {
            pattern.len() == frame.len() && pattern.iter().zip(frame).all(|(p, f)| matches(p, f, variables))
        }
        (pattern, frame) => pattern == frame,
    }
}

fn bind(pattern: &Value, frame: &Value, variables: &mut HashMap<String, Value>) {
    match (pattern, frame) {
        (Value::String(name), value) if name.starts_with('$') => {
            variables.insert(name[1..].to_owned(), value.clone());
        }
        (Value::Object(pattern), frame) => pattern.iter().for_each(|(key, value)| bind(value, &frame[key], variables)),
        (Value::Array(pattern), Value::Array(frame)) => {
            pattern.iter().zip(frame).for_each(|(p, f)| bind(p, f, variables));
        }
        _ => {}
    }
}
