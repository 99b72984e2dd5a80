//! A real browser without a window, driven over a pipe by the protocol of its developer tools.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// Any of these will do; they are one browser under several names.
const NAMES: [&str; 6] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chromium-headless-shell",
    "microsoft-edge",
];

/// Set by `scripts/test` where no browser can be installed, which it says by itself.
const DO_WITHOUT: &str = "LINECARD_TEST_WITHOUT_BROWSER";

/// Only for a browser that hangs: answers come at once.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    events: VecDeque<Value>,
    last: u64,
    /// Where the browser keeps its things.
    _profile: tempfile::TempDir,
}

/// A page that is open, and what happened in it.
pub struct Page<'a> {
    browser: &'a mut Browser,
    session: String,
}

impl Browser {
    /// `None` if there is none, and that is known to whoever runs the tests.
    pub fn start() -> Option<Self> {
        let found = |name: &&str| {
            let answer = Command::new(name)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            answer.is_ok_and(|status| status.success())
        };
        let Some(name) = NAMES.into_iter().find(found) else {
            assert!(
                std::env::var_os(DO_WITHOUT).is_some(),
                "no browser is here to open the report with: scripts/setup --browser installs one; \
                 {DO_WITHOUT}=1 does without, and then nobody has seen the report"
            );
            eprintln!("### NOT TESTED: no browser is here, and {DO_WITHOUT} is set");
            return None;
        };
        Some(Self::of(name))
    }

    fn of(name: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol is spoken on descriptors 3 and 4. As root, and in containers, its sandbox cannot be had.
        let mut child = Command::new("sh")
            .arg("-c")
            .arg("exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1")
            .arg("sh")
            .arg(name)
            .args(["--headless", "--no-sandbox", "--remote-debugging-pipe"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            // Nothing of its own over the network.
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else {
                    continue;
                };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            to,
            from,
            events: VecDeque::new(),
            last: 0,
            _profile: profile,
        }
    }

    fn receive(&mut self) -> Value {
        self.from
            .recv_timeout(PATIENCE)
            .expect("the browser answers")
    }

    /// Says something and waits for the answer; what happens meanwhile is kept.
    fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .unwrap();
        loop {
            let answer = self.receive();
            if answer["id"] == self.last {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    /// Opens a page of so many pixels and waits until all of it is there.
    pub fn open(&mut self, url: &str, width: u32, height: u32) -> Page<'_> {
        let target = self.call(None, "Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call(None, "Target.attachToTarget", attach)["sessionId"]
            .as_str()
            .unwrap()
            .to_owned();
        let mut page = Page {
            browser: self,
            session,
        };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        page.call("Emulation.setDeviceMetricsOverride", size);
        page.browser.events.clear();
        page.call("Page.navigate", json!({"url": url}));
        page.wait_for("Page.loadEventFired");
        page
    }
}

impl Page<'_> {
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let session = self.session.clone();
        self.browser.call(Some(&session), method, params)
    }

    fn wait_for(&mut self, event: &str) {
        let is_it = |message: &Value| message["method"] == event;
        while !self.browser.events.iter().any(is_it) {
            let message = self.browser.receive();
            self.browser.events.push_back(message);
        }
    }

    /// What an expression of JavaScript is, in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", params);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Everything that the page complained about, or had printed.
    pub fn complaints(&self) -> Vec<String> {
        let methods = [
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Log.entryAdded",
        ];
        self.happened(&methods).map(Value::to_string).collect()
    }

    /// Every address that was asked for.
    pub fn requests(&self) -> Vec<String> {
        let all = self.happened(&["Network.requestWillBeSent"]);
        all.map(|event| {
            event["params"]["request"]["url"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
    }

    fn happened<'b>(&'b self, methods: &'b [&str]) -> impl Iterator<Item = &'b Value> {
        let events = self.browser.events.iter();
        events.filter(|event| methods.iter().any(|method| event["method"] == *method))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when the pipe does; but not if it hangs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
