//! EAL's own functions: start, log, threads.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::path::PathBuf;

use linecard_dpdk_sys as dpdk;

use super::answer;

/// Makes every message of DPDK go to [`crate::log::line`].
pub(crate) fn capture_log() -> io::Result<()> {
    unsafe extern "C" fn line(level: u32, text: *const c_char, len: usize) {
        // SAFETY: the shim passes what the stream was given: `len` bytes.
        let text = unsafe { core::slice::from_raw_parts(text.cast::<u8>(), len) };
        // Nothing may unwind into C; a message that cannot be shown is not worth more.
        let _ =
            std::panic::catch_unwind(|| crate::log::line(level, &String::from_utf8_lossy(text)));
    }
    // SAFETY: `line` may be called from any thread at any time.
    answer(unsafe { dpdk::lc_log_to(Some(line)) }).map(drop)
}

/// Starts EAL on the calling thread, which becomes its main lcore and is moved to that lcore's
/// processors. Once per process.
pub(crate) fn init(arguments: &[String]) -> io::Result<()> {
    let words: Result<Vec<CString>, _> =
        arguments.iter().map(|a| CString::new(a.as_str())).collect();
    let words = words.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // EAL keeps pointers to some of them, and reorders the array.
    let mut argv: Vec<*mut c_char> = words.into_iter().map(CString::into_raw).collect();
    let argc = argv.len() as i32;
    argv.push(core::ptr::null_mut());
    let argv = argv.leak();
    // SAFETY: `argc` strings and a null pointer, all of which live for ever.
    answer(unsafe { dpdk::lc_eal_init(argc, argv.as_mut_ptr()) })?;
    // SAFETY: EAL is up.
    answer(unsafe { dpdk::lc_reserve_mbuf_words() })?;
    super::pool::register_operations()
}

/// Whether devices are given virtual addresses, which is what mbufs carry.
pub(crate) fn iova_is_va() -> bool {
    // SAFETY: no preconditions.
    unsafe { dpdk::lc_iova_is_va() }
}

/// The directory that EAL makes for its files.
pub(crate) fn runtime_dir() -> PathBuf {
    // SAFETY: a string that lives as long as EAL.
    text(unsafe { dpdk::lc_runtime_dir() }).into()
}

/// Where the poll-mode drivers' plug-ins lie.
pub(crate) fn plugin_dir() -> PathBuf {
    // SAFETY: a constant.
    text(unsafe { dpdk::lc_plugin_dir() }).into()
}

/// The version of the library that is loaded, for people.
pub(crate) fn version() -> String {
    // SAFETY: a constant string.
    text(unsafe { dpdk::lc_version() })
}

/// Year and month, as 2211: of the library that is loaded, and of the headers this was built with.
pub(crate) fn version_numbers() -> (u32, u32) {
    // SAFETY: no preconditions.
    unsafe {
        (
            dpdk::lc_version_number() as u32,
            dpdk::lc_version_built() as u32,
        )
    }
}

fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the callers pass C strings of DPDK, which are not freed.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// Makes the calling thread an lcore of DPDK.
pub(crate) fn register_thread() -> io::Result<()> {
    // SAFETY: EAL is up: only queues do this, and they come from a port.
    answer(unsafe { dpdk::lc_thread_register() }).map(drop)
}

/// Undoes that.
pub(crate) fn unregister_thread() {
    // SAFETY: as above.
    unsafe { dpdk::lc_thread_unregister() };
}

/// Whether the calling thread is an lcore of DPDK.
pub(crate) fn is_lcore() -> bool {
    // SAFETY: reads a thread-local variable.
    unsafe { dpdk::lc_lcore() != u32::MAX }
}
