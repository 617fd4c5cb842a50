//! The configuration that an import writes: TOML with a comment behind each key that says where it is from.
//!
//! Sections come in a fixed order, whatever set them first. A key that is set twice has the last value.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::report::{Origin, shown};
use crate::config::render::quoted;
use crate::config::units::time_text;

/// Sections in their order. Those with two brackets may stand more than once.
const ORDER: [&str; 25] = [
    "[server]",
    "[server.tls]",
    "[server.headers]",
    "[server.cors]",
    "[[endpoints]]",
    "[[models]]",
    "[balance]",
    "[health]",
    "[timeouts]",
    "[retry]",
    "[fallbacks]",
    "[breaker]",
    "[queue]",
    "[guard]",
    "[limits]",
    "[[limits.zones]]",
    "[[keys]]",
    "[cache]",
    "[redis]",
    "[fleet]",
    "[log]",
    "[log.journal]",
    "[tracing]",
    "[usage]",
    "[metrics]",
];

/// Keys are padded to this column before their comment, where they are shorter.
const COMMENT_COLUMN: usize = 36;

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Doc {
    /// Comment lines at its head.
    head: Vec<String>,
    sections: Vec<Section>,
    /// Comment lines at its end.
    foot: Vec<String>,
}

/// A table.
#[derive(Debug)]
pub(super) struct Section {
    header: String,
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    key: String,
    value: String,
    note: String,
}

impl Doc {
    pub(super) fn head(&mut self, line: impl Into<String>) {
        self.head.push(line.into());
    }

    pub(super) fn foot(&mut self, line: impl Into<String>) {
        self.foot.push(line.into());
    }

    /// The section of this header, new if there is none.
    pub(super) fn section(&mut self, header: &str) -> &mut Section {
        match self.sections.iter().position(|section| section.header == header) {
            Some(at) => &mut self.sections[at],
            None => self.push(header),
        }
    }

    /// A new section of this header.
    pub(super) fn push(&mut self, header: &str) -> &mut Section {
        let rank = |header: &str| {
            let known = ORDER.iter().position(|known| *known == header);
            // Tables inside of a section follow it.
            let of =
                |known: &&str| header.trim_start_matches('[').starts_with(known.trim_matches(['[', ']']));
            known.or_else(|| ORDER.iter().position(of)).unwrap_or(ORDER.len())
        };
        // Tables inside of one stand by their names, so that the outer one comes first; those of an array in their order.
        let place = |header: &str| {
            let single = !header.starts_with("[[");
            (rank(header), if single { header.trim_matches(['[', ']']).to_owned() } else { String::new() })
        };
        let own = place(header);
        let at = self.sections.partition_point(|section| place(&section.header) <= own);
        self.sections.insert(at, Section { header: header.to_owned(), items: Vec::new() });
        &mut self.sections[at]
    }

    /// A key's value as it is written.
    pub(super) fn value(&self, header: &str, key: &str) -> Option<&str> {
        let section = self.sections.iter().find(|section| section.header == header)?;
        section.items.iter().find(|item| item.key == key).map(|item| item.value.as_str())
    }

    /// Whether a section of this header stands.
    pub(super) fn has(&self, header: &str) -> bool {
        self.sections.iter().any(|section| section.header == header)
    }

    /// The text.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        let comment = |out: &mut String, line: &str| {
            let line = if line.is_empty() { "#".to_owned() } else { format!("# {}", plain(line)) };
            out.push_str(&line);
            out.push('\n');
        };
        self.head.iter().for_each(|line| comment(&mut out, line));
        for section in &self.sections {
            if !out.is_empty() {
                out.push('\n');
            }
            section.render(&mut out);
        }
        if !self.foot.is_empty() {
            out.push('\n');
        }
        self.foot.iter().for_each(|line| comment(&mut out, line));
        out
    }
}

impl Section {
    /// Sets a key to a value as TOML writes it.
    pub(super) fn set(&mut self, key: &str, value: impl Display, note: impl Into<String>) {
        let item = Item { key: key.to_owned(), value: value.to_string(), note: note.into() };
        match self.items.iter_mut().find(|known| known.key == key) {
            Some(known) => *known = item,
            None => self.items.push(item),
        }
    }

    pub(super) fn text(&mut self, key: &str, value: impl Display, note: impl Into<String>) {
        self.set(key, quoted(value), note);
    }

    pub(super) fn time(&mut self, key: &str, value: Duration, note: impl Into<String>) {
        self.text(key, time_text(value), note);
    }

    pub(super) fn list(&mut self, key: &str, values: &[impl Display], note: impl Into<String>) {
        let values: Vec<String> = values.iter().map(quoted).collect();
        self.set(key, format_args!("[{}]", values.join(", ")), note);
    }

    fn render(&self, out: &mut String) {
        out.push_str(&self.header);
        out.push('\n');
        for Item { key, value, note } in &self.items {
            let start = out.len();
            // Writing to a `String` cannot fail.
            let _ = write!(out, "{key} = {value}");
            if !note.is_empty() {
                let width = out.get(start..).unwrap_or_default().chars().count();
                let pad = COMMENT_COLUMN.saturating_sub(width).max(1);
                let _ = write!(out, "{:pad$}# {}", "", plain(note));
            }
            out.push('\n');
        }
    }
}

/// A comment's text: TOML allows no control characters in it.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Where a key is from, for its comment.
pub(super) fn from(origin: &Origin) -> String {
    format!("{}:{}", shown(&origin.file), origin.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_in_their_order_with_comments() {
        let mut doc = Doc::default();
        doc.head("written by a test");
        doc.section("[guard]").set("enabled", true, "");
        doc.section("[guard.input]").list("scanners", &["Secrets"], "");
        doc.push("[[endpoints]]").text("name", "b\"", "a.yaml:1");
        doc.push("[[endpoints]]").text("name", "c", "");
        doc.section("[server]").time("keep_alive", Duration::from_secs(65), "n\u{7}");
        doc.section("[server]").time("keep_alive", Duration::from_secs(66), "");
        doc.foot("the end");
        let text = doc.render();
        let expected = "# written by a test\n\n[server]\nkeep_alive = \"66s\"\n\n[[endpoints]]\n\
            name = \"b\\\"\"                        # a.yaml:1\n\n[[endpoints]]\nname = \"c\"\n\n\
            [guard]\nenabled = true\n\n[guard.input]\nscanners = [\"Secrets\"]\n\n# the end\n";
        assert_eq!(text, expected);
        assert!(doc.has("[guard]") && !doc.has("[cache]"));
    }
}
