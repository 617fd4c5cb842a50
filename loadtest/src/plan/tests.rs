use super::*;

const TEXT: &str = r#"
    about = ""
    seed = 5
    [load]
    mode = "open"
    phases = [{ time = "10s", rate = 100 }]
    [[work]]
    name = "chat"
    kind = "chat"
    model = "llama3.2"
    weight = 3
    words = { law = "lognormal", median = 30, sigma = 0.7, min = 3, max = 400 }
    prefix = { pool = 4, words = 50, share = 0.5, skew = 1.0 }
    languages = { en = 3, vi = 1 }
    answer_tokens = 12
    hit_share = 0.1
    [[work]]
    name = "embeddings"
    kind = "embeddings"
    model = "nomic-embed-text"
    [[keys]]
    name = "a"
    secret = "key-a"
    weight = 9
    [[keys]]
    name = "b"
    secret = "key-b"
"#;

fn plan(text: &str) -> Plan {
    Plan::new(Scenario::parse(text).unwrap(), Target::parse("http://gateway:8000/base").unwrap())
}

#[test]
fn requests_are_whole_and_in_proportion() {
    let plan = plan(TEXT);
    let mut request = Request::default();
    let mut counts = [[0; 2]; 4];
    let mut prefixes = std::collections::HashMap::<String, usize>::new();
    for index in 0..8000 {
        plan.write(index, &mut request);
        let bytes = String::from_utf8(request.bytes().to_vec()).unwrap();
        let (head, body) = bytes.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(head.contains("Host: gateway:8000\r\n"), "{head}");
        assert!(head.contains(["Bearer key-a\r\n", "Bearer key-b\r\n"][request.key]), "{head}");
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        let text = std::str::from_utf8(request.text()).unwrap();
        assert!(text.starts_with(&format!("q{index:x} ")), "{text}");
        if request.work == 0 {
            assert!(head.starts_with("POST /base/v1/chat/completions HTTP/1.1\r\n"));
            let messages = json["messages"].as_array().unwrap();
            assert_eq!(messages.last().unwrap()["content"], text);
            if let [system, _] = &messages[..] {
                *prefixes.entry(system["content"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        } else {
            assert_eq!(json["input"], text);
        }
        assert_eq!(request.expected.status, if request.hit { 400 } else { 200 });
        counts[0][request.work] += 1;
        counts[1][request.key] += 1;
        counts[2][usize::from(request.hit)] += 1;
    }
    let share = |pair: [usize; 2]| pair[1] as f64 / 8000.0;
    assert!((share(counts[0]) - 0.25).abs() < 0.02, "{counts:?}");
    assert!((share(counts[1]) - 0.1).abs() < 0.015, "{counts:?}");
    assert!((share(counts[2]) - 0.075).abs() < 0.01, "{counts:?}");
    let mut used: Vec<usize> = prefixes.values().copied().collect();
    used.sort_unstable();
    assert_eq!(used.len(), 4);
    assert!((used.iter().sum::<usize>() as f64 / 6000.0 - 0.5).abs() < 0.03, "{used:?}");
    assert!(used[3] as f64 / used[0] as f64 > 2.5, "the first one of four by Zipf: {used:?}");
}

#[test]
fn a_seed_is_the_whole_of_it() {
    let digest = |text: &str| summary::Summary::new(&plan(text)).digest;
    assert_eq!(digest(TEXT), digest(TEXT));
    assert_ne!(digest(TEXT), digest(&TEXT.replace("seed = 5", "seed = 6")));
    let one = plan(TEXT);
    let other = Plan::new(one.scenario.clone(), Target::parse("https://elsewhere").unwrap());
    assert_eq!(summary::Summary::new(&one).digest, summary::Summary::new(&other).digest);
    // In any order.
    let (mut forth, mut back) = (Request::default(), Request::default());
    one.write(77, &mut back);
    (0..78).for_each(|index| one.write(index, &mut forth));
    assert_eq!(forth.bytes(), back.bytes());
}

#[test]
fn lengths_follow_their_law() {
    let mut chance = Chance::new(1, 1);
    let law = Law::Lognormal { median: 100.0, sigma: 0.5, min: 10, max: 5000 };
    let mut words: Vec<u32> = (0..20_000).map(|_| draw(law, &mut chance)).collect();
    words.sort_unstable();
    assert!((95..=105).contains(&words[10_000]), "{}", words[10_000]);
    let high = f64::from(words[16_827]); // one deviation above: e^0.5 times the median
    assert!((high / 164.9 - 1.0).abs() < 0.06, "{high}");
    let uniform: Vec<u32> = (0..2000).map(|_| draw(Law::Uniform { min: 3, max: 5 }, &mut chance)).collect();
    assert!(
        uniform.iter().all(|words| (3..=5).contains(words)) && uniform.contains(&5) && uniform.contains(&3)
    );
}
