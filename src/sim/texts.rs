//! A JSON value that holds text in one of the shapes the APIs allow: a string, an array of strings, an array of
//! parts or items with text in them, or token numbers.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The texts found, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// Each string, part or item.
    pub items: Vec<String>,
    /// It was one string.
    pub single: bool,
    /// There were token numbers instead of text.
    pub numbers: bool,
}

impl Texts {
    /// All of it, in one.
    pub fn joined(mut self) -> String {
        if self.items.len() == 1 { self.items.pop().unwrap_or_default() } else { self.items.join("\n") }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array")
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts { items: vec![text.to_owned()], single: true, numbers: false })
    }

    fn visit_unit<E>(self) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
        let mut texts = Texts::default();
        while let Some(piece) = seq.next_element::<Piece>()? {
            match piece {
                Piece::Text(text) => texts.items.push(text),
                Piece::Number => texts.numbers = true,
            }
        }
        Ok(texts)
    }
}

enum Piece {
    Text(String),
    Number,
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PieceVisitor)
    }
}

struct PieceVisitor;

/// A content part, or an item of `input`.
#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    content: Option<Texts>,
}

impl<'de> Visitor<'de> for PieceVisitor {
    type Value = Piece;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an object or a token")
    }

    fn visit_str<E>(self, text: &str) -> Result<Piece, E> {
        Ok(Piece::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Piece, E> {
        Ok(Piece::Number)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Piece, E> {
        Ok(Piece::Number)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Piece, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Piece::Number)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Piece, A::Error> {
        let part = Part::deserialize(MapAccessDeserializer::new(map))?;
        let content = part.content.map(Texts::joined);
        Ok(Piece::Text(part.text.or(content).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_shape() {
        for (json, items, numbers) in [
            (r#""a b""#, &["a b"][..], false),
            ("null", &[], false),
            (r#"["a","b"]"#, &["a", "b"], false),
            ("[1,2]", &[], true),
            ("[[1,2],[3]]", &[], true),
            (
                r#"[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"u"}}]"#,
                &["x", ""],
                false,
            ),
            (r#"[{"role":"user","content":[{"type":"input_text","text":"y"}]}]"#, &["y"], false),
        ] {
            let texts: Texts = serde_json::from_str(json).unwrap();
            assert_eq!(texts.items, items, "{json}");
            assert_eq!(texts.numbers, numbers, "{json}");
        }
        assert!(serde_json::from_str::<Texts>("5").is_err());
    }
}
