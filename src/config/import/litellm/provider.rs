//! LiteLLM's providers: which of them the gateway can speak to, and where they are.
//!
//! Source: LiteLLM's list of providers; what is OpenAI's API under another address is `openai` here.

use crate::config::Kind;

/// A provider that can be an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) kind: Kind,
    /// Where it is when nothing says so.
    pub(super) base: Option<&'static str>,
    /// The variable that holds its key when nothing says so.
    pub(super) key: Option<&'static str>,
}

const fn openai(base: Option<&'static str>, key: Option<&'static str>) -> Provider {
    Provider { kind: Kind::Openai, base, key }
}

const OLLAMA: Provider = Provider { kind: Kind::Ollama, base: Some("http://localhost:11434"), key: None };
const OPENAI: Provider = openai(Some("https://api.openai.com/v1"), Some("OPENAI_API_KEY"));
/// Servers of one's own.
const OWN: Provider = openai(None, None);

/// Prefixes of model names and values of `custom_llm_provider`.
const KNOWN: [(&str, Provider); 21] = [
    ("ollama", OLLAMA),
    ("ollama_chat", OLLAMA),
    ("openai", OPENAI),
    ("text-completion-openai", OPENAI),
    ("custom_openai", OWN),
    ("openai_like", OWN),
    ("hosted_vllm", OWN),
    ("vllm", OWN),
    ("llamafile", OWN),
    ("lm_studio", OWN),
    ("xinference", OWN),
    ("litellm_proxy", OWN),
    ("infinity", OWN),
    ("groq", openai(Some("https://api.groq.com/openai/v1"), Some("GROQ_API_KEY"))),
    ("mistral", openai(Some("https://api.mistral.ai/v1"), Some("MISTRAL_API_KEY"))),
    ("together_ai", openai(Some("https://api.together.xyz/v1"), Some("TOGETHERAI_API_KEY"))),
    ("openrouter", openai(Some("https://openrouter.ai/api/v1"), Some("OPENROUTER_API_KEY"))),
    ("fireworks_ai", openai(Some("https://api.fireworks.ai/inference/v1"), Some("FIREWORKS_AI_API_KEY"))),
    ("xai", openai(Some("https://api.x.ai/v1"), Some("XAI_API_KEY"))),
    ("nvidia_nim", openai(Some("https://integrate.api.nvidia.com/v1"), Some("NVIDIA_NIM_API_KEY"))),
    ("deepseek", openai(Some("https://api.deepseek.com/v1"), Some("DEEPSEEK_API_KEY"))),
];

/// A model's name without its provider, and the provider; `Err`: one that the gateway cannot speak to, by its name.
///
/// A name without a provider is OpenAI's, as in LiteLLM.
pub(super) fn split<'m>(model: &'m str, custom: Option<&str>) -> Result<(&'m str, Provider), String> {
    let find = |name: &str| KNOWN.iter().find(|(known, _)| *known == name).map(|(_, provider)| *provider);
    let (prefix, rest) = match model.split_once('/') {
        Some((prefix, rest)) => (Some(prefix), rest),
        None => (None, model),
    };
    match (custom, prefix) {
        (Some(custom), _) => {
            let provider = find(custom).ok_or_else(|| custom.to_owned())?;
            Ok((if prefix == Some(custom) { rest } else { model }, provider))
        }
        (None, Some(prefix)) => {
            find(prefix).map(|provider| (rest, provider)).ok_or_else(|| prefix.to_owned())
        }
        (None, None) => Ok((model, OPENAI)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_name_providers() {
        assert_eq!(split("ollama/llama3.2:3b", None), Ok(("llama3.2:3b", OLLAMA)));
        assert_eq!(split("openai/org/model", None), Ok(("org/model", OPENAI)));
        assert_eq!(split("gpt-4o", None), Ok(("gpt-4o", OPENAI)));
        assert_eq!(split("org/model", Some("hosted_vllm")), Ok(("org/model", OWN)));
        assert_eq!(split("ollama/x", Some("ollama")), Ok(("x", OLLAMA)));
        assert_eq!(split("bedrock/claude", None), Err("bedrock".to_owned()));
        assert_eq!(split("x", Some("azure")), Err("azure".to_owned()));
    }
}
