use super::*;

const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn parse(text: &str) -> Option<TraceContext> {
    TraceContext::parse(text.as_bytes())
}

/// A sequence that looks random enough (Weyl, by the golden ratio).
fn dice() -> impl FnMut() -> u64 {
    let mut state = 7_u64;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(17)
    }
}

/// The examples of the specification and the cases of W3C's own test suite (`test_traceparent_*`).
#[test]
fn what_w3c_says() {
    let good = parse(GOOD).unwrap();
    assert_eq!(good.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
    assert_eq!((good.span_id, good.sampled), (0xb7ad_6b71_6920_3331, true));
    let ids = "12345678901234567890123456789012-1234567890123456";
    for (text, sampled) in [
        (format!("00-{ids}-00"), false),
        (format!("00-{ids}-03"), true),
        (format!("00-{ids}-fe"), false),
        (format!("01-{ids}-01"), true),
        (format!("cc-{ids}-01"), true),
        (format!("cc-{ids}-01-what-the-future-will-be-like"), true),
        (format!("fe-{ids}-00-"), false),
    ] {
        assert_eq!(parse(&text).map(|context| context.sampled), Some(sampled), "{text}");
    }
    for text in [
        String::new(),
        format!("00-{ids}-01-"),
        format!("00-{ids}-01-what-the-future-will-be-like"),
        format!("00-{ids}-01.what"),
        format!("cc-{ids}-01.what-the-future-will-not-be-like"),
        format!("cc-{ids}-01what"),
        format!("ff-{ids}-01"),
        format!(".0-{ids}-01"),
        format!("0.-{ids}-01"),
        format!("0-{ids}-01"),
        format!("000-{ids}-01"),
        format!("00-{ids}"),
        format!("00-{ids}-"),
        format!("00-{ids}-1"),
        format!("00-{ids}-.0"),
        format!("00-{ids}-0."),
        format!("00-{ids}-001"),
        format!("00_{ids}_01"),
        format!("00-{ids}- 1"),
        format!(" 00-{ids}-01"),
        GOOD.to_ascii_uppercase(),
        "00-00000000000000000000000000000000-1234567890123456-01".to_owned(),
        "00-12345678901234567890123456789012-0000000000000000-01".to_owned(),
        "00-.2345678901234567890123456789012-1234567890123456-01".to_owned(),
        "00-1234567890123456789012345678901.-1234567890123456-01".to_owned(),
        "00-123456789012345678901234567890123-123456789012345-01".to_owned(),
        "00-1234567890123456789012345678901-12345678901234567-01".to_owned(),
        "00-12345678901234567890123456789012-.234567890123456-01".to_owned(),
        "00-1234567890ABCDEF1234567890123456-1234567890123456-01".to_owned(),
    ] {
        assert_eq!(parse(&text), None, "{text:?}");
    }
    for cut in 0..GOOD.len() {
        assert_eq!(parse(&GOOD[..cut]), None, "{cut}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let mut random = dice();
    for percent in [0, 100] {
        let root = TraceContext::root(&mut random, percent);
        let child = root.child(&mut random);
        assert_eq!((root.trace_id, root.sampled), (child.trace_id, child.sampled));
        assert_ne!(root.span_id, child.span_id);
        let mut text = Vec::new();
        child.write(&mut text);
        assert_eq!(TraceContext::parse(&text), Some(child));
    }
    let mut text = Vec::new();
    parse(GOOD).unwrap().write(&mut text);
    assert_eq!(text, GOOD.as_bytes());
    let nought = TraceContext::root(|| 0, 100);
    assert!(nought.trace_id != 0 && nought.span_id != 0, "ids are never zero, whatever is drawn");
}

#[test]
fn the_share_is_kept() {
    let mut random = dice();
    for percent in [0, 1, 10, 50, 99, 100] {
        let roots = (0..20_000).map(|_| TraceContext::root(&mut random, percent));
        let sampled = i64::try_from(roots.filter(|root| root.sampled).count()).unwrap();
        let wanted = i64::from(percent) * 200;
        let slack = if percent % 100 == 0 { 0 } else { 300 };
        assert!((sampled - wanted).abs() <= slack, "{sampled} of 20000 at {percent} %");
    }
    // The lowest 56 bits decide and no other, and the highest of them are in.
    let (low, high) = (0, DICE - 1);
    assert!(!is_sampled(low, 99) && is_sampled(low, 100) && is_sampled(high, 1) && !is_sampled(high, 0));
    assert!(!is_sampled(low | u128::MAX << 56, 99));
    assert!(is_sampled(DICE / 2, 50) && !is_sampled(DICE / 2 - 1, 50));
}
