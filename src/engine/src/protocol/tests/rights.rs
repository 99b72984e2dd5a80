//! Rights: what is beyond them is an error at the start or a counted drop.

use super::super::Rights;
use super::frames::Spec;
use super::*;

fn frames(n: usize) -> Vec<Vec<u8>> {
    vec![Spec::udp(7).make().bytes; n]
}

#[test]
fn sending_beyond_them_is_counted() {
    let (a, b) = (
        TestPort::new("a", 1, frames(40)),
        TestPort::new("b", 1, vec![]),
    );
    let mut n = 0;
    let chatty = move |_| {
        Fake::new("chatty", Claim::udp(7), move |_, _, out| {
            let made = out.alloc().unwrap();
            assert!(!out.send(1, made));
            n += 1;
            if n % 2 == 0 {
                Verdict::Reply
            } else {
                Verdict::Forward(1)
            }
        })
    };
    let rights = Rights::default().ports([0]);
    let report = run(
        &[a.clone(), b.clone()],
        1,
        Protocols::new().with_rights(rights, chatty),
    );
    assert_eq!((a.sent().len(), b.sent().len()), (20, 0));
    // Verdicts count at the port that received the packet, what was made at the port that it was for.
    assert_eq!(report.ports[0].drops["no_right"], 20);
    assert_eq!(report.ports[1].drops["no_right"], 40);
    assert_eq!(report.account.generated, 40);
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn a_rate_is_held() {
    let a = TestPort::new("a", 1, frames(500));
    // Thirty-two at once, and then one a second: nobody can wait so long here.
    let rights = Rights::default().packets_per_second(1);
    let echo = |_| Fake::echo("echo", Claim::udp(7));
    let report = run(
        std::slice::from_ref(&a),
        1,
        Protocols::new().with_rights(rights, echo),
    );
    let sent = a.sent().len() as u64;
    assert!(sent >= 32, "{sent}");
    assert_eq!(report.ports[0].drops["over_rate"], 500 - sent);
    assert!(report.is_clean());
}

#[test]
fn rights_are_checked_before_anything_starts() {
    let a = [TestPort::new("a", 1, vec![])];
    let echo = |_| Fake::echo("echo", Claim::udp(7));
    let with = |rights| refusal(&a, 1, Protocols::new().with_rights(rights, echo));
    let error = with(Rights::default().send_ports([3]));
    assert!(
        error.contains("\"echo\": rights on port 3, and the ports are 0 to 0"),
        "{error}"
    );
    let error = with(Rights::default().packets_per_second(0));
    assert!(
        error.contains("0 packets a second cannot be divided"),
        "{error}"
    );
    let error = with(Rights::default().claims([Claim::udp_ports(8..=9), Claim::tcp(7)]));
    for part in [
        "\"proto=udp dport=7\"",
        "its rights are: proto=udp dport=8-9, or proto=tcp dport=7",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let rights = Rights::default().claims([Claim::udp_ports(1..=9)]);
    assert!(run(&a, 1, Protocols::new().with_rights(rights, echo)).is_clean());
}
