//! The doc comments of the configuration's types, read from their sources: fields of structs, variants of enums.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Files that hold types which a file of TOML fills.
const FILES: [&str; 8] =
    ["mod.rs", "cache.rs", "edge.rs", "fleet.rs", "guard.rs", "observe.rs", "reliability.rs", "shared.rs"];

/// A field or variant.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) doc: String,
    /// Last word of its type, what `Option` and `Vec` hold; empty for a variant.
    pub(super) kind: String,
}

/// Members by type.
pub(super) struct Types(HashMap<String, Vec<Member>>);

impl Types {
    pub(super) fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
        let mut types = HashMap::new();
        for file in FILES {
            read_file(&fs::read_to_string(folder.join(file)).unwrap(), &mut types);
        }
        Self(types)
    }

    pub(super) fn field(&self, owner: &str, name: &str) -> Option<&Member> {
        self.0.get(owner)?.iter().find(|member| member.name == name)
    }

    /// What the words of an enum mean: the variant whose name in snake case is the word.
    pub(super) fn word(&self, owner: &str, word: &str) -> Option<&str> {
        let found = self.0.get(owner)?.iter().find(|member| snake(&member.name) == word);
        found.map(|member| member.doc.as_str()).filter(|doc| !doc.is_empty())
    }
}

fn read_file(text: &str, types: &mut HashMap<String, Vec<Member>>) {
    let (mut owner, mut doc) = (None, String::new());
    for line in text.lines() {
        let code = line.trim();
        if let Some(words) = code.strip_prefix("///") {
            doc = format!("{doc} {}", words.trim()).trim().to_owned();
            continue;
        }
        if code.starts_with("#[") {
            continue;
        }
        let declared = code.strip_prefix("pub struct ").or_else(|| code.strip_prefix("pub enum "));
        if let Some(name) = declared.and_then(|rest| rest.strip_suffix(" {")) {
            owner = Some(name.to_owned());
        } else if line == "}" {
            owner = None;
        } else if let Some(owner) = &owner
            && let Some(member) = member(code, &doc)
        {
            types.entry(owner.clone()).or_default().push(member);
        }
        doc.clear();
    }
}

fn member(code: &str, doc: &str) -> Option<Member> {
    let doc = doc.to_owned();
    match code.strip_prefix("pub ").and_then(|field| field.split_once(": ")) {
        Some((name, kind)) => {
            let kind = kind.trim_end_matches(',').replace("Option<", "").replace("Vec<", "").replace('>', "");
            let kind = kind.rsplit("::").next().unwrap_or_default().to_owned();
            Some(Member { name: name.to_owned(), doc, kind })
        }
        None if code.starts_with(|first: char| first.is_ascii_uppercase()) => {
            let name: String = code.chars().take_while(|letter| letter.is_alphanumeric()).collect();
            Some(Member { name, doc, kind: String::new() })
        }
        None => None,
    }
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
