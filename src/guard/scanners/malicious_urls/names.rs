//! What is known of names of hosts: suffixes, brands, services, letters that look alike.
//!
//! The lists beside this file are general knowledge, read once into [`Names`]. Looking a host up costs a
//! few hashes a label; nothing here grows with the text.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use unicode_normalization::UnicodeNormalization;

/// FNV-1a: the tables are fixed, so nobody can choose keys that collide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// For keys that are hashes already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// A table by text.
pub(super) type Table<K, V> = HashMap<K, V, BuildHasherDefault<Fnv>>;
/// A set of text.
pub(super) type Set<K> = HashSet<K, BuildHasherDefault<Fnv>>;

/// Top-level domains that a host in plain text may have without a path.
const TLDS: [&str; 72] = [
    "ae", "ai", "app", "ar", "au", "biz", "br", "ca", "cc", "cf", "ch", "click", "club", "cn", "co", "com",
    "cz", "de", "dev", "dk", "edu", "es", "eu", "fi", "fr", "ga", "gov", "gq", "hk", "icu", "info", "io",
    "ir", "jp", "ke", "kr", "link", "live", "mil", "ml", "mx", "net", "ng", "nl", "online", "org", "pl",
    "pro", "pw", "ro", "ru", "se", "sg", "shop", "site", "store", "su", "tech", "tk", "top", "tr", "tv",
    "tw", "ua", "uk", "us", "vip", "vn", "ws", "xyz", "zip", "рф",
];

/// Endings of files that are also top-level domains.
const FILE_TLDS: [&str; 16] =
    ["cc", "gz", "js", "md", "mk", "mm", "pl", "pm", "ps", "py", "rb", "rs", "sh", "so", "ts", "zip"];

/// Top-level domains where attackers register most, by the reports of registries and blocklists.
const ABUSED: [&str; 50] = [
    "accountant",
    "autos",
    "beauty",
    "bid",
    "boats",
    "bond",
    "buzz",
    "cam",
    "cf",
    "cfd",
    "click",
    "country",
    "cricket",
    "cyou",
    "date",
    "download",
    "faith",
    "ga",
    "gdn",
    "gq",
    "hair",
    "icu",
    "kim",
    "link",
    "loan",
    "lol",
    "makeup",
    "men",
    "ml",
    "mom",
    "monster",
    "party",
    "pw",
    "quest",
    "racing",
    "rest",
    "review",
    "sbs",
    "science",
    "skin",
    "stream",
    "su",
    "surf",
    "tk",
    "top",
    "trade",
    "win",
    "work",
    "xyz",
    "zip",
];

/// Words of pages that ask for credentials.
pub(super) const CREDENTIAL: [&str; 56] = [
    "account",
    "accounts",
    "alert",
    "auth",
    "authenticate",
    "authentication",
    "authorize",
    "bank",
    "banking",
    "billing",
    "bonus",
    "claim",
    "client",
    "clients",
    "confirm",
    "confirmation",
    "connexion",
    "customer",
    "giveaway",
    "identity",
    "invoice",
    "limited",
    "login",
    "logon",
    "mail",
    "notice",
    "official",
    "online",
    "pay",
    "payment",
    "password",
    "passwort",
    "prize",
    "protect",
    "recover",
    "recovery",
    "refund",
    "reset",
    "resolution",
    "restore",
    "reward",
    "secure",
    "secured",
    "security",
    "service",
    "services",
    "signin",
    "support",
    "suspended",
    "unlock",
    "update",
    "validate",
    "validation",
    "verification",
    "verify",
    "wallet",
];

/// Shorter ones, which count only when they are stuck to a brand.
const GLUE: [&str; 14] =
    ["app", "center", "com", "free", "gift", "help", "id", "info", "my", "net", "team", "us", "web", "www"];

/// Second labels under which countries let people register.
const SECOND: [&str; 9] = ["com", "co", "net", "org", "edu", "gov", "ac", "gob", "or"];

/// What a service does for strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Hosts pages of developers.
    Developer,
    /// Hosts pages.
    Free,
    /// Names addresses that change.
    Dynamic,
    /// Hides addresses.
    Shortener,
}

/// A brand.
#[derive(Debug, Clone)]
pub(super) struct Brand {
    /// Also an ordinary word.
    pub(super) word: bool,
    /// Where it is at home.
    pub(super) domains: Vec<&'static str>,
}

/// All tables.
#[derive(Debug, Default)]
pub(super) struct Names {
    suffixes: Set<&'static str>,
    services: Table<&'static str, Service>,
    pub(super) brands: Table<&'static str, Brand>,
    /// Domains of brands and popular ones.
    known: Set<&'static str>,
    /// Names by how they look.
    looks: Table<String, &'static str>,
    /// Popular names by the hash of what is left of them without one letter, and by their own.
    near: HashMap<u64, Vec<&'static str>, BuildHasherDefault<Mixed>>,
    credential: Set<&'static str>,
    /// Finds words of credentials, which come first, and brands.
    words: Option<AhoCorasick>,
}

/// A word of credentials or a brand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Of pages that ask for credentials.
    Credential,
    /// A brand's.
    Brand,
}

/// A host's name, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    /// What stands before the registrable domain, without the dot.
    pub(super) sub: &'a str,
    /// What somebody registered.
    pub(super) domain: &'a str,
    /// Its first label.
    pub(super) label: &'a str,
    /// What stands behind that.
    pub(super) suffix: &'a str,
    /// Who hosts it.
    pub(super) service: Option<Service>,
}

fn lines(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

impl Names {
    /// Reads the lists.
    pub(super) fn new() -> Self {
        let mut names = Self::default();
        names.suffixes.extend(lines(include_str!("suffixes.txt")).flat_map(str::split_whitespace));
        for line in lines(include_str!("hosts.txt")) {
            let mut words = line.split_whitespace();
            let service = match words.next() {
                Some("dev") => Service::Developer,
                Some("free") => Service::Free,
                Some("dyn") => Service::Dynamic,
                _ => Service::Shortener,
            };
            names.services.extend(words.map(|host| (host, service)));
        }
        for line in lines(include_str!("brands.txt")) {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let brand = Brand { word: name.starts_with('~'), domains: words.collect() };
            names.known.extend(brand.domains.iter().copied());
            names.brands.insert(name.trim_start_matches('~'), brand);
        }
        names.known.extend(lines(include_str!("popular.txt")).flat_map(str::split_whitespace));
        names.credential.extend(CREDENTIAL);
        let mut words: Vec<&str> = CREDENTIAL.to_vec();
        words.extend(names.brands.keys());
        words.get_mut(CREDENTIAL.len()..).unwrap_or_default().sort_unstable();
        names.words = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::DFA))
            .ascii_case_insensitive(true)
            .build(words)
            .ok();
        names.read_looks();
        names
    }

    /// Fills the tables of names that others are like.
    fn read_looks(&mut self) {
        let brands = self.brands.iter().filter(|(_, brand)| !brand.word).map(|(name, _)| *name);
        let labels = self.known.iter().map(|domain| domain.split('.').next().unwrap_or(domain));
        let mut all: Vec<&str> = brands.chain(labels).collect();
        all.sort_unstable();
        all.dedup();
        for name in all {
            if name.len() >= 5 {
                self.looks.insert(skeleton(name), name);
            }
            if (6..=20).contains(&name.len()) {
                each_nearly(name, |hash| {
                    self.near.entry(hash).or_default().push(name);
                    None::<()>
                });
            }
        }
    }

    /// Words of credentials and brands in `text`, with their ranges, wherever they stand.
    pub(super) fn words<'a>(
        &'a self,
        text: &'a str,
    ) -> impl Iterator<Item = (Word, std::ops::Range<usize>)> + 'a {
        self.words.iter().flat_map(move |words| words.find_iter(text)).map(|hit| {
            let brand = hit.pattern().as_usize() >= CREDENTIAL.len();
            (if brand { Word::Brand } else { Word::Credential }, hit.range())
        })
    }

    /// Whether `domain` belongs to a brand or is popular.
    pub(super) fn is_known(&self, domain: &str) -> bool {
        self.known.contains(domain)
    }

    /// Whether `word` belongs to pages that ask for credentials.
    pub(super) fn is_credential(&self, word: &str) -> bool {
        self.credential.contains(word)
    }

    /// `host` by its registrable domain.
    pub(super) fn parts<'a>(&self, host: &'a str) -> Parts<'a> {
        let mut starts = [0_usize; 4];
        let mut count = 0;
        for (at, _) in host.bytes().enumerate().rev().filter(|(_, byte)| *byte == b'.').take(4) {
            if let Some(start) = starts.get_mut(count) {
                *start = at + 1;
            }
            count += 1;
        }
        let tail = |labels: usize| {
            let start = labels.checked_sub(1).and_then(|index| starts.get(index)).filter(|_| labels <= count);
            host.get(start.copied().unwrap_or(0)..).unwrap_or_default()
        };
        let mut suffix = 1;
        let mut service = None;
        let country = tail(1).len() == 2 && count >= 1;
        let second = if country { tail(2).split('.').next().unwrap_or_default() } else { "" };
        if SECOND.contains(&second) || country && self.suffixes.contains(tail(2)) {
            suffix = 2;
        }
        for labels in 2..=4.min(count + 1) {
            if let Some(found) = self.services.get(tail(labels)) {
                service = Some(*found);
                suffix = if *found == Service::Shortener { labels - 1 } else { labels };
            }
        }
        let suffix = suffix.min(count);
        let domain = tail(suffix + 1);
        let label = domain.split('.').next().unwrap_or(domain);
        let sub = host.strip_suffix(domain).unwrap_or_default().trim_end_matches('.');
        let behind = domain.get(label.len() + 1..).unwrap_or_default();
        Parts { sub, domain, label, suffix: behind, service }
    }

    /// A well-known name that `label` looks like without being it.
    pub(super) fn looks_like(&self, label: &str) -> Option<&'static str> {
        if label.chars().count() < 5 {
            return None;
        }
        self.looks.get(&skeleton(label)).copied().filter(|name| *name != label)
    }

    /// A well-known name that is one typing error away from `label`.
    pub(super) fn misspells(&self, label: &str) -> Option<&'static str> {
        if !(5..=21).contains(&label.len()) || !label.is_ascii() {
            return None;
        }
        each_nearly(label, |hash| {
            let names = self.near.get(&hash)?;
            names.iter().copied().find(|name| *name != label && one_error(label, name))
        })
    }

    /// A brand in `word`, and whether words of credentials are stuck to it.
    pub(super) fn brand_in<'a>(&self, word: &'a str) -> Option<(&'a str, bool)> {
        if word.len() < 3 {
            return None;
        }
        if self.brands.contains_key(word) {
            return Some((word, false));
        }
        let mut rest = word;
        while rest.len() > 5 {
            let is_brand = |bare: &&str| {
                bare.len() >= 4 && self.brands.get(*bare).is_some_and(|brand| !brand.word || bare.len() > 4)
            };
            if let Some(bare) = stripped(rest).find(is_brand) {
                return Some((bare, true));
            }
            rest = stripped(rest).next()?;
        }
        None
    }
}

/// `word` without a word of credentials, or a number, at one of its ends: each way to do so.
fn stripped(word: &str) -> impl Iterator<Item = &str> {
    let bare = word.trim_matches(|char: char| char.is_ascii_digit());
    let words = CREDENTIAL.iter().chain(&GLUE);
    let without = words.flat_map(move |end| [word.strip_suffix(end), word.strip_prefix(end)]).flatten();
    (bare.len() < word.len()).then_some(bare).into_iter().chain(without).filter(|bare| bare.len() > 2)
}

/// Whether the top-level domain is one where attackers register most.
pub(super) fn is_abused(suffix: &str) -> bool {
    ABUSED.binary_search(&suffix.rsplit('.').next().unwrap_or(suffix)).is_ok()
}

/// Whether a host that stands in plain text without a scheme is one. `more`: a path follows, `letter`: that
/// begins with a letter; `www`: it says so.
pub(super) fn is_bare_host(host: &str, more: bool, letter: bool, www: bool) -> bool {
    if host.len() > 253 {
        return false;
    }
    let last = host.rsplit(['.', '。', '．', '｡', ']', ')']).next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        let numbers = host.split('.').filter(|part| part.parse::<u8>().is_ok()).count();
        return more && letter && numbers == 4 && host.split('.').count() == 4;
    }
    if www {
        return last.chars().count() >= 2;
    }
    let Some(tld) = lower(last) else { return last == "рф" };
    if TLDS.binary_search(&tld.as_str()).is_ok() {
        return !FILE_TLDS.contains(&tld.as_str()) || more;
    }
    more && tld.len() == 2 && !FILE_TLDS.contains(&tld.as_str())
        || more && is_abused(&tld)
        || tld.starts_with("xn--")
}

/// A label of ASCII in lower case.
fn lower(label: &str) -> Option<String> {
    let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (plain && (2..=24).contains(&label.len())).then(|| label.to_ascii_lowercase())
}

/// The last border of characters at or before `at`.
pub(super) fn floor_char(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

/// Characters that are not seen.
pub(super) fn is_invisible(char: char) -> bool {
    matches!(u32::from(char),
        0xad | 0x34f | 0x61c | 0x180b..=0x180f | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f
        | 0xfe00..=0xfe0f | 0xfeff | 0xe0000..=0xe01ef)
}

/// Marks that belong to the letter before them.
pub(super) fn is_mark(char: char) -> bool {
    unicode_normalization::char::is_combining_mark(char)
}

/// Letters of scripts that put spaces between words, or that stand for Latin ones.
pub(super) fn is_alphabet(char: char) -> bool {
    matches!(u32::from(char),
        0..=0x58f | 0x10a0..=0x10ff | 0x13a0..=0x13ff | 0x1d00..=0x1fff | 0x2070..=0x2189 | 0x2460..=0x24ff
        | 0x2c60..=0x2dff | 0xa640..=0xa7ff | 0xab30..=0xabbf | 0xfb00..=0xfb06 | 0xff10..=0xff5a
        | 0x1d400..=0x1d7ff)
}

/// The Latin letter that `char` of another script looks like.
pub(super) fn latin_twin(char: char) -> Option<char> {
    Some(match char {
        'а' | 'ɑ' | 'α' | 'ά' => 'a',
        'ь' | 'Ь' | 'ƅ' | 'Ꮟ' => 'b',
        'с' | 'ϲ' | 'ᴄ' => 'c',
        'ԁ' | 'ɗ' | 'ժ' => 'd',
        'е' | 'ё' | 'ҽ' | 'є' | 'ε' => 'e',
        'ғ' => 'f',
        'ɡ' | 'ց' | 'ɢ' => 'g',
        'һ' | 'հ' | 'ḥ' => 'h',
        'і' | 'ї' | 'ı' | 'ι' | 'ɩ' | 'ӏ' | 'ɪ' => 'i',
        'ј' | 'ϳ' => 'j',
        'к' | 'κ' | 'ĸ' => 'k',
        'ⅼ' | 'ǀ' => 'l',
        'м' | 'ｍ' => 'm',
        'ո' | 'ռ' | 'п' | 'η' | 'ɴ' => 'n',
        'о' | 'ο' | 'օ' | 'σ' | 'ө' => 'o',
        'р' | 'ρ' | 'ϱ' => 'p',
        'ԛ' | 'գ' => 'q',
        'г' | 'ᴦ' | 'ʀ' => 'r',
        'ѕ' | 'ʂ' => 's',
        'т' | 'τ' | 'ť' => 't',
        'υ' | 'ս' | 'ʋ' => 'u',
        'ν' | 'ѵ' => 'v',
        'ԝ' | 'ա' | 'ω' | 'ѡ' => 'w',
        'х' | 'χ' | 'ҳ' => 'x',
        'у' | 'γ' | 'ү' | 'ʏ' => 'y',
        'ᴢ' | 'ʐ' => 'z',
        _ => return None,
    })
}

/// How a label looks: twins, digits and pairs of letters that read as another one become one form.
pub(super) fn skeleton(label: &str) -> String {
    let mut out = String::with_capacity(label.len());
    let mut push = |char: char| {
        let before = out.chars().next_back();
        let (pops, char) = match (before, char) {
            (Some('r'), 'n') => (true, 'm'),
            (Some('v'), 'v') => (true, 'w'),
            (_, '0') => (false, 'o'),
            (_, '1' | 'i' | '!' | '|') => (false, 'l'),
            (_, '3') => (false, 'e'),
            (_, '5' | '$') => (false, 's'),
            (_, '4') => (false, 'a'),
            (_, char) => (false, char),
        };
        if pops {
            out.pop();
        }
        out.push(char);
    };
    if label.is_ascii() {
        label.chars().for_each(push);
        return out;
    }
    for char in label.chars().flat_map(char::to_lowercase).map(|char| latin_twin(char).unwrap_or(char)).nfd()
    {
        if !is_mark(char) && !is_invisible(char) {
            push(latin_twin(char).unwrap_or(char));
        }
    }
    out
}

/// Calls `with` for the hash of `name` and of `name` without each of its letters, until that finds
/// something. Linear: the hash is a polynomial, so that parts of it can be put together.
fn each_nearly<T>(name: &str, mut with: impl FnMut(u64) -> Option<T>) -> Option<T> {
    const BASE: u64 = 0x0001_0000_01b3;
    let whole = name.bytes().fold(1_u64, |hash, byte| hash.wrapping_mul(BASE).wrapping_add(u64::from(byte)));
    if let Some(found) = with(whole) {
        return Some(found);
    }
    // From the last letter to the first: `tail` is what the letters behind weigh.
    let (mut head, mut tail, mut power) = (whole, 0_u64, 1_u64);
    let inverse = BASE_INVERSE;
    for byte in name.bytes().rev() {
        head = head.wrapping_sub(u64::from(byte)).wrapping_mul(inverse);
        if let Some(found) = with(head.wrapping_mul(power).wrapping_add(tail)) {
            return Some(found);
        }
        tail = tail.wrapping_add(u64::from(byte).wrapping_mul(power));
        power = power.wrapping_mul(BASE);
    }
    None
}

/// What undoes a multiplication by the base of [`each_nearly`].
const BASE_INVERSE: u64 = inverse(0x0001_0000_01b3);

const fn inverse(odd: u64) -> u64 {
    // Newton: each step doubles the bits that are right.
    let mut found = odd;
    let mut step = 0;
    while step < 6 {
        found = found.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(found)));
        step += 1;
    }
    found
}

/// Whether one letter more, less, changed or swapped makes `a` of `b`.
fn one_error(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let room = a.len().min(b.len()) - head;
    let tail = a.iter().rev().zip(b.iter().rev()).take(room).take_while(|(x, y)| x == y).count();
    let (left, right) = (a.len() - head - tail, b.len() - head - tail);
    let swapped = || a.get(head) == b.get(head + 1) && a.get(head + 1) == b.get(head);
    matches!((left, right), (0 | 1, 0 | 1)) || (left == 2 && right == 2 && swapped())
}
