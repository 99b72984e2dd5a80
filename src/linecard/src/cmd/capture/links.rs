//! Which ports' devices were removed while they were captured from.

use linecard::engine::PortReport;
use linecard::hal::LinkState;

/// What is known of them.
#[derive(Default)]
pub(super) struct Links {
    /// By port.
    seen: Vec<Seen>,
    /// Names of those that were not there at any time.
    pub(super) lost: Vec<String>,
}

/// How a port was when it was looked at last.
#[derive(Clone, Default)]
struct Seen {
    /// Its device, by the number of the interface. One that is made again under its name has another.
    ifindex: Option<u32>,
    away: bool,
}

impl Links {
    /// Looks how they are, and has what is new to tell.
    pub(super) fn look(&mut self, ports: &[PortReport]) -> String {
        let mut news = String::new();
        self.seen.resize(ports.len(), Seen::default());
        for (port, seen) in ports.iter().zip(&mut self.seen) {
            let name = &port.name;
            let is_gone = port.link == Some(LinkState::Gone);
            // Gone and back between two looks: the sockets were of the one that is gone.
            let is_another = seen.ifindex.zip(port.ifindex).is_some_and(|(a, b)| a != b);
            if (is_gone || is_another) && !seen.away {
                news += &format!(
                    "{name}: its device was removed; what it had received is captured, and more once it is back\n"
                );
                if !self.lost.contains(name) {
                    self.lost.push(name.clone());
                }
                seen.away = true;
            }
            if matches!(port.link, Some(LinkState::Up | LinkState::Down)) && seen.away {
                news += &format!("{name}: its device is back\n");
                seen.away = false;
            }
            seen.ifindex = port.ifindex.or(seen.ifindex);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_was_replaced_was_gone() {
        let port = |link, ifindex| {
            [PortReport {
                name: "uring:a".to_owned(),
                link,
                ifindex,
                ..PortReport::default()
            }]
        };
        let (up, down, gone) = (LinkState::Up, LinkState::Down, LinkState::Gone);
        let mut links = Links::default();
        assert_eq!(links.look(&port(Some(up), Some(4))), "");
        assert_eq!(links.look(&port(Some(down), Some(4))), "");
        // Nobody knows any more when it has ended.
        assert_eq!(links.look(&port(None, None)), "");
        assert!(links.lost.is_empty());
        let news = links.look(&port(Some(up), Some(5)));
        assert!(
            news.contains("was removed") && news.ends_with("its device is back\n"),
            "{news}"
        );
        assert_eq!(links.look(&port(Some(up), Some(5))), "");
        let news = links.look(&port(Some(gone), None));
        assert!(news.contains("was removed") && !news.contains("its device is back"));
        assert_eq!(links.look(&port(Some(gone), None)), "");
        let news = links.look(&port(Some(down), Some(6)));
        assert_eq!(news, "uring:a: its device is back\n");
        assert_eq!(links.lost, ["uring:a"]);
        // Without a network interface behind it.
        let mut links = Links::default();
        for _ in 0..2 {
            assert_eq!(links.look(&port(Some(up), None)), "");
        }
    }
}
