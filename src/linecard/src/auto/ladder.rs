//! The decision: which rungs an interface has, in which order, and which are of no use, before anything is opened.

use linecard_af_xdp::{Obstacle, Probe};
use linecard_hal::Rung;
use serde::Serialize;

/// What is known of an interface before a port is opened.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Its name.
    pub interface: String,
    /// Why DPDK does not take it, which is so as long as the kernel has it.
    pub dpdk: Obstacle,
    /// What the kernel's own stack has there that it would lose, if anything.
    pub stake: Option<Obstacle>,
    /// What AF_XDP can do there.
    pub xdp: Result<Probe, Obstacle>,
    /// Why no packet socket can be had.
    pub socket: Option<Obstacle>,
    /// Why there is no mapped ring.
    pub ring: Option<Obstacle>,
    /// Why there is no multishot receive.
    pub multishot: Option<Obstacle>,
}

/// A rung before it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) rung: String,
    /// The name that opens it.
    pub(super) port: String,
    /// What to know of it, if it is taken.
    pub(super) about: String,
    /// What somebody does who wants it otherwise. May be empty.
    pub(super) instead: String,
    /// Why it is of no use.
    pub(super) obstacle: Option<Obstacle>,
}

/// The options of a port's name, as far as they choose a rung.
#[derive(Debug, Clone, Copy, Default)]
struct Options<'a> {
    all: &'a str,
    mode: Option<&'a str>,
    rx: Option<&'a str>,
    share: Option<&'a str>,
    force: bool,
}

impl<'a> Options<'a> {
    fn of(all: &'a str) -> Self {
        let value = |wanted: &str| {
            let pairs = all.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .filter(|(key, _)| *key == wanted)
                .map(|(_, v)| v)
                .next()
        };
        Self {
            all,
            mode: value("mode"),
            rx: value("rx").filter(|rx| *rx != "auto"),
            share: value("share"),
            force: value("force") == Some("1"),
        }
    }

    /// The name of one rung: the options as they were given, with this one.
    fn name(self, driver: &str, interface: &str, key: &str, value: &str) -> String {
        let rest = self.all.split('&').filter(|pair| {
            !pair.is_empty() && pair.split_once('=').is_none_or(|(had, _)| had != key)
        });
        let mut name = format!("{driver}:{interface}?{key}={value}");
        for pair in rest {
            name += "&";
            name += pair;
        }
        name
    }
}

/// Every rung, the best first. `options` is what follows the question mark in the port's name.
pub(super) fn candidates(facts: &Facts, options: &str) -> Vec<Candidate> {
    let options = Options::of(options);
    let mut all = vec![Candidate {
        rung: "dpdk".into(),
        port: format!("dpdk:{}", facts.interface),
        about: String::new(),
        instead: String::new(),
        obstacle: Some(facts.dpdk.clone()),
    }];
    let xdp = ["zerocopy", "copy", "skb"];
    all.extend(xdp.map(|mode| xdp_rung(facts, options, mode)));
    let uring = [
        ("ring", &facts.ring),
        ("multishot", &facts.multishot),
        ("mmsg", &None),
    ];
    all.extend(uring.map(|(rx, own)| {
        let obstacle = match options {
            Options {
                mode: Some(mode), ..
            } => Some(by_name("mode", mode)),
            // It cannot take frames away from the kernel.
            Options {
                share: Some(share), ..
            } => Some(by_name("share", share)),
            Options {
                rx: Some(named), ..
            } if named != rx => Some(by_name("rx", named)),
            _ => facts.socket.clone().or_else(|| own.clone()),
        };
        Candidate {
            rung: format!("uring {rx}"),
            port: options.name("uring", &facts.interface, "rx", rx),
            about: format!(
                "the kernel's own stack sees the frames of {} as well",
                facts.interface
            ),
            instead: String::new(),
            obstacle,
        }
    }));
    all
}

fn xdp_rung(facts: &Facts, options: Options<'_>, mode: &str) -> Candidate {
    let interface = &facts.interface;
    let obstacle = match (options.mode, &facts.xdp) {
        _ if options.rx.is_some() => options.rx.map(|rx| by_name("rx", rx)),
        (Some(named), _) if named != mode => Some(by_name("mode", named)),
        (_, Err(obstacle)) => Some(obstacle.clone()),
        (_, Ok(probe)) => {
            let own = || {
                let fit = probe.modes.iter().find(|fit| fit.mode == mode);
                fit.and_then(|fit| fit.obstacle.clone())
            };
            // That force=1 removes; what it does not is seen when the port is opened.
            let now = probe.obstacle.clone().filter(|_| !options.force);
            let stake = facts.stake.clone().filter(|_| options.share.is_none());
            let loses = || {
                (mode == "skb" && !probe.physical && options.mode.is_none()).then(|| Obstacle {
                    reason: format!(
                        "{interface} is a virtual link, whose UDP super-frames mode=skb loses; rx=ring has them \
                         and costs no more"
                    ),
                    remedy: format!("open {}", options.name("xdp", interface, "mode", mode)),
                })
            };
            stake.or_else(own).or(now).or_else(loses)
        }
    };
    let how = match mode {
        "zerocopy" => "the driver reads and writes the pool's mbufs",
        "copy" => "the driver runs the program, and the kernel copies a frame once",
        _ => "the kernel runs the program behind the driver, and copies a frame once",
    };
    let sees = match options.share {
        Some("kernel") => "what no flow rule claims",
        _ => "no frame",
    };
    let mut about = format!("{how}; its own stack sees {sees} of {interface}");
    let mut instead = String::new();
    if mode == "copy" && facts.xdp.as_ref().is_ok_and(|probe| !probe.physical) {
        about += "; hosts of this machine cut their TCP super-frames themselves meanwhile";
        let ring = format!("uring:{interface}");
        instead = format!("for TCP between hosts of this machine {ring} is faster");
    }
    Candidate {
        rung: format!("xdp {mode}"),
        port: options.name("xdp", interface, "mode", mode),
        about,
        instead,
        obstacle,
    }
}

fn by_name(key: &str, value: &str) -> Obstacle {
    Obstacle {
        reason: format!("the name says {key}={value}"),
        remedy: format!("leave {key}= out of it"),
    }
}

/// The ladder as it is told: `taken` is the number of the rung that is.
pub(super) fn told(candidates: &[Candidate], taken: Option<usize>) -> Vec<Rung> {
    let best = taken.and_then(|at| candidates.get(at));
    let rung = |(at, candidate): (usize, &Candidate)| {
        let taken = Some(at) == taken;
        let (reason, remedy) = match (&candidate.obstacle, best) {
            _ if taken => (candidate.about.clone(), candidate.instead.clone()),
            (Some(obstacle), _) => (obstacle.reason.clone(), obstacle.remedy.clone()),
            (None, Some(best)) => (
                format!("{} comes before it", best.rung),
                format!("open {}", candidate.port),
            ),
            (None, None) => (String::new(), String::new()),
        };
        Rung {
            rung: candidate.rung.clone(),
            port: candidate.port.clone(),
            taken,
            reason,
            remedy,
        }
    };
    candidates.iter().enumerate().map(rung).collect()
}

/// What `auto:` would come to, as far as that is known without opening anything: a rung may still turn out to be of
/// no use when a port is started.
pub fn predict(facts: &Facts) -> Vec<Rung> {
    let all = candidates(facts, "");
    let first = all.iter().position(|rung| rung.obstacle.is_none());
    told(&all, first)
}

/// The ladder in words, a line each: the rung that is taken, and what was above it. Neighbours that fail of
/// the same are named together.
pub fn lines(rungs: &[Rung]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let upto = rungs.iter().position(|rung| rung.taken);
    let above = &rungs[..upto.unwrap_or(rungs.len())];
    for same in above.chunk_by(|a, b| a.reason == b.reason) {
        let mut names = same.iter().map(|rung| rung.rung.as_str());
        let mut line = format!("not {}", names.next().unwrap_or_default());
        for name in names {
            // "xdp zerocopy, copy, skb".
            let short = name.split_once(' ').map_or(name, |(_, mode)| mode);
            line += &format!(", {short}");
        }
        line += &format!(": {}", same[0].reason);
        let mut remedies: Vec<&str> = same.iter().map(|rung| rung.remedy.as_str()).collect();
        remedies.dedup();
        if let [one] = remedies[..]
            && !one.is_empty()
        {
            line += &format!("; {one}");
        }
        lines.push(line);
    }
    if let Some(taken) = upto.and_then(|at| rungs.get(at)) {
        let mut line = format!("{} ({}): {}", taken.rung, taken.port, taken.reason);
        if !taken.remedy.is_empty() {
            line += &format!("; {}", taken.remedy);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use linecard_af_xdp::ModeFit;

    use super::*;

    fn because(reason: &str) -> Obstacle {
        Obstacle {
            reason: reason.into(),
            remedy: format!("against {reason}"),
        }
    }

    /// What is known of a card whose driver can do everything.
    fn card() -> Facts {
        let modes = ["zerocopy", "copy", "skb"].map(|mode| ModeFit {
            mode: mode.into(),
            port: format!("xdp:eth1?mode={mode}"),
            obstacle: None,
        });
        Facts {
            interface: "eth1".into(),
            dpdk: because("the kernel has it"),
            stake: None,
            xdp: Ok(Probe {
                interface: "eth1".into(),
                modes: modes.into(),
                queues: 1,
                tx_queues: 1,
                physical: true,
                programs: Vec::new(),
                obstacle: None,
            }),
            socket: None,
            ring: None,
            multishot: None,
        }
    }

    fn probe(facts: &mut Facts) -> &mut Probe {
        facts.xdp.as_mut().unwrap()
    }

    /// The name that opens the rung that is taken.
    fn takes(facts: &Facts, options: &str) -> String {
        let all = candidates(facts, options);
        let first = all.into_iter().find(|rung| rung.obstacle.is_none());
        first.map_or("nothing".into(), |rung| rung.port)
    }

    #[test]
    fn rung_by_rung_down() {
        let mut facts = card();
        assert_eq!(takes(&facts, ""), "xdp:eth1?mode=zerocopy");
        probe(&mut facts).modes[0].obstacle = Some(because("no zero-copy"));
        assert_eq!(takes(&facts, ""), "xdp:eth1?mode=copy");
        probe(&mut facts).modes[1].obstacle = Some(because("no XDP"));
        assert_eq!(takes(&facts, ""), "xdp:eth1?mode=skb");
        probe(&mut facts).physical = false;
        assert_eq!(takes(&facts, ""), "uring:eth1?rx=ring");
        facts.ring = Some(because("no ring"));
        assert_eq!(takes(&facts, ""), "uring:eth1?rx=multishot");
        facts.multishot = Some(because("no io_uring"));
        assert_eq!(takes(&facts, ""), "uring:eth1?rx=mmsg");
        facts.socket = Some(because("no CAP_NET_RAW"));
        assert_eq!(takes(&facts, ""), "nothing");
        assert!(
            predict(&facts)
                .iter()
                .all(|rung| !rung.taken && !rung.reason.is_empty())
        );
    }

    #[test]
    fn what_stands_in_the_way_of_all_modes() {
        let mut facts = card();
        probe(&mut facts).obstacle = Some(because("somebody's program"));
        assert_eq!(takes(&facts, ""), "uring:eth1?rx=ring");
        assert_eq!(takes(&facts, "force=1"), "xdp:eth1?mode=zerocopy&force=1");
        let mut facts = card();
        facts.xdp = Err(because("no Ethernet"));
        assert_eq!(takes(&facts, ""), "uring:eth1?rx=ring");
    }

    /// Nobody loses their ssh session to the word "auto".
    #[test]
    fn the_kernels_frames_are_taken_only_if_the_name_says_so() {
        let mut facts = card();
        facts.stake = Some(because("192.0.2.7"));
        assert_eq!(takes(&facts, ""), "uring:eth1?rx=ring");
        assert_eq!(takes(&facts, "mode=copy"), "nothing");
        assert_eq!(
            takes(&facts, "share=none&mode=copy"),
            "xdp:eth1?mode=copy&share=none"
        );
        assert_eq!(
            takes(&facts, "share=kernel"),
            "xdp:eth1?mode=zerocopy&share=kernel"
        );
        let taken = |options: &str| {
            let all = candidates(&facts, options);
            all.into_iter()
                .find(|rung| rung.obstacle.is_none())
                .unwrap()
                .about
        };
        assert!(taken("").contains("sees the frames of eth1 as well"));
        assert!(taken("share=none").contains("sees no frame of eth1"));
        assert!(taken("share=kernel").contains("what no flow rule claims"));
    }

    #[test]
    fn options_choose_a_rung() {
        let mut facts = card();
        assert_eq!(
            takes(&facts, "queues=2&mode=skb"),
            "xdp:eth1?mode=skb&queues=2"
        );
        assert_eq!(takes(&facts, "mode=fast"), "nothing");
        probe(&mut facts).physical = false;
        assert_eq!(
            takes(&facts, "mode=skb"),
            "xdp:eth1?mode=skb",
            "who asks gets it"
        );
        facts.xdp = Err(because("no"));
        assert_eq!(takes(&facts, "rx=mmsg"), "uring:eth1?rx=mmsg");
        assert_eq!(
            takes(&facts, "rx=auto&tx=mmsg"),
            "uring:eth1?rx=ring&tx=mmsg"
        );
    }

    #[test]
    fn the_ladder_in_words_and_as_a_list() {
        let mut facts = card();
        facts.stake = Some(because("192.0.2.7"));
        let rungs = predict(&facts);
        let names: Vec<&str> = rungs.iter().map(|rung| rung.rung.as_str()).collect();
        let all = "dpdk, xdp zerocopy, xdp copy, xdp skb, uring ring, uring multishot, uring mmsg";
        assert_eq!(names.join(", "), all);
        assert_eq!(
            rungs.iter().position(|rung| rung.taken),
            Some(4),
            "{rungs:#?}"
        );
        assert_eq!(rungs[5].reason, "uring ring comes before it");
        assert_eq!(rungs[5].remedy, "open uring:eth1?rx=multishot");
        assert_eq!(
            lines(&rungs),
            [
                "not dpdk: the kernel has it; against the kernel has it",
                "not xdp zerocopy, copy, skb: 192.0.2.7; against 192.0.2.7",
                "uring ring (uring:eth1?rx=ring): the kernel's own stack sees the frames of eth1 as well",
            ]
        );
        assert!(
            lines(&[]).is_empty(),
            "a port that names its driver has no ladder"
        );
    }

    #[test]
    fn what_copy_costs_on_a_virtual_link_is_said() {
        let mut facts = card();
        probe(&mut facts).physical = false;
        probe(&mut facts).modes[0].obstacle = Some(because("no zero-copy"));
        let rungs = predict(&facts);
        assert!(
            rungs[2].taken && rungs[2].reason.contains("super-frames"),
            "{rungs:#?}"
        );
        assert!(rungs[2].remedy.contains("uring:eth1"), "{rungs:#?}");
    }
}
