//! Scanners of what people ask and of what models answer.
//!
//! A [`Profile`] is what applies to a model: a [`chain::Chain`] of scanners a direction. A request's texts are read
//! whole by [`chain::Inspection`], an answer by [`window::Window`], which holds back what is not settled. All of it is
//! sans-io: the shard feeds it and decides when to take a turn.

pub mod chain;
pub mod language;
pub mod linear;
pub mod literal;
pub mod mask;
pub mod message;
pub mod recent;
pub mod scanners;
pub mod text;
pub mod tokens;
pub mod verdict;
pub mod window;

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::guard::{self, Language, MaliciousUrls, Messages, Role, Settings};
use chain::Chain;

/// The profiles of a configuration, ready to run; shared by all shards.
#[derive(Default)]
pub struct Guard {
    profiles: Vec<Option<Arc<Profile>>>,
}

/// What is scanned for some models.
pub struct Profile {
    /// Its name in the configuration.
    pub name: String,
    /// A sum of all that decides what it makes of a text.
    pub version: [u8; 32],
    /// Scanners of requests.
    pub input: Arc<Chain>,
    /// Scanners of answers.
    pub output: Arc<Chain>,
    roles: Vec<Role>,
    /// Which messages of these roles are read.
    pub messages: Messages,
    localized: bool,
    languages: Vec<Language>,
}

/// Settings that only their scanner can judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Where they stand in the file.
    pub path: String,
    /// What is wrong with them.
    pub message: String,
}

/// A profile's settings, the lists that they name, and this version of the scanners, as one sum.
fn version(profile: &guard::Profile) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    // Types of the configuration are always JSON.
    hash.update(serde_json::to_vec(profile).unwrap_or_default());
    for scanner in profile.input.scanners.iter().chain(&profile.output.scanners) {
        if let Settings::MaliciousUrls(MaliciousUrls { deny_list: Some(path), .. }) = &scanner.settings {
            hash.update(std::fs::read(path).unwrap_or_default());
        }
    }
    hash.finalize().into()
}

impl Guard {
    /// Builds every profile that is on; `now_ns` is a monotonic clock.
    ///
    /// # Errors
    /// All scanners whose settings cannot be.
    pub fn new(config: &guard::Guard, now_ns: fn() -> u64) -> Result<Self, Vec<Unfit>> {
        let mut unfit = Vec::new();
        let mut profiles = Vec::new();
        for (index, profile) in config.profiles.iter().enumerate() {
            if !profile.enabled {
                profiles.push(None);
                continue;
            }
            let at = if index == 0 { "guard".to_owned() } else { format!("guard.profiles.{}", profile.name) };
            let mut chain = |scanners, output: bool| {
                let direction = if output { "output" } else { "input" };
                Chain::new(scanners, output, now_ns).map_or_else(
                    |(name, message)| {
                        let path = format!("{at}.{direction}.scanner.{}", name.name());
                        unfit.push(Unfit { path, message });
                        None
                    },
                    |chain| Some(Arc::new(chain)),
                )
            };
            let (input, output) =
                (chain(&profile.input.scanners, false), chain(&profile.output.scanners, true));
            profiles.push(input.zip(output).map(|(input, output)| {
                Arc::new(Profile {
                    name: profile.name.clone(),
                    version: version(profile),
                    input,
                    output,
                    roles: profile.input.roles.clone(),
                    messages: profile.input.messages,
                    localized: profile.localized_errors,
                    languages: profile.languages.clone(),
                })
            }));
        }
        if unfit.is_empty() { Ok(Self { profiles }) } else { Err(unfit) }
    }

    /// The profile at `index` of the configuration; `None`: nothing is scanned.
    #[must_use]
    pub fn profile(&self, index: Option<usize>) -> Option<&Arc<Profile>> {
        self.profiles.get(index?)?.as_ref()
    }

    /// Whether anything is scanned for any model.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.profiles.iter().any(Option::is_some)
    }
}

impl Profile {
    /// Whether messages of `role` are read.
    #[must_use]
    pub fn reads(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The language to answer in where `text` is what the client wrote last.
    #[must_use]
    pub fn language(&self, text: &str) -> Language {
        if !self.localized {
            return Language::En;
        }
        Some(language::detect(text))
            .filter(|language| self.languages.contains(language))
            .unwrap_or(Language::En)
    }
}

/// The name of a failure that belongs to no scanner.
pub const WINDOW: &str = "window";

/// Names of scanners in a message, with what they found.
#[must_use]
pub fn reasons(findings: &[verdict::Finding]) -> Vec<(&'static str, &str)> {
    let mut reasons: Vec<(&'static str, &str)> = Vec::new();
    for finding in findings {
        if !reasons.iter().any(|(name, _)| *name == finding.scanner.name()) {
            reasons.push((finding.scanner.name(), finding.rule.as_ref()));
        }
    }
    reasons
}
