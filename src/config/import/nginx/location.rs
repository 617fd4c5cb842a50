//! Locations: which paths they stand for, where they lead, and how long they bear silence.

use super::super::report::Origin;
use super::super::toml::from;
use super::limits::{Location, Scope};
use super::parse::Directive;
use super::server::inside;
use super::{Reader, units};

/// nginx's own `proxy_read_timeout`, where its file says nothing.
const READ_TIMEOUT_S: u64 = 60;
/// Locations of one server.
const LOCATIONS_MAX: usize = 64;

impl Reader<'_> {
    /// A location of the server that counts, and those inside of it.
    pub(super) fn read_location_block<'a>(
        &mut self,
        location: &'a Directive,
        outer: &Scope<'a>,
        locations: &mut Vec<Location<'a>>,
    ) {
        let directives: Vec<&Directive> = inside(location).collect();
        let scope = outer.enter(&directives);
        let proxied = directives.iter().any(|directive| directive.name == "proxy_pass");
        let nested = directives.iter().any(|directive| directive.name == "location");
        if !proxied && !nested {
            self.ignored(location, "it proxies nothing: the gateway answers this path itself, or with 404");
            let outside = std::mem::replace(&mut self.in_location, true);
            directives.iter().for_each(|directive| self.read_shared(directive, true));
            self.in_location = outside;
            return;
        }
        let paths = if proxied { self.read_paths(location) } else { Some(Vec::new()) };
        let outside = std::mem::replace(&mut self.in_location, true);
        for directive in &directives {
            match directive.name.as_str() {
                "location" => self.read_location_block(directive, &scope, locations),
                "proxy_pass" => self.read_pass(directive, paths.as_deref().unwrap_or_default()),
                "rewrite" => self.read_rewrite(directive, paths.as_deref().unwrap_or_default()),
                _ => self.read_shared(directive, false),
            }
        }
        self.in_location = outside;
        match paths {
            Some(paths) if !proxied => {
                self.exact(location, "its locations");
                drop(paths);
            }
            Some(_) if locations.len() >= LOCATIONS_MAX => self.refused(location, "too many locations"),
            Some(paths) => locations.push(Location { directive: location, paths, scope }),
            None => {}
        }
    }

    /// The paths of a location, as prefixes.
    pub(super) fn read_paths(&mut self, location: &Directive) -> Option<Vec<String>> {
        let args: Vec<&str> = location.args.iter().map(String::as_str).collect();
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#\"\\".contains(&byte);
        let fine = |path: &str| path.starts_with('/') && path.len() <= 1024 && path.bytes().all(allowed);
        match args.as_slice() {
            [path] | ["^~", path] if fine(path) => {
                self.exact(location, format!("paths that begin with {path}"));
                Some(vec![(*path).to_owned()])
            }
            ["=", path] if fine(path) => {
                self.changed(location, format!("all paths that begin with {path}"));
                Some(vec![(*path).to_owned()])
            }
            ["~" | "~*", pattern] => match units::prefixes(pattern) {
                Some(paths) if paths.iter().all(|path| fine(path)) => {
                    self.changed(location, format!("all paths that begin with {}", paths.join(", ")));
                    Some(paths)
                }
                _ => {
                    self.refused(
                        location,
                        "an expression that is no list of paths: write its limits as routes of a zone",
                    );
                    None
                }
            },
            _ => {
                self.refused(location, "expected a path");
                None
            }
        }
    }

    /// Where a location leads: the gateway itself. Other paths there cannot be had.
    pub(super) fn read_pass(&mut self, directive: &Directive, paths: &[String]) {
        let target = directive.args.first().map_or("", String::as_str);
        let (_, rest) = target.split_once("://").unwrap_or(("", target));
        let uri = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
        let same = |path: &String| uri.trim_end_matches('/') == path.trim_end_matches('/');
        if uri.is_empty() || paths.iter().all(same) {
            self.exact(directive, if self.litellm { "the gateway answers itself" } else { "[[endpoints]]" });
        } else {
            self.refused(
                directive,
                "requests would go to other paths: the gateway serves /v1/…, /api/… and /health… as they are",
            );
        }
    }

    pub(super) fn read_rewrite(&mut self, directive: &Directive, paths: &[String]) {
        match paths.iter().all(|path| path.starts_with("/api/")) && !paths.is_empty() {
            true => self.changed(directive, "Ollama's own paths are served as they are, in its own dialect"),
            false => self.refused(directive, "paths are served as they are"),
        }
    }

    /// How long what is behind may be silent: that of the chat location, or of the largest one.
    pub(super) fn read_silence(&mut self, locations: &[Location<'_>], outer: &Scope<'_>) {
        let chat = locations.iter().filter(|location| {
            location.paths.iter().any(|path| "/v1/chat/completions".starts_with(path.as_str()))
        });
        let chat = chat.max_by_key(|location| location.paths.iter().map(String::len).max());
        let chosen = chat.map_or(outer.read_timeout, |location| location.scope.read_timeout);
        let time = chosen.and_then(|directive| units::time(directive.args.first()?));
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        let own = std::time::Duration::from_secs(READ_TIMEOUT_S);
        let value = time.filter(|time| !time.is_zero()).unwrap_or(own).min(day);
        self.plan.edge.read_timeout = Some((value, chosen.map(|directive| directive.origin.clone())));
        if !self.litellm {
            let note = chosen.map_or("nginx's own".to_owned(), |directive| from(&directive.origin));
            let section = self.plan.doc.section("[timeouts]");
            section.time("first_byte", value, &note);
            section.time("idle", value, note);
        }
        let all = locations.iter().map(|location| location.scope.read_timeout).chain([outer.read_timeout]);
        let mut told: Vec<&Origin> = Vec::new();
        for directive in all.flatten() {
            if told.contains(&&directive.origin) {
                continue;
            }
            told.push(&directive.origin);
            match directive.args.first().and_then(|text| units::time(text)) {
                None => self.refused(directive, "expected a time"),
                Some(_) if Some(&directive.origin) == chosen.map(|chosen| &chosen.origin) => {
                    self.exact(directive, "timeouts.idle, and the most of timeouts.first_byte");
                }
                Some(time) if time == value => self.exact(directive, "timeouts.idle"),
                Some(_) => self.changed(
                    directive,
                    format!(
                        "deadlines belong to models, not to paths: {}s, as for chat",
                        value.as_secs_f64()
                    ),
                ),
            }
        }
    }
}
