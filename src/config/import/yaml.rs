//! YAML as LiteLLM reads it (PyYAML's `safe_load`), with the line of every key.
//!
//! Events of `saphyr-parser` become a tree. Words are read as YAML 1.1 has them (`yes`, `on`), since PyYAML does. Of a
//! key that stands twice the last one counts. Merge keys (`<<`) are merged. Aliases share their node, and what they
//! expand to is counted. Bounds: depth 64, 100 000 nodes, aliases expanded.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Deepest nesting.
const DEPTH_MAX: usize = 64;
/// Most nodes, those that aliases stand for counted each time.
const NODES_MAX: usize = 100_000;

/// A value.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Line where it begins, counted from 1.
    pub(super) line: u32,
    /// The file it stands in.
    pub(super) file: Rc<str>,
    /// Nodes in it, itself and aliases included.
    size: usize,
    /// Levels of nodes, itself included.
    depth: usize,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Value {
    /// `plain`: without quotes, so that it may be a number or a truth.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Line of the key.
    pub(super) line: u32,
    pub(super) node: Rc<Node>,
}

/// What a text holds.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Rc<Node>,
    /// Keys that stand again below: key, line, and line of the one that counts.
    pub(super) doubles: Vec<(String, u32, u32)>,
}

/// Why a text is no YAML that can be imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: u32,
    pub(super) message: String,
}

impl Node {
    /// A node that stands in place of others, with their size.
    pub(super) fn made(value: Value, line: u32, file: &Rc<str>) -> Self {
        let inner: Vec<&Rc<Self>> = match &value {
            Value::Scalar { .. } => Vec::new(),
            Value::List(items) => items.iter().collect(),
            Value::Map(entries) => entries.iter().map(|entry| &entry.node).collect(),
        };
        let size = inner.iter().fold(1_usize, |sum, node| sum.saturating_add(node.size));
        let depth = 1 + inner.iter().map(|node| node.depth).max().unwrap_or_default();
        Self { value, line, file: Rc::clone(file), size, depth }
    }

    /// Whether it holds no other node.
    pub(super) fn is_leaf(&self) -> bool {
        match &self.value {
            Value::Scalar { .. } => true,
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// The value of a key, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Rc<Node>> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// Whether it breaks the bounds, aliases expanded.
    pub(super) fn is_too_large(&self) -> bool {
        self.size > NODES_MAX || self.depth > DEPTH_MAX
    }
}

/// A list or map that is not closed yet.
struct Frame {
    anchor: usize,
    line: u32,
    open: Open,
}

enum Open {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, key: Option<(String, u32)>, merged: Vec<Rc<Node>> },
}

struct Builder {
    file: Rc<str>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    doubles: Vec<(String, u32, u32)>,
    nodes: usize,
}

/// Reads a text.
pub(super) fn parse(text: &str, file: &Rc<str>) -> Result<Document, Mistake> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        file: Rc::clone(file),
        stack: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        doubles: Vec::new(),
        nodes: 0,
    };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Mistake {
            line: line_number(error.marker().line()),
            message: format!("no valid YAML: {}", error.info()),
        })?;
        let line = line_number(span.start.line());
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                return Err(Mistake { line, message: "a second document begins here".to_owned() });
            }
        }
        builder.take(event, line)?;
    }
    let empty = || Rc::new(Node::made(Value::Map(Vec::new()), 1, file));
    Ok(Document { root: builder.root.unwrap_or_else(empty), doubles: builder.doubles })
}

fn line_number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: u32) -> Result<(), Mistake> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let string = tag.is_some_and(|tag| tag.suffix == "str");
                let plain = style == ScalarStyle::Plain && !string;
                let node = self.node(Value::Scalar { text: text.into_owned(), plain }, line, anchor)?;
                self.place(node, line)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = Rc::clone(node);
                    self.place(node, line)
                }
                None => Err(Mistake { line, message: "an alias stands inside of its own anchor".to_owned() }),
            },
            Event::SequenceStart(anchor, _) => self.open(anchor, line, Open::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.open(anchor, line, Open::Map { entries: Vec::new(), key: None, merged: Vec::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(frame) => {
                    let value = self.closed(frame.open);
                    let node = self.node(value, frame.line, frame.anchor)?;
                    self.place(node, frame.line)
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn open(&mut self, anchor: usize, line: u32, open: Open) -> Result<(), Mistake> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(Mistake { line, message: format!("nested deeper than {DEPTH_MAX}") });
        }
        self.stack.push(Frame { anchor, line, open });
        Ok(())
    }

    fn node(&mut self, value: Value, line: u32, anchor: usize) -> Result<Rc<Node>, Mistake> {
        let node = Rc::new(Node::made(value, line, &self.file));
        self.nodes += 1;
        if node.is_too_large() || self.nodes > NODES_MAX {
            let message = format!("more than {NODES_MAX} values, or {DEPTH_MAX} levels, aliases expanded");
            return Err(Mistake { line, message });
        }
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    /// Puts a node where the open list or map expects it.
    fn place(&mut self, node: Rc<Node>, line: u32) -> Result<(), Mistake> {
        match self.stack.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { entries, key, merged }) => match key.take() {
                None => match &node.value {
                    Value::Scalar { text, .. } => *key = Some((text.clone(), line)),
                    _ => return Err(Mistake { line, message: "a key that is a list or a map".to_owned() }),
                },
                Some((name, _)) if name == "<<" => merged.push(node),
                Some((key, line)) => entries.push(Entry { key, line, node }),
            },
        }
        Ok(())
    }

    /// What a closed list or map holds: of doubles the last, and what is merged where no own key stands.
    fn closed(&mut self, open: Open) -> Value {
        let (entries, merged) = match open {
            Open::List(items) => return Value::List(items),
            Open::Map { entries, merged, .. } => (entries, merged),
        };
        let mut last: HashMap<String, u32> = HashMap::with_capacity(entries.len());
        let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
        for entry in entries.into_iter().rev() {
            match last.get(&entry.key) {
                Some(&line) => self.doubles.push((entry.key, entry.line, line)),
                None => {
                    last.insert(entry.key.clone(), entry.line);
                    kept.push(entry);
                }
            }
        }
        kept.reverse();
        let mut maps: Vec<&Rc<Node>> = Vec::new();
        for node in &merged {
            match &node.value {
                Value::List(items) => maps.extend(items),
                _ => maps.push(node),
            }
        }
        for entry in maps.iter().flat_map(|node| match &node.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        }) {
            self.nodes = self.nodes.saturating_add(1);
            if self.nodes <= NODES_MAX && last.insert(entry.key.clone(), entry.line).is_none() {
                kept.push(entry.clone());
            }
        }
        Value::Map(kept)
    }
}

/// A plain word as a truth (YAML 1.1).
pub(super) fn truth(text: &str) -> Option<bool> {
    let usual = [text.to_ascii_lowercase(), text.to_ascii_uppercase()].contains(&text.to_owned())
        || text.chars().next().is_some_and(char::is_uppercase)
            && text.chars().skip(1).all(char::is_lowercase);
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" if usual => Some(true),
        "false" | "no" | "off" if usual => Some(false),
        _ => None,
    }
}

/// Whether a plain word is nothing.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Document, Mistake> {
        parse(text, &"f".into())
    }

    fn text(node: &Node) -> &str {
        match &node.value {
            Value::Scalar { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_key_has_its_line() {
        let document = read("a:\n  b: 1\n  c:\n    - x\n    - y: z\n# end\nd: \"5\"\n").unwrap();
        let a = document.root.get("a").unwrap();
        let Value::Map(entries) = &a.value else { panic!("{a:?}") };
        assert_eq!((entries[0].line, entries[1].line), (2, 3));
        let Value::List(items) = &entries[1].node.value else { panic!() };
        assert_eq!((items[0].line, items[1].line), (4, 5));
        assert_eq!(text(document.root.get("d").unwrap()), "5");
    }

    #[test]
    fn aliases_and_merges_are_followed_and_bombs_are_not() {
        let document = read("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: *x\n").unwrap();
        let y = document.root.get("y").unwrap();
        assert_eq!((text(y.get("a").unwrap()), text(y.get("b").unwrap())), ("1", "3"));
        assert_eq!(text(document.root.get("z").unwrap().get("b").unwrap()), "2");
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{before}]\n");
        }
        assert!(read(&bomb).unwrap_err().message.contains("aliases expanded"));
        assert!(read("a: &a\n  - *a\n").is_err());
    }

    #[test]
    fn what_is_no_single_plain_document_is_a_mistake() {
        for (text, line, part) in [
            ("a: [", 1, "no valid YAML"),
            ("a: b\n  c: d\n", 2, "no valid YAML"),
            ("---\na: 1\n---\nb: 2\n", 3, "second document"),
            ("? [a, b]\n: c\n", 1, "a key that is"),
        ] {
            let mistake = read(text).unwrap_err();
            assert!(mistake.message.contains(part), "{text}: {mistake:?}");
            assert!(mistake.line >= line, "{text}: {mistake:?}");
        }
        assert!(read(&"[".repeat(100)).is_err());
        assert!(matches!(&read("").unwrap().root.value, Value::Map(entries) if entries.is_empty()));
    }

    #[test]
    fn of_doubles_the_last_counts() {
        let document = read("a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(text(document.root.get("a").unwrap()), "3");
        assert_eq!(document.doubles, [("a".to_owned(), 1, 3)]);
    }

    #[test]
    fn words_are_read_as_pyyaml_does() {
        assert_eq!(
            ["yes", "On", "TRUE", "tRUE", "y", "off"].map(truth),
            [Some(true), Some(true), Some(true), None, None, Some(false)]
        );
        assert!(is_null("~") && is_null("") && !is_null("none"));
    }
}
