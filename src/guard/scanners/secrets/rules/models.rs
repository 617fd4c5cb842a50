//! Model providers and machine learning platforms.

use super::{Anchor, Check, Rule, token, value};

pub(super) const RULES: &[Rule] = &[
    token("anthropic-api-key", &["sk-ant-api"], "sk-ant-api[0-9]{2}-[0-9A-Za-z_-]{80,120}"),
    token("anthropic-admin-key", &["sk-ant-admin"], "sk-ant-admin[0-9]{2}-[0-9A-Za-z_-]{80,120}"),
    token(
        "anthropic-oauth-token",
        &["sk-ant-oat", "sk-ant-ort"],
        "sk-ant-o[ar]t[0-9]{2}-[0-9A-Za-z_-]{80,120}",
    ),
    token("openrouter-api-key", &["sk-or-"], "sk-or-(?:v[0-9]-)?[0-9a-f]{48,64}"),
    token("openai-project-key", &["sk-proj-"], "sk-proj-[0-9A-Za-z_-]{40,}").entropy(3.0),
    token("openai-service-key", &["sk-svcacct-", "sk-None-"], "sk-(?:svcacct|None)-[0-9A-Za-z_-]{40,}")
        .entropy(3.0),
    token("openai-admin-key", &["sk-admin-"], "sk-admin-[0-9A-Za-z_-]{40,}").entropy(3.0),
    token("openai-api-key", &["T3BlbkFJ"], "sk-[0-9A-Za-z]{20}T3BlbkFJ[0-9A-Za-z]{20}")
        .anchor(Anchor::Before(23)),
    token("openai-session-token", &["sess-"], "sess-[0-9A-Za-z]{40}").entropy(3.5),
    token("sk-api-key", &["sk-"], "sk-[0-9A-Za-z]{32,64}").entropy(3.3),
    token("huggingface-token", &["hf_"], "hf_[A-Za-z0-9]{34,40}").entropy(3.0),
    token("huggingface-org-token", &["api_org_"], "api_org_[A-Za-z0-9]{34}").entropy(3.0),
    token("replicate-api-token", &["r8_"], "r8_[0-9A-Za-z]{37}").entropy(3.0),
    token("perplexity-api-key", &["pplx-"], "pplx-[0-9A-Za-z]{48,56}").entropy(3.0),
    token("groq-api-key", &["gsk_"], "gsk_[0-9A-Za-z]{52}").entropy(3.0),
    token("xai-api-key", &["xai-"], "xai-[0-9A-Za-z]{70,90}").entropy(3.0),
    token("fireworks-api-key", &["fw_"], "fw_[0-9A-Za-z]{22,24}").entropy(3.3).check(Check::Mixed),
    token("cerebras-api-key", &["csk-"], "csk-[0-9a-z]{48}").entropy(3.0),
    token("nvidia-api-key", &["nvapi-"], "nvapi-[0-9A-Za-z_-]{60,70}").entropy(3.0),
    token("tavily-api-key", &["tvly-"], "tvly-(?:dev-|prod-)?[0-9A-Za-z]{32}").entropy(3.0),
    token("langsmith-api-key", &["lsv2_"], "lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    token("langfuse-secret-key", &["sk-lf-"], "sk-lf-[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"),
    token("pinecone-api-key", &["pcsk_"], "pcsk_[0-9A-Za-z]{5,6}_[0-9A-Za-z]{60,66}").entropy(3.0),
    token("aws-bedrock-key", &["ABSK"], "ABSK[0-9A-Za-z+/]{109,}={0,2}").entropy(3.0),
    value("mistral-api-key", &["mistral"], "[0-9A-Za-z]{32}").check(Check::Mixed).entropy(3.3),
    value("cohere-api-key", &["cohere", "CO_API_KEY"], "[0-9A-Za-z]{40}").entropy(3.5),
    value("together-api-key", &["together_api", "togetherai"], "[0-9a-f]{64}"),
    value("elevenlabs-api-key", &["elevenlabs", "xi-api-key"], "(?:sk_)?[0-9a-f]{32,48}"),
    value("assemblyai-api-key", &["assemblyai"], "[0-9a-f]{32}"),
    value("deepgram-api-key", &["deepgram"], "[0-9a-f]{40}"),
    value("voyage-api-key", &["voyage"], "pa-[0-9A-Za-z_-]{40,50}"),
    value("weights-and-biases-key", &["wandb"], "[0-9a-f]{40}"),
    value("comet-api-key", &["comet_api", "comet_ml"], "[0-9A-Za-z]{25}").check(Check::Mixed),
    value("clarifai-api-key", &["clarifai"], "[0-9a-f]{32}"),
    value("private-ai-key", &["privateai", "private_ai", "private-ai"], "[0-9a-z]{32}"),
];
