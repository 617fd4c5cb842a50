use super::*;

fn read(body: &str, task: Task) -> Result<View, BodyError> {
    View::read(&mut Scratch::default(), body.as_bytes(), task)
}

fn spliced(body: &str, task: Task, model: &str, kind: Kind) -> String {
    let mut out = Vec::new();
    read(body, task).unwrap().splice(body.as_bytes(), model, kind, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn renames_and_leaves_the_rest_alone() {
    let body = r#"{ "x": 1.50, "model" : "ollama\/a" ,"messages":[{"role":"user","content":"\u00e9"}], "y":{"model":"z"}}"#;
    assert_eq!(
        spliced(body, Task::Chat, "b\"c", Kind::Ollama),
        r#"{ "x": 1.50, "model" : "b\"c" ,"messages":[{"role":"user","content":"\u00e9"}], "y":{"model":"z"}}"#
    );
    assert_eq!(read(body, Task::Chat).unwrap().model, "ollama/a");
}

#[test]
fn keys_with_escapes_are_found_where_they_stand() {
    let body = r#"{"\u006dodel":"a","messages":[1]}"#;
    assert_eq!(spliced(body, Task::Chat, "b", Kind::Openai), r#"{"\u006dodel":"b","messages":[1]}"#);
    let twice = r#"{"model":"a","\u006dodel":"b","messages":[1]}"#;
    assert_eq!(read(twice, Task::Chat), Err(BodyError::Duplicate("model".into())));
}

#[test]
fn many_keys_are_checked_too() {
    let mut body = String::from(r#"{"model":"a","messages":[1]"#);
    for n in 0..50 {
        body += &format!(r#","k{n}":{n}"#);
    }
    assert!(read(&(body.clone() + "}"), Task::Chat).is_ok());
    assert_eq!(read(&(body + r#","k7":0}"#), Task::Chat), Err(BodyError::Duplicate("k7".into())));
}

#[test]
fn usage_is_asked_for_on_streams() {
    let add = r#"{"model":"a","messages":[1],"stream":true}"#;
    assert_eq!(
        spliced(add, Task::Chat, "a", Kind::Ollama),
        r#"{"model":"a","messages":[1],"stream":true,"stream_options":{"include_usage":true}}"#
    );
    let merge =
        r#"{"stream_options":{"include_usage":false,"x":[1]},"model":"a","messages":[1],"stream":true} "#;
    assert_eq!(
        spliced(merge, Task::Chat, "a", Kind::Ollama),
        r#"{"stream_options":{"include_usage":true,"x":[1]},"model":"a","messages":[1],"stream":true} "#
    );
    let asked = r#"{"model":"a","messages":[1],"stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(spliced(asked, Task::Chat, "a", Kind::Ollama), asked);
    assert!(read(asked, Task::Chat).unwrap().wants_usage);
    let null = r#"{"model":"a","messages":[1],"stream":true,"stream_options":null}"#;
    assert_eq!(
        spliced(null, Task::Chat, "a", Kind::Ollama),
        r#"{"model":"a","messages":[1],"stream":true,"stream_options":{"include_usage":true}}"#
    );
}

#[test]
fn max_completion_tokens_only_changes_for_ollama() {
    let body = r#"{"model":"a","max_completion_tokens":5,"messages":[1]}"#;
    assert_eq!(spliced(body, Task::Chat, "a", Kind::Openai), body);
    assert_eq!(
        spliced(body, Task::Chat, "a", Kind::Ollama),
        r#"{"model":"a","max_tokens":5,"messages":[1]}"#
    );
}

#[test]
fn fields_for_the_gateway_stay_here() {
    let body = r#"{"timeout": 2.5, "model":"a","num_retries":1,"cache":{"no-cache":true},"messages":[1],"tags":["x"]}"#;
    assert_eq!(spliced(body, Task::Chat, "bb", Kind::Openai), r#"{ "model":"bb","messages":[1]}"#);
    assert_eq!(read(body, Task::Chat).unwrap().timeout_s, Some(2.5));
    let all = r#"{"timeout":1,"cache":null,"model":"a","messages":[1]}"#;
    assert_eq!(spliced(all, Task::Chat, "a", Kind::Openai), r#"{"model":"a","messages":[1]}"#);
    let native = r#"{"model":"a","timeout":1}"#;
    assert_eq!(spliced(native, Task::NativeChat, "a", Kind::Ollama), native);
}

#[test]
fn refuses_what_the_task_does_not_take() {
    for (body, task, param) in [
        ("", Task::Chat, "request_body"),
        ("[]", Task::Chat, "request_body"),
        ("{", Task::Chat, "request_body"),
        (r#"{"model":"a",}"#, Task::Chat, "request_body"),
        (r#"{"messages":[1]}"#, Task::Chat, "model"),
        (r#"{"model":1,"messages":[1]}"#, Task::Chat, "model"),
        (r#"{"model":"","messages":[1]}"#, Task::Chat, "model"),
        (r#"{"model":"a"}"#, Task::Chat, "messages"),
        (r#"{"model":"a","messages":[]}"#, Task::Chat, "messages"),
        (r#"{"model":"a","messages":"x"}"#, Task::Chat, "messages"),
        (r#"{"model":"a","messages":[1],"stream":"yes"}"#, Task::Chat, "stream"),
        (r#"{"model":"a"}"#, Task::Embeddings, "input"),
        (r#"{"model":"a"}"#, Task::Completions, "prompt"),
    ] {
        assert_eq!(read(body, task).unwrap_err().param(), param, "{body}");
    }
    let deep = format!(r#"{{"model":"a","messages":{}1{}}}"#, "[".repeat(70), "]".repeat(70));
    assert_eq!(read(&deep, Task::Chat), Err(BodyError::Json));
    assert!(read(r#"{"name":"a"}"#, Task::NativeShow).is_ok());
}

#[test]
fn redactions_stand_among_the_other_edits() {
    let body = br#"{"messages":[{"content":"key AKIA and AKIA"}],"model":"a","timeout":3,"x":"AKIA"}"#;
    let mut view = View::read(&mut Scratch::default(), body, Task::Chat).unwrap();
    let at = |from: usize| Span::new(from, from + 4);
    view.redactions = vec![(at(29), b"***".to_vec()), (at(38), b"***".to_vec())];
    let mut out = Vec::new();
    view.splice(body, "upstream", Kind::Openai, &mut out);
    let wanted = r#"{"messages":[{"content":"key *** and ***"}],"model":"upstream","x":"AKIA"}"#;
    assert_eq!(String::from_utf8(out).unwrap(), wanted);
}
