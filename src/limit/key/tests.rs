use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::config::Secret;

const PROCESS_KEY: [u8; 32] = [7; 32];

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_710_000_000)
}

fn key(name: &str, secret: &str) -> edge::Key {
    edge::Key {
        name: name.to_owned(),
        secret: KeySecret::Plain(Secret::parse(secret).unwrap()),
        models: vec!["*".to_owned()],
        guard: None,
        requests_per_minute: 0,
        tokens_per_minute: 0,
        concurrent: 0,
        budget: 0.0,
        budget_period: std::time::Duration::ZERO,
        cache_group: None,
        expires: None,
    }
}

fn keyring(keys: &[edge::Key]) -> Keyring {
    Keyring::new(keys, PROCESS_KEY)
}

/// Slot of the caller found.
fn found(keyring: &Keyring, shown: &[u8]) -> Result<usize, Refused> {
    keyring.find(shown, now()).map(|caller| caller.slot)
}

fn caller_of(models: &[&str]) -> Arc<Caller> {
    let models = models.iter().map(|&name| name.to_owned()).collect();
    let keyring = keyring(&[edge::Key { models, ..key("a", "sk-secret-1") }]);
    Arc::clone(keyring.find(b"sk-secret-1", now()).unwrap())
}

#[test]
fn each_secret_opens_for_its_caller() {
    let mut keys: Vec<edge::Key> =
        (0..300).map(|n| key(&format!("caller-{n}"), &format!("sk-secret-{n}"))).collect();
    keys[299].secret = KeySecret::Sha256(Sha256::digest("sk-by-hash").into());
    keys[299].guard = Some(3);
    let keyring = keyring(&keys);
    for n in 0..299 {
        assert_eq!(found(&keyring, format!("sk-secret-{n}").as_bytes()), Ok(n));
    }
    let caller = keyring.find(b"sk-by-hash", now()).unwrap();
    assert_eq!((caller.name.as_str(), caller.slot, caller.guard), ("caller-299", 299, Some(3)));
    assert_eq!((keyring.callers().len(), keyring.is_empty()), (300, false));
    // The hash itself is no secret.
    let hash: [u8; 32] = Sha256::digest("sk-by-hash").into();
    assert_eq!(found(&keyring, &hash), Err(Refused::Unknown));
}

#[test]
fn whatever_is_not_the_secret_is_unknown() {
    let keyring = keyring(&[key("a", "sk-secret-1"), key("b", "sk-secret-2")]);
    let guesses: [&[u8]; 14] = [
        b"",
        b"s",
        b"sk-secret-",
        b"sk-secret-11",
        b"SK-SECRET-1",
        b"Sk-secret-1",
        b"sk-secret-1\0",
        b"\0sk-secret-1",
        b"sk-secret-1\0\0",
        b"sk-secret-1 ",
        b" sk-secret-1",
        b"Bearer sk-secret-1",
        b"sk-secret-1, sk-secret-2",
        b"\xff\xfe",
    ];
    for guess in guesses {
        assert_eq!(found(&keyring, guess), Err(Refused::Unknown), "{guess:?}");
    }
    assert_eq!(found(&keyring, b"sk-secret-1"), Ok(0));
    assert_eq!(found(&Keyring::new(&[], PROCESS_KEY), b"sk-secret-1"), Err(Refused::Unknown));
}

#[test]
fn nothing_opens_by_nothing() {
    // An operator who hashed an empty variable.
    let secret = KeySecret::Sha256(Sha256::digest("").into());
    let keyring = keyring(&[edge::Key { secret, ..key("a", "x") }]);
    assert_eq!(found(&keyring, b""), Err(Refused::Unknown));
}

#[test]
fn the_longest_secret_opens_and_a_longer_one_does_not() {
    let longest = "k".repeat(SHOWN_BYTES_MAX);
    let keyring = keyring(&[key("a", &longest)]);
    assert_eq!(found(&keyring, longest.as_bytes()), Ok(0));
    // Begins by a secret: what is hashed of it is the same.
    assert_eq!(found(&keyring, format!("{longest}k").as_bytes()), Err(Refused::Unknown));
    assert_eq!(found(&keyring, "k".repeat(1 << 20).as_bytes()), Err(Refused::Unknown));
    assert_eq!(found(&keyring, &longest.as_bytes()[1..]), Err(Refused::Unknown));
}

#[test]
fn work_is_the_same_for_every_guess() {
    let keys: Vec<edge::Key> = (0..50).map(|n| key(&format!("{n}"), &format!("sk-secret-{n}"))).collect();
    let keyring = keyring(&keys);
    let comparisons = |shown: &[u8]| {
        let count = Cell::new(0);
        let answer = keyring.find_by(shown, now(), |known, hash| {
            count.set(count.get() + 1);
            same(known, hash)
        });
        (count.get(), answer.map(|caller| caller.slot))
    };
    for (shown, slot) in [("sk-secret-0", Some(0)), ("sk-secret-49", Some(49)), ("sk-", None), ("", None)] {
        assert_eq!(comparisons(shown.as_bytes()), (50, slot.ok_or(Refused::Unknown)), "{shown}");
    }
    for length in [SHOWN_BYTES_MAX - 1, SHOWN_BYTES_MAX, SHOWN_BYTES_MAX + 1, 1 << 20] {
        let shown = vec![b'k'; length];
        assert_eq!(comparisons(&shown), (50, Err(Refused::Unknown)));
        assert_eq!(keyring.hash(&shown), keyring.hash(&shown[..length.min(SHOWN_BYTES_MAX)]));
    }
}

#[test]
fn hashes_are_hmac_of_sha256() {
    // HMAC-SHA256 with the key of RFC 4231, test case 6 is longer than a block; case 1 is padded, as ours is.
    let mut block = Key::<Hmac<Sha256>>::default();
    block[..20].fill(0x0b);
    let hash = keyed(&<Hmac<Sha256> as Mac>::new(&block), b"Hi There");
    let want = [0xb034_4c61_d8db_3853, 0x5ca8_afce_af0b_f12b, 0x881d_c200_c983_3da7, 0x26e9_376c_2e32_cff7];
    assert_eq!(hash, want);
    let hex = |hash: Hash| hash.map(|word| format!("{word:016x}")).concat();
    assert_eq!(hex(hash), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    // Every bit of a hash is compared, and another process has other hashes.
    for bit in 0..256 {
        let mut other = hash;
        other[bit / 64] ^= 1 << (bit % 64);
        assert!(!bool::from(same(&hash, &other)), "{bit}");
    }
    assert!(bool::from(same(&hash, &hash)));
    let keys = [key("a", "sk-secret-1")];
    let (one, other) = (keyring(&keys), Keyring::new(&keys, [8; 32]));
    assert_ne!(one.known, other.known);
}

#[test]
fn expired_keys_say_so_to_their_owner_only() {
    let expires = Some(now());
    let keyring = keyring(&[edge::Key { expires, ..key("a", "sk-secret-1") }]);
    let find = |shown: &[u8], now| keyring.find(shown, now).map(|caller| caller.slot);
    assert_eq!(find(b"sk-secret-1", now() - Duration::from_nanos(1)), Ok(0));
    assert_eq!(find(b"sk-secret-1", now()), Err(Refused::Expired));
    assert_eq!(find(b"sk-secret-2", now()), Err(Refused::Unknown));
}

#[test]
fn a_new_configuration_keeps_what_callers_have_used() {
    let limited = |name: &str, secret: &str| edge::Key { requests_per_minute: 2, ..key(name, secret) };
    let old = keyring(&[limited("a", "sk-a"), limited("b", "sk-b")]);
    let admit = |keyring: &Keyring, secret: &[u8]| {
        keyring.find(secret, now()).is_ok_and(|caller| caller.quota.admit(0, None, now()).is_ok())
    };
    assert!(admit(&old, b"sk-a") && admit(&old, b"sk-a") && !admit(&old, b"sk-a"));
    // Another order, another secret, one more, one less.
    let new = old.renewed(&[limited("c", "sk-c"), limited("a", "sk-other")]);
    assert!(!admit(&new, b"sk-other") && admit(&new, b"sk-c"));
    assert_eq!(found(&new, b"sk-a"), Err(Refused::Unknown));
    assert_eq!(found(&new, b"sk-b"), Err(Refused::Unknown));
    assert_eq!((found(&new, b"sk-c"), found(&new, b"sk-other")), (Ok(0), Ok(1)));
}

#[test]
fn models_are_one_with_and_without_case_tag_and_prefix() {
    let caller = caller_of(&["ollama/Llama3.2:latest", "qwen3*", "vllm/big"]);
    for good in [
        "llama3.2",
        "LLAMA3.2:LATEST",
        "ollama/llama3.2",
        "Ollama/Llama3.2:latest",
        "qwen3",
        "qwen3:latest",
        "Qwen3:8b",
        "ollama/qwen3-coder:30b",
        "VLLM/big",
        "ollama/vllm/big",
    ] {
        assert!(caller.may_use(good), "{good}");
    }
    for bad in [
        "",
        "ollama/",
        ":latest",
        "llama3",
        "llama3.2:8b",
        "llama3.20",
        "xllama3.2",
        "ollama/ollama/llama3.2",
        "qwen",
        "big",
        "vllm/",
        "vllm/big:latest:latest",
        "llama3.2:lätest",
        "ollamaé",
        "é",
    ] {
        assert!(!caller.may_use(bad), "{bad}");
    }
}

#[test]
fn stars_match_the_rest() {
    for everything in [&["*"][..], &["ollama/*"], &["a", "*"]] {
        let caller = caller_of(everything);
        assert!(["a", "ollama/a", "b:latest", "c/d", ""].iter().all(|name| caller.may_use(name)));
    }
    assert!(!caller_of(&[]).may_use("a"));
    let caller = caller_of(&["vllm/*", "oll*"]);
    assert!(caller.may_use("vllm/a") && caller.may_use("ollama/vllm/a") && caller.may_use("ollama/b"));
    assert!(!caller.may_use("vllm") && !caller.may_use("b"));
    // A star elsewhere is a letter: the configuration refuses it.
    assert!(!caller_of(&["a*b"]).may_use("aab") && caller_of(&["a*b"]).may_use("a*b"));
}

#[test]
fn names_are_compared_as_the_configuration_compares_them() {
    let names = ["a", "A:latest", "a:LATEST", "a:latest:latest", "a:lates", "latest", "aé:latest", "é"];
    for pattern in names {
        let caller = caller_of(&[pattern]);
        for name in names {
            assert_eq!(caller.may_use(name), normalized(pattern) == normalized(name), "{pattern} {name}");
        }
    }
}

#[test]
fn a_secret_is_shown_in_every_spelling() {
    let bare: &[u8] = b"sk-secret-1";
    for value in [
        &b"sk-secret-1"[..],
        b"Bearer sk-secret-1",
        b"bearer sk-secret-1",
        b"BEARER sk-secret-1",
        b"bEaReR   sk-secret-1",
        b"Bearer\tsk-secret-1",
        b"Bearer \t sk-secret-1 \t",
        b"  sk-secret-1",
    ] {
        for place in 0..HEADERS.len() {
            let mut values = [None; HEADERS.len()];
            values[place] = Some(value);
            assert_eq!(shown(values), Some(bare), "{value:?} in {}", HEADERS[place]);
        }
    }
}

#[test]
fn the_first_header_that_holds_something_counts() {
    let (one, two): (&[u8], &[u8]) = (b"Bearer one", b"two");
    assert_eq!(shown([None; 4]), None);
    assert_eq!(shown([Some(two), Some(one), None, None]), Some(two));
    assert_eq!(shown([None, Some(one), Some(two), Some(two)]), Some(&b"one"[..]));
    assert_eq!(shown([None, None, Some(two), Some(one)]), Some(two));
    assert_eq!(HEADERS, ["x-litellm-api-key", "authorization", "x-api-key", "api-key"]);
    for empty in [&b""[..], b" ", b"\t", b"Bearer", b"bearer ", b"BEARER \t "] {
        assert_eq!(shown([Some(empty), Some(empty), None, Some(two)]), Some(two), "{empty:?}");
        assert_eq!(shown([Some(empty); 4]), None, "{empty:?}");
    }
}

#[test]
fn what_only_looks_like_a_scheme_is_part_of_the_secret() {
    for value in
        [&b"Basic c2stc2VjcmV0"[..], b"Bearersk", b"Bearer\0sk", b"Beare sk", b"sk-\0", b"a, b", b"\xff"]
    {
        assert_eq!(shown([None, Some(value), None, None]), Some(value), "{value:?}");
    }
    // Once only.
    assert_eq!(shown([None, Some(b"Bearer Bearer sk"), None, None]), Some(&b"Bearer sk"[..]));
}

#[test]
fn debug_shows_neither_secret_nor_hash() {
    let secret = "sk-canary-0123456789";
    let keyring = keyring(&[edge::Key { tokens_per_minute: 9, ..key("the-name", secret) }]);
    let caller = keyring.find(secret.as_bytes(), now()).unwrap();
    let (hash, plain) = (keyring.known[0], Sha256::digest(secret));
    let refused = keyring.find(b"x", now()).unwrap_err();
    let text = format!("{keyring:?} {keyring:#?} {caller:?} {:?} {refused:?}", caller.quota);
    assert!(text.contains("the-name"), "{text}");
    assert!(!text.contains("canary"), "{text}");
    for word in hash {
        assert!(!text.contains(&word.to_string()) && !text.contains(&format!("{word:x}")), "{text}");
    }
    assert!(!text.contains(&format!("{:?}", plain.as_slice())), "{text}");
    assert!(!text.contains(&format!("{:?}", PROCESS_KEY)), "{text}");
}
