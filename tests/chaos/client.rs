//! The verdicts of the open-loop client, which all other tests here rest on.

use serde_json::json;

use crate::support::open_loop::{End, Got, judge};

fn got(body: &str, end: End) -> Got {
    Got { status: 200, fields: Vec::new(), body: body.as_bytes().to_vec(), end }
}

fn event(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{text:?}}},\"finish_reason\":null}}]}}\n\n")
}

fn cut() -> End {
    End::Cut("closed".into())
}

#[test]
fn streams_are_told_apart() {
    let begin = event("You said: a");
    let stop = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let (done, error) = ("data: [DONE]\n\n", "data: {\"error\":{\"message\":\"x\"}}\n\n");
    for (body, end, name) in [
        (format!("{begin}{stop}{done}"), End::Whole, "ok"),
        (format!(": beat\n\n{begin}{stop}{done}"), End::Whole, "ok"),
        (format!("{begin}{stop}"), End::Whole, "truncated"),
        (format!("{begin}{done}"), End::Whole, "truncated"),
        (event("You said:") + stop + done, End::Whole, "truncated"),
        (format!("{begin}{error}{done}"), End::Whole, "truncated"),
        (format!("{begin}{error}"), End::Whole, "broken"),
        (format!("{begin}{error}"), cut(), "broken"),
        (format!("{begin}data: {{\"cho"), cut(), "broken"),
        (String::new(), End::Whole, "truncated"),
        (String::new(), cut(), "broken"),
        (event("You said: b") + stop + done, End::Whole, "wrong"),
        (event("You said: b"), cut(), "wrong"),
        (begin.clone(), End::Late, "lost"),
        (format!("{begin}{stop}{done}{begin}"), End::Whole, "wrong"),
    ] {
        assert_eq!(judge(&got(&body, end), true, "a", 3).name(), name, "{body}");
    }
}

#[test]
fn whole_answers_are_told_apart() {
    let body = |text: &str| json!({"choices": [{"message": {"content": text}}]}).to_string();
    for (body, end, name) in [
        (body("You said: a word"), End::Whole, "ok"),
        (body("You said: a"), End::Whole, "truncated"),
        (body("You said: b word"), End::Whole, "wrong"),
        ("{\"choices\":".to_owned(), End::Whole, "truncated"),
        ("{\"choices\":".to_owned(), cut(), "broken"),
        (String::new(), End::Late, "lost"),
        (String::new(), End::Malformed("two lengths".into()), "wrong"),
    ] {
        assert_eq!(judge(&got(&body, end), false, "a", 4).name(), name, "{body}");
    }
    let silent = Got { status: 0, fields: Vec::new(), body: Vec::new(), end: cut() };
    assert_eq!(judge(&silent, false, "a", 4).name(), "lost");
    let refused = Got { status: 503, ..got("{}", End::Whole) };
    assert_eq!(judge(&refused, false, "a", 4).name(), "refused");
}
