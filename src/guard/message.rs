//! What a client is told when the guard blocks: `[xx] …`, in the language of the request.

use crate::config::guard::Language;

/// A code of two letters.
#[must_use]
pub fn code(language: Language) -> &'static str {
    match language {
        Language::Zh => "zh",
        Language::Vi => "vi",
        Language::Ja => "ja",
        Language::Ko => "ko",
        Language::Ru => "ru",
        Language::Ar => "ar",
        Language::En => "en",
    }
}

/// `[xx] <text> Reason: <scanner>: <rule>, …`.
#[must_use]
pub fn blocked(language: Language, output: bool, reasons: &[(&str, &str)]) -> String {
    let reasons: Vec<String> = reasons.iter().map(|(scanner, rule)| format!("{scanner}: {rule}")).collect();
    let text = if output { response(language) } else { prompt(language) };
    format!("[{}] {text} Reason: {}", code(language), reasons.join(", "))
}

fn prompt(language: Language) -> &'static str {
    match language {
        Language::Zh => "您的请求已被安全策略拦截。",
        Language::Vi => "Yêu cầu của bạn đã bị chính sách an toàn chặn.",
        Language::Ja => "リクエストは安全ポリシーによりブロックされました。",
        Language::Ko => "요청이 안전 정책에 의해 차단되었습니다.",
        Language::Ru => "Ваш запрос заблокирован политикой безопасности.",
        Language::Ar => "تم حظر طلبك بموجب سياسة الأمان.",
        Language::En => "Your request was blocked by the safety policy.",
    }
}

fn response(language: Language) -> &'static str {
    match language {
        Language::Zh => "模型的回答已被安全策略拦截。",
        Language::Vi => "Câu trả lời của mô hình đã bị chính sách an toàn chặn.",
        Language::Ja => "モデルの応答は安全ポリシーによりブロックされました。",
        Language::Ko => "모델의 응답이 안전 정책에 의해 차단되었습니다.",
        Language::Ru => "Ответ модели заблокирован политикой безопасности.",
        Language::Ar => "تم حظر إجابة النموذج بموجب سياسة الأمان.",
        Language::En => "The model's answer was blocked by the safety policy.",
    }
}
