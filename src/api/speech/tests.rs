use super::*;

fn told(task: Task, data: &str) -> Vec<String> {
    let mut out = Vec::new();
    parts(task, data.as_bytes(), &mut |part| {
        out.push(match part {
            Part::Text(channel, span) => {
                let text = span.text(data.as_bytes());
                format!("{}/{:?}/{} {text}", channel.choice, channel.voice, channel.index)
            }
            Part::End(choice) => format!("end {choice}"),
            Part::EndAll => "end".to_owned(),
        });
    });
    out
}

#[test]
fn chunks_of_choices() {
    let data = r#"{"id":"x","choices":[{"delta":{"content":"a\"b","reasoning_content":"r"},"index":1},
        {"index":0,"delta":{"tool_calls":[{"index":2,"function":{"name":"f","arguments":"{"}}]}},
        {"index":3,"delta":{},"finish_reason":"stop"},{"index":4,"text":"t","finish_reason":null}]}"#;
    let wanted = ["1/Content/0 a\\\"b", "1/Reasoning/0 r", "0/Arguments/2 {", "end 3", "4/Content/0 t"];
    assert_eq!(told(Task::Chat, data), wanted);
    assert_eq!(told(Task::Chat, "[DONE]"), ["end"]);
    assert_eq!(told(Task::Chat, "not json"), [] as [&str; 0]);
    let whole = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":[{"type":"text","text":"p"}],
        "refusal":"no"},"finish_reason":"stop"}]}"#;
    assert_eq!(told(Task::Chat, whole), ["0/Content/0 p", "0/Refusal/0 no", "end 0"]);
}

#[test]
fn what_is_heard_is_what_is_told() {
    let values = [
        r#"[{"delta":{"content":"a\"b","reasoning_content":"r","tool_calls":[{"function":{"arguments":"{"}}]},"index":1}]"#,
        r#"[{"index":0,"delta":{"content":null},"finish_reason":"stop"},{"text":"t","finish_reason":null},7,[],"x"]"#,
        r#"[{"message":{"content":[{"type":"text","text":"p"},{"refusal":"q"}],"refusal":"no"},"finish_reason":"a"}]"#,
        r#"[{"delta":{"function_call":{"arguments":"xyz"}}},{"delta":[{"content":"no"}]},{"delta":{"a":{"content":"no"}}}]"#,
        "[]",
        "null",
        r#"{"content":"x"}"#,
        r#""text""#,
    ];
    for value in values {
        let data = format!(r#"{{"before":[1],"choices": {value} ,"after":{{}}}}"#);
        let wanted = told(Task::Chat, &data);
        let texts = wanted.iter().filter(|line| !line.starts_with("end"));
        let bytes: usize = texts.map(|line| line.split_once(' ').unwrap().1.len()).sum();
        let ends = wanted.iter().filter(|line| line.starts_with("end")).count();
        let mut walk = Walk::object(data.as_bytes(), 0).unwrap();
        let (mut heard, mut names) = (Heard::default(), Vec::new());
        while let Some((key, at)) = walk.key().unwrap() {
            names.push(key.text(data.as_bytes()).to_owned());
            match names.last().unwrap().as_str() {
                "choices" => {
                    let span = hear(data.as_bytes(), &mut walk, at, &mut heard).unwrap();
                    assert_eq!(span.text(data.as_bytes()), value);
                }
                _ => drop(walk.skip().unwrap()),
            }
        }
        assert_eq!((heard.bytes, heard.finished), (bytes as u64, ends as u64), "{value}");
        assert_eq!(names, ["before", "choices", "after"], "{value}");
        for cut in 0..data.len() {
            let cut = data.get(..cut).unwrap_or_default().as_bytes();
            let Ok(mut walk) = Walk::object(cut, 0) else { continue };
            let read = || {
                while let Some((key, at)) = walk.key()? {
                    match key.of_bytes(cut) {
                        b"choices" => drop(hear(cut, &mut walk, at, &mut Heard::default())?),
                        _ => drop(walk.skip()?),
                    }
                }
                Ok::<(), Malformed>(())
            };
            assert_eq!({ read }(), Err(Malformed), "{value}, cut at {}", cut.len());
        }
    }
}

#[test]
fn lines_of_ollama() {
    let line = r#"{"model":"m","message":{"role":"assistant","content":"c","thinking":"t","tool_calls":[
        {"function":{"name":"f","arguments":{"city":"Bonn","list":["x",{"y":"z"}]}}}]},"done":false}"#;
    let wanted =
        ["0/Content/0 c", "0/Reasoning/0 t", "0/Arguments/0 Bonn", "0/Arguments/0 x", "0/Arguments/0 z"];
    assert_eq!(told(Task::NativeChat, line), wanted);
    assert_eq!(told(Task::NativeGenerate, r#"{"response":"r","done":true}"#), ["0/Content/0 r", "end"]);
}

#[test]
fn events_of_messages_and_responses() {
    let delta =
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{"}}"#;
    assert_eq!(told(Task::Messages, delta), ["1/Arguments/0 {"]);
    assert_eq!(told(Task::Messages, r#"{"type":"content_block_stop","index":1}"#), ["end 1"]);
    let whole =
        r#"{"type":"message","content":[{"type":"text","text":"a"},{"type":"tool_use","input":{"k":"v"}}]}"#;
    assert_eq!(told(Task::Messages, whole), ["0/Content/0 a", "1/Arguments/0 v", "end"]);
    let delta = r#"{"type":"response.output_text.delta","output_index":2,"content_index":1,"delta":"d"}"#;
    assert_eq!(told(Task::Responses, delta), ["2/Content/1 d"]);
    let done = r#"{"type":"response.output_text.done","output_index":2,"content_index":1,"text":"d"}"#;
    assert_eq!(told(Task::Responses, done), ["end 2", "2/Whole/1 d", "end 2"]);
    let whole = r#"{"id":"r","output":[{"type":"message","content":[{"type":"output_text","text":"w"}]}]}"#;
    assert_eq!(told(Task::Responses, whole), ["0/Whole/0 w", "end"]);
}
