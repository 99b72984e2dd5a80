//! The files of a capture: sections of pcapng that are whole whenever somebody looks.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use byteorder_slice::LittleEndian;
use linecard_engine::tap::MOST_BYTES;
use linecard_hal::PortInfo;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pcap_file::pcapng::Block;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness};

/// What a pipe takes without blocking once it is writable (`PIPE_BUF`, pipe(7)).
const PIPE_BYTES: usize = 4096;

/// How long to wait for a pipe's reader before looking whether to go on waiting.
const PATIENCE_MS: u8 = 50;

/// What every file begins with.
pub(super) struct Beginning {
    bytes: Vec<u8>,
}

impl Beginning {
    /// The section's header, and an interface for each port.
    pub(super) fn new(
        ports: &[PortInfo],
        snaplen: usize,
        filter: Option<&str>,
        comment: Option<&str>,
    ) -> Self {
        let mut bytes = Vec::new();
        let program = concat!("linecard ", env!("CARGO_PKG_VERSION"));
        let mut options = vec![
            SectionHeaderOption::OS(Cow::Borrowed("Linux")),
            SectionHeaderOption::UserApplication(Cow::Borrowed(program)),
        ];
        options.extend(comment.map(|text| SectionHeaderOption::Comment(Cow::Borrowed(text))));
        add(
            &mut bytes,
            &Block::SectionHeader(SectionHeaderBlock {
                endianness: Endianness::Little,
                major_version: 1,
                minor_version: 0,
                section_length: -1,
                options,
            }),
        );
        for port in ports {
            let mut options = vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(&port.name)),
                InterfaceDescriptionOption::IfHardware(Cow::Borrowed(port.driver)),
                // Nanoseconds: 10^-9.
                InterfaceDescriptionOption::IfTsResol(9),
            ];
            // A speed that is only a name would be taken for the link's.
            let speed = port.link_bits_per_second().map(|bits| bits as u64);
            options.extend(speed.map(InterfaceDescriptionOption::IfSpeed));
            // A leading 0 says that it is a text.
            let filter = filter.map(|text| [&[0], text.as_bytes()].concat());
            options.extend(filter.map(|f| InterfaceDescriptionOption::IfFilter(Cow::Owned(f))));
            add(
                &mut bytes,
                &Block::InterfaceDescription(InterfaceDescriptionBlock {
                    linktype: DataLink::ETHERNET,
                    snaplen: snaplen.min(MOST_BYTES) as u32,
                    options,
                }),
            );
        }
        Self { bytes }
    }
}

/// What is said of an interface at the end of a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InterfaceCounts {
    /// Frames that came by, with those that were missed.
    pub(super) received: u64,
    /// Frames missed by device or kernel, and dropped for want of room.
    pub(super) dropped: u64,
    /// Frames that the filter let pass.
    pub(super) accepted: u64,
    /// Frames missed by device or kernel.
    pub(super) missed: u64,
}

fn ending(interfaces: &[InterfaceCounts], (start_ns, now_ns): (u64, u64)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Times are two words, the higher first; the library writes one number.
    let time = |ns: u64| ns.rotate_left(32);
    for (id, counts) in (0..).zip(interfaces) {
        add(
            &mut bytes,
            &Block::InterfaceStatistics(InterfaceStatisticsBlock {
                interface_id: id,
                timestamp: time(now_ns),
                options: vec![
                    InterfaceStatisticsOption::IsbStartTime(time(start_ns)),
                    InterfaceStatisticsOption::IsbEndTime(time(now_ns)),
                    InterfaceStatisticsOption::IsbIfRecv(counts.received),
                    InterfaceStatisticsOption::IsbIfDrop(counts.dropped),
                    InterfaceStatisticsOption::IsbFilterAccept(counts.accepted),
                    InterfaceStatisticsOption::IsbOsDrop(counts.missed),
                ],
            }),
        );
    }
    bytes
}

fn add(to: &mut Vec<u8>, block: &Block<'_>) {
    // Writing to a vector cannot fail.
    let _ = block.write_to::<LittleEndian, _>(to);
}

/// Why writing ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// The reader of a pipe has gone.
    Gone,
    /// The reader of a pipe takes nothing, and nobody wants to wait any longer.
    Hangs,
    Failed(io::Error),
}

/// A file or a pipe, at the end of a whole block.
enum Sink {
    File { file: File, whole: u64 },
    Pipe { pipe: File },
}

impl Sink {
    /// Writes all of it, or as if nothing.
    fn write(&mut self, bytes: &[u8], go_on: &dyn Fn() -> bool) -> Result<(), Stop> {
        match self {
            Self::File { file, whole } => match file.write_all(bytes) {
                Ok(()) => {
                    *whole += bytes.len() as u64;
                    Ok(())
                }
                Err(error) => {
                    // What was written of it goes again: that needs no room.
                    let _ = file.set_len(*whole);
                    let _ = file.seek(SeekFrom::Start(*whole));
                    Err(Stop::Failed(error))
                }
            },
            Self::Pipe { pipe } => {
                for part in bytes.chunks(PIPE_BYTES) {
                    wait_for(pipe, go_on)?;
                    pipe.write_all(part).map_err(|error| match error.kind() {
                        io::ErrorKind::BrokenPipe => Stop::Gone,
                        _ => Stop::Failed(error),
                    })?;
                }
                Ok(())
            }
        }
    }
}

/// Until a write does not block.
fn wait_for(pipe: &File, go_on: &dyn Fn() -> bool) -> Result<(), Stop> {
    loop {
        let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut polled, PollTimeout::from(PATIENCE_MS)) {
            Ok(0) if !go_on() => return Err(Stop::Hangs),
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(Stop::Failed(error.into())),
        }
    }
}

/// All files of a capture, one after the other.
pub(super) struct Files {
    beginning: Beginning,
    rotation: super::Rotation,
    sink: Sink,
    /// Of the file; none for a pipe.
    path: Option<PathBuf>,
    base: PathBuf,
    begun: u64,
    /// When this file was begun, and in nanoseconds since 1970.
    since: Instant,
    start_ns: u64,
    bytes: u64,
    bytes_before: u64,
    has_frames: bool,
}

impl Files {
    /// Begins with the first.
    pub(super) fn create(
        target: super::Target,
        rotation: super::Rotation,
        beginning: Beginning,
    ) -> Result<Self, (String, io::Error)> {
        let (sink, base) = match target {
            super::Target::Pipe(fd) => (pipe(fd), PathBuf::new()),
            super::Target::File(path) => {
                let first = if rotation.is_on() {
                    numbered(&path, 1)
                } else {
                    path.clone()
                };
                let sink = open(&first).map_err(|e| (first.display().to_string(), e))?;
                (sink, path)
            }
        };
        let is_file = matches!(sink, Sink::File { .. });
        let mut files = Self {
            beginning,
            rotation,
            sink,
            path: None,
            begun: 0,
            since: Instant::now(),
            start_ns: 0,
            bytes: 0,
            bytes_before: 0,
            has_frames: false,
            base,
        };
        files.path = is_file.then(|| files.name_of(1));
        // To a pipe, the thread writes it, who can be told that nobody reads.
        if is_file {
            files.begin(&|| true).map_err(|stop| {
                let error = match stop {
                    Stop::Failed(error) => error,
                    Stop::Gone | Stop::Hangs => io::ErrorKind::BrokenPipe.into(),
                };
                (files.path(), error)
            })?;
        }
        Ok(files)
    }

    fn name_of(&self, number: u64) -> PathBuf {
        if self.rotation.is_on() {
            numbered(&self.base, number)
        } else {
            self.base.clone()
        }
    }

    /// Where it is written.
    pub(super) fn path(&self) -> String {
        // A pipe or a device is never followed by a second.
        let path = self.path.clone().unwrap_or_else(|| self.name_of(1));
        if path.as_os_str().is_empty() {
            return "-".to_owned();
        }
        path.display().to_string()
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// Of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes_before + self.bytes
    }

    /// Writes what a file begins with, if that has not been done.
    pub(super) fn begin(&mut self, go_on: &dyn Fn() -> bool) -> Result<(), Stop> {
        if self.bytes > 0 {
            return Ok(());
        }
        self.since = Instant::now();
        self.start_ns = now_ns();
        self.sink.write(&self.beginning.bytes, go_on)?;
        self.bytes = self.beginning.bytes.len() as u64;
        self.begun += 1;
        Ok(())
    }

    /// How many bytes of frames this file may still have; none if it already has one and no more.
    pub(super) fn room(&self) -> u64 {
        match self.rotation.bytes {
            Some(limit) if self.path.is_some() => limit.saturating_sub(self.bytes),
            _ => u64::MAX,
        }
    }

    /// Whether there is a frame in this file.
    pub(super) fn has_frames(&self) -> bool {
        self.has_frames
    }

    /// Writes whole records.
    pub(super) fn write(&mut self, records: &[u8], go_on: &dyn Fn() -> bool) -> Result<(), Stop> {
        self.sink.write(records, go_on)?;
        self.bytes += records.len() as u64;
        self.has_frames |= !records.is_empty();
        Ok(())
    }

    /// Whether this file is old enough for the next.
    pub(super) fn is_old(&self) -> bool {
        let limit: Option<Duration> = self.rotation.time;
        self.path.is_some() && limit.is_some_and(|limit| self.since.elapsed() >= limit)
    }

    /// Ends this file.
    pub(super) fn end(
        &mut self,
        counts: &[InterfaceCounts],
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), Stop> {
        let bytes = ending(counts, (self.start_ns, now_ns()));
        self.sink.write(&bytes, go_on)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Ends this file and begins the next; deletes the oldest if there are too many.
    pub(super) fn rotate(&mut self, counts: &[InterfaceCounts]) -> Result<(), Stop> {
        self.end(counts, &|| true)?;
        let path = self.name_of(self.begun + 1);
        self.sink = open(&path).map_err(Stop::Failed)?;
        self.path = Some(path);
        self.bytes_before += std::mem::take(&mut self.bytes);
        self.has_frames = false;
        self.begin(&|| true)?;
        let keep = self.rotation.files.map(|keep| u64::from(keep.max(1)));
        if let Some(oldest @ 1..) = keep.and_then(|keep| self.begun.checked_sub(keep)) {
            // Somebody else may have taken it away.
            let _ = std::fs::remove_file(self.name_of(oldest));
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Sink> {
    // Otherwise this would wait for a named pipe's reader, who may never come, and nothing could end it.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|error| explain(path, error))?;
    // From here on `wait_for` says when to write.
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?) - OFlag::O_NONBLOCK;
    fcntl(&file, FcntlArg::F_SETFL(flags))?;
    if file.metadata()?.is_file() {
        return Ok(Sink::File { file, whole: 0 });
    }
    // A named pipe, or a device.
    Ok(Sink::Pipe { pipe: file })
}

/// Says what `ENXIO` means for a named pipe (fifo(7)).
fn explain(path: &Path, error: io::Error) -> io::Error {
    let is_fifo = || path.metadata().is_ok_and(|meta| meta.file_type().is_fifo());
    if error.raw_os_error() == Some(nix::Error::ENXIO as i32) && is_fifo() {
        let what = "nobody reads this named pipe; start its reader first";
        return io::Error::new(io::ErrorKind::NotConnected, what);
    }
    error
}

fn pipe(fd: OwnedFd) -> Sink {
    let mut file = File::from(fd);
    match file.metadata() {
        // `> file.pcapng`: what the shell opened is taken back as any other.
        Ok(meta) if meta.is_file() => {
            let whole = file.stream_position().unwrap_or(0);
            Sink::File { file, whole }
        }
        _ => Sink::Pipe { pipe: file },
    }
}

/// `out.pcapng` → `out_00001.pcapng`.
fn numbered(path: &Path, number: u64) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let dot = if extension.is_empty() { "" } else { "." };
    path.with_file_name(format!("{stem}_{number:05}{dot}{extension}"))
}

/// Nanoseconds since 1970.
fn now_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered_before_their_extension() {
        for (path, second) in [
            ("a.pcapng", "a_00002.pcapng"),
            ("/tmp/x/y", "/tmp/x/y_00002"),
            ("a.b.pcap", "a.b_00002.pcap"),
        ] {
            assert_eq!(numbered(Path::new(path), 2), Path::new(second));
        }
    }

    #[test]
    fn a_named_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = open(&path).err().unwrap();
        assert!(refused.to_string().contains("start its reader"));
        let reader = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&path);
        let Ok(Sink::Pipe { pipe }) = open(&path) else {
            panic!("it has a reader now");
        };
        let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK));
        drop(reader);
    }

    #[test]
    fn a_speed_that_is_only_a_name_is_left_out() {
        let null = linecard_sim::open("null:0".parse().unwrap()).unwrap();
        let ports = [false, true].map(|speed_is_nominal| PortInfo {
            speed_mbps: Some(100_000),
            speed_is_nominal,
            ..null.info()
        });
        let beginning = Beginning::new(&ports, 64, None, None);
        let mut reader = pcap_file::pcapng::PcapNgReader::new(&beginning.bytes[..]).unwrap();
        while let Some(block) = reader.next_block() {
            block.unwrap();
        }
        let interfaces = reader.interfaces().iter();
        let speeds = interfaces.map(|interface| {
            interface.options.iter().find_map(|option| match option {
                InterfaceDescriptionOption::IfSpeed(bits) => Some(*bits),
                _ => None,
            })
        });
        assert_eq!(speeds.collect::<Vec<_>>(), [Some(100_000_000_000), None]);
    }

    #[test]
    fn a_device_is_called_by_its_name() {
        let target = super::super::Target::File("/dev/null".into());
        let beginning = Beginning::new(&[], 64, None, None);
        let files = Files::create(target, super::super::Rotation::default(), beginning);
        assert_eq!(files.ok().unwrap().path(), "/dev/null");
    }
}
