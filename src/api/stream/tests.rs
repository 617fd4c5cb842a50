use super::*;

fn run(task: Task, strip: bool, parts: &[&[u8]]) -> (Vec<u8>, Stream, Result<(), Failure>) {
    let mut stream = Stream::new(task, task.dialect() == Dialect::Ollama, b"\"asked\"".to_vec(), strip);
    let mut out = Vec::new();
    for part in parts {
        if let Err(failure) = stream.push(part, &mut out) {
            return (out, stream, Err(failure));
        }
    }
    let end = stream.finish(&mut out);
    (out, stream, end)
}

const CHAT: &str = concat!(
    ": warming up\n\n",
    "data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"h\u{e9}\\\"finish_reason\\\":\\\"x\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n",
    "data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn a_chat_stream_at_every_cut() {
    let want = concat!(
        ": warming up\n\n",
        "data: {\"id\":\"1\",\"model\":\"asked\",\"choices\":[{\"delta\":{\"content\":\"h\u{e9}\\\"finish_reason\\\":\\\"x\"},\"finish_reason\":null}]}\n\n",
        "data: {\"id\":\"1\",\"model\":\"asked\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    );
    let bytes = CHAT.as_bytes();
    for cut in 0..=bytes.len() {
        let (out, stream, end) = run(Task::Chat, true, &[&bytes[..cut], &bytes[cut..]]);
        assert_eq!(String::from_utf8(out).unwrap(), want, "cut at {cut}");
        assert_eq!(end, Ok(()));
        assert_eq!(stream.usage(), Usage { input: 3, output: 4, told: true, ..Usage::default() });
        assert_eq!(stream.events(), 3);
    }
}

#[test]
fn unchanged_events_pass_byte_for_byte() {
    let text = "data:{ \"model\" : \"asked\" ,\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n: comment\n\ndata: [DONE]\n\n";
    let (out, _, end) = run(Task::Chat, false, &[text.as_bytes()]);
    assert_eq!((String::from_utf8(out).unwrap().as_str(), end), (text, Ok(())));
}

#[test]
fn an_end_that_was_not_announced_is_a_failure() {
    let text = "data: {\"model\":\"m\",\"choices\":[{\"finish_reason\":null}]}\n\n";
    let (out, _, end) = run(Task::Chat, false, &[text.as_bytes()]);
    assert!(!out.is_empty());
    assert_eq!(end.unwrap_err().kind, FailureKind::UpstreamBroken);
    let finished = text.replace("null", "\"length\"");
    assert_eq!(run(Task::Chat, false, &[finished.as_bytes()]).2, Ok(()));
    assert!(
        !run(Task::Chat, false, &[finished.as_bytes()]).0.ends_with(b"[DONE]\n\n"),
        "nothing is invented"
    );
}

#[test]
fn the_last_blank_line_may_be_missing() {
    let (out, _, end) =
        run(Task::Chat, false, &[b"data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]"]);
    assert!(out.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(end, Ok(()));
    let (out, _, end) = run(Task::NativeChat, false, &[b"{\"model\":\"m\",\"done\":true}"]);
    assert_eq!((out.as_slice(), end), (&b"{\"model\":\"asked\",\"done\":true}\n"[..], Ok(())));
}

#[test]
fn error_objects_are_failures() {
    let text = "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"code\":503}}\n\n";
    let failure = run(Task::Chat, false, &[text.as_bytes()]).2.unwrap_err();
    assert_eq!((failure.status, failure.message.as_str()), (503, "out of memory"));
    let failure = run(Task::NativeChat, false, &[b"{\"error\":\"gone\"}\n"]).2.unwrap_err();
    assert_eq!((failure.status, failure.message.as_str()), (500, "gone"));
    let line = "error: {\"code\":500,\"message\":\"slot lost\",\"type\":\"server_error\"}\n\n";
    let failure = run(Task::Chat, false, &[line.as_bytes()]).2.unwrap_err();
    assert_eq!((failure.status, failure.message.as_str()), (500, "slot lost"));
    for bad in ["data: {nonsense}\n\n", "data: {\"a\":\n\n", "data: {\"a\":1}}\n\n"] {
        assert_eq!(
            run(Task::Chat, false, &[bad.as_bytes()]).2.unwrap_err().kind,
            FailureKind::UpstreamBroken
        );
    }
}

#[test]
fn native_lines_at_every_cut() {
    let text = "{\"model\":\"m\",\"message\":{\"content\":\"\u{1F600}\",\"model\":\"n\"},\"done\":false}\n{\"model\":\"m\",\"done\":true,\"prompt_eval_count\":5,\"eval_count\":6}\r\n";
    let want = "{\"model\":\"asked\",\"message\":{\"content\":\"\u{1F600}\",\"model\":\"n\"},\"done\":false}\n{\"model\":\"asked\",\"done\":true,\"prompt_eval_count\":5,\"eval_count\":6}\n";
    for cut in 0..=text.len() {
        let (out, stream, end) =
            run(Task::NativeChat, false, &[&text.as_bytes()[..cut], &text.as_bytes()[cut..]]);
        assert_eq!(String::from_utf8(out).unwrap(), want, "cut at {cut}");
        assert_eq!(
            (end, stream.usage()),
            (Ok(()), Usage { input: 5, output: 6, told: true, ..Usage::default() })
        );
    }
}

#[test]
fn named_events_keep_their_names() {
    let text = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":3}}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":9}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let (out, stream, end) = run(Task::Messages, false, &[text.as_bytes()]);
    assert_eq!(String::from_utf8(out).unwrap(), text.replace("\"m\"", "\"asked\""));
    assert_eq!(
        (end, stream.usage()),
        (Ok(()), Usage { input: 3, output: 9, told: true, ..Usage::default() })
    );
}

#[test]
fn data_over_several_lines_is_joined() {
    let text = "data: {\"model\":\"m\",\ndata: \"choices\":[{\"finish_reason\":\"stop\"}]}\nid: 7\n\n";
    let (out, _, end) = run(Task::Chat, false, &[text.as_bytes()]);
    assert_eq!(end, Ok(()));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "id: 7\ndata: {\"model\":\"asked\", \"choices\":[{\"finish_reason\":\"stop\"}]}\n\n"
    );
}

#[test]
fn what_is_no_object_passes() {
    let text = "retry: 10\n\nid: 1\ndata:\n\ndata: ping\n\n: c\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let (out, _, end) = run(Task::Chat, true, &[text.as_bytes()]);
    assert_eq!((String::from_utf8(out).unwrap().as_str(), end), (text, Ok(())));
}

#[test]
fn what_events_begin_with_is_remembered_and_changes_nothing() {
    let openings = [
        r#"{"id":"1","object":"chunk","model":"m","#,
        r#"{"id":"1","object":"chunk","model":"n","#,
        r#"{"id":"22","model":"m", "#,
        r#"{"usage":{"prompt_tokens":1},"model":"m","#,
        r#"{"error":null,"model":"m","#,
        r#"{ "a":{"choices":[{"finish_reason":"x"}]},"#,
        "{",
    ];
    let rests = [
        r#""choices":[{"index":0,"delta":{"content":"text"},"finish_reason":null}]}"#,
        r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        r#""choices":[],"model":"late","usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        r#""choices":[{"delta":{"content":"a"}}],"choices":[{"delta":{"content":"bc"}}]}"#,
        r#""choices":null,"error":"broken"}"#,
        r#""choices":[{"delta":]}"#,
        r#""other":1}"#,
    ];
    let mut random = 7u64;
    let mut next = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % bound
    };
    for _ in 0..2000 {
        let mut stream = Stream::new(Task::Chat, false, b"\"asked\"".to_vec(), next(2) == 0);
        let mut plain = Stream::new(Task::Chat, false, b"\"asked\"".to_vec(), stream.strip_usage);
        plain.opening.changes = Opening::CHANGES_MAX;
        let (mut out, mut wanted) = (Vec::new(), Vec::new());
        let kinds = 1 + next(openings.len());
        for _ in 0..next(20) {
            let seldom = 2 + next(rests.len() - 1); // breaks it
            let event = format!("data: {}{}\n\n", openings[next(kinds)], rests[next(seldom)]);
            let result = stream.push(event.as_bytes(), &mut out);
            assert_eq!(result, plain.push(event.as_bytes(), &mut wanted), "{event}");
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&wanted), "{event}");
            if result.is_err() {
                break;
            }
        }
        assert!(plain.opening.bytes.is_empty());
        let told =
            |stream: &Stream| (stream.usage, stream.said, stream.events, stream.finished, stream.progress);
        assert_eq!(told(&stream), told(&plain));
    }
}
