//! A kernel that refuses io_uring, as many containers' do.

#![allow(
    unsafe_code,
    reason = "the filter has to be installed between fork and exec"
)]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Has the kernel answer io_uring's three system calls with EPERM for this command.
pub fn forbid_io_uring(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe things may be done; `install` makes two
    // system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// `struct sock_filter`: if the number of the system call, the first word of `struct seccomp_data`, is
/// 425 to 427 (the same on every architecture), EPERM, else go on.
const FILTER: [libc::sock_filter; 5] = {
    const fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        }
    }
    [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(
            libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
            0,
            2,
            libc::SYS_io_uring_setup as u32,
        ),
        op(
            libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K,
            1,
            0,
            libc::SYS_io_uring_register as u32,
        ),
        op(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
};

fn install() -> io::Result<()> {
    let program = libc::sock_fprog {
        len: FILTER.len() as u16,
        filter: FILTER.as_ptr().cast_mut(),
    };
    // SAFETY: takes no pointers; all five arguments are given.
    let no_new_privs = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: `program` and the constant that it points to outlive the call, which only reads them.
    let seccomp = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
            0,
            0,
        )
    };
    if no_new_privs != 0 || seccomp != 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
