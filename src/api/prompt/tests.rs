use crate::api::Task;
use crate::api::body::{Also, Scratch, View};
use crate::config::guard::Role;

/// The texts of `body` with their roles, checked to stand where they say.
fn texts(body: &str, task: Task) -> Vec<(Role, String)> {
    let mut texts = super::Texts::default();
    let also = Also { texts: Some(&mut texts), digest: false };
    View::read_with(&mut Scratch::default(), body.as_bytes(), task, also).unwrap();
    for item in &texts.items {
        let raw = item.raw.text(body.as_bytes());
        assert_eq!(serde_json::from_str::<String>(&format!("\"{raw}\"")).unwrap(), texts.text(item));
    }
    texts.items.iter().map(|item| (item.role, texts.text(item).to_owned())).collect()
}

fn said(list: &[(Role, &str)]) -> Vec<(Role, String)> {
    list.iter().map(|(role, text)| (*role, (*text).to_owned())).collect()
}

#[test]
fn messages_and_parts() {
    use Role::{Assistant, System, Tool, User};
    let body = r#"{"model":"m","messages":[
        {"role":"system","content":"be kind"},
        {"content":[{"type":"text","text":"h\u0065llo \"you\""},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}],"role":"user"},
        {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function",
            "function":{"name":"f","arguments":"{\"q\":1}"}}]},
        {"role":"tool","tool_call_id":"1","content":"result"},
        {"role":"stranger","\u0063ontent":"hidden key"}]}"#;
    let wanted = said(&[
        (System, "be kind"),
        (User, "hello \"you\""),
        (Assistant, "{\"q\":1}"),
        (Tool, "result"),
        (User, "hidden key"),
    ]);
    assert_eq!(texts(body, Task::Chat), wanted);
}

#[test]
fn other_dialects() {
    use Role::{Assistant, System, Tool, User};
    assert_eq!(texts(r#"{"model":"m","prompt":["a","b"],"suffix":"c"}"#, Task::Completions).len(), 3);
    assert_eq!(texts(r#"{"model":"m","prompt":[1,2,3]}"#, Task::Completions), []);
    assert_eq!(
        texts(r#"{"model":"m","system":"s","prompt":"p","images":["AAAA"]}"#, Task::NativeGenerate),
        said(&[(System, "s"), (User, "p")])
    );
    let body = r#"{"model":"m","max_tokens":1,"system":[{"type":"text","text":"s"}],"messages":[
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"r"}]},
            {"type":"document","source":{"type":"text","media_type":"text/plain","data":"doc"}},
            {"type":"image","source":{"type":"base64","data":"AAAA"}}]},
        {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"n","input":{"any":{"key":"v"}}}]}]}"#;
    let wanted = said(&[(System, "s"), (Tool, "r"), (User, "doc"), (Assistant, "v")]);
    assert_eq!(texts(body, Task::Messages), wanted);
    let body = r#"{"model":"m","instructions":"i","input":[{"role":"user","content":[{"type":"input_text",
        "text":"t"}]},{"type":"function_call_output","call_id":"c","output":"o"}]}"#;
    assert_eq!(texts(body, Task::Responses), said(&[(System, "i"), (User, "t"), (Tool, "o")]));
    assert_eq!(texts(r#"{"model":"m","input":"one"}"#, Task::Embeddings), said(&[(User, "one")]));
}

#[test]
fn a_key_given_twice_hides_nothing() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}"#;
    assert_eq!(texts(body, Task::Chat), said(&[(Role::User, "a"), (Role::User, "b")]));
}
