use super::*;

/// Two ports in a pair, seven lines; more can follow.
const TWO: &str = r#"[[port]]
name = "a"
open = "null:0"
[[port]]
name = "b"
open = "null:1"
"#;
const PAIR: &str = "[forward]\npairs = [[\"a\", \"b\"]]\n";

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse("f.toml", text, [])
}

/// What is said about a text, line by line without the first.
#[track_caller]
fn complaints(text: &str) -> Vec<String> {
    let problems = parse(text).expect_err("a mistake").to_string();
    problems
        .lines()
        .skip(1)
        .map(|line| line.trim_start().to_owned())
        .collect()
}

/// That exactly this is said about a text, with these words in it.
#[track_caller]
fn one_complaint(text: &str, begins: &str, words: &[&str]) {
    let all = complaints(text);
    let [complaint] = all.as_slice() else {
        panic!("{all:#?}\nfor\n{text}")
    };
    assert!(complaint.starts_with(begins), "{complaint}");
    for word in words {
        assert!(complaint.contains(word), "no {word:?} in: {complaint}");
    }
    assert!(complaint.contains("; "), "no remedy in: {complaint}");
}

#[test]
fn the_example_is_right_and_in_the_examples() {
    let config = parse(EXAMPLE).expect("right");
    assert_eq!(
        summary(&config),
        "2 ports, 1 pair, mode io, 1 worker, burst 32, idle adaptive, until Ctrl-C"
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/forward.toml");
    let copy = std::fs::read_to_string(path).expect("examples/forward.toml");
    assert!(
        copy == EXAMPLE,
        "copy cmd/config/example.toml to examples/forward.toml"
    );
}

#[test]
fn the_example_has_every_key_and_true_defaults() {
    // The same text with every key in use.
    // Without DPDK its keys are refused.
    let has_dpdk = cfg!(feature = "dpdk");
    let (others, _) = EXAMPLE.split_once("[dpdk]").expect("the last section");
    let text = if has_dpdk { EXAMPLE } else { others };
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split(' ').nth(1) == Some("=") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = parse(&all.replace("lcores = [2, 3]", "lcores = \"2\"")).expect("right");
    let defaults = parse(EXAMPLE).expect("right");
    for (key, origin) in keys::KEYS.iter().zip(&config.origins) {
        if key.section == "dpdk" && !has_dpdk {
            continue;
        }
        assert_ne!(
            *origin,
            problem::Place::Default,
            "{} is not in the example",
            key.path()
        );
        let (written, default) = ((key.show)(&config.settings), (key.show)(&defaults.settings));
        assert!(
            written == default || default.is_null(),
            "{}: not its default",
            key.path()
        );
    }
    assert!(config.ports[0].peer.is_some());
}

#[test]
fn one_port_needs_no_pair_and_two_do() {
    let one = "[[port]]\nname = \"a\"\nopen = \"null:\"\n";
    assert_eq!(parse(one).expect("alone").partners, [0]);
    assert_eq!(
        parse(&format!("{TWO}{PAIR}")).expect("a pair").partners,
        [1, 0]
    );
    let itself = format!("{TWO}[forward]\npairs = [[\"a\", \"a\"], [\"b\", \"b\"]]\n");
    assert_eq!(parse(&itself).expect("itself").partners, [0, 1]);
    for mode in ["rx-drop", "tx-only", "icmp-echo"] {
        let none = format!("{TWO}[forward]\nmode = \"{mode}\"\n");
        assert_eq!(parse(&none).expect(mode).partners, [0, 1]);
    }
    let alone = complaints(TWO);
    assert_eq!(alone.len(), 2, "{alone:?}");
    assert!(
        alone[0].starts_with("f.toml:1: forward.pairs: port \"a\" is in no pair"),
        "{alone:?}"
    );
    assert!(
        alone[0].contains("add [\"a\", \"b\"] to pairs in [forward]"),
        "{alone:?}"
    );
    assert!(alone[1].starts_with("f.toml:4: "), "{alone:?}");
}

#[test]
fn values_that_cannot_be_used_name_line_and_remedy() {
    for (section, line, words) in [
        (
            "engine",
            "burst = 0",
            &["burst: 0 is not between 1 and 512", "32 is usual"][..],
        ),
        ("engine", "burst = 513", &["513 is not between"]),
        (
            "engine",
            "workers = 0",
            &["workers: 0 is not", "leave it out"],
        ),
        (
            "engine",
            "lcores = []",
            &["empty list", "name at least one"],
        ),
        (
            "engine",
            "lcores = [2, 2]",
            &["cpu 2 is listed twice", "oversubscribe = true"],
        ),
        (
            "engine",
            "lcores = \"7-4\"",
            &["'7-4' runs backwards", "4-7"],
        ),
        (
            "engine",
            "duration = \"0s\"",
            &["before the first frame", "leave it out"],
        ),
        (
            "engine",
            "duration = 10",
            &["10 is not a duration", "\"10s\""],
        ),
        (
            "engine",
            "packets = 0",
            &["0 is not 1 or more", "without a limit"],
        ),
        ("engine", "idle = \"lazy\"", &["spin, adaptive, sleep"]),
        (
            "engine",
            "brust = 32",
            &["no such key in [engine]", "did you mean burst?"],
        ),
        (
            "engine",
            "pin = \"yes\"",
            &["\"yes\" is neither", "without quotes"],
        ),
        (
            "pool",
            "size = 0",
            &["0 is not between 2 and 67108864", "leave it out"],
        ),
        ("pool", "size = 67108865", &["67108865 is not between"]),
        (
            "pool",
            "size = 63",
            &["63 mbufs are too few for 1 worker", "use 64 or more"],
        ),
    ] {
        let text = format!("{TWO}{PAIR}[{section}]\n{line}\n");
        one_complaint(&text, &format!("f.toml:10: {section}."), words);
    }
    for (line, words) in [
        (
            "mode = \"l3\"",
            &["\"l3\" is not one of io, mac", "write one of"][..],
        ),
        ("frame_size = 63", &["63 is not between 64 and 1518", "FCS"]),
        ("frame_size = 9000", &["9000 is not between"]),
    ] {
        one_complaint(&format!("{TWO}{PAIR}{line}\n"), "f.toml:9: forward.", words);
    }
}

#[test]
fn dpdk_is_set_up_where_it_is_built_in() {
    let with = |line: &str| format!("{TWO}{PAIR}[dpdk]\n{line}\n");
    if cfg!(not(feature = "dpdk")) {
        one_complaint(
            &with("pages = \"huge\""),
            "f.toml:10: dpdk.pages: ",
            &["no DPDK", "--features dpdk", "scripts/setup --dpdk"],
        );
        return;
    }
    let text = with("pages = \"huge\"\nmemory_mib = 64\nfile_prefix = \"x\"\neal_args = [\"--a\"]");
    let variables = [
        ("LINECARD_DPDK_PAGES".into(), "normal".into()),
        ("LINECARD_DPDK_EAL_ARGS".into(), "--b --c=1".into()),
    ];
    let dpdk = Config::parse("f.toml", &text, variables)
        .expect("right")
        .settings
        .dpdk;
    assert_eq!((dpdk.pages, dpdk.memory_mib), (keys::Pages::Normal, 64));
    assert_eq!(dpdk.file_prefix.as_deref(), Some("x"));
    assert_eq!(
        dpdk.eal_args,
        Some(vec!["--b".to_owned(), "--c=1".to_owned()])
    );
    for (line, words) in [
        ("pages = \"big\"", &["auto, huge, normal"][..]),
        ("memory_mib = 8", &["8 is not between 32 and"]),
        ("file_prefix = \"a/b\"", &["\"a/b\" cannot be", "letters"]),
        ("eal_args = \"-m 4\"", &["not a list of texts"]),
        (
            "page = \"huge\"",
            &["no such key in [dpdk]", "did you mean pages?"],
        ),
    ] {
        one_complaint(&with(line), "f.toml:10: dpdk.", words);
    }
}

#[test]
fn values_that_contradict_one_another_are_found() {
    let workers = format!("{TWO}{PAIR}[engine]\nworkers = 3\nlcores = \"4-7\"\n");
    one_complaint(
        &workers,
        "f.toml:11: engine.lcores",
        &["4 cpus", "3 workers of line 10"],
    );
    let pool = format!("{TWO}{PAIR}[engine]\nworkers = 4\nburst = 64\n[pool]\nsize = 511\n");
    one_complaint(
        &pool,
        "f.toml:13: pool.size",
        &["4 worker(s) with bursts of 64", "use 512"],
    );
    let burst = [("LINECARD_ENGINE_BURST".into(), "512".into())];
    let small = format!("{TWO}{PAIR}[pool]\nsize = 512\n");
    let problems = Config::parse("f.toml", &small, burst)
        .expect_err("too small")
        .to_string();
    assert!(
        problems.contains("f.toml:10: pool.size") && problems.contains("use 1024"),
        "{problems}"
    );
}

#[test]
fn ports_that_cannot_be_used_name_line_and_remedy() {
    for (port, begins, words) in [
        (
            "name = \"c\"",
            "f.toml:9: port.open: ",
            &["no open", "linecard ports"][..],
        ),
        (
            "open = \"null:2\"",
            "f.toml:9: port.name: ",
            &["no name", "add name"],
        ),
        (
            "name = \"c\"\nopen = \"eth1\"",
            "f.toml:11: port.open: ",
            &["eth1", "uring:eth1"],
        ),
        (
            "name = \"c\"\nopen = \"urnig:eth1\"",
            "f.toml:11: ",
            &["did you mean uring:eth1?"],
        ),
        (
            "name = \"c\"\nopen = \"warp:eth1\"",
            "f.toml:11: ",
            &["it has: auto, uring, xdp, tap"],
        ),
        (
            "name = \"c\"\nopen = \"null:0\"",
            "f.toml:11: ",
            &["opened on line 3 already"],
        ),
        (
            "name = \"a\"\nopen = \"null:2\"",
            "f.toml:10: port.name: ",
            &["port on line 2 already"],
        ),
        (
            "name = \"\"\nopen = \"null:2\"",
            "f.toml:10: port.name: ",
            &["is empty"],
        ),
        (
            "name = 3\nopen = \"null:2\"",
            "f.toml:10: port.name: ",
            &["3 is not text", "quotes"],
        ),
        (
            "name = \"c\"\nopen = \"null:2\"\npeer = \"02:00\"",
            "f.toml:12: port.peer: ",
            &["\"02:00\" is not six", "other end"],
        ),
        (
            "name = \"c\"\nopen = \"null:2\"\nper = \"02:00\"",
            "f.toml:12: port.per: ",
            &["no such key in [[port]]", "did you mean peer?"],
        ),
    ] {
        let text = format!("{TWO}[forward]\nmode = \"rx-drop\"\n[[port]]\n{port}\n");
        one_complaint(&text, begins, words);
    }
    // One interface, however it is to be received from, belongs to one port.
    let text = "[[port]]\nname = \"a\"\nopen = \"uring:eth1\"\n[[port]]\nname = \"b\"\n\
                open = \"uring:eth1?rx=ring\"\n[forward]\npairs = [[\"a\", \"b\"]]\n";
    one_complaint(
        text,
        "f.toml:6: port.open: ",
        &["uring:eth1 is opened on line 3 already"],
    );
    one_complaint("", "f.toml: port: there is no port", &["[[port]]"]);
    one_complaint("[port]\nname = \"a\"\n", "f.toml:1: port: ", &["[[port]]"]);
    one_complaint("port = [1]\n", "f.toml:1: port: ", &["1 is not a port"]);
    let many: String = (0..256)
        .map(|i| format!("[[port]]\nname = \"{i}\"\nopen = \"null:{i}\"\n"))
        .collect();
    one_complaint(
        &format!("{many}[forward]\nmode = \"rx-drop\"\n"),
        "f.toml:766: ",
        &["255"],
    );
}

#[test]
fn pairs_that_cannot_be_used_name_line_and_remedy() {
    for (pairs, begins, words) in [
        (
            "[[\"a\", \"b\"], [\"b\", \"c\"]]",
            "f.toml:8: forward.pairs: ",
            &["\"c\"", "are: a, b"][..],
        ),
        (
            "[[\"a\", \"b\"],\n[\"a\", \"a\"]]",
            "f.toml:9: ",
            &["\"a\" is in the pair on line 8"],
        ),
        (
            "[[\"a\"]]",
            "f.toml:8: ",
            &["a list of 1 is not a pair", "[[\"a\", \"b\"]]"],
        ),
        ("[[\"a\", 2]]", "f.toml:8: ", &["not a pair"]),
        ("[\"a\", \"b\"]", "f.toml:8: ", &["\"a\" is not a pair"]),
        ("\"a-b\"", "f.toml:8: ", &["\"a-b\" is not a list of pairs"]),
    ] {
        let text = format!("{TWO}[forward]\npairs = {pairs}\n");
        let all = complaints(&text);
        assert!(all[0].starts_with(begins), "{all:#?}");
        for word in words {
            assert!(all[0].contains(word), "no {word:?} in {all:#?}");
        }
    }
}

#[test]
fn sections_and_syntax_name_line_and_remedy() {
    one_complaint(
        &format!("{TWO}{PAIR}[engin]\nburst = 1\n"),
        "f.toml:9: engin: ",
        &["[engine]?"],
    );
    one_complaint(
        &format!("{TWO}{PAIR}[colours]\n"),
        "f.toml:9: ",
        &["[[port]], [forward], [[protocol]], [dpdk]"],
    );
    one_complaint(
        &format!("burst = 1\n{TWO}{PAIR}"),
        "f.toml:1: burst: ",
        &["below [engine]"],
    );
    one_complaint(
        &format!("engine = 1\n{TWO}{PAIR}"),
        "f.toml:1: engine: ",
        &["write [engine]"],
    );
    one_complaint(
        "[[ports]]\nname = \"a\"\n",
        "f.toml:1: ports: ",
        &["did you mean [[port]]?"],
    );
    one_complaint(
        &format!("{TWO}{PAIR}[forward]\n"),
        "f.toml:9: ",
        &["duplicate", "once"],
    );
    one_complaint(
        &format!("{TWO}{PAIR}mode = io\n"),
        "f.toml:9: ",
        &["double quotes"],
    );
    one_complaint(&format!("{TWO}{PAIR}mode = \"io\n"), "f.toml:9: ", &[]);
}

#[test]
fn all_mistakes_are_listed_at_once() {
    let text = format!("{TWO}[engine]\nburst = 0\nidel = \"spin\"\n[pool]\nsize = 1\n");
    let environment = [
        ("LINECARD_ENGINE_WORKERS".into(), "none".into()),
        ("LINECARD_WORKERS".into(), "2".into()),
    ];
    let problems = Config::parse("f.toml", &text, environment).expect_err("mistakes");
    let places: Vec<String> = problems.list.iter().map(|p| p.place.to_string()).collect();
    assert_eq!(
        places,
        [
            "line 1",
            "line 4",
            "line 8",
            "line 9",
            "line 11",
            "LINECARD_ENGINE_WORKERS",
            "LINECARD_WORKERS"
        ]
    );
    assert!(
        problems
            .to_string()
            .starts_with("f.toml: 7 problems\n  f.toml:1: "),
        "{problems}"
    );
    let verdict = Err(problems);
    let json = serde_json::to_value(Answer::new(&verdict)).expect("JSON");
    assert_eq!(
        (&json["ok"], &json["file"]),
        (&false.into(), &"f.toml".into())
    );
    assert_eq!(json["problems"][2]["key"], "engine.burst");
    assert_eq!(json["problems"][2]["place"], "line 8");
}

#[test]
fn files_that_cannot_be_read_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = Config::load(&folder.path().join("none.toml"))
        .expect_err("missing")
        .to_string();
    assert!(
        missing.contains("none.toml: cannot read it: No such file"),
        "{missing}"
    );
    assert!(missing.contains("linecard config example >"), "{missing}");
    let latin = folder.path().join("latin.toml");
    std::fs::write(&latin, b"# \xe9t\xe9\n").expect("a file");
    assert!(
        Config::load(&latin)
            .expect_err("not UTF-8")
            .to_string()
            .contains("UTF-8")
    );
}

/// Whatever is in a file, it is read or refused with a place, and nothing panics.
#[test]
fn no_text_panics() {
    let pieces = [
        "[",
        "]",
        "[[port]]\n",
        "=",
        "\"",
        "'",
        "\n",
        "engine",
        "burst",
        "pairs",
        ".",
        ",",
        "{",
        "}",
        "0",
        "-1",
        "1e9",
        "nan",
        "\u{feff}",
        "é",
        "\\u0000",
        "#",
        "name = \"a\"\n",
        "lcores = ",
        "open = \"null:\"\n",
        "[forward]\n",
        "duration = \"1s\"\n",
        "\r",
        "\0",
        "1979-05-27",
        "\"\"\"",
    ];
    for seed in 0..4000u64 {
        let mut random = Random(seed);
        let text: String = if seed % 2 == 0 {
            (0..random.below(40))
                .map(|_| pieces[random.below(pieces.len())])
                .collect()
        } else {
            // The example with a few pieces put in and a few bytes taken out.
            let mut text: Vec<char> = EXAMPLE.chars().filter(|c| *c != '#').collect();
            for _ in 0..random.below(6) {
                let at = random.below(text.len());
                text.remove(at);
                text.splice(at..at, pieces[random.below(pieces.len())].chars());
            }
            text.into_iter().collect()
        };
        let outcome = std::panic::catch_unwind(|| {
            if let Err(problems) = parse(&text) {
                let complaints = problems.to_string();
                assert!(!problems.list.is_empty() && complaints.contains("f.toml"));
            }
        });
        assert!(outcome.is_ok(), "seed {seed}: panics on {text:?}");
    }
    // Deep nesting must not exhaust the stack.
    for (open, close) in [("[", "]"), ("{a=", "}"), ("[{a=", "}]")] {
        let text = format!("a = {}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(parse(&text).is_err());
    }
    assert!(parse(&"a.".repeat(100_000)).is_err());
}

/// SplitMix64: the same texts on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }
}

/// A file with one port and these protocols.
fn protocols(text: &str) -> String {
    format!("[[port]]\nname = \"a\"\nopen = \"null:0\"\n{text}")
}

const HOST: &str = "[[protocol]]\nkind = \"host\"\naddresses = [\"10.0.0.1/24\"]\n";
const ECHO: &str = "[[protocol]]\nkind = \"echo\"\n";

#[test]
fn protocols_stand_in_the_place_of_forwarding() {
    let config = parse(&protocols(&format!("{HOST}{ECHO}port = 9\n"))).expect("right");
    assert_eq!(
        summary(&config),
        "1 port, 2 protocols (host, echo), 1 worker, burst 32, idle adaptive, until Ctrl-C"
    );
    let shown = Shown::new(&config);
    let text = shown.render(Paint::Never);
    assert!(text.contains("(protocols)"), "{text}");
    let line = text.lines().find(|line| line.starts_with("echo"));
    let words: Vec<_> = line.expect("echo").split_whitespace().collect();
    assert_eq!(words, ["echo", "a", "port", "=", "9", "line", "7"]);
    let json = serde_json::to_value(&shown).expect("JSON");
    assert_eq!(
        json["protocols"][0]["settings"]["addresses"][0],
        "10.0.0.1/24"
    );

    let both = format!("{HOST}[forward]\nmode = \"io\"\n");
    let words = [
        "there are [[protocol]] sections",
        "remove this, or every [[protocol]]",
    ];
    one_complaint(&protocols(&both), "f.toml:8: forward.mode: ", &words);
    let variable = [("LINECARD_FORWARD_MODE".into(), "io".into())];
    let error = Config::parse("f.toml", &protocols(HOST), variable).expect_err("both");
    assert!(
        error
            .to_string()
            .contains("LINECARD_FORWARD_MODE: there are"),
        "{error}"
    );
    let pairs = format!("{HOST}[forward]\npairs = [[\"a\", \"a\"]]\n");
    one_complaint(&protocols(&pairs), "f.toml:8: forward.pairs: ", &words);
}

#[test]
fn protocols_that_cannot_be_name_line_and_remedy() {
    for (text, begins, words) in [
        (
            "[protocol]\nkind = \"echo\"\n",
            "f.toml:4: protocol: ",
            &["write [[protocol]]"][..],
        ),
        (
            "[[protocol]]\nport = 7\n",
            "f.toml:4: protocol: ",
            &["add kind = \"echo\""],
        ),
        (
            "[[protocol]]\nkind = 7\n",
            "f.toml:4: protocol: ",
            &["in double quotes"],
        ),
        (
            "[[protocol]]\nkind = \"ecco\"\n",
            "f.toml:4: protocol.ecco: ",
            &["did you mean kind = \"echo\"?"],
        ),
        (
            "[[protocol]]\nkind = \"echo\"\nprot = 7\n",
            "f.toml:4: protocol.echo: ",
            &["`prot`", "did you mean port?"],
        ),
        (
            "[[protocol]]\nkind = \"host\"\n",
            "f.toml:4: protocol.host: ",
            &["add addresses = "],
        ),
        (
            "[[protocol]]\nkind = \"host\"\naddresses = [\"10.0.0.1\"]\nmac = \"2\"\n",
            "f.toml:4: protocol.host: ",
            &["mac = \"2\""],
        ),
        (
            "[[protocol]]\nkind = \"echo\"\nports = [\"b\"]\n",
            "f.toml:4: protocol.echo: ",
            &["no port \"b\", but a"],
        ),
        (
            "[[protocol]]\nkind = \"echo\"\nports = 7\n",
            "f.toml:4: protocol: ",
            &["[\"left\"]"],
        ),
        (
            "[[protocol]]\nkind = \"echo\"\n[[protocol]]\nkind = \"echo\"\n",
            "f.toml:6: protocol.echo: ",
            &["two protocols with the name \"echo\""],
        ),
        (
            "[[protocol]]\nkind = \"echo\"\n[[protocol]]\nkind = \"probe\"\nfrom = \"10.0.0.1:7\"\n\
             to = \"10.0.0.2:7\"\ncount = 1\ninterval = \"1s\"\n",
            "f.toml:4: protocol: ",
            &["\"echo\" and \"probe\" both claim", "narrow one of them"],
        ),
    ] {
        one_complaint(&protocols(text), begins, words);
    }
}

#[test]
fn the_files_of_the_examples_are_right() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    for name in ["forward.toml", "host.toml"] {
        let path = std::path::Path::new(examples).join(name);
        let text = std::fs::read_to_string(path).expect(name);
        let verdict = Config::parse(name, &text, []);
        assert!(verdict.is_ok(), "{verdict:?}");
    }
}
