//! Calls on a cable: the server of `examples/calls` past the kernel, its client over a socket of another kernel's.
//!
//! Both are compiled into this test and run in processes of their own, as in `host.rs`.

use std::process::Stdio;

use crate::lab::{Host, Lab, Process, wait_until};
use crate::wire::{A4, A6, B4, B6};

#[path = "../../../../examples/calls/main.rs"]
mod example;

const WORDS: &str = "LINECARD_TEST_CALLS";

#[test]
#[ignore = "is run by the others, as the server and as the client"]
fn the_program_itself() {
    let Ok(words) = std::env::var(WORDS) else {
        return;
    };
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    if let Err(error) = example::run(&words) {
        println!("error: {error}");
    }
}

fn start(namespace: &Host, words: &str) -> Process {
    let this = std::env::current_exe().unwrap();
    let mut command = namespace.command(this.to_str().unwrap());
    let name = "calls::the_program_itself";
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command.env(WORDS, words).stdin(Stdio::piped());
    Process::start(command)
}

#[test]
fn a_socket_calls_a_server_past_the_kernel() {
    let lab = Lab::new();
    let a = lab.host("a");
    a.up(&[&format!("{A4}/24"), &format!("{A6}/64")]);
    let mut server = start(&lab.here, &format!("serve uring:a {B4}/24 {B6}/64"));
    wait_until("the server", || {
        server.assert_running();
        server.stdout().contains("serving on")
    });
    let call = |words: String| start(&a, &format!("call {words}")).end().stdout;
    for server in [B4, B6] {
        let ping = format!("ping -c 1 -W 1 {server}");
        wait_until("the host beside it", || a.try_sh(&ping).0.success());
        let said = call(format!("{server} echo what-was-said"));
        assert!(said.contains("\nwhat-was-said\n"), "{said}");
        let said = call(format!("{server} sum 1 2 39"));
        assert!(said.contains("\n42\n"), "{said}");
    }
    server.hang_up();
    let ended = server.end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(ended.stdout.contains("unaccounted: 0"), "{ended:#?}");
    lab.assert_left(&["a"]);
}
