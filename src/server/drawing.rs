//! A room's graph as DOT and as SVG.
//!
//! The drawing is our own: columns by kind of node, rows in the order the graph lists them, arrows
//! as curves from column to column. It needs no program on the machine and is readable in light and
//! in dark. Every text in it may come from a person and is escaped.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use crate::media::graph::{Graph, Node, NodeKind};

const NODE_WIDTH: usize = 210;
const LINE_HEIGHT: usize = 16;
const PADDING: usize = 10;
const COLUMN_GAP: usize = 130;
const ROW_GAP: usize = 22;
const MARGIN: usize = 24;
const HEADER: usize = 40;
/// Facts a box shows; the JSON has all of them.
const MAX_FACTS: usize = 6;
/// Characters a line of a box has room for.
const MAX_CHARS: usize = 30;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b2430; --dim: #5b6673; --paper: #ffffff; --line: #93a0ae; --box: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8edf2; --dim: #9aa7b4; --paper: #14191f; --line: #5d6a78; --box: #1f2730; }
}
.paper { fill: var(--paper); }
text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.title { font-size: 15px; font-weight: 600; }
.kind, .fact, .flow { fill: var(--dim); font-size: 11px; }
.flow { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.label { font-weight: 600; }
.node { fill: var(--box); stroke: var(--line); }
.edge { fill: none; stroke: var(--line); stroke-width: 1.5; }
.tip { fill: var(--line); }
";

/// The graph in Graphviz's language.
pub fn dot(graph: &Graph) -> String {
    let mut text = String::from("digraph room {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for node in &graph.nodes {
        let mut lines = vec![format!("{} {}", kind_word(node.kind), node.label)];
        lines.extend(node.facts.iter().map(|(name, value)| format!("{name}: {value}")));
        let _ = writeln!(text, "  \"{}\" [label=\"{}\"];", quote(&node.id), quote(&lines.join("\n")));
    }
    for edge in &graph.edges {
        let (from, to, label) = (quote(&edge.from), quote(&edge.to), quote(&edge.label));
        let _ = writeln!(text, "  \"{from}\" -> \"{to}\" [label=\"{label}\"];");
    }
    text.push_str("}\n");
    text
}

/// A DOT quoted string's inside. Line breaks become `\n`, other control characters go.
fn quote(text: &str) -> String {
    text.chars().fold(String::new(), |mut quoted, character| {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            character if character.is_control() => {}
            character => quoted.push(character),
        }
        quoted
    })
}

/// The graph as a picture.
pub fn svg(room: &str, graph: &Graph) -> String {
    let boxes = place(graph);
    let width = boxes.iter().map(|placed| placed.x + NODE_WIDTH).max().unwrap_or(240) + MARGIN;
    let height = boxes.iter().map(|placed| placed.y + placed.height).max().unwrap_or(HEADER + 30) + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\"><title>Media graph of {room}</title><style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"28\">{room}</text>\n",
        room = escape(room),
    );
    if boxes.is_empty() {
        let _ = writeln!(svg, "<text class=\"kind\" x=\"{MARGIN}\" y=\"50\">no media</text>");
    }
    let by_id: HashMap<&str, &Placed<'_>> = boxes.iter().map(|placed| (placed.node.id.as_str(), placed)).collect();
    for edge in &graph.edges {
        // An edge to something that has just gone is not drawn.
        if let (Some(from), Some(to)) = (by_id.get(edge.from.as_str()), by_id.get(edge.to.as_str())) {
            draw_edge(&mut svg, from, to, &edge.label);
        }
    }
    for placed in &boxes {
        draw_node(&mut svg, placed);
    }
    svg.push_str("</svg>\n");
    svg
}

struct Placed<'a> {
    node: &'a Node,
    x: usize,
    y: usize,
    height: usize,
}

/// Columns are the kinds that occur, in their order.
fn place(graph: &Graph) -> Vec<Placed<'_>> {
    let mut columns: BTreeMap<NodeKind, Vec<&Node>> = BTreeMap::new();
    for node in &graph.nodes {
        columns.entry(node.kind).or_default().push(node);
    }
    let mut boxes = Vec::new();
    for (column, nodes) in columns.into_values().enumerate() {
        let (x, mut y) = (MARGIN + column * (NODE_WIDTH + COLUMN_GAP), MARGIN + HEADER);
        for node in nodes {
            let lines = 2 + node.facts.len().min(MAX_FACTS);
            let height = 2 * PADDING + lines * LINE_HEIGHT;
            boxes.push(Placed { node, x, y, height });
            y += height + ROW_GAP;
        }
    }
    boxes
}

fn draw_node(svg: &mut String, placed: &Placed<'_>) {
    let Placed { node, x, y, height } = placed;
    let _ = writeln!(svg, "<g><title>{}</title>", escape(&node.id));
    let _ =
        writeln!(svg, "<rect class=\"node\" x=\"{x}\" y=\"{y}\" width=\"{NODE_WIDTH}\" height=\"{height}\" rx=\"8\"/>");
    let facts = node.facts.iter().take(MAX_FACTS).map(|(name, value)| ("fact", format!("{name}: {value}")));
    let lines = [("kind", kind_word(node.kind).to_owned()), ("label", node.label.clone())].into_iter().chain(facts);
    for (line, (class, text)) in lines.enumerate() {
        let (x, y) = (x + PADDING, y + PADDING + line * LINE_HEIGHT + 12);
        let _ = writeln!(svg, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escape(&shorten(&text)));
    }
    svg.push_str("</g>\n");
}

fn draw_edge(svg: &mut String, from: &Placed<'_>, to: &Placed<'_>, label: &str) {
    let (x1, y1) = (from.x + NODE_WIDTH, from.y + from.height / 2);
    let (x2, y2) = (to.x, to.y + to.height / 2);
    let bend = COLUMN_GAP / 2;
    let (c1, c2) = (x1 + bend, x2.saturating_sub(bend));
    let end = x2.saturating_sub(6);
    let _ = writeln!(svg, "<path class=\"edge\" d=\"M{x1} {y1} C{c1} {y1} {c2} {y2} {end} {y2}\"/>");
    let (top, bottom) = (y2.saturating_sub(4), y2 + 4);
    let _ = writeln!(svg, "<path class=\"tip\" d=\"M{x2} {y2} L{end} {top} L{end} {bottom} Z\"/>");
    if !label.is_empty() {
        let (x, y) = ((x1 + x2) / 2, ((y1 + y2) / 2).saturating_sub(5));
        let _ = writeln!(
            svg,
            "<text class=\"flow\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            escape(&shorten(label))
        );
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// XML text. Characters that XML 1.0 does not have are left out.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {}
            character => escaped.push(character),
        }
        escaped
    })
}

fn kind_word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Publisher => "publisher",
        NodeKind::Ingest => "ingest",
        NodeKind::Transcoder => "transcoder",
        NodeKind::Track => "track",
        NodeKind::Decoder => "decoder",
        NodeKind::Effect => "effect",
        NodeKind::Mixer => "mixer",
        NodeKind::Encoder => "encoder",
        NodeKind::Recorder => "recorder",
        NodeKind::Output => "output",
        NodeKind::Subscriber => "subscriber",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::graph::Edge;

    fn sample() -> Graph {
        let node = |id: &str, kind, label: &str| Node {
            id: id.into(),
            kind,
            label: label.into(),
            facts: [("state".to_owned(), "up & <running>".to_owned())].into(),
        };
        Graph {
            nodes: vec![
                node("s", NodeKind::Subscriber, "B"),
                node("p", NodeKind::Publisher, "김철수 & <b>\"\u{1}"),
                node("t", NodeKind::Track, "VP8"),
            ],
            edges: vec![
                Edge { from: "p".into(), to: "t".into(), label: "rtp".into() },
                Edge { from: "t".into(), to: "s".into(), label: String::new() },
                Edge { from: "t".into(), to: "gone".into(), label: String::new() },
            ],
        }
    }

    #[test]
    fn texts_of_people_stay_texts() {
        let picture = svg("a<b", &sample());
        assert!(picture.contains("김철수 &amp; &lt;b&gt;&quot;</text>"), "{picture}");
        assert!(!picture.contains("<b>"));
        assert!(!picture.contains('\u{1}'));
        let text = dot(&sample());
        assert!(text.contains("\"p\" [label=\"publisher 김철수 & <b>\\\"\\nstate: up & <running>\"];"), "{text}");
    }

    #[test]
    fn columns_follow_the_kinds_and_lost_ends_are_not_drawn() {
        let graph = sample();
        let boxes = place(&graph);
        let x = |id: &str| boxes.iter().find(|placed| placed.node.id == id).map(|placed| placed.x);
        assert!(x("p") < x("t") && x("t") < x("s"));
        assert_eq!(svg("r", &graph).matches("class=\"edge\"").count(), 2);
    }
}
