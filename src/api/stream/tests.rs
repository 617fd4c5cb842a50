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
