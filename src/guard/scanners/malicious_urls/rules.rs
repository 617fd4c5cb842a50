//! What speaks against a URL: rules of structure, each with an id and a weight.
//!
//! Weights add up; above 0.5 the URL is a finding by default. A strong rule passes that alone, weak ones
//! only together. Lexical evidence finds tricks, not fresh malware: for that there is the deny list.

use std::net::Ipv6Addr;

use super::actions;
use super::model::Model;
use super::names::{self, Names, Parts, Service, Word};
use super::parse::{Host, Scheme, Url, undo_percent};

/// What a rule found; ids are a closed set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Evidence {
    /// The rule.
    pub(super) rule: &'static str,
    /// What it weighs.
    pub(super) weight: f32,
}

/// All evidence against one URL.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Case {
    pub(super) evidence: Vec<Evidence>,
}

impl Case {
    pub(super) fn add(&mut self, rule: &'static str, weight: f32) {
        self.evidence.push(Evidence { rule, weight });
    }

    /// 0 to 1.
    pub(super) fn score(&self) -> f32 {
        self.evidence.iter().map(|evidence| evidence.weight).sum::<f32>().min(1.0)
    }

    fn has(&self, rule: &str) -> bool {
        self.evidence.iter().any(|evidence| evidence.rule == rule)
    }
}

/// Endings of files that run.
const PROGRAMS: [&str; 22] = [
    "apk", "bat", "cmd", "cpl", "dll", "exe", "hta", "img", "iso", "jar", "jse", "lnk", "msi", "pif", "ps1",
    "scr", "vbe", "vbs", "wsf", "xll", "xlsm", "docm",
];
/// Endings of files that do not.
const DOCUMENTS: [&str; 22] = [
    "avi", "csv", "doc", "docx", "gif", "html", "jpeg", "jpg", "mov", "mp3", "mp4", "odt", "pdf", "png",
    "ppt", "pptx", "rtf", "txt", "wav", "xls", "xlsx", "zip",
];
/// Hosts below which the name of another site stands rightly.
const RELAYS: [&str; 9] = [
    "edgesuite.net",
    "edgekey.net",
    "akamaized.net",
    "akamaiedge.net",
    "cloudflare.net",
    "fastly.net",
    "hwcdn.net",
    "translate.goog",
    "ampproject.org",
];
/// Words that happen to be near a brand.
const INNOCENT: [&str; 13] = [
    "cloud",
    "discard",
    "factbook",
    "finance",
    "gcloud",
    "jcloud",
    "krakend",
    "openapi",
    "revolt",
    "telegraf",
    "telegraph",
    "tunes",
    "webchat",
];
/// Brands that are at home in every country.
const WORLDWIDE: [&str; 6] = ["google", "amazon", "ebay", "yahoo", "dhl", "olx"];
/// Tools that many run themselves, under their own names.
const TOOLS: [&str; 8] =
    ["github", "gitlab", "bitbucket", "atlassian", "wordpress", "telegram", "discord", "cloudflare"];

/// Weighs `url`; `raw`: as it was written, `label`: the text of the Markdown link that leads to it.
pub(super) fn weigh(
    names: &Names,
    model: Option<&Model>,
    url: &Url,
    raw: &str,
    label: Option<&str>,
    case: &mut Case,
) {
    match url.scheme {
        Scheme::Script => return actions::script(url, case),
        Scheme::Data => return actions::data(url, case),
        Scheme::File => return actions::file(url, case),
        Scheme::Web => {}
    }
    user(names, url, case);
    if is_near(&url.host) {
        return;
    }
    if !raw.is_ascii()
        && raw.chars().any(|char| matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    {
        case.add("hidden_characters", 0.6);
    }
    let mut known = false;
    match &url.host {
        Host::V4 { address, plain } => ip(*address, *plain, case),
        Host::V6(address) => ip6(*address, case),
        Host::Name(name) => {
            let parts = names.parts(name);
            known = names.is_known(parts.domain) && parts.service.is_none();
            if let Some(unicode) = &url.unicode {
                international(names, unicode, parts, case);
            }
            if !known {
                brands(names, name, parts, case);
                shape(name, parts, case);
                look(model, name, parts, case);
            }
            service(parts, case);
            if let Some(label) = label {
                mismatch(names, label, parts, url, case);
            }
        }
    }
    if url.invalid_name {
        case.add("invalid_name", 0.4);
    }
    if url.encoded_host {
        case.add("encoded_host", 0.6);
    }
    if !known {
        port(url, case);
    }
    path(names, url, known, case);
}

/// Hosts of this machine and this network.
pub(super) fn is_near(host: &Host) -> bool {
    match host {
        Host::Name(name) => {
            let dot = name.bytes().rposition(|byte| byte == b'.').map_or(0, |dot| dot + 1);
            matches!(
                name.get(dot..).unwrap_or_default(),
                "localhost" | "local" | "internal" | "lan" | "intranet" | "home" | "arpa" | "corp"
            ) || dot == 0
        }
        Host::V4 { address, .. } => {
            let bytes = address.to_be_bytes();
            matches!(
                bytes,
                [0 | 10 | 127, ..]
                    | [192, 168, ..]
                    | [172, 16..=31, ..]
                    | [169, 254, ..]
                    | [100, 64..=127, ..]
                    | [192, 0, 0, _]
                    | [198, 18 | 19, ..]
                    | [224..=255, ..]
            )
        }
        Host::V6(address) => match address.to_ipv4_mapped() {
            Some(v4) => is_near(&Host::V4 { address: v4.to_bits(), plain: true }),
            None => {
                let head = address.segments();
                address.is_loopback()
                    || address.is_unspecified()
                    || matches!(head, [0xfe80..=0xfebf | 0xfc00..=0xfdff | 0xff00..=0xffff, ..])
                    || matches!(head, [0x2001, 0xdb8, ..])
            }
        },
    }
}

fn ip(address: u32, plain: bool, case: &mut Case) {
    let [a, b, c, d] = address.to_be_bytes();
    let resolver =
        [a, b] == [c, d] && a == b || matches!((a, b), (8, 8) | (1, 1) | (1, 0) | (9, 9) | (208, 67));
    // Numbers that people write when they mean any address, and those that are set apart for it.
    let made_up = matches!([a, b, c], [1 | 2 | 11 | 12 | 5, 2 | 3 | 22 | 34 | 6, 3 | 4 | 33 | 56 | 7])
        || matches!([a, b, c], [192, 0, 2] | [198, 51, 100] | [203, 0, 113]);
    match (plain, resolver, made_up) {
        (false, ..) => case.add("ip_obfuscated", 0.8),
        (true, true, _) => {}
        (true, _, true) => case.add("ip_host", 0.3),
        (true, ..) => case.add("ip_host", 0.55),
    }
}

fn ip6(address: Ipv6Addr, case: &mut Case) {
    let segments = address.segments();
    let resolver =
        matches!(segments, [0x2001, 0x4860, 0x4860, ..] | [0x2606, 0x4700, 0x4700, ..] | [0x2620, 0xfe, ..]);
    if !resolver {
        case.add("ip_host", 0.55);
    }
}

/// A host's name before the `@`.
fn user(names: &Names, url: &Url, case: &mut Case) {
    let Some(user) = &url.user else { return };
    let domain = if let Host::Name(name) = &url.host { names.parts(name).domain } else { "" };
    let user = undo_percent(user).to_lowercase();
    let name = user
        .split([':', '/', '\\', '?', '#', ';', '&'])
        .next()
        .unwrap_or_default()
        .trim_start_matches("www.");
    let name = name.rsplit('@').next().unwrap_or(name);
    let claimed = names.parts(name);
    let host_like = name.contains('.')
        && (names::is_bare_host(name, true, false, false) || names.is_known(claimed.domain));
    let brand = names.brands.get(name).is_some_and(|brand| !brand.word && !brand.domains.contains(&domain));
    if (host_like || brand) && claimed.domain != domain {
        case.add("userinfo_host", 0.85);
    } else if user.contains('/') || user.len() > 60 {
        case.add("userinfo", 0.3);
    } else {
        case.add("userinfo", 0.05);
    }
}

/// Names with letters beyond ASCII.
fn international(names: &Names, unicode: &str, parts: Parts<'_>, case: &mut Case) {
    let tld_is_latin = parts.suffix.is_ascii() && !parts.suffix.contains("xn--");
    for label in unicode.split('.').filter(|label| !label.is_ascii()) {
        let letters = || label.chars().filter(|char| char.is_alphabetic());
        let latin = letters()
            .any(|char| char.is_ascii() || matches!(char, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}'));
        let foreign = letters().any(
            |char| matches!(char, '\u{370}'..='\u{58f}' | '\u{13a0}'..='\u{13ff}' | '\u{250}'..='\u{2af}'),
        );
        if latin && foreign {
            case.add("mixed_script", 0.9);
        } else if names.looks_like(label).is_some()
            || foreign && tld_is_latin && letters().all(|char| names::latin_twin(char).is_some())
        {
            case.add("confusable_name", 0.8);
        } else if let Some((name, _)) = names.brand_in(&names::skeleton(label))
            && !name.is_empty()
        {
            case.add("confusable_name", 0.6);
        }
    }
}

/// Names of brands in hosts of others.
fn brands(names: &Names, host: &str, parts: Parts<'_>, case: &mut Case) {
    let labels = host.strip_suffix(parts.suffix).unwrap_or(host).trim_end_matches('.');
    embedded(names, labels, parts, case);
    let mut credentials = u8::from(names.is_credential(parts.suffix));
    let mut found: Option<(&str, bool)> = None;
    // The automaton finds words in words; what counts are whole ones and those with words of credentials
    // stuck to them.
    let (mut any, mut branded) = (false, false);
    for (word, _) in names.words(labels) {
        any = true;
        branded |= word == Word::Brand;
    }
    if any {
        for label in labels.split('.') {
            for word in label.split(['-', '_']) {
                if names.is_credential(word) {
                    credentials = credentials.saturating_add(1);
                } else if branded && let Some((brand, glued)) = names.brand_in(word) {
                    credentials = credentials.saturating_add(u8::from(glued));
                    found = found.or(Some((brand, label == parts.label)));
                }
            }
            if label.contains('-') && names.brands.contains_key(label) {
                found = found.or(Some((label, label == parts.label)));
            }
        }
    }
    let credential = credentials > 0;
    if let Some((brand, in_label)) = found {
        let Some(entry) = names.brands.get(brand) else { return };
        if !entry.domains.contains(&parts.domain) {
            case.add("brand_elsewhere", brand_weight(brand, entry.word, credential, in_label, parts));
        }
    } else {
        lookalike(names, parts, credential, case);
    }
    match credentials {
        0 => {}
        1 => case.add("credential_host", 0.2),
        _ => case.add("credential_host", 0.35),
    }
}

/// A well-known domain as a part of another host: `paypal.com.example`, `paypal.com-login.example`.
fn embedded(names: &Names, labels: &str, parts: Parts<'_>, case: &mut Case) {
    if parts.sub.is_empty() || parts.domain.ends_with(".edu") || RELAYS.contains(&parts.domain) {
        return;
    }
    let mut start = 0;
    while let Some(dot) = labels.get(start..).and_then(|rest| rest.find('.')).map(|at| start + at) {
        let rest = labels.get(dot + 1..).unwrap_or_default();
        let tld = rest.find(['.', '-']).unwrap_or(rest.len());
        let second =
            rest.get(tld + 1..).map_or(0, |more| tld + 1 + more.find(['.', '-']).unwrap_or(more.len()));
        let is_known = |length: usize| {
            length > 1 && labels.get(start..dot + 1 + length).is_some_and(|d| names.is_known(d))
        };
        if tld <= 4 && is_known(tld) || second <= 6 && is_known(second) {
            let school = parts.suffix.starts_with("ac.") || parts.suffix.starts_with("edu.");
            return case.add("embedded_domain", if school { 0.2 } else { 0.8 });
        }
        start = dot + 1;
    }
}

fn brand_weight(brand: &str, word: bool, credential: bool, in_label: bool, parts: Parts<'_>) -> f32 {
    let developer = parts.service == Some(Service::Developer);
    let whole = parts.label == brand;
    let country = parts.suffix.len() == 2 || parts.suffix.contains('.');
    match (word, credential) {
        (true, false) => 0.0,
        (true, true) if developer => 0.2,
        (true, true) => 0.4,
        (false, true) => 0.6,
        (false, false) if developer || TOOLS.contains(&brand) => 0.1,
        (false, false) if parts.service.is_some() => 0.5,
        (false, false) if whole && country && WORLDWIDE.contains(&brand) => 0.1,
        (false, false) if whole && country => 0.35,
        (false, false) if whole => 0.45,
        (false, false) if in_label => 0.35,
        (false, false) => 0.52,
    }
}

/// Names that are nearly those of others.
fn lookalike(names: &Names, parts: Parts<'_>, credential: bool, case: &mut Case) {
    if parts.service == Some(Service::Developer) {
        return;
    }
    let word = |word: &str| {
        let like = names.looks_like(word)?;
        let drawn = word.bytes().any(|byte| byte.is_ascii_digit()) || word.len() != like.len();
        let brand = like.len() >= 6 && names.brands.get(like).is_some_and(|brand| !brand.word);
        Some(if drawn || brand || like.len() >= 7 { 0.7 } else { 0.3 })
    };
    let look = word(parts.label)
        .or_else(|| parts.label.contains('-').then(|| parts.label.split('-').find_map(word)).flatten())
        .or_else(|| parts.sub.split(['.', '-']).find_map(|label| word(label).map(|weight| weight - 0.1)));
    if let Some(weight) = look {
        case.add("lookalike", weight);
    } else if let Some(name) = names.misspells(parts.label) {
        let strong = names.brands.get(name).map_or(name.len() >= 9, |brand| !brand.word);
        let weight = match strong && !INNOCENT.contains(&parts.label) {
            true => 0.55,
            false if name.len() > 6 => 0.3,
            false => 0.1,
        };
        case.add("lookalike", if credential { weight + 0.2 } else { weight });
    } else if parts.label.contains('-') && is_brand(names, &parts.label.replace('-', "")) {
        case.add("lookalike", 0.55);
    } else if parts.sub.split('.').any(|label| {
        !INNOCENT.contains(&label) && names.misspells(label).is_some_and(|name| is_brand(names, name))
    }) {
        case.add("lookalike", 0.35);
    } else if parts.label.contains('-')
        && parts.label.split('-').any(|word| names.misspells(word).is_some_and(|name| is_brand(names, name)))
    {
        case.add("lookalike", if credential { 0.6 } else { 0.3 });
    }
}

/// Whether `name` is a brand and nothing else.
fn is_brand(names: &Names, name: &str) -> bool {
    name.len() >= 5 && names.brands.get(name).is_some_and(|brand| !brand.word)
}

/// How the name is built.
fn shape(host: &str, parts: Parts<'_>, case: &mut Case) {
    let hyphens = host.bytes().filter(|byte| *byte == b'-').count();
    if hyphens >= 4 {
        case.add("hyphens", 0.2);
    }
    let labels = host.bytes().filter(|byte| *byte == b'.').count() + 1;
    if labels >= 6 {
        case.add("subdomains", 0.2);
    }
    if host.len() > 60 {
        case.add("long_host", 0.15);
    }
    if names::is_abused(parts.suffix) {
        case.add("abused_tld", 0.2);
    }
    if parts.service != Some(Service::Developer) && is_random(parts.label) {
        case.add("random_host", 0.2);
    }
}

/// How the letters of the name look to the model.
fn look(model: Option<&Model>, host: &str, parts: Parts<'_>, case: &mut Case) {
    if parts.service == Some(Service::Developer) {
        return;
    }
    let weight = model.map_or(0.0, |model| model.weight(host));
    if weight > 0.0 {
        case.add("look", weight);
    }
}

/// Whether a label looks as if a machine had made it.
fn is_random(label: &str) -> bool {
    if label.len() < 8 || label.starts_with("xn--") {
        return false;
    }
    let bytes = label.as_bytes();
    let changes =
        bytes.windows(2).filter(|pair| matches!(pair, [a, b] if a.is_ascii_digit() != b.is_ascii_digit()));
    let consonants =
        bytes.split(|byte| !byte.is_ascii_alphabetic() || b"aeiouy".contains(byte)).map(<[u8]>::len).max();
    changes.count() >= 4 || consonants.unwrap_or(0) >= 6
}

fn service(parts: Parts<'_>, case: &mut Case) {
    match parts.service {
        Some(Service::Shortener) => case.add("shortener", 0.1),
        Some(Service::Dynamic) => case.add("dynamic_dns", 0.3),
        Some(Service::Free) if !parts.sub.is_empty() || parts.label != "www" => case.add("free_host", 0.1),
        _ => {}
    }
}

/// A link whose text names another host than its target.
fn mismatch(names: &Names, label: &str, parts: Parts<'_>, url: &Url, case: &mut Case) {
    let label =
        label.trim_matches(|char: char| char.is_whitespace() || matches!(char, '*' | '_' | '`' | '<' | '>'));
    let Some(dot) = label.find('.') else { return };
    if label.len() > 200 || label.contains(char::is_whitespace) || dot == 0 {
        return;
    }
    let explicit = label.contains("://") || label.starts_with("www.");
    let Some(claimed) = Url::parse(label, false) else { return };
    let Host::Name(name) = &claimed.host else { return };
    let claim = names.parts(name);
    let plain = explicit || names::is_bare_host(name, false, false, false);
    if !plain || claim.domain == parts.domain || claim.label == parts.label || url.rest.contains(claim.domain)
    {
        return;
    }
    let redirects = matches!(parts.service, Some(Service::Shortener));
    let weight = match (explicit, names.is_known(claim.domain)) {
        _ if redirects => 0.2,
        (true, _) => 0.6,
        (false, true)
            if claimed.rest.is_empty() && (!is_brand(names, claim.label) || TOOLS.contains(&claim.label)) =>
        {
            0.4
        }
        (false, true) => 0.6,
        (false, false) => 0.2,
    };
    case.add("text_mismatch", weight);
}

fn port(url: &Url, case: &mut Case) {
    let Some(port) = url.port else { return };
    let usual = matches!(port, 80 | 443 | 8080 | 8443 | 8000 | 8888 | 3000 | 5000 | 9000 | 9090 | 21);
    if !usual {
        case.add("port", 0.1);
    }
}

/// Path, query and fragment.
fn path(names: &Names, url: &Url, known: bool, case: &mut Case) {
    let end = url.rest.find(['?', '#']).unwrap_or(url.rest.len());
    let (path, query) = url.rest.split_at_checked(end).unwrap_or_default();
    let file = path.rsplit(['/', '\\']).next().unwrap_or_default();
    program(file, known, case);
    if !known && url.rest.len() > 1 {
        let (mut credential, mut brand) = (0_u8, false);
        let head = path.get(..names::floor_char(path, 160)).unwrap_or_default();
        let is_letter = |at: Option<usize>| {
            at.and_then(|at| head.as_bytes().get(at)).is_some_and(u8::is_ascii_alphanumeric)
        };
        for (word, range) in names.words(head) {
            let inside = is_letter(range.start.checked_sub(1)) || is_letter(Some(range.end));
            match word {
                _ if inside => {}
                Word::Credential => credential = credential.saturating_add(1),
                Word::Brand => brand |= range.len() > 4,
            }
        }
        match credential {
            0 => {}
            1 if !case.has("ip_host") => case.add("credential_path", 0.1),
            _ => case.add("credential_path", if case.has("ip_host") { 0.25 } else { 0.2 }),
        }
        if brand && credential > 0 {
            case.add("brand_path", 0.2);
        }
    }
    if url.rest.len() > 300 && !known {
        case.add("long", 0.05);
    }
    if !case.has("redirect") {
        redirect(names, query, case);
    }
}

/// A file that runs, perhaps one that hides it.
fn program(file: &str, known: bool, case: &mut Case) {
    let decoded;
    let mut file = file;
    if file.contains('%') {
        decoded = undo_percent(file);
        file = &decoded;
    }
    let Some((stem, ending)) = file.trim_end().rsplit_once('.').filter(|(_, ending)| ending.len() <= 4)
    else {
        return;
    };
    let runs = PROGRAMS.iter().any(|program| program.eq_ignore_ascii_case(ending));
    let script = ending.eq_ignore_ascii_case("js");
    if !runs && !script {
        return;
    }
    let inner = stem.trim_end().rsplit_once('.').map_or("", |(_, inner)| inner.trim_end_matches([' ', '_']));
    let text = matches!(inner, "html" | "txt" | "csv");
    if DOCUMENTS.iter().any(|document| document.eq_ignore_ascii_case(inner)) && !(script && text) {
        case.add("double_extension", 0.7);
    } else if runs && !known {
        case.add("program", if case.has("ip_host") { 0.25 } else { 0.15 });
    }
}

/// A whole URL as a parameter; what speaks against that one speaks against this.
fn redirect(names: &Names, query: &str, case: &mut Case) {
    if query.len() < 8 {
        return;
    }
    let Some(at) = query.find("=http").or_else(|| query.find("=//")).or_else(|| query.find("=%2F%2F")) else {
        return;
    };
    let target = query.get(at + 1..).and_then(|rest| rest.split('&').next()).unwrap_or_default();
    let target = undo_percent(target);
    case.add("redirect", 0.05);
    if let Some(inner) = Url::parse(&target, false) {
        let mut inside = Case::default();
        inside.add("redirect", 0.0);
        weigh(names, None, &inner, &target, None, &mut inside);
        if inside.score() > 0.5 {
            case.add("redirect_target", 0.55);
        }
    }
}
