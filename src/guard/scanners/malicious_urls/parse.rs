//! What a URL means to a browser (the URL Standard's parser, as far as the host is concerned).
//!
//! Entities, percent signs, tabs, backslashes, full-width letters and the ways to write an IPv4 address are
//! undone; so is "defanging" (`hxxp`, `[.]`). Never fails on odd input: what has no host is no URL. Linear,
//! a few short strings.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use memchr::{memchr, memchr2, memchr3};

/// What a target may turn out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// It has a host or does something.
    Absolute,
    /// It stays on its site, or is no URL.
    Relative,
    /// More of it must be seen.
    Unfinished,
}

/// Kinds of URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// It has a host.
    Web,
    /// `javascript:` and `vbscript:`.
    Script,
    /// `data:`.
    Data,
    /// `file:`.
    File,
}

/// The host of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A name, in lower case and Punycode.
    Name(String),
    /// An address; `plain`: written as four decimal numbers.
    V4 { address: u32, plain: bool },
    /// An address.
    V6(Ipv6Addr),
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    /// What stands before the `@`.
    pub(super) user: Option<String>,
    pub(super) host: Host,
    /// The host's name in Unicode, where that is another one.
    pub(super) unicode: Option<String>,
    pub(super) port: Option<u16>,
    /// Path, query and fragment; of an action all behind the colon.
    pub(super) rest: String,
    /// The host was written with percent signs.
    pub(super) encoded_host: bool,
    /// The name is no valid internationalised one.
    pub(super) invalid_name: bool,
}

/// Schemes by kind; the opening of a target is compared with these.
const KNOWN: [(&str, Scheme); 11] = [
    ("http", Scheme::Web),
    ("https", Scheme::Web),
    ("ftp", Scheme::Web),
    ("ftps", Scheme::Web),
    ("hxxp", Scheme::Web),
    ("hxxps", Scheme::Web),
    ("fxp", Scheme::Web),
    ("javascript", Scheme::Script),
    ("vbscript", Scheme::Script),
    ("data", Scheme::Data),
    ("file", Scheme::File),
];

/// Entities that occur in URLs.
const ENTITIES: [(&str, char); 24] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("colon", ':'),
    ("sol", '/'),
    ("bsol", '\\'),
    ("period", '.'),
    ("commat", '@'),
    ("num", '#'),
    ("quest", '?'),
    ("equals", '='),
    ("lpar", '('),
    ("rpar", ')'),
    ("percnt", '%'),
    ("lowbar", '_'),
    ("hyphen", '-'),
    ("dash", '-'),
    ("nbsp", ' '),
    ("semi", ';'),
    ("shy", '\u{ad}'),
];

/// How the target that begins with `head` opens; `whole`: nothing more of it will be looked at.
/// `multiline`: it may have tabs and line breaks, which browsers drop.
pub(super) fn opening(head: &str, multiline: bool, whole: bool) -> Opening {
    let mut known = head;
    if !whole {
        // An entity that is not over yet.
        let pending = head
            .rfind('&')
            .filter(|at| head.len() - at <= 10 && !head.get(*at..).is_some_and(|tail| tail.contains(';')));
        known = pending.and_then(|at| head.get(..at)).unwrap_or(head);
    }
    let mut scheme = String::new();
    let mut slashes = 0;
    let mut rest = known;
    while let Some(first) = rest.chars().next() {
        let written = if first == '&' { entity(rest.get(1..).unwrap_or_default()) } else { None };
        let (char, length) = written.map_or((first, first.len_utf8()), |(char, length)| (char, length + 1));
        rest = rest.get(length..).unwrap_or_default();
        match char {
            '/' | '\\' if scheme.is_empty() => {
                slashes += 1;
                if slashes == 2 {
                    return Opening::Absolute;
                }
            }
            '\t' | '\n' | '\r' if multiline || written.is_some() => {}
            '\0'..=' ' if scheme.is_empty() && slashes == 0 => {}
            '[' if kind(&scheme).is_some() => {}
            ':' => return if kind(&scheme).is_some() { Opening::Absolute } else { Opening::Relative },
            _ if slashes == 0 && char.is_ascii_alphabetic() => {
                scheme.push(char.to_ascii_lowercase());
                if !KNOWN.iter().any(|(name, _)| name.starts_with(&scheme)) {
                    return Opening::Relative;
                }
            }
            _ => return Opening::Relative,
        }
    }
    if whole { Opening::Relative } else { Opening::Unfinished }
}

fn kind(scheme: &str) -> Option<Scheme> {
    KNOWN.iter().find(|(name, _)| *name == scheme).map(|(_, kind)| *kind)
}

/// `text` with its entities replaced.
fn undo_entities(text: &str) -> Cow<'_, str> {
    if memchr(b'&', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        out.push_str(before);
        match entity(behind) {
            Some((char, length)) => {
                out.push(char);
                rest = behind.get(length..).unwrap_or_default();
            }
            None => {
                out.push('&');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The entity at the start of `text`, which stands behind a `&`, and its length.
fn entity(text: &str) -> Option<(char, usize)> {
    let Some(number) = text.strip_prefix('#') else {
        let end = text.bytes().take(9).position(|byte| byte == b';')?;
        let name = text.get(..end)?;
        return ENTITIES.iter().find(|(known, _)| *known == name).map(|(_, char)| (*char, end + 1));
    };
    let hex = number.starts_with(['x', 'X']);
    let digits = if hex { number.get(1..)? } else { number };
    let radix = if hex { 16 } else { 10 };
    let length = digits.chars().take(9).take_while(|char| char.is_digit(radix)).count();
    let char = char::from_u32(u32::from_str_radix(digits.get(..length)?, radix).ok()?)?;
    let closed = digits.as_bytes().get(length) == Some(&b';');
    Some((char, 1 + usize::from(hex) + length + usize::from(closed)))
}

impl Url {
    /// What `raw` means; `link`: it is the target of a link, so that actions count.
    pub(super) fn parse(raw: &str, link: bool) -> Option<Self> {
        let text = undo_entities(raw.trim());
        let text = if memchr3(b'\t', b'\n', b'\r', text.as_bytes()).is_some() {
            Cow::Owned(text.trim().replace(['\t', '\n', '\r'], ""))
        } else {
            text
        };
        let text = refanged(&text);
        let text = text.trim_start_matches(|char: char| char <= ' ');
        let name_end = text.bytes().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
        let (name, behind) = text.split_at_checked(name_end)?;
        let mut scheme = Scheme::Web;
        let mut body = text;
        if let Some(after) = behind.strip_prefix(':')
            && let Some((_, known)) = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            (scheme, body) = (*known, after);
        }
        match scheme {
            Scheme::Script | Scheme::Data if link => Some(Self::action(scheme, body)),
            Scheme::Script | Scheme::Data => None,
            Scheme::File if link => Self::file(body),
            Scheme::File => None,
            Scheme::Web => Self::web(body.trim_start_matches(['/', '\\'])),
        }
    }

    fn action(scheme: Scheme, body: &str) -> Self {
        Self {
            scheme,
            user: None,
            host: Host::Name(String::new()),
            unicode: None,
            port: None,
            rest: body.to_owned(),
            encoded_host: false,
            invalid_name: false,
        }
    }

    /// `file:` with the host of a share, if it has one.
    fn file(body: &str) -> Option<Self> {
        let slashes = body.bytes().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
        let mut url = Self::action(Scheme::File, body);
        if (slashes == 2 || slashes > 3)
            && let Some(web) = Self::web(body.get(slashes..)?)
        {
            url.host = web.host;
        }
        Some(url)
    }

    /// `body`: what stands behind the slashes.
    fn web(body: &str) -> Option<Self> {
        let is_end = |byte| matches!(byte, b'/' | b'\\' | b'?' | b'#');
        let end = body.bytes().position(is_end).unwrap_or(body.len());
        let (authority, rest) = body.split_at_checked(end)?;
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, authority),
        };
        let (name, port) = split_port(place);
        let mut url = Self::action(Scheme::Web, rest);
        url.user = user;
        url.port = port;
        if let Some(address) = name.strip_prefix('[') {
            let address = address.split([']', '%']).next().unwrap_or_default();
            url.host = Host::V6(address.parse().ok()?);
            return Some(url);
        }
        let mut name = Cow::Borrowed(name);
        if memchr(b'%', name.as_bytes()).is_some() {
            name = Cow::Owned(undo_percent(&name));
            url.encoded_host = true;
        }
        url.set_name(&name)?;
        Some(url)
    }

    /// Sets the host by its name as it was written.
    fn set_name(&mut self, name: &str) -> Option<()> {
        let mut ascii = if name.is_ascii() {
            name.to_ascii_lowercase()
        } else {
            let name = name.trim_end_matches(super::names::is_invisible);
            idna::domain_to_ascii(name).unwrap_or_else(|_| {
                self.invalid_name = true;
                name.chars().filter(|char| !super::names::is_invisible(*char)).collect()
            })
        };
        if ascii.ends_with('.') {
            ascii.pop();
        }
        if !self.invalid_name {
            let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            let length = ascii.bytes().take_while(|byte| valid(byte)).count();
            ascii.truncate(length);
        }
        if ascii.is_empty() || ascii.starts_with('.') || ascii.len() > 253 || ascii.contains("..") {
            return None;
        }
        let dot = ascii.bytes().rposition(|byte| byte == b'.').map_or(0, |dot| dot + 1);
        let last = ascii.get(dot..).unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            let (address, plain) = ipv4(&ascii)?;
            self.host = Host::V4 { address, plain };
            return Some(());
        }
        if ascii.contains("xn--") {
            let (unicode, outcome) = idna::domain_to_unicode(&ascii);
            self.invalid_name |= outcome.is_err();
            self.unicode = Some(unicode);
        } else if self.invalid_name {
            self.unicode = Some(ascii.to_lowercase());
        }
        self.host = Host::Name(ascii);
        Some(())
    }

    /// The host as operators may read it: nothing to click on.
    pub(super) fn defanged_host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.replace('.', "[.]"),
            Host::V4 { address, .. } => std::net::Ipv4Addr::from(*address).to_string().replace('.', "[.]"),
            Host::V6(address) => address.to_string().replace(':', "[:]"),
        }
    }
}

/// `text` without the marks that keep a URL from being clicked.
fn refanged(text: &str) -> Cow<'_, str> {
    let head = text.get(..super::names::floor_char(text, 300)).unwrap_or_default();
    if memchr2(b'[', b'(', head.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = text.to_owned();
    for (form, plain) in [
        ("[:]", ":"),
        ("[://]", "://"),
        ("[.]", "."),
        ("(.)", "."),
        ("[dot]", "."),
        ("(dot)", "."),
        ("[DOT]", "."),
    ] {
        if out.contains(form) {
            out = out.replace(form, plain);
        }
    }
    Cow::Owned(out)
}

/// Host and port.
fn split_port(place: &str) -> (&str, Option<u16>) {
    if let Some((address, port)) = place.rsplit_once(']') {
        return (address, port.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match place.split_once(':') {
        Some((name, port)) => {
            let digits = port.bytes().take_while(u8::is_ascii_digit).count();
            (name, port.get(..digits).and_then(|port| port.parse().ok()))
        }
        None => (place, None),
    }
}

/// `text` with percent signs undone.
pub(super) fn undo_percent(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let digit = |at: usize| behind.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (byte, digit(0), digit(1)) {
            out.extend(u8::try_from(high * 16 + low));
            rest = behind.get(2..).unwrap_or_default();
        } else {
            out.push(*byte);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An IPv4 address as the URL Standard reads it: one to four numbers, decimal, octal or hexadecimal.
fn ipv4(text: &str) -> Option<(u32, bool)> {
    let count = text.split('.').count();
    let mut plain = count == 4;
    let mut address = 0_u64;
    for (index, part) in text.split('.').enumerate() {
        let (digits, radix) = match part.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None if part.len() > 1 && part.starts_with('0') => (part, 8),
            None => (part, 10),
        };
        plain &= radix == 10;
        let number = if digits.is_empty() { 0 } else { u64::from_str_radix(digits, radix).ok()? };
        let last = index + 1 == count;
        let bytes = if last { 4_usize.checked_sub(index)? } else { 1 };
        if number >= 1 << (8 * bytes) {
            return None;
        }
        address = address << (8 * bytes) | number;
    }
    Some((u32::try_from(address).ok()?, plain))
}
