//! The page in a browser: live numbers, keyboard, names for screen readers, contrast in both schemes, narrow and wide,
//! the token, and a connection that is lost and comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::browser::Browser;
use super::support::Gateway;
use super::support::fleet::{configuration, json as body, quick, until};
use super::{TOKEN, ask, chat, fleet, traffic};

const LIVE: &str = "document.getElementById('status')?.dataset.state === 'live'";

/// Texts whose contrast to their ground is below 4.5 (WCAG 2.2, 1.4.3).
const FAINT: &str = r"(() => {
  const parts = (color) => color.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.body.querySelectorAll('*')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const field = /^(INPUT|SELECT|TEXTAREA)$/.test(node.tagName);
    if (!(own || field) || !node.getClientRects().length) continue;
    const [a, b] = [light(parts(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faint.push(`${node.tagName} ${node.className} ${node.textContent.slice(0, 30)}: ${contrast}`);
  }
  return faint;
})()";

/// Asks something of the gateway again and again while `f` runs.
fn under_load<T>(gateway: &Gateway, f: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                chat(
                    gateway,
                    if n % 9 == 0 { "broken" } else { "llama3.2" },
                    n % 3 == 0,
                    &format!("load-{n}"),
                );
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Everything a person can use has a name, everything a table holds a title.
fn assert_named(browser: &mut Browser) {
    let tree = browser.call("Accessibility.getFullAXTree", &json!({}));
    let mut seen = 0;
    for node in tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] != true) {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        if ["button", "switch", "textbox", "combobox", "table", "region", "image", "link"].contains(&role) {
            seen += 1;
            assert!(
                node["name"]["value"].as_str().is_some_and(|name| !name.is_empty()),
                "{role} without a name: {node}"
            );
        }
    }
    assert!(seen > 12, "{seen}");
    let loud = "[...document.querySelectorAll('[aria-live]')].map((node) => node.id)";
    assert_eq!(browser.value(loud), json!(["status", "explained"]), "numbers are not read out by themselves");
}

#[test]
fn the_page_is_live_and_fit_for_eyes_keys_and_screen_readers() {
    let fleet = fleet(quick(2), "[guard]\n");
    let gateway = &fleet.gateway;
    traffic(gateway);
    let hostile = "<img/src=x/onerror=document.title='owned'>";
    assert_eq!(chat(gateway, "none", false, hostile), 404);
    let mut browser = Browser::start();
    browser.look(1600, 1000, "light");
    under_load(gateway, || {
        browser.open(&format!("http://{}/ui", gateway.admin));
        browser.until("it is live", LIVE);
        browser.until(
            "requests flow",
            "parseFloat(document.querySelector('[data-now=requests_s]').textContent) > 0",
        );
        browser
            .until("latency", "/\\d (ms|s)/.test(document.querySelector('#times tbody tr td').textContent)");
        browser.until("a line", "document.querySelector('#spark-rate .line').getAttribute('d').length > 20");
        let text = |browser: &mut Browser, of: &str| {
            let value = browser.value(&format!("document.querySelector('{of}').innerText"));
            value.as_str().unwrap().to_owned()
        };
        let endpoints = text(&mut browser, "#endpoints");
        assert!(["e0", "e1", "healthy", "closed"].iter().all(|word| endpoints.contains(word)), "{endpoints}");
        let failures = text(&mut browser, "#failures");
        assert!(
            failures.contains("r-broken-1") && failures.contains("The endpoint answered 500."),
            "{failures}"
        );
        assert!(failures.contains(hostile), "as text: {failures}");
        assert_eq!(browser.value("document.querySelectorAll('main img').length"), 0);
        assert!(
            text(&mut browser, "#models").contains("llama3.2")
                && text(&mut browser, "#keys").contains("team-a")
        );
        assert!(text(&mut browser, "#guard").contains("PromptInjection"));
        assert!(text(&mut browser, "#shards").contains('1'));
        let label = browser.value("document.getElementById('spark-rate').getAttribute('aria-label')");
        assert!(label.as_str().unwrap().contains("most"), "{label}");
        assert_named(&mut browser);
        flip_by_keyboard(&mut browser, gateway);
        looks(&mut browser);
        explains(&mut browser);
    });
    assert_eq!(browser.value("document.title"), "Corelane");
    // Where nothing explains yet the browser itself notes the 404.
    browser.complaints.retain(|complaint| !complaint.contains("/explain"));
    assert_eq!(browser.complaints, Vec::<String>::new());
    drop(browser);
    fleet.assert_quiet();
}

/// The switch of an endpoint by the space bar; focus and rows stay where they are.
fn flip_by_keyboard(browser: &mut Browser, gateway: &Gateway) {
    let disabled = || body(&ask(gateway.admin, "GET", "/status", "", ""))["endpoints"][0]["disabled"] == true;
    let switch = "[aria-label=\"e0 takes requests\"]";
    browser.value(&format!("window.kept = document.querySelector('{switch}'); kept.focus()"));
    browser.press(" ");
    until("it is disabled", || disabled().then_some(()));
    browser.until(
        "and shows it",
        "kept.getAttribute('aria-checked') === 'false' && kept.innerText.includes('disabled')",
    );
    browser.until("and says it", "document.getElementById('status').innerText.includes('e0 is disabled')");
    let time = browser.value("document.querySelector('[data-fact=time]').textContent");
    browser
        .until("time goes on", &format!("document.querySelector('[data-fact=time]').textContent !== {time}"));
    assert_eq!(
        browser.value("document.activeElement === kept && kept.isConnected"),
        true,
        "the row is the same"
    );
    browser.shoot("disabled");
    browser.press("Enter");
    until("it is enabled", || (!disabled()).then_some(()));
    browser.until("and shows it", "kept.getAttribute('aria-checked') === 'true'");
    browser.press("Tab");
    let outline =
        "getComputedStyle(document.activeElement).outlineStyle !== 'none' && document.activeElement !== kept";
    assert_eq!(browser.value(outline), true, "the focus shows");
}

/// The form asks as `/explain` wants to be asked, and shows what it is told; first of whatever answers, then of a set text.
fn explains(browser: &mut Browser) {
    let submit = "document.getElementById('explain').requestSubmit()";
    browser.value(submit);
    browser.until("some answer", "document.getElementById('explained').textContent.length > 10");
    let answer = json!({
        "would": "be sent to e1", "endpoint": "e1", "model": "llama3.2",
        "steps": [
            {"step": "key", "result": "team-a", "why": "the key is known"},
            {"step": "pick", "result": {"endpoint": "e1"}, "why": "<b>least</b> busy", "in_flight": [3, 4]},
        ],
    });
    browser.value(&format!(
        "window.asked = null; window.real = window.fetch; window.fetch = (path, options) => path !== '/explain' ? \
         real(path, options) : (asked = JSON.parse(options.body), Promise.resolve(new Response({:?})));",
        answer.to_string()
    ));
    browser.value("document.getElementById('ex-key').value = 'team-a'; document.getElementById('ex-prompt').value = 'Why?'");
    browser.value(submit);
    browser.until("the steps", "document.querySelectorAll('#explained li').length === 2");
    let asked = browser.value("asked");
    let body = json!({"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}]});
    assert_eq!(asked, json!({"path": "/v1/chat/completions", "key": "team-a", "body": body}));
    let told = browser.value("document.getElementById('explained').innerText");
    let told = told.as_str().unwrap();
    for part in
        ["It would be sent to e1.", "key team-a – the key is known", "<b>least</b> busy", "in_flight: 3, 4"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    browser.shoot("explained");
    browser.value("window.fetch = real");
}

/// Both schemes, three widths: nothing is faint, and nothing wider than the page but what scrolls in itself.
fn looks(browser: &mut Browser) {
    for scheme in ["light", "dark"] {
        for width in [380, 1000, 1600] {
            browser.look(width, 1000, scheme);
            let dark = browser.value("matchMedia('(prefers-color-scheme: dark)').matches");
            assert_eq!(dark, scheme == "dark");
            std::thread::sleep(Duration::from_millis(300)); // a switch may still be turning
            assert_eq!(browser.value(FAINT), json!([]), "{scheme} {width}");
            let wide = browser.value("document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(u64::from(width)), "{wide} in {width}");
            browser.shoot(&format!("{scheme}-{width}"));
        }
    }
}

#[test]
fn the_page_asks_for_the_token_and_comes_back_to_a_gateway_that_does() {
    let server = format!("shards = 1\nadmin_token = \"{TOKEN}\"");
    let toml = configuration(&["127.0.0.1:9".parse().unwrap()], &server, "");
    let gateway = Gateway::start(&toml);
    let admin = gateway.admin;
    let mut browser = Browser::start();
    browser.look(1000, 700, "light");
    browser.open(&format!("http://{admin}/ui"));
    let asks = "document.activeElement?.id === 'token' && !document.getElementById('token-form').hidden";
    browser.until("it asks", asks);
    assert_eq!(browser.value("document.querySelectorAll('#endpoints tbody tr').length"), 0);
    browser.shoot("token");
    browser.write("wrong");
    browser.press("Enter");
    browser.until("it says so", "document.getElementById('status').innerText.includes('does not open')");
    browser.until("it asks again", asks);
    browser.write(TOKEN);
    browser.press("Enter");
    browser.until("it is live", LIVE);
    browser.until("the endpoint", "document.querySelector('#endpoints').innerText.includes('e0')");
    let kept = "[Object.values(sessionStorage).join(), localStorage.length, document.cookie, location.href]";
    assert_eq!(browser.value(kept), json!([TOKEN, 0, "", format!("http://{admin}/ui")]));
    browser.value("document.querySelector('.switch').click()");
    let fields = format!("Authorization: Bearer {TOKEN}\r\n");
    until("the switch has the token", || {
        (body(&ask(admin, "GET", "/status", &fields, ""))["endpoints"][0]["disabled"] == true).then_some(())
    });
    drop(gateway);
    browser.until("the loss shows", "document.getElementById('status').dataset.state === 'lost'");
    browser.until("in words", "document.getElementById('status').innerText.includes('Connection lost')");
    assert_eq!(browser.value(FAINT), json!([]), "old numbers can be read");
    browser.shoot("lost");
    let again = toml.replace("admin_listen = \"127.0.0.1:0\"", &format!("admin_listen = \"{admin}\""));
    let gateway = Gateway::start(&again);
    browser.until("it comes back", LIVE);
    let noted: Vec<&String> =
        browser.complaints.iter().filter(|one| !one.contains("401") && !one.contains("net::ERR")).collect();
    assert_eq!(noted, Vec::<&String>::new(), "but for what the browser notes of answers and connections");
    assert_ne!(browser.value("document.body.innerText.length"), Value::from(0));
    drop(browser);
    assert!(!gateway.log().contains(TOKEN));
}
