//! Reports, as a person sees them: in a browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::browser::{Browser, Page};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/results")
        .join(name)
}

fn report(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linecard"));
    command.arg("report").args(words).output().unwrap()
}

/// Runs it without an error; its standard output.
fn made(words: &[&str]) -> String {
    let output = report(words);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Of each picture: its heading, its size, how many marks are within it and have a colour, and how many do not.
const PICTURES: &str = r#"[...document.querySelectorAll("figure")].map(figure => {
    const svg = figure.querySelector(":scope > svg"), frame = svg.getBoundingClientRect();
    const marks = [...svg.querySelectorAll("rect, circle, polyline, path.point, path.refused, path.limit")];
    const seen = marks.filter(mark => {
        const box = mark.getBoundingClientRect(), style = getComputedStyle(mark);
        const inside = box.left >= frame.left - 8 && box.right <= frame.right + 8
            && box.top >= frame.top - 8 && box.bottom <= frame.bottom + 8;
        const painted = [style.fill, style.stroke].some(paint => paint.startsWith("rgb(") || paint.startsWith("rgba("));
        return inside && painted && box.width + box.height > 0 && style.visibility == "visible";
    });
    return {
        title: figure.querySelector("figcaption").textContent,
        width: frame.width, height: frame.height, seen: seen.length, unseen: marks.length - seen.length,
        described: document.getElementById(svg.getAttribute("aria-describedby")).textContent.length,
    };
})"#;

/// The page is all there is to it, nothing complained, and every picture can be seen.
fn assert_good(page: &mut Page<'_>, url: &str, titles: &[&str]) {
    assert_eq!(page.complaints(), [""; 0]);
    let others: Vec<_> = page
        .requests()
        .into_iter()
        .filter(|asked| asked != url && asked != "data:,")
        .collect();
    assert_eq!(others, [""; 0], "asked for something else");
    assert_eq!(page.evaluate("document.scripts.length"), 0);
    let pictures = page.evaluate(PICTURES);
    let pictures = pictures.as_array().unwrap();
    for title in titles {
        let found = pictures
            .iter()
            .filter(|p| p["title"].as_str().unwrap().contains(title));
        assert_eq!(found.count(), 1, "{title}: {pictures:#?}");
    }
    for picture in pictures {
        let number = |key: &str| picture[key].as_f64().unwrap();
        assert!(
            number("width") > 300.0 && number("height") > 150.0,
            "{picture}"
        );
        assert!(
            number("seen") >= 2.0 && number("unseen") == 0.0,
            "{picture}"
        );
        assert!(number("described") > 20.0, "{picture}");
    }
    // Nothing is wider than the window, however narrow that is.
    let too_wide = page
        .evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(too_wide, 0);
}

#[test]
fn a_browser_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (example("before.json"), example("after.json"));
    made(&[text(&before), "--output", text(dir.path())]);
    made(&[text(&before), text(&after), "--output", text(dir.path())]);
    let hostile = dir.path().join("hostile.json");
    fs::write(&hostile, hostile_results(&before)).unwrap();
    made(&[text(&hostile)]);
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let url = |name: &str| format!("file://{}", dir.path().join(name).display());

    let titles = [
        "Throughput by frame size",
        "Latency by percentile",
        "Frame loss",
        "Longest burst",
        "achieved against asked",
    ];
    let mut page = browser.open(&url("before.html"), 1280, 900);
    assert_good(&mut page, &url("before.html"), &titles);
    assert_is_dark_if_wanted(&mut page);

    let mut page = browser.open(&url("before.html"), 390, 800);
    assert_good(&mut page, &url("before.html"), &titles);

    let mut page = browser.open(&url("after-vs-before.html"), 1280, 900);
    let titles = [
        "after against before",
        "Throughput by frame size",
        "Latency by percentile, 64 bytes",
    ];
    assert_good(&mut page, &url("after-vs-before.html"), &titles);

    let mut page = browser.open(&url("hostile.html"), 1280, 900);
    assert_good(
        &mut page,
        &url("hostile.html"),
        &["Throughput by frame size"],
    );
    assert_eq!(page.evaluate("typeof pwned"), "undefined");
    assert_eq!(
        page.evaluate("document.querySelectorAll('img, script, iframe, a').length"),
        0
    );
    let shown = page.evaluate("document.querySelector('h1').textContent");
    assert!(
        shown
            .as_str()
            .unwrap()
            .contains("<img src=x onerror=pwned=1>"),
        "{shown}"
    );
}

/// Its colours are other ones where the reader has chosen dark, and both times can be read.
fn assert_is_dark_if_wanted(page: &mut Page<'_>) {
    let colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color, \
        getComputedStyle(document.querySelector('.bar')).fill]";
    let choose =
        |scheme: &str| json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
    page.call("Emulation.setEmulatedMedia", choose("light"));
    let light = page.evaluate(colours);
    page.call("Emulation.setEmulatedMedia", choose("dark"));
    let dark = page.evaluate(colours);
    for at in 0..3 {
        assert_ne!(light[at], dark[at]);
    }
    assert_ne!(dark[0], dark[1]);
}

/// Names that would like to be more than that.
fn hostile_results(of: &Path) -> String {
    let mut all: Value = serde_json::from_str(&fs::read_to_string(of).unwrap()).unwrap();
    let text = "\"'><img src=x onerror=pwned=1><script>pwned=1</script></svg></style><a href=http://192.0.2.1/>&lt;\u{202e}";
    all["ports"][0]["name"] = text.into();
    all["ports"][0]["notes"] = json!([text]);
    all["machine"]["host"] = text.into();
    all["machine"]["processor"] = text.into();
    all["machine"]["remarks"] = json!({text: text, "hypervisor": text, "busy": text});
    all["settings"] = json!({text: text});
    all["warnings"] = json!([text]);
    all["command"] = json!([text, text]);
    all["started"] = text.into();
    all["version"] = text.into();
    all["throughput"][0]["limit"] = text.into();
    all["trials"][0]["test"] = text.into();
    all["trials"][1]["faults"] = json!([text]);
    all.to_string()
}

#[test]
fn what_it_writes_and_prints() {
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("run.json");
    fs::copy(example("before.json"), &results).unwrap();
    let before = fs::read(&results).unwrap();
    let printed = made(&[text(&results), "--json"]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["html"], text(&dir.path().join("run.html")));
    assert_eq!(
        fs::read(&results).unwrap(),
        before,
        "results are as they were"
    );
    let page = fs::read(dir.path().join("run.html")).unwrap();
    assert!(page.len() < 200_000, "{}", page.len());
    let csv = fs::read_to_string(dir.path().join("run.csv")).unwrap();
    assert!(
        csv.starts_with("test,trial,frame_bytes,at,repetition,figure,value,unit,valid,note\r\n")
    );
    assert!(csv.contains("\r\nthroughput,,64,loss_goal=0,,fps,"));
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 3);
}

#[test]
fn a_comparison_says_what_is_significant_and_ends_with_4_if_asked_to() {
    let (before, after) = (example("before.json"), example("after.json"));
    let (before, after) = (text(&before), text(&after));
    let same = made(&[before, before, "--fail-on", "regression"]);
    assert!(same.contains("\n0 worse, 0 better, "), "{same}");
    let compared: Value = serde_json::from_str(&made(&[before, after, "--json"])).unwrap();
    let figures = compared["figures"].as_array().unwrap();
    let has = |verdict: &str| figures.iter().any(|figure| figure["verdict"] == verdict);
    assert!(has("better") && has("same"), "{figures:#?}");
    // What is better one way is worse the other.
    let output = report(&[after, before, "--fail-on", "regression"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    made(&[
        after,
        before,
        "--fail-on",
        "regression",
        "--tolerance",
        "90",
    ]);
    made(&[after, before]);
}

#[test]
fn errors_name_the_file_and_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read_to_string(example("before.json")).unwrap();
    let cases = [
        (
            "cut.json",
            whole[..whole.len() / 2].to_owned(),
            "ends in the middle",
        ),
        (
            "newer.json",
            whole.replacen("\"format\": 1", "\"format\": 99", 1),
            "format 99",
        ),
        (
            "other.json",
            "{\"name\": 1}".to_owned(),
            "no results of linecard",
        ),
        ("empty.json", String::new(), "ends in the middle"),
    ];
    for (name, text, reason) in cases {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        let output = report(&[path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(name) && said.contains(reason), "{said}");
    }
    let output = report(&["/nonexistent/run.json"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/run.json"));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        4,
        "no page of what could not be read"
    );
}
