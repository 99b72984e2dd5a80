//! `bpf(2)`: maps, programs and links of our own, and questions about those of others.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// One instruction, as the kernel reads it: opcode, registers, offset, immediate.
pub(crate) type Instruction = u64;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
#[cfg(test)]
const PROG_TEST_RUN: libc::c_long = 10;
const PROG_FD_BY_ID: libc::c_long = 13;
const INFO_BY_FD: libc::c_long = 15;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const LINK_FD_BY_ID: libc::c_long = 30;
const LINK_NEXT_ID: libc::c_long = 31;
const LINK_DETACH: libc::c_long = 34;

const MAP_TYPE_PERCPU_ARRAY: u32 = 6;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
/// `enum bpf_attach_type`, BPF_XDP.
const ATTACH_XDP: u32 = 37;
const LINK_TYPE_XDP: u32 = 6;
/// The program may see frames whose bytes lie in several pieces (Linux 5.18).
const XDP_HAS_FRAGS: u32 = 1 << 5;

/// How a program is attached (linux/if_link.h).
pub(crate) const XDP_FLAGS_SKB: u32 = 1 << 1;
pub(crate) const XDP_FLAGS_DRV: u32 = 1 << 2;
pub(crate) const XDP_FLAGS_HW: u32 = 1 << 3;

/// `union bpf_attr`, as far as it is used here.
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Attr {
    fn new() -> Self {
        Self([0; 128])
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, at: usize, fd: RawFd) -> Self {
        self.u32(at, fd as u32)
    }

    fn name(mut self, at: usize, name: &str) -> Self {
        let len = name.len().min(15);
        self.0[at..at + len].copy_from_slice(&name.as_bytes()[..len]);
        self
    }

    fn read_u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

/// # Safety
///
/// What `attr` points to is what the command expects, and lives through the call.
unsafe fn call(command: libc::c_long, attr: &mut Attr) -> io::Result<libc::c_int> {
    // SAFETY: by the contract; the kernel stays within the length it is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<Attr>(),
        )
    };
    check(result as libc::c_int)
}

/// # Safety
///
/// As [`call`], for a command that returns a descriptor.
unsafe fn open(command: libc::c_long, attr: &mut Attr) -> io::Result<OwnedFd> {
    // SAFETY: by the contract; a descriptor that was just returned has no other owner. (Those of `bpf(2)`
    // are all closed on exec.)
    unsafe { call(command, attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

fn create_map(kind: u32, key: u32, value: u32, entries: u32, name: &str) -> io::Result<OwnedFd> {
    let mut attr = Attr::new()
        .u32(0, kind)
        .u32(4, key)
        .u32(8, value)
        .u32(12, entries)
        .name(28, name);
    // SAFETY: no pointers.
    unsafe { open(MAP_CREATE, &mut attr) }
}

/// The map of sockets by queue. A socket that is closed leaves it by itself.
#[derive(Debug)]
pub(crate) struct SocketMap(OwnedFd);

impl SocketMap {
    pub(crate) fn new(queues: u32) -> io::Result<Self> {
        create_map(MAP_TYPE_XSKMAP, 4, 4, queues, "lc_sockets").map(Self)
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Frames of this queue go to this socket from now on.
    pub(crate) fn set(&self, queue: u32, socket: &impl AsRawFd) -> io::Result<()> {
        let value = socket.as_raw_fd() as u32;
        let mut attr = Attr::new()
            .fd(0, self.raw())
            .u64(8, std::ptr::from_ref(&queue) as u64)
            .u64(16, std::ptr::from_ref(&value) as u64);
        // SAFETY: key and value are of the map's sizes and live through the call.
        unsafe { call(MAP_UPDATE, &mut attr) }.map(drop)
    }
}

/// Memory of a program run, for each processor its own: one entry of 80 bytes.
#[derive(Debug)]
pub(crate) struct Scratch(OwnedFd);

impl Scratch {
    pub(crate) fn new() -> io::Result<Self> {
        create_map(MAP_TYPE_PERCPU_ARRAY, 4, 80, 1, "lc_scratch").map(Self)
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// One entry of [`Counters`]: packets and bytes.
pub(crate) type Count = [u64; 2];

/// An array of counters, for each processor its own.
#[derive(Debug)]
pub(crate) struct Counters {
    fd: OwnedFd,
    processors: usize,
}

impl Counters {
    pub(crate) fn new(entries: u32) -> io::Result<Self> {
        let fd = create_map(
            MAP_TYPE_PERCPU_ARRAY,
            4,
            size_of::<Count>() as u32,
            entries,
            "lc_counters",
        )?;
        Ok(Self {
            fd,
            processors: possible_processors(),
        })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The sum over all processors.
    pub(crate) fn read(&self, entry: u32) -> io::Result<Count> {
        let mut values = vec![[0u64; 2]; self.processors];
        self.transfer(MAP_LOOKUP, entry, &mut values)?;
        Ok(values.iter().fold([0, 0], |sum, one| {
            [sum[0].wrapping_add(one[0]), sum[1].wrapping_add(one[1])]
        }))
    }

    /// Sets an entry to nothing, for its next user.
    pub(crate) fn clear(&self, entry: u32) -> io::Result<()> {
        self.transfer(MAP_UPDATE, entry, &mut vec![[0u64; 2]; self.processors])
    }

    fn transfer(&self, command: libc::c_long, entry: u32, values: &mut [Count]) -> io::Result<()> {
        let mut attr = Attr::new()
            .fd(0, self.raw())
            .u64(8, std::ptr::from_ref(&entry) as u64)
            .u64(16, values.as_mut_ptr() as u64);
        // SAFETY: the key is of the map's size, and there is a value for each possible processor.
        unsafe { call(command, &mut attr) }.map(drop)
    }
}

/// How many values an entry of a per-processor map has: one for each processor that could ever be there.
fn possible_processors() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text
        .trim()
        .rsplit([',', '-'])
        .next()
        .map(str::parse::<usize>);
    match last {
        Some(Ok(last)) => last + 1,
        // More than the kernel writes is harmless, less is not.
        _ => 8192,
    }
}

/// A program.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

/// Why a program was refused.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) error: io::Error,
    /// The verifier's last words.
    pub(crate) log: String,
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the kernel refuses the program: {} ({})",
            self.error, self.log
        )
    }
}

impl Program {
    /// Loads an XDP program.
    pub(crate) fn load(name: &str, code: &[Instruction], frags: bool) -> Result<Self, Rejected> {
        match Self::load_with(name, code, frags, None) {
            Ok(program) => Ok(program),
            // The verifier's opinion costs time, so it is only asked for when there is one.
            Err(error) => {
                let mut log = vec![0u8; 1 << 20];
                let again = Self::load_with(name, code, frags, Some(&mut log));
                let len = log.iter().position(|b| *b == 0).unwrap_or(log.len());
                let text = String::from_utf8_lossy(&log[..len]);
                let last: Vec<_> = text.lines().rev().take(4).collect();
                let log = last.into_iter().rev().collect::<Vec<_>>().join("; ");
                again.map_err(|_| Rejected { error, log })
            }
        }
    }

    fn load_with(
        name: &str,
        code: &[Instruction],
        frags: bool,
        log: Option<&mut [u8]>,
    ) -> io::Result<Self> {
        let licence = c"Dual MIT/GPL";
        let mut attr = Attr::new()
            .u32(0, PROG_TYPE_XDP)
            .u32(4, code.len() as u32)
            .u64(8, code.as_ptr() as u64)
            .u64(16, licence.as_ptr() as u64)
            .u32(44, if frags { XDP_HAS_FRAGS } else { 0 })
            .name(48, name)
            .u32(68, ATTACH_XDP);
        if let Some(log) = log {
            attr = attr
                .u32(24, 1)
                .u32(28, log.len() as u32)
                .u64(32, log.as_mut_ptr() as u64);
        }
        // SAFETY: code, licence and log live through the call, and have the lengths that are given.
        unsafe { open(PROG_LOAD, &mut attr) }.map(Self)
    }

    /// The kernel's number for it; 0 if it does not say.
    pub(crate) fn id(&self) -> u32 {
        ProgramInfo::read(&self.0).map_or(0, |info| info.id)
    }

    /// Runs it on a frame, as if it came on queue 0: what it answered, and the frame afterwards.
    #[cfg(test)]
    pub(crate) fn run(&self, frame: &[u8]) -> io::Result<(u32, Vec<u8>)> {
        self.run_behind(&[], frame)
    }

    /// The same with metadata before the frame; what is left of them is before it afterwards.
    #[cfg(test)]
    pub(crate) fn run_behind(&self, meta: &[u8], frame: &[u8]) -> io::Result<(u32, Vec<u8>)> {
        let frame = [meta, frame].concat();
        // struct xdp_md: where the frame begins, where it ends, and what the kernel fills in.
        let mut context = [0u32; 6];
        (context[0], context[1]) = (meta.len() as u32, frame.len() as u32);
        let mut out = vec![0u8; frame.len() + 256];
        let mut attr = Attr::new()
            .fd(0, self.0.as_raw_fd())
            .u32(8, frame.len() as u32)
            .u32(12, out.len() as u32)
            .u64(16, frame.as_ptr() as u64)
            .u64(24, out.as_mut_ptr() as u64)
            .u32(32, 1)
            .u32(40, size_of_val(&context) as u32)
            .u64(48, context.as_ptr() as u64);
        // SAFETY: what is pointed at lives through the call, and has the lengths that are given.
        unsafe { call(PROG_TEST_RUN, &mut attr) }?;
        out.truncate(attr.read_u32(12) as usize);
        Ok((attr.read_u32(4), out))
    }
}

/// What the kernel says of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgramInfo {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) uid: u32,
}

impl ProgramInfo {
    /// Of a program by its number. Needs CAP_SYS_ADMIN.
    pub(crate) fn by_id(id: u32) -> io::Result<Self> {
        Self::read(&program_by_id(id)?)
    }

    fn read(fd: &OwnedFd) -> io::Result<Self> {
        // struct bpf_prog_info: type, id, tag[8], two lengths, two pointers, load_time, created_by_uid at
        // 48, nr_map_ids, map_ids, name[16] at 64.
        let info = info_of::<80>(fd)?;
        let word =
            |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        let name = &info[64..80];
        let len = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        Ok(Self {
            id: word(4),
            uid: word(48),
            name: String::from_utf8_lossy(&name[..len]).into_owned(),
        })
    }
}

/// A descriptor of a program by its number.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = Attr::new().u32(0, id);
    // SAFETY: no pointers.
    unsafe { open(PROG_FD_BY_ID, &mut attr) }
}

fn info_of<const N: usize>(fd: &OwnedFd) -> io::Result<[u8; N]> {
    let mut info = [0u8; N];
    let mut attr = Attr::new()
        .fd(0, fd.as_raw_fd())
        .u32(4, N as u32)
        .u64(8, info.as_mut_ptr() as u64);
    // SAFETY: the kernel writes at most that many bytes to the buffer, which lives through the call. What it
    // reads of it first are lengths and pointers of lists, all zero: no lists.
    unsafe { call(INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// A program's place at an interface. It ends with the last descriptor of it, at the latest with the process.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Attaches a program; `flags` are `XDP_FLAGS_*`.
    pub(crate) fn attach(program: &Program, index: u32, flags: u32) -> io::Result<Self> {
        let mut attr = Attr::new()
            .fd(0, program.0.as_raw_fd())
            .u32(4, index)
            .u32(8, ATTACH_XDP)
            .u32(12, flags);
        // SAFETY: no pointers.
        unsafe { open(LINK_CREATE, &mut attr) }.map(Self)
    }

    /// Puts another program in the place of this one: each frame meets the one or the other.
    pub(crate) fn replace(&self, program: &Program) -> io::Result<()> {
        let mut attr = Attr::new()
            .fd(0, self.0.as_raw_fd())
            .fd(4, program.0.as_raw_fd());
        // SAFETY: no pointers.
        unsafe { call(LINK_UPDATE, &mut attr) }.map(drop)
    }
}

/// Somebody's link at an interface.
#[derive(Debug)]
pub(crate) struct ForeignLink {
    pub(crate) id: u32,
    fd: OwnedFd,
}

impl ForeignLink {
    /// The link by which a program is attached to an interface. Needs CAP_SYS_ADMIN.
    pub(crate) fn find(program: u32, index: u32) -> Option<Self> {
        let mut id = 0;
        loop {
            let mut attr = Attr::new().u32(0, id);
            // SAFETY: no pointers.
            unsafe { call(LINK_NEXT_ID, &mut attr) }.ok()?;
            id = attr.read_u32(4);
            let mut by_id = Attr::new().u32(0, id);
            // SAFETY: no pointers.
            let Ok(fd) = (unsafe { open(LINK_FD_BY_ID, &mut by_id) }) else {
                continue; // Gone meanwhile.
            };
            // struct bpf_link_info: type, id, prog_id, padding, then for XDP the interface's number.
            let Ok(info) = info_of::<24>(&fd) else {
                continue;
            };
            let word = |at: usize| {
                u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]])
            };
            if (word(0), word(8), word(16)) == (LINK_TYPE_XDP, program, index) {
                return Some(Self { id, fd });
            }
        }
    }

    /// Takes the program off the interface. Its owner keeps a link to nothing.
    pub(crate) fn detach(&self) -> io::Result<()> {
        let mut attr = Attr::new().fd(0, self.fd.as_raw_fd());
        // SAFETY: no pointers.
        unsafe { call(LINK_DETACH, &mut attr) }.map(drop)
    }
}
