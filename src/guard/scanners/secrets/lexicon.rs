//! Words that take a suspicion back, as one automaton: a value or a name is read once, whatever their
//! number.

use aho_corasick::automaton::Automaton;
use aho_corasick::{Anchored, MatchKind, StartKind, dfa};

use super::names;

/// Where a word has to stand to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Anywhere in a value.
    Within,
    /// A value is nothing else.
    Whole,
    /// A value begins with it.
    Begin,
    /// Anywhere in a name.
    Name,
    /// Right behind the word that makes a name a secret's.
    Tail,
    /// Right before it.
    Head,
    /// A name begins with it.
    Asks,
    /// Anywhere in a value, even if a vendor's shape proves it.
    Sample,
}

/// The words and where they have to stand.
const WORDS: [(Place, &[&str]); 8] = [
    (
        Place::Within,
        // The value is made up.
        &[
            "your",
            "xxxx",
            "changeme",
            "change_me",
            "change-me",
            "change_this",
            "placeholder",
            "insert",
            "dummy",
            "redacted",
            "replace",
            "${",
            "{{",
            "}}",
            "%(",
            "...",
            "****",
            "…",
            "fixme",
            "enter_",
            "enter-",
            "not-real",
            "a-fake",
            "afakekey",
            "notapassword",
            "lorem",
            "foobar",
            "goes-here",
            "goes_here",
            "put_",
            "_here",
            "-here",
            "some_",
            "some-",
            "<",
            "#{",
            "$(",
            "####",
            "://",
            "::",
        ],
    ),
    (
        Place::Whole,
        // Words that stand where a password would.
        &[
            "password",
            "passwd",
            "passwort",
            "pass",
            "pwd",
            "passphrase",
            "passcode",
            "secret",
            "token",
            "key",
            "apikey",
            "api_key",
            "string",
            "str",
            "text",
            "bytes",
            "byte",
            "char",
            "varchar",
            "int",
            "integer",
            "number",
            "bool",
            "boolean",
            "true",
            "false",
            "null",
            "none",
            "nil",
            "undefined",
            "void",
            "empty",
            "default",
            "required",
            "optional",
            "hidden",
            "user",
            "username",
            "email",
            "name",
            "login",
            "value",
            "input",
            "object",
            "any",
            "unknown",
            "field",
            "type",
            "credentials",
            "credential",
            "bearer",
            "basic",
            "digest",
            "oauth",
            "oauth2",
            "header",
            "cookie",
            "session",
            "local",
            "remote",
            "new",
            "old",
            "current",
            "confirm",
            "invalid",
            "valid",
            "incorrect",
            "wrong",
            "forgot",
            "reset",
            "change",
            "private",
            "public",
            "this",
            "that",
            "self",
            "yes",
            "no",
            "on",
            "off",
            "date",
            "label",
            "function",
            "const",
            "file",
            "vault",
            "prompt",
            "env",
            "environment",
            "manual",
            "auto",
            "random",
            "generated",
            "encrypted",
            "hashed",
            "plain",
            "plaintext",
            "primary",
            "authorization",
            "authentication",
            "refresh",
            "access",
            "id_token",
            "jwt",
            "hash",
            "salt",
            "charfield",
            "stringfield",
            "passwordfield",
            "passwordinput",
            "textbox",
            "keyword",
            "identifier",
            "submit",
            "test_password",
        ],
    ),
    (
        Place::Begin,
        // The value points to a secret kept elsewhere, or is code.
        &[
            "os.environ",
            "process.env",
            "env.",
            "env(",
            "env[",
            "getenv",
            "std::env",
            "vault:",
            "secret:",
            "secrets.",
            "ssm:",
            "arn:",
            "op://",
            "keyring",
            "file:",
            "data.",
            "var.",
            "local.",
            "module.",
            "self.",
            "this.",
            "config.",
            "settings.",
            "options.",
            "params.",
            "props.",
            "args.",
            "request.",
            "req.",
            "ctx.",
            "http://",
            "https://",
            "./",
            "../",
            "~/",
            "new ",
            "function",
            "lambda",
            "async",
            "await",
            "return ",
            "str(",
            "sha256-",
            "sha384-",
            "sha512-",
            "sha1-",
            "sha256:",
            "sha512:",
            "md5:",
            "h1:",
            "data:",
            "ssh-rsa",
            "ssh-ed25519",
            "kms:",
            "enc[",
            "typing.",
            "import",
            "require(",
            "-----begin public",
            "-----begin certificate",
        ],
    ),
    (
        Place::Name,
        // Values of such names look random and are no secrets.
        &[
            "sha",
            "md5",
            "hash",
            "digest",
            "checksum",
            "commit",
            "revision",
            "etag",
            "integrity",
            "public",
            "fingerprint",
            "uuid",
            "guid",
            "request-id",
            "request_id",
            "trace",
            "nonce",
            "image",
            "version",
            "build",
            "merge",
            "resolved",
            "kid",
            "thumbprint",
            "pubkey",
            "pub_key",
            " h1",
            "authenticity",
            "credentialid",
        ],
    ),
    (
        Place::Sample,
        // Vendors' samples and alphabets recited.
        &["example", "0123456789abcdef", "abcdefghijklmno", "xxxxxxxx"],
    ),
    (Place::Tail, names::ABOUT),
    (Place::Head, names::NOT),
    (Place::Asks, names::ASKS),
];

/// The automaton.
#[derive(Debug)]
pub(super) struct Lexicon {
    automaton: dfa::DFA,
    places: Vec<Place>,
}

impl Lexicon {
    /// Of all words.
    pub(super) fn new() -> Result<Self, String> {
        let words = || WORDS.iter().flat_map(|(place, words)| words.iter().map(|word| (*place, *word)));
        let automaton = dfa::Builder::new()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .start_kind(StartKind::Unanchored)
            .build(words().map(|(_, word)| word))
            .map_err(|error| format!("lexicon: {error}"))?;
        Ok(Self { automaton, places: words().map(|(place, _)| place).collect() })
    }

    /// Whether `value` is made up, or points elsewhere.
    pub(super) fn refuses(&self, value: &[u8], quoted: bool) -> bool {
        self.any(value, |place, start, end| match place {
            Place::Within | Place::Sample => true,
            Place::Whole => start == 0 && end == value.len(),
            Place::Begin => start == 0 && (!quoted || end >= 4),
            Place::Name | Place::Tail | Place::Head | Place::Asks => false,
        })
    }

    /// Whether values of `name` look random and are no secrets.
    pub(super) fn harmless(&self, name: &[u8]) -> bool {
        self.any(name, |place, _, _| place == Place::Name)
    }

    /// Whether a name that goes on with `tail` is about a secret.
    pub(super) fn about(&self, tail: &[u8]) -> bool {
        self.any(tail, |place, start, _| place == Place::Tail && start == 0)
    }

    /// Whether a name that begins with `head` is not a secret's.
    pub(super) fn denies(&self, head: &[u8]) -> bool {
        self.any(head, |place, start, end| match place {
            Place::Head => end == head.len(),
            Place::Asks => start == 0,
            _ => false,
        })
    }

    /// Whether `secret` is a sample that a vendor prints, or an alphabet.
    pub(super) fn recited(&self, secret: &[u8]) -> bool {
        self.any(secret, |place, _, _| place == Place::Sample)
    }

    fn any(&self, text: &[u8], counts: impl Fn(Place, usize, usize) -> bool) -> bool {
        let Ok(mut state) = self.automaton.start_state(Anchored::No) else { return false };
        for (at, byte) in text.iter().enumerate() {
            state = self.automaton.next_state(Anchored::No, state, *byte);
            let matches = if self.automaton.is_match(state) { self.automaton.match_len(state) } else { 0 };
            for index in 0..matches {
                let pattern = self.automaton.match_pattern(state, index);
                let place = self.places.get(pattern.as_usize());
                let start = at + 1 - self.automaton.pattern_len(pattern);
                if place.is_some_and(|place| counts(*place, start, at + 1)) {
                    return true;
                }
            }
        }
        false
    }
}
