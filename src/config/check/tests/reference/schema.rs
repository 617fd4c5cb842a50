//! config/corelane.schema.json: the same table as a JSON Schema (2020-12), for editors and for those who make files.

use serde_json::{Map, Value, json};

use super::super::super::super::reader::trace::Shape;
use super::notes::{LAST, SECTIONS, VALUES};
use super::source::Types;
use super::{Keys, has_section, meaning};

/// The schema, as it is written.
pub(super) fn text(keys: &Keys, types: &Types) -> String {
    let mut root = Map::new();
    let mut names: Vec<&str> = keys.0.iter().map(|(path, _)| path.as_str()).collect();
    names.retain(|path| !path.contains(['.', '[']));
    for name in names {
        root.insert(name.to_owned(), node(keys, types, name));
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "corelane.toml",
        "type": "object",
        "additionalProperties": false,
        "required": ["endpoints"],
        "properties": root,
    });
    format!("{}\n", serde_json::to_string_pretty(&schema).unwrap())
}

fn node(keys: &Keys, types: &Types, path: &str) -> Value {
    let mut node = bare(keys, types, path);
    let (table, _) = path.rsplit_once('.').unwrap_or_default();
    let owner = SECTIONS.iter().chain(&LAST).find(|section| section.0 == table).map(|section| section.2);
    if let Some(owner) = owner.filter(|owner| !owner.is_empty())
        && !path.ends_with("[]")
        && !has_section(path)
    {
        let text = meaning(keys, types, owner, path).replace("\\|", "|");
        node["description"] = json!(text);
    }
    node
}

fn bare(keys: &Keys, types: &Types, path: &str) -> Value {
    if let Some(scanner) =
        path.strip_prefix("guard.input.scanner.").or_else(|| path.strip_prefix("guard.output.scanner."))
    {
        return json!({"$ref": format!("#/properties/guard/properties/scanner/properties/{scanner}")});
    }
    match path {
        "server.shards" => {
            return json!({"oneOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 256}]});
        }
        "server.tls.redirect_status" => return json!({"enum": [301, 308]}),
        "limits.reject_status" => return json!({"enum": [429, 503]}),
        "guard.profiles" => {
            return json!({"type": "object", "additionalProperties": {"$ref": "#/properties/guard"}});
        }
        "limits.zones[].routes" => {
            let table = object(keys, types, "limits.zones[].routes[]");
            return json!({"type": "array", "minItems": 1, "items": {"oneOf": [{"type": "string"}, table]}});
        }
        "keys[].expires" => return json!({}), // a date of TOML, or a string
        _ => {}
    }
    let sized = |pattern: &str| json!({"type": "string", "pattern": pattern});
    match keys.shape(path) {
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Integer(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Amount => json!({"type": "number", "minimum": 0}),
        Shape::Time(..) => sized("^[0-9]+(ms|s|m|h|d)$"),
        Shape::Size(..) => {
            json!({"oneOf": [{"type": "integer", "minimum": 0}, sized("^[0-9]+(B|kB|KB|MB|GB|KiB|MiB|GiB)$")]})
        }
        Shape::Words(words) if !VALUES.iter().any(|(known, _)| *known == path) => json!({"enum": words}),
        Shape::Array => json!({"type": "array", "items": node(keys, types, &format!("{path}[]"))}),
        Shape::Table => object(keys, types, path),
        Shape::Free if path == "models[].weights" => {
            json!({"type": "object", "additionalProperties": {"type": "integer"}})
        }
        Shape::Free => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        _ => json!({"type": "string"}),
    }
}

fn object(keys: &Keys, types: &Types, path: &str) -> Value {
    let below = keys.below(path);
    let mut required: Vec<&str> =
        below.iter().filter(|key| keys.is_required(key)).map(|key| last(key)).collect();
    if path == "server.tls" {
        required.clear(); // `certificates` may stand in place of both
    }
    let members: Map<String, Value> =
        below.iter().map(|key| (last(key).to_owned(), node(keys, types, key))).collect();
    let mut object = json!({"type": "object", "additionalProperties": false, "properties": members});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}
