//! The XDP program: ours, assembled here, so that neither clang nor an object file is needed.
//!
//! ```text
//!   frame ─► headers ─► rule 1 ─► rule 2 ─► … ─► no rule claims it
//!            (only if      │                        │ share=none: to the socket of its queue
//!            there are     ▼                        │ share=kernel: to the kernel's stack
//!            rules)      drop / kernel / socket      ▼
//! ```
//!
//! Without rules and with `share=none` it is a handful of instructions: a look at what others put before the
//! frame, the queue's number, the socket map, redirect.
//! The kernel runs a frame's program on the frame's queue, and a socket takes frames of its own queue only,
//! so the redirection cannot move a frame to another one. What a frame's queue has no socket for (the
//! interface was given more queues meanwhile) is counted and dropped, or passed with `share=kernel`.
//!
//! Counters are per processor. Frames that are redirected without a rule are not counted here: the sockets
//! do that.

mod asm;
mod parse;
mod rules;
#[cfg(test)]
mod tests;

use std::io;

use linecard_hal::flow::{FlowAction, FlowRule};

use crate::sys::bpf::{Counters, Instruction, Program, Rejected, Scratch, SocketMap};
use asm::{Alu, Assembler, FP, Helper, Label, R0, R1, R2, R3, R4, R6, R7, R9, Size, When};
use rules::Ways;

// What the program answers (`enum xdp_action`).
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const XDP_REDIRECT: i32 = 4;

// struct xdp_md.
const DATA_META: i16 = 8;
const RX_QUEUE: i16 = 16;

/// The key of a counter, on the stack.
const KEY: i16 = parse::NEXT_FREE - 4;
/// The mark, and above it whether there is one.
const MARK: i16 = KEY - 12;

/// Bytes before a frame that say how it is marked: the cookie and the mark.
pub(crate) const MARK_LEN: usize = 8;

/// Metadata of other programs' are cut to less than this: with our mark they then fit into a headroom of 128
/// bytes. A multiple of four, as the kernel wants it.
const MOST_META: i32 = 120;
/// So often less [`MOST_META`] is enough: no metadata are longer than 252 bytes.
const META_CUTS: usize = 2;

/// The program's name, by which another process of ours is known.
pub(crate) const NAME: &str = "linecard";

/// The most rules of a port.
pub(crate) const MAX_RULES: u32 = 256;

/// A counter's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

/// Frames that nobody claimed and that went to the kernel.
pub(crate) const PASSED: Slot = Slot(0);
/// Frames of a queue that has no socket.
pub(crate) const NO_SOCKET: Slot = Slot(1);
/// Frames that a rule marks, for whose mark the device has no room.
pub(crate) const MARK_LOST: Slot = Slot(2);
/// The first rule's.
const FIRST_RULE: u32 = 3;

/// Who gets what no rule claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// We take all.
    None,
    /// The kernel's own stack.
    Kernel,
}

/// A rule and its counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) rule: FlowRule,
    pub(crate) slot: Slot,
}

/// What the program refers to. It outlives every program that is made for it.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) sockets: SocketMap,
    pub(crate) counters: Counters,
    scratch: Scratch,
}

/// What a program is to do.
#[derive(Debug, Clone)]
pub(crate) struct Spec<'a> {
    pub(crate) share: Share,
    pub(crate) rules: &'a [Placed],
    /// Frames may come in pieces.
    pub(crate) frags: bool,
    /// What stands before a mark, so that no stale byte passes for one.
    pub(crate) cookie: u32,
}

impl Maps {
    pub(crate) fn new(queues: u32) -> io::Result<Self> {
        Ok(Self {
            sockets: SocketMap::new(queues)?,
            counters: Counters::new(FIRST_RULE + MAX_RULES)?,
            scratch: Scratch::new()?,
        })
    }

    /// Loads the smallest program, to see whether that is allowed.
    pub(crate) fn trial(&self) -> Result<(), Rejected> {
        let spec = Spec {
            share: Share::None,
            rules: &[],
            frags: false,
            cookie: 0,
        };
        self.program(&spec).map(drop)
    }

    /// The counter of the `n`-th rule.
    pub(crate) fn slot(n: u32) -> Slot {
        Slot(FIRST_RULE + n % MAX_RULES)
    }

    /// Packets and bytes.
    pub(crate) fn count(&self, slot: Slot) -> [u64; 2] {
        self.counters.read(slot.0).unwrap_or_default()
    }

    /// Loads the program.
    pub(crate) fn program(&self, spec: &Spec<'_>) -> Result<Program, Rejected> {
        let load = |lengths| {
            let code = assemble(self, spec, lengths).ok_or_else(|| Rejected {
                error: io::Error::from(io::ErrorKind::InvalidInput),
                log: "too many rules for one program".into(),
            })?;
            Program::load(NAME, &code, spec.frags)
        };
        // Before Linux 5.18 there is no way to ask for a frame's length; bytes are then not counted.
        load(true).or_else(|rejected| load(false).map_err(|_| rejected))
    }
}

struct Emitter<'a> {
    a: Assembler,
    maps: &'a Maps,
    lengths: bool,
}

/// `None` if it is too long.
fn assemble(maps: &Maps, spec: &Spec<'_>, lengths: bool) -> Option<Vec<Instruction>> {
    let mut e = Emitter {
        a: Assembler::default(),
        maps,
        lengths,
    };
    e.a.mov(R6, R1);
    let marks = spec
        .rules
        .iter()
        .any(|p| matches!(p.rule.action, FlowAction::Mark(_)));
    if marks {
        e.a.store_value(Size::Word, FP, MARK, 0);
        e.a.store_value(Size::Word, FP, MARK + 4, 0);
    }
    let unclaimed = e.a.label();
    if !spec.rules.is_empty() {
        e.find_scratch(unclaimed);
        parse::emit(&mut e.a);
        let matches = spec.rules.iter().map(|p| &p.rule.matches);
        e.keep(&rules::places(matches));
    }
    let ways = Ways {
        drop: e.a.label(),
        kernel: e.a.label(),
        receive: e.a.label(),
    };
    for placed in spec.rules {
        let FlowRule { matches, action } = &placed.rule;
        rules::emit(&mut e.a, matches, action, placed.slot, ways, MARK);
    }
    e.a.place(unclaimed);
    let redirect = e.a.label();
    match spec.share {
        Share::None => e.a.jump(redirect),
        Share::Kernel => {
            e.a.set(R9, PASSED.0 as i32);
            e.count();
            e.answer(XDP_PASS);
        }
    }
    // What no rule leads to is left out when the code is finished.
    for (way, answer) in [(ways.drop, XDP_DROP), (ways.kernel, XDP_PASS)] {
        e.a.place(way);
        e.count();
        e.answer(answer);
    }
    e.a.place(ways.receive);
    e.count();
    e.a.place(redirect);
    e.cut_metadata();
    if marks {
        e.write_mark(spec.cookie);
    }
    e.redirect(spec.share);
    e.a.finish()
}

impl Emitter<'_> {
    fn answer(&mut self, answer: i32) {
        self.a.set(R0, answer);
        self.a.exit();
    }

    /// `r0` becomes the scratch memory.
    fn find_scratch(&mut self, otherwise: Label) {
        let a = &mut self.a;
        a.store_value(Size::Word, FP, KEY, 0);
        a.mov(R2, FP);
        a.alu(Alu::Add, R2, i32::from(KEY));
        a.load_map(R1, self.maps.scratch.raw());
        a.call(Helper::MapLookup);
        a.jump_if_null(R0, otherwise);
    }

    /// Moves what was found from the stack to where the rules read it, at `r7`: of which the verifier knows
    /// nothing, so that there is one way through the rules for all ways through the search.
    fn keep(&mut self, places: &[i16]) {
        self.a.mov(R7, R0);
        for place in places {
            self.a.load(Size::Word, R1, FP, *place);
            self.a.store(Size::Word, R7, parse::kept(*place), R1);
        }
    }

    /// Counts the frame at the place in `r9`. No other program runs on this processor meanwhile, so no
    /// atomic instruction is needed.
    fn count(&mut self) {
        let (lengths, a) = (self.lengths, &mut self.a);
        let none = a.label();
        a.store(Size::Word, FP, KEY, R9);
        if lengths {
            a.mov(R1, R6);
            a.call(Helper::BufferLen);
            a.mov(R9, R0);
        } else {
            a.set(R9, 0);
        }
        a.mov(R2, FP);
        a.alu(Alu::Add, R2, i32::from(KEY));
        a.load_map(R1, self.maps.counters.raw());
        a.call(Helper::MapLookup);
        a.jump_if_null(R0, none);
        a.load(Size::Double, R1, R0, 0);
        a.alu(Alu::Add, R1, 1);
        a.store(Size::Double, R0, 0, R1);
        a.load(Size::Double, R1, R0, 8);
        a.alu_reg(Alu::Add, R1, R9);
        a.store(Size::Double, R0, 8, R1);
        a.place(none);
    }

    /// Cuts what another program put before the frame, which a `bpf_redirect` into a veth carries along: the
    /// kernel copies it to before the data, where the mbuf's headroom is and, 128 bytes before, its header.
    fn cut_metadata(&mut self) {
        let short = self.a.label();
        for _ in 0..META_CUTS {
            self.a.load(Size::Word, R2, R6, DATA_META);
            self.a.load(Size::Word, R3, R6, parse::DATA);
            self.a.alu(Alu::Add, R2, MOST_META);
            // Also where there can be none: it then begins behind the data.
            self.a.jump_if_reg(R2, When::Above, R3, short);
            self.a.mov(R1, R6);
            self.a.set(R2, MOST_META);
            self.a.call(Helper::AdjustMeta);
        }
        self.a.place(short);
    }

    /// Puts cookie and mark right before the frame: zeros if no rule marked it.
    fn write_mark(&mut self, cookie: u32) {
        let (there, lost) = (self.a.label(), self.a.label());
        self.a.mov(R1, R6);
        self.a.set(R2, -(MARK_LEN as i32));
        self.a.call(Helper::AdjustMeta);
        self.a.jump_if(R0, When::NotEqual, 0, lost);
        self.a.load(Size::Word, R1, R6, DATA_META);
        self.a.load(Size::Word, R2, R6, parse::DATA);
        self.a.mov(R3, R1);
        self.a.alu(Alu::Add, R3, MARK_LEN as i32);
        self.a.jump_if_reg(R3, When::Above, R2, lost);
        // The cookie if there is a mark, else 0.
        self.a.load(Size::Word, R3, FP, MARK + 4);
        self.a.load(Size::Word, R4, FP, MARK);
        self.a.store_value(Size::Word, R1, 0, 0);
        self.a.store(Size::Word, R1, 4, R4);
        self.a.jump_if(R3, When::Equal, 0, there);
        self.a.store_value(Size::Word, R1, 0, cookie as i32);
        self.a.jump(there);
        self.a.place(lost);
        self.a.load(Size::Word, R3, FP, MARK + 4);
        self.a.jump_if(R3, When::Equal, 0, there);
        self.a.set(R9, MARK_LOST.0 as i32);
        self.count();
        self.a.place(there);
    }

    fn redirect(&mut self, share: Share) {
        let to_socket = self.a.label();
        let otherwise = match share {
            Share::None => XDP_DROP,
            Share::Kernel => XDP_PASS,
        };
        self.a.load(Size::Word, R2, R6, RX_QUEUE);
        self.a.load_map(R1, self.maps.sockets.raw());
        self.a.set(R3, otherwise);
        self.a.call(Helper::RedirectMap);
        self.a
            .jump_if(R0, When::Equal, XDP_REDIRECT as u32, to_socket);
        self.a.set(R9, NO_SOCKET.0 as i32);
        self.count();
        self.a.set(R0, otherwise);
        self.a.place(to_socket);
        self.a.exit();
    }
}
