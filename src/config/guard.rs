//! `[guard]`: what is scanned, by which scanners, and what a finding does.
//!
//! Names of scanners and of their settings are LLM Guard's. A scanner has settings a direction: `[guard.scanner.X]`
//! sets both, `[guard.input.scanner.X]` and `[guard.output.scanner.X]` one.

use std::path::PathBuf;

use serde::Serialize;

/// A scanner's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ScannerName {
    /// Phrases of the operator.
    BanSubstrings,
    /// Attempts to take over the model.
    PromptInjection,
    /// Insults, threats, hate, obscenity.
    Toxicity,
    /// Credentials.
    Secrets,
    /// Length in tokens.
    TokenLimit,
    /// Links that attack.
    #[serde(rename = "MaliciousURLs")]
    MaliciousUrls,
    /// Answers that refuse.
    NoRefusal,
    /// Program code.
    NoCode,
}

impl ScannerName {
    /// All of them, in the order of their cost.
    pub const ALL: [Self; 8] = [
        Self::BanSubstrings,
        Self::TokenLimit,
        Self::MaliciousUrls,
        Self::NoRefusal,
        Self::Secrets,
        Self::PromptInjection,
        Self::Toxicity,
        Self::NoCode,
    ];

    /// As LLM Guard writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BanSubstrings => "BanSubstrings",
            Self::PromptInjection => "PromptInjection",
            Self::Toxicity => "Toxicity",
            Self::Secrets => "Secrets",
            Self::TokenLimit => "TokenLimit",
            Self::MaliciousUrls => "MaliciousURLs",
            Self::NoRefusal => "NoRefusal",
            Self::NoCode => "NoCode",
        }
    }
}

/// What a finding does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is counted and logged.
    Monitor,
    /// The finding's text is replaced.
    Redact,
    /// The exchange ends.
    Block,
}

/// What a scanner that fails means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// As if it had found something.
    Block,
    /// As if it had found nothing.
    Allow,
}

/// Languages that guard messages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "ISO 639-1 codes")]
pub enum Language {
    Zh,
    Vi,
    Ja,
    Ko,
    Ru,
    Ar,
    En,
}

/// How a phrase is looked for (LLM Guard's `match_type` of BanSubstrings).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhraseMatch {
    /// Anywhere.
    Str,
    /// Between word borders.
    Word,
}

/// How a classifier reads a text (LLM Guard's `match_type` of its models).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMatch {
    /// Overlapping windows of the whole text.
    Full,
    /// The same, and each sentence by itself.
    Sentence,
}

/// How far disguised spellings are undone before phrases are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// As LLM Guard does: case only.
    None,
    /// Compatibility forms, invisible characters, case folding.
    Unicode,
    /// Look-alike letters, leetspeak, spaced-out letters and encodings too.
    Strict,
}

/// How a secret is masked (LLM Guard's `redact_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RedactMode {
    /// `******`.
    All,
    /// First two and last two characters stay.
    Partial,
    /// The first 128 bits of its SHA-256 in hexadecimal.
    Hash,
}

/// Scores at and above which a text is a finding, a script.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Threshold {
    /// For every script that has none of its own, 0 to 1.
    pub base: f32,
    /// Own values in the order of [`Language`]; `None`: `base`.
    pub by_language: [Option<f32>; 7],
}

/// `BanSubstrings`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BanSubstrings {
    /// The phrases; `None`: the stock list of the direction.
    pub substrings: Option<Vec<String>>,
    /// Anywhere, or between word borders.
    pub match_type: PhraseMatch,
    /// Whether case counts.
    pub case_sensitive: bool,
    /// Whether all phrases must be there.
    pub contains_all: bool,
    /// Which disguises are undone.
    pub normalize: Normalize,
}

/// `PromptInjection`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromptInjection {
    /// Scores above it are findings.
    pub threshold: Threshold,
    /// How the text is read.
    pub match_type: TextMatch,
}

/// `Toxicity`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Toxicity {
    /// Scores above it are findings.
    pub threshold: Threshold,
    /// How the text is read.
    pub match_type: TextMatch,
}

/// `Secrets`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Secrets {
    /// How a secret is masked.
    pub redact_mode: RedactMode,
    /// Rules that are left out, by id.
    pub disabled_rules: Vec<String>,
}

/// `TokenLimit`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLimit {
    /// Tokens must be fewer.
    pub limit: usize,
    /// `cl100k_base`, `o200k_base`, or `bytes/N`.
    pub encoding_name: Encoding,
}

/// How tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Encoding {
    /// Exactly, GPT-3.5 and GPT-4.
    Cl100k,
    /// Exactly, GPT-4o and later.
    O200k,
    /// An estimate: a token per so many bytes.
    Bytes(f32),
}

/// `MaliciousURLs`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MaliciousUrls {
    /// Scores above it are findings.
    pub threshold: f32,
    /// Hosts, one a line, that are always findings, with their subdomains.
    pub deny_list: Option<PathBuf>,
    /// Hosts that never are, with their subdomains.
    pub allow: Vec<String>,
}

/// `NoRefusal`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NoRefusal {
    /// Scores above it are findings.
    pub threshold: Threshold,
}

/// `NoCode`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NoCode {
    /// Programming languages that count, by LLM Guard's names; empty: all.
    pub languages: Vec<String>,
    /// `true`: these are not allowed; `false`: only these are.
    pub is_blocked: bool,
    /// Scores at and above it are code.
    pub threshold: f32,
}

/// `[guard]` and its profiles.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guard {
    /// What applies where a model names no profile, then the named ones in the file's order.
    pub profiles: Vec<Profile>,
}

/// What is scanned for one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// `default`, or its name under `[guard.profiles]`.
    pub name: String,
    /// Whether anything is scanned.
    pub enabled: bool,
    /// Whether a client is told in the language of its request.
    pub localized_errors: bool,
    /// Languages that clients are told in; English stands in for the others.
    pub languages: Vec<Language>,
    /// What clients send.
    pub input: Input,
    /// What models answer.
    pub output: Output,
}

/// `[guard.input]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Input {
    /// In the order of their cost.
    pub scanners: Vec<Scanner>,
    /// Whose messages are read.
    pub roles: Vec<Role>,
    /// Which of these messages are read.
    pub messages: Messages,
}

/// `[guard.output]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// In the order of their cost.
    pub scanners: Vec<Scanner>,
}

/// Whose a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Who asks; also texts that belong to no message, and roles that nobody knows.
    User,
    /// `system` and `developer`.
    System,
    /// What the model said before.
    Assistant,
    /// Results of `tool` and `function`.
    Tool,
}

/// Which messages of a request are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Messages {
    /// All of the roles that are read.
    All,
    /// The last one, as LiteLLM's hook does.
    Last,
}

/// What a stream may do before a scanner has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamMode {
    /// Characters leave when no finding can touch them any more.
    HoldBack,
    /// Everything leaves at once; findings are counted and logged.
    Monitor,
}

/// One scanner of a direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scanner {
    /// What a finding does.
    pub action: Action,
    /// What its failure means.
    pub on_error: OnError,
    /// What a stream may do meanwhile; of no meaning for requests.
    pub stream: StreamMode,
    /// Its own settings.
    pub settings: Settings,
}

/// Settings of a scanner.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Settings {
    BanSubstrings(BanSubstrings),
    PromptInjection(PromptInjection),
    Toxicity(Toxicity),
    Secrets(Secrets),
    TokenLimit(TokenLimit),
    MaliciousUrls(MaliciousUrls),
    NoRefusal(NoRefusal),
    NoCode(NoCode),
}

impl Settings {
    /// Whose they are.
    #[must_use]
    pub fn name(&self) -> ScannerName {
        match self {
            Self::BanSubstrings(_) => ScannerName::BanSubstrings,
            Self::PromptInjection(_) => ScannerName::PromptInjection,
            Self::Toxicity(_) => ScannerName::Toxicity,
            Self::Secrets(_) => ScannerName::Secrets,
            Self::TokenLimit(_) => ScannerName::TokenLimit,
            Self::MaliciousUrls(_) => ScannerName::MaliciousUrls,
            Self::NoRefusal(_) => ScannerName::NoRefusal,
            Self::NoCode(_) => ScannerName::NoCode,
        }
    }
}

impl Threshold {
    /// The same for every script.
    #[must_use]
    pub const fn all(base: f32) -> Self {
        Self { base, by_language: [None; 7] }
    }

    /// The one for `language`.
    #[must_use]
    pub fn of(&self, language: Language) -> f32 {
        self.by_language.get(language as usize).copied().flatten().unwrap_or(self.base)
    }
}
