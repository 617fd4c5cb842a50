//! A browser without a window: Chromium, driven through its debugging pipe (messages of the DevTools protocol, each ended by
//! a zero byte). Keeps what the page's console complains of. The profile is a temporary folder, gone with the value.
//!
//! `CORELANE_UI_SHOTS` names a folder for screenshots, for people who want to look at the page.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long the browser may take for anything; it shares two cores with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// One browser with one page.
pub struct Browser {
    child: Child,
    profile: PathBuf,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    next: u64,
    answers: HashMap<u64, Value>,
    /// Errors and warnings of the console, and exceptions that nobody caught.
    pub complaints: Vec<String>,
}

impl Browser {
    /// Starts it with an empty page.
    ///
    /// # Panics
    /// Where there is no `chromium`.
    pub fn start() -> Browser {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let stem =
            format!("corelane-browser-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let profile = std::env::temp_dir().join(stem);
        std::fs::create_dir_all(&profile).unwrap();
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(
                "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                 --disable-background-networking --disable-component-update --hide-scrollbars \
                 --remote-debugging-pipe --user-data-dir=\"$0\" about:blank 3<&0 4>&1 0</dev/null 1>/dev/null",
            )
            .arg(&profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let commands = child.stdin.take().unwrap();
        let mut events = BufReader::new(child.stdout.take().unwrap());
        let (send, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while events.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                if send.send(serde_json::from_slice(&message).unwrap_or_default()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Browser {
            child,
            profile,
            commands,
            messages,
            session: None,
            next: 0,
            answers: HashMap::new(),
            complaints: Vec::new(),
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Page", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// One command and its result.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let sent =
            self.commands.write_all(format!("{message}\0").as_bytes()).and_then(|()| self.commands.flush());
        sent.expect("chromium takes commands; install Debian's package chromium");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            self.take(
                message.unwrap_or_else(|_| panic!("{method}: chromium does not answer; is it installed?")),
            );
        }
    }

    fn take(&mut self, message: Value) {
        if let Some(id) = message["id"].as_u64() {
            self.answers.insert(id, message);
            return;
        }
        let of = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                matches!(of["type"].as_str(), Some("error" | "warning" | "assert"))
            }
            Some("Log.entryAdded") => matches!(of["entry"]["level"].as_str(), Some("error" | "warning")),
            _ => false,
        };
        if complaint {
            self.complaints.push(of.to_string());
        }
    }

    /// Loads a page, with its scripts.
    pub fn open(&mut self, url: &str) {
        let result = self.call("Page.navigate", &json!({"url": url}));
        assert!(result["errorText"].is_null(), "{url}: {result}");
        self.until("the page is loaded", "document.readyState === 'complete'");
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", &parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until the expression is true.
    pub fn until(&mut self, what: &str, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression) != true {
            let page = "document.body ? document.body.innerText : ''";
            assert!(Instant::now() < deadline, "{what}: not in time; the page says\n{}", self.value(page));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Types into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Presses a key: `Tab`, `Enter` or a space.
    pub fn press(&mut self, key: &str) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            _ => ("Space", 32, " "),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Makes the page so wide, in a colour scheme.
    pub fn look(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Takes a picture of the whole page, if somebody wants one.
    pub fn shoot(&mut self, name: &str) {
        use base64::Engine as _;
        let Ok(folder) = std::env::var("CORELANE_UI_SHOTS") else { return };
        let picture =
            self.call("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true}));
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.commands.write_all(b"{\"id\":999999,\"method\":\"Browser.close\"}\0");
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
