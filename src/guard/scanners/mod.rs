//! One file a scanner.

pub mod ban_substrings;
pub mod malicious_urls;
pub mod no_code;
pub mod no_refusal;
pub mod prompt_injection;
pub mod secrets;
pub mod token_limit;
pub mod toxicity;
