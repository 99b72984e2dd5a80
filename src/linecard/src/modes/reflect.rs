//! `linecard reflect`: what arrives goes back to where it came from.

use std::str::FromStr;

use linecard_engine::{Context, DropReason, Stage};
use linecard_hal::{Burst, Mbuf};
use linecard_traffic::responder::{Answer, Responder, may_ask};
use linecard_wire::{L4, MacAddr, ParseError, parse_layers, swap_flow, swap_macs};

use super::rewrite::{rewrite_burst, swap_all};

/// What is exchanged before a frame goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Swap {
    /// MAC addresses.
    Mac,
    /// MAC and IP addresses.
    Ip,
    /// MAC addresses, IP addresses and ports.
    #[default]
    All,
}

impl FromStr for Swap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mac" => Ok(Self::Mac),
            "ip" => Ok(Self::Ip),
            "all" => Ok(Self::All),
            _ => Err(format!("{text:?} is not one of mac, ip, all")),
        }
    }
}

/// Sends back what is sent to the port's own address, or everything.
#[derive(Debug, Clone)]
pub struct Reflect {
    /// By port: its own address.
    pub macs: Vec<MacAddr>,
    /// What is exchanged.
    pub swap: Swap,
    /// Whether frames for others and for groups go back, too.
    pub everything: bool,
    /// One for each port that has addresses.
    pub responders: Vec<Responder>,
}

impl Stage for Reflect {
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        let mac = self.macs.get(cx.port() as usize).copied();
        let mac = mac.unwrap_or_default();
        let all = self.responders.is_empty() && self.everything;
        if !all && !burst.iter().all(|mbuf| self.goes_back(mbuf.data(), mac)) {
            return self.sort(burst, cx, mac);
        }
        let port = cx.port();
        match self.swap {
            Swap::Mac => rewrite_burst(burst, cx, port, |frame| swap_macs_of(frame, mac)),
            Swap::Ip => rewrite_burst(burst, cx, port, |frame| swap_addresses(frame, mac)),
            Swap::All => rewrite_burst(burst, cx, port, |frame| swap_ports(frame, mac)),
        }
    }
}

impl Reflect {
    /// Whether a frame goes back: it is for us, and asks nothing that we have to answer.
    #[inline(always)]
    fn goes_back(&self, frame: &[u8], mac: MacAddr) -> bool {
        let Some(dst) = frame.first_chunk::<6>() else {
            return false;
        };
        if *dst != mac.0 && !self.everything {
            return false;
        }
        !may_ask(frame) || self.responders.is_empty()
    }

    /// A burst that does not all go back.
    fn sort(&mut self, burst: &mut Burst, cx: &mut Context, mac: MacAddr) {
        let port = cx.port();
        for mut mbuf in burst.drain() {
            if self.answers(&mut mbuf, port) {
                cx.forward(port, mbuf);
                continue;
            }
            let ours = self.everything
                || mbuf
                    .data()
                    .first_chunk::<6>()
                    .is_some_and(|dst| *dst == mac.0);
            if !ours {
                cx.drop(DropReason::NotForUs, mbuf);
                continue;
            }
            let swapped = mbuf.data_mut().map(|frame| match self.swap {
                Swap::Mac => swap_macs_of(frame, mac),
                Swap::Ip => swap_addresses(frame, mac),
                Swap::All => swap_ports(frame, mac),
            });
            if let Some(Ok(())) = swapped {
                cx.forward(port, mbuf);
            } else {
                cx.drop(DropReason::Malformed, mbuf);
            }
        }
    }

    fn answers(&mut self, mbuf: &mut Mbuf, port: u16) -> bool {
        let mut here = self.responders.iter_mut().filter(|r| r.port() == port);
        here.any(|responder| responder.answer(mbuf) == Answer::Reply)
    }
}

/// Exchanges the MAC addresses; a group's cannot be a source, so ours stands in.
#[inline(always)]
fn swap_macs_of(frame: &mut [u8], mac: MacAddr) -> Result<(), ParseError> {
    swap_macs(frame)?;
    own_source(frame, mac);
    Ok(())
}

#[inline(always)]
fn swap_ports(frame: &mut [u8], mac: MacAddr) -> Result<(), ParseError> {
    swap_all(frame)?;
    own_source(frame, mac);
    Ok(())
}

fn swap_addresses(frame: &mut [u8], mac: MacAddr) -> Result<(), ParseError> {
    let mut layers = parse_layers(frame);
    // As if it had no ports.
    layers.l4 = L4::Other;
    swap_flow(frame, &layers)?;
    own_source(frame, mac);
    Ok(())
}

#[inline(always)]
fn own_source(frame: &mut [u8], mac: MacAddr) {
    if let Some(source) = frame.get_mut(6..12)
        && source[0] & 1 == 1
    {
        source.copy_from_slice(&mac.0);
    }
}
