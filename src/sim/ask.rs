//! What a request asks for, whatever its dialect.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::texts::Texts;

/// The APIs that generate text or embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    CountTokens,
    /// `/api/chat`
    NativeChat,
    /// `/api/generate`
    NativeGenerate,
    /// `/api/embed`
    NativeEmbed,
    /// `/api/embeddings`
    NativeEmbeddings,
}

/// How errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    Native,
}

impl Api {
    /// The dialect it belongs to.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings | Self::Responses => Dialect::OpenAi,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            _ => Dialect::Native,
        }
    }

    /// Whether it answers with numbers.
    pub fn embeds(self) -> bool {
        matches!(self, Self::Embeddings | Self::NativeEmbed | Self::NativeEmbeddings)
    }
}

/// A request to a model.
#[derive(Debug, Default)]
pub struct Ask {
    /// As it was written.
    pub model: String,
    pub stream: bool,
    /// A stream of the OpenAI dialect ends with usage.
    pub include_usage: bool,
    pub choices: u32,
    /// Words of everything that was said.
    pub prompt_tokens: u64,
    /// What the user said last.
    pub last: String,
    /// The answer is a tool call.
    pub calls: bool,
    /// The answer is JSON.
    pub json: bool,
    /// Most tokens of the answer.
    pub limit: Option<usize>,
    /// The native dialect's `think`, if not false.
    pub think: bool,
    /// Nothing was said: load the model, or unload it.
    pub load_only: bool,
    pub keep_alive: Option<Duration>,
    /// What to embed.
    pub inputs: Vec<String>,
    pub dimensions: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    model: Option<String>,
    stream: Option<bool>,
    messages: Option<Vec<Message>>,
    prompt: Option<Texts>,
    input: Option<Texts>,
    system: Option<Texts>,
    instructions: Option<Texts>,
    stream_options: Option<StreamOptions>,
    n: Option<u32>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    max_output_tokens: Option<i64>,
    options: Option<Parameters>,
    tools: Option<Vec<IgnoredAny>>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
    format: Option<Value>,
    think: Option<Value>,
    keep_alive: Option<Value>,
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: Option<Texts>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Parameters {
    num_predict: Option<i64>,
}

impl Ask {
    /// Reads a body.
    ///
    /// # Errors
    /// What the 400 says.
    pub fn read(api: Api, body: &[u8]) -> Result<Self, String> {
        if body.is_empty() {
            return Err("missing request body".to_owned());
        }
        let mut raw: Raw = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let mut ask = Self { model: raw.model.take().unwrap_or_default(), ..Self::default() };
        if ask.model.is_empty() {
            return Err("model is required".to_owned());
        }
        ask.settings(api, &raw);
        let able = matches!(api, Api::Chat | Api::Responses | Api::Messages | Api::NativeChat);
        let tools = able && raw.tools.as_ref().is_some_and(|tools| !tools.is_empty());
        let required = match &raw.tool_choice {
            Some(Value::String(choice)) => choice == "required",
            Some(Value::Object(choice)) => choice.get("type").is_none_or(|kind| kind != "auto"),
            _ => false,
        };
        let refused = matches!(&raw.tool_choice, Some(Value::String(choice)) if choice == "none");
        ask.said(api, raw)?;
        ask.calls = tools && !refused && (required || ask.last.contains("weather"));
        Ok(ask)
    }

    /// What does not depend on the words.
    fn settings(&mut self, api: Api, raw: &Raw) {
        let native = matches!(api, Api::NativeChat | Api::NativeGenerate);
        self.stream = !api.embeds() && raw.stream.unwrap_or(native);
        self.include_usage = raw.stream_options.as_ref().and_then(|o| o.include_usage).unwrap_or(false);
        self.choices = match api {
            Api::Chat | Api::Completions => raw.n.unwrap_or(1).clamp(1, 128),
            _ => 1,
        };
        let limit = match api.dialect() {
            Dialect::Native => raw.options.as_ref().and_then(|options| options.num_predict),
            _ => raw.max_completion_tokens.or(raw.max_output_tokens).or(raw.max_tokens),
        };
        self.limit = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|&limit| limit > 0);
        self.json = match api {
            Api::Chat => {
                raw.response_format.as_ref().is_some_and(|f| f.get("type").is_some_and(|t| t != "text"))
            }
            _ if native => raw
                .format
                .as_ref()
                .is_some_and(|f| f.is_object() || f.as_str().is_some_and(|f| !f.is_empty())),
            _ => false,
        };
        self.think = !matches!(raw.think, Some(Value::Bool(false)))
            && matches!(api, Api::Chat | Api::Messages | Api::NativeChat | Api::NativeGenerate);
        self.keep_alive = raw.keep_alive.as_ref().and_then(keep_alive);
        self.dimensions = raw.dimensions;
    }

    /// The words.
    fn said(&mut self, api: Api, raw: Raw) -> Result<(), String> {
        for texts in [raw.system, raw.instructions].into_iter().flatten() {
            self.prompt_tokens += texts.items.iter().map(|text| words(text)).sum::<u64>();
        }
        match api {
            Api::Chat | Api::Messages | Api::CountTokens | Api::NativeChat => {
                let messages = raw.messages.unwrap_or_default();
                self.load_only = messages.is_empty() && api == Api::NativeChat;
                if messages.is_empty() && !self.load_only {
                    return Err("[] is too short - 'messages'".to_owned());
                }
                if api == Api::Messages && self.limit.is_none() {
                    return Err("max_tokens is required and must be positive".to_owned());
                }
                for message in messages {
                    let text = message.content.map(Texts::joined).unwrap_or_default();
                    self.prompt_tokens += words(&text);
                    if message.role == "user" {
                        self.last = text;
                    }
                }
            }
            Api::Completions | Api::NativeGenerate | Api::NativeEmbeddings => {
                let prompt = raw.prompt.unwrap_or_default();
                if prompt.numbers || (!prompt.items.is_empty() && !prompt.single) {
                    return Err(
                        "json: cannot unmarshal array into Go struct field .prompt of type string".to_owned()
                    );
                }
                self.last = prompt.joined();
                self.prompt_tokens += words(&self.last);
                self.load_only = self.last.is_empty() && api == Api::NativeGenerate;
                self.inputs.extend((api == Api::NativeEmbeddings).then(|| std::mem::take(&mut self.last)));
            }
            Api::Responses => {
                let mut input = raw.input.unwrap_or_default();
                self.prompt_tokens += input.items.iter().map(|text| words(text)).sum::<u64>();
                self.last = input.items.pop().ok_or("input is required")?;
            }
            Api::Embeddings | Api::NativeEmbed => {
                let input = raw.input.unwrap_or_default();
                if input.numbers {
                    return Err("invalid input type".to_owned());
                }
                if input.items.is_empty() && api == Api::Embeddings {
                    return Err("invalid input".to_owned());
                }
                self.prompt_tokens += input.items.iter().map(|text| words(text)).sum::<u64>();
                self.inputs = input.items;
            }
        }
        Ok(())
    }
}

/// Words of a text; a token of the simulation each.
pub fn words(text: &str) -> u64 {
    text.split_ascii_whitespace().count() as u64
}

/// A number of seconds or `5m`, `1h30m`, `300ms`; a negative one is for ever.
fn keep_alive(value: &Value) -> Option<Duration> {
    if let Some(seconds) = value.as_f64() {
        return Some(if seconds < 0.0 {
            Duration::MAX
        } else {
            Duration::try_from_secs_f64(seconds).ok()?
        });
    }
    let mut rest = value.as_str()?;
    if rest.starts_with('-') {
        return Some(Duration::MAX);
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        let after = rest.get(digits..)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let unit = match after.get(..end)? {
            "h" => 3600.0,
            "m" => 60.0,
            "s" | "" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
        rest = after.get(end..)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_keep_alive() {
        for (value, millis) in
            [(json!(0), 0), (json!("5m"), 300_000), (json!("1h30m"), 5_400_000), (json!("300ms"), 300)]
        {
            assert_eq!(keep_alive(&value), Some(Duration::from_millis(millis)), "{value}");
        }
        assert_eq!(keep_alive(&json!(-1)), Some(Duration::MAX));
        assert_eq!(keep_alive(&json!("soon")), None);
    }

    #[test]
    fn finds_the_last_user_message() {
        let body = br#"{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"a b"}]},{"role":"assistant","content":null}]}"#;
        let ask = Ask::read(Api::Chat, body).unwrap();
        assert_eq!((ask.last.as_str(), ask.prompt_tokens, ask.stream), ("a b", 4, false));
        assert!(Ask::read(Api::NativeChat, body).unwrap().stream);
        assert!(Ask::read(Api::Chat, b"{\"model\":\"m\",\"messages\":[]}").is_err());
        assert!(Ask::read(Api::Completions, b"{\"model\":\"m\",\"prompt\":[1]}").is_err());
    }
}
