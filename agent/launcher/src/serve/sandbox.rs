//! System calls and sockets that api and sync cannot use: the processes that read the network have a smaller kernel interface than
//! others. Installed after the change of account, before `exec`, and inherited by what they start (pip, in the sync).
//!
//! A list of what is denied, not of what is allowed: a new version of the C library must not end the agent. Actions are not children
//! of api and sync, and have no filter.

use nix::libc;

use crate::sys;

/// Denied with EPERM: mounts, modules, namespaces, other processes' memory, tracing and programs for the kernel, keys, clocks, swap,
/// and interfaces with a history of local privilege escalations. Both programs work without them, and most need privileges anyway.
const DENIED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Families of sockets that are allowed: local and IP. Of netlink, only the protocol with which the C library finds the host's
/// addresses, `NETLINK_ROUTE`. Others fail with EAFNOSUPPORT.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// `AUDIT_ARCH_…` of this build (linux/audit.h); `None` where there is no filter.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};
/// Bit of system call numbers of the x32 interface, with which every call has a second number.
const X32: u32 = 0x4000_0000;
/// Offsets in `struct seccomp_data` (seccomp(2)): number, architecture, lower halves of the first and the third argument.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const THIRD_ARGUMENT: u32 = 32;

/// Flags of `clone(2)` that make namespaces: in a user namespace a process has all capabilities, whatever its bounding set was.
/// `CLONE_NEWTIME` is not among them: `clone` takes its bit for a part of the exit signal.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Removes all capabilities from the bounding set, with which a set-user-ID program would begin. Needs a privilege that the
/// change of account gives up.
pub(super) fn drop_bounding_set() {
    sys::drop_bounding_set();
}

/// Installs the filter for this process and its children. A kernel without seccomp has none: the accounts are the first boundary.
pub(super) fn install() -> nix::Result<()> {
    let Some(architecture) = ARCHITECTURE else { return Ok(()) };
    match sys::install_filter(&filter(architecture)) {
        Err(nix::Error::EINVAL | nix::Error::ENOSYS) => Ok(()),
        other => other,
    }
}

/// Returns the filter: a program for the kernel's classic BPF machine.
fn filter(architecture: u32) -> Vec<libc::sock_filter> {
    let errno = |error: i32| libc::SECCOMP_RET_ERRNO | error.unsigned_abs();
    let number_of = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let mut program = vec![
        load(ARCH),
        // Calls of another architecture, such as those of 32-bit programs, have other numbers.
        skip_if(libc::BPF_JEQ, architecture, 1, 0),
        answer(errno(libc::EPERM)),
        load(NUMBER),
        skip_if(libc::BPF_JGE, X32, 0, 1),
        answer(errno(libc::EPERM)),
    ];
    for number in DENIED {
        program.push(skip_if(libc::BPF_JEQ, number_of(*number), 0, 1));
        program.push(answer(errno(libc::EPERM)));
    }
    program.extend([
        // Its flags are in memory, which a filter cannot read. Without it the C library uses `clone`; only for this error.
        skip_if(libc::BPF_JEQ, number_of(libc::SYS_clone3), 0, 1),
        answer(errno(libc::ENOSYS)),
        skip_if(libc::BPF_JEQ, number_of(libc::SYS_clone), 0, 4),
        load(FIRST_ARGUMENT),
        skip_if(libc::BPF_JSET, NAMESPACES.unsigned_abs(), 0, 1),
        answer(errno(libc::EPERM)),
        answer(libc::SECCOMP_RET_ALLOW),
        skip_if(libc::BPF_JEQ, number_of(libc::SYS_socket), 1, 0),
        answer(libc::SECCOMP_RET_ALLOW),
        load(FIRST_ARGUMENT),
    ]);
    for family in FAMILIES {
        program.push(skip_if(libc::BPF_JEQ, family.unsigned_abs(), 0, 1));
        program.push(answer(libc::SECCOMP_RET_ALLOW));
    }
    program.extend([
        skip_if(libc::BPF_JEQ, libc::AF_NETLINK.unsigned_abs(), 0, 3),
        load(THIRD_ARGUMENT),
        skip_if(libc::BPF_JEQ, libc::NETLINK_ROUTE.unsigned_abs(), 0, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(errno(libc::EAFNOSUPPORT)),
    ]);
    program
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt, jf, k }
}

fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Compares; skips `then` instructions if it holds, otherwise `or`.
fn skip_if(comparison: u32, value: u32, then: u8, or: u8) -> libc::sock_filter {
    statement(libc::BPF_JMP | comparison | libc::BPF_K, value, then, or)
}

fn answer(action: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

    use super::*;

    /// A filter is of one thread: those of the other tests are not affected.
    #[test]
    fn denied_calls_and_families_fail_and_others_work() {
        let tried = std::thread::spawn(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            install().unwrap();
            let open = |family| socket(family, SockType::Datagram, SockFlag::empty(), None).map(drop);
            let allowed = [AddressFamily::Unix, AddressFamily::Inet].map(open);
            let refused = [AddressFamily::Packet, AddressFamily::Vsock, AddressFamily::Alg].map(open);
            let mount = sys::is_denied(libc::SYS_mount);
            let namespace = sys::is_denied(libc::SYS_unshare) && sys::is_namespace_denied();
            let netlink =
                |protocol| socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), protocol).map(drop);
            let route = netlink(SockProtocol::NetlinkRoute);
            let filter = netlink(SockProtocol::NetlinkNetFilter);
            let works = std::fs::read("/proc/self/status").is_ok() && std::thread::spawn(|| ()).join().is_ok();
            (allowed, refused, mount && namespace, works && route.is_ok() && filter == Err(nix::Error::EAFNOSUPPORT))
        });
        let (allowed, refused, denied, works) = tried.join().unwrap();
        assert!(allowed.iter().all(Result::is_ok), "{allowed:?}");
        assert_eq!(refused, [Err(nix::Error::EAFNOSUPPORT); 3]);
        assert!(denied && works);
    }
}
