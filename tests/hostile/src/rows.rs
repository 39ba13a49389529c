//! The attempts, by the ids of the threat list; `works_` are controls, which must be allowed.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{TcpListener, TcpStream},
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::{
            fs::OpenOptionsExt as _,
            net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::Path,
    process::Command,
    time::Duration,
};

use libc::{
    AF_INET, AF_NETLINK, AF_PACKET, AF_UNIX, AT_FDCWD, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID,
    CLONE_NEWUSER, MNT_DETACH, MS_BIND, MS_PRIVATE, MS_REC, MS_REMOUNT, SIGCHLD, SOCK_CLOEXEC,
    SOCK_DGRAM, SOCK_NONBLOCK, SOCK_RAW, SOCK_STREAM, c_long,
};

use crate::{
    call::{address, errno, path, raw, set_errno},
    files,
};

/// What the caller has on the host, for attempts to reach it.
#[derive(Debug, Default)]
pub struct Told {
    /// An abstract unix socket.
    pub abstract_name: String,
    /// A unix datagram socket, by path.
    pub socket: String,
    /// A unix stream socket, by path.
    pub stream: String,
    /// Seconds since its start.
    pub uptime: u64,
}

/// One attempt: negative with the thread's error when it was refused.
pub type Row = fn(&Told) -> c_long;

macro_rules! rows {
    ($told:ident, $($name:ident: $body:expr;)+) => {
        /// All of them, in order.
        pub const ROWS: &[(&str, Row)] = &[$((stringify!($name), |$told| { let _ = $told; $body })),+];
    };
}

rows! {
    told,
    f04_open_git_config: files::opened_for_writing(".git/config");
    f04_make_git_hook: files::made(".git/hooks/pre-commit");
    f04_replace_git_config: files::renamed_to(".git/config");
    f04_remove_git_config: files::removed(".git/config");
    f05_make_mcp_settings: files::made(".mcp.json");
    f05_make_editor_folder: files::made_folder(".vscode");
    f05_make_link_as_envrc: files::made_link(".envrc");
    f05_rename_to_envrc: files::renamed_to("sub/.envrc");
    f06_make_git_file: files::made("sub/.git");
    f06_make_commondir: files::made(".git/commondir");
    f06_move_git_away: files::moved_and_back(".git", "sub/git");
    f07_link_that_points_out: files::read("out");
    f07_beside_by_dots: files::read("../beside");
    f07_beside_by_proc: files::read("/proc/self/cwd/../beside");
    f07_hard_link_out: files::linked_out();
    f08_unshare_user: unshare(CLONE_NEWUSER);
    f08_unshare_mount: unshare(CLONE_NEWNS);
    f08_unshare_net: unshare(CLONE_NEWNET);
    f08_unshare_pid: unshare(CLONE_NEWPID);
    f08_unshare_time: unshare(0x80);
    f08_uptime_of_the_host: of(some(uptime().is_some_and(|seconds| seconds >= told.uptime)));
    f08_clone_user: raw(libc::SYS_clone, &[flags(CLONE_NEWUSER | SIGCHLD)]);
    f08_clone_user_high_bits: raw(libc::SYS_clone, &[HIGH | flags(CLONE_NEWUSER | SIGCHLD)]);
    f08_clone3_user: raw(libc::SYS_clone3, &[address(&[flags(CLONE_NEWUSER), 0, 0, 0, flags(SIGCHLD), 0, 0, 0]), 64]);
    f08_chain_user_namespace_then_mount: chain();
    f08_setns_own_net: with_file("/proc/self/ns/net", |fd| raw(libc::SYS_setns, &[fd, flags(CLONE_NEWNET)]));
    f08_mount_tmpfs: { private_mounts(); mount_tmpfs() };
    f08_remount_usr_writable: { private_mounts(); remount("/usr") };
    f08_umount_proc: { private_mounts(); raw(libc::SYS_umount2, &[path("/proc"), flags(MNT_DETACH)]) };
    f08_fsopen_tmpfs: raw(libc::SYS_fsopen, &[path("tmpfs"), 0]);
    f08_fspick: raw(libc::SYS_fspick, &[flags(AT_FDCWD), path("/"), 0]);
    f08_fsmount: raw(libc::SYS_fsmount, &[u64::MAX, 0, 0]);
    f08_open_tree_clone: raw(libc::SYS_open_tree, &[flags(AT_FDCWD), path("/tmp"), 1]);
    f08_move_mount: raw(libc::SYS_move_mount, &[flags(AT_FDCWD), path("/tmp"), flags(AT_FDCWD), path("/"), 0]);
    f08_mount_setattr_root: raw(libc::SYS_mount_setattr, &[flags(AT_FDCWD), path("/"), 0, address(&[0_u64; 4]), 32]);
    f08_chroot_root: raw(libc::SYS_chroot, &[path("/")]);
    f08_pivot_root_tmp: pivot();
    f09_io_uring_setup: raw(libc::SYS_io_uring_setup, &[1, address(&[0_u64; 15])]);
    f09_io_uring_enter: raw(libc::SYS_io_uring_enter, &[u64::MAX]);
    f09_io_uring_register: raw(libc::SYS_io_uring_register, &[u64::MAX]);
    f10_x32_getpid: raw(0x4000_0000 | libc::SYS_getpid, &[]);
    f10_i386_getpid: i386();
    f10_personality_read_implies_exec: personality(0x40_0000);
    f10_personality_fixed_addresses: personality(0x4_0000);
    f10_personality_fixed_addresses_and_more: personality(0x44_0000);
    f10_personality_high_bits: personality(HIGH | 0x40_0000);
    f10_future_call: raw(463, &[u64::MAX, 0, 0, 1, 1]);
    f11_ptrace_self: raw(libc::SYS_ptrace, &[0]);
    f11_ptrace_first_process: raw(libc::SYS_ptrace, &[0x4206, 1, 0, 0]);
    f11_process_vm_read_self: process_vm(libc::SYS_process_vm_readv, std::process::id());
    f11_process_vm_write_self: process_vm(libc::SYS_process_vm_writev, std::process::id());
    f11_process_vm_read_first_process: process_vm(libc::SYS_process_vm_readv, 1);
    f11_process_madvise: raw(libc::SYS_process_madvise, &[u64::MAX, 0, 0, 0, 0]);
    f11_kcmp_self: raw(libc::SYS_kcmp, &[own_pid(), own_pid(), 0, 0, 0]);
    f11_pidfd_getfd_self: pidfd_getfd(std::process::id());
    f11_pidfd_getfd_first_process: pidfd_getfd(1);
    f11_first_process_memory: of(File::open("/proc/1/mem"));
    f11_first_process_root: of(fs::read_dir("/proc/1/root"));
    f11_first_process_descriptors: of(fs::read_link("/proc/1/fd/0"));
    f11_first_process_environment: of(fs::read("/proc/1/environ"));
    f11_first_process_is_dumpable: of(fs::read("/proc/1/maps").and_then(|maps| some(!maps.is_empty())));
    f11_pidfd_of_who_connects: peer_pidfd();
    f12_unix_stream: socket(AF_UNIX, SOCK_STREAM, 0);
    f12_unix_stream_high_bits: raw(libc::SYS_socket, &[HIGH | 1, 1, 0]);
    f12_unix_datagram: socket(AF_UNIX, SOCK_DGRAM, 0);
    f12_unix_seqpacket: socket(AF_UNIX, libc::SOCK_SEQPACKET, 0);
    f12_abstract_socket_of_the_host: abstract_socket(told);
    f12_stream_socket_of_the_host: of(UnixStream::connect(&told.stream));
    f12_stream_socket_of_the_host_by_proc: of(UnixStream::connect(from_own_root(&told.stream)));
    f12_stream_socket_of_the_host_by_descriptor: by_descriptor(told);
    f12_stream_socket_in_a_grant: bound("./hostile.sock");
    f12_pair_datagram: pair(SOCK_DGRAM);
    f12_pair_datagram_flags: pair(SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK);
    f12_pair_raw: pair(SOCK_RAW);
    f12_pair_turned_to_the_host: turned(told);
    f12_vsock: socket(40, SOCK_STREAM, 0);
    f12_alg: socket(38, libc::SOCK_SEQPACKET, 0);
    f12_bluetooth: socket(31, SOCK_RAW, 1);
    f12_packet: socket(AF_PACKET, SOCK_RAW, 0);
    f12_raw_icmp: socket(AF_INET, SOCK_RAW, 1);
    f12_ping_icmp: socket(AF_INET, SOCK_DGRAM, 1);
    f12_mptcp: socket(AF_INET, SOCK_STREAM, 262);
    f12_sctp: socket(AF_INET, SOCK_STREAM, 132);
    f12_netlink_audit: socket(AF_NETLINK, SOCK_RAW, 9);
    f12_netlink_netfilter: socket(AF_NETLINK, SOCK_RAW, 12);
    f12_netlink_uevent: socket(AF_NETLINK, SOCK_RAW, 15);
    f12_descriptors_above_two: stray_descriptor();
    f13_tiocsti: on_terminal(libc::TIOCSTI, address(b"x"));
    f13_tiocsti_high_bits: on_terminal(HIGH | libc::TIOCSTI, address(b"x"));
    f13_tioclinux: not_a_console(on_terminal(libc::TIOCLINUX, address(&2_u8)));
    f13_tiocsetd: on_terminal(libc::TIOCSETD, address(&27_i32));
    f17_secret: files::has_variable("HOSTILE_SECRET");
    f17_ld_preload: files::has_variable("LD_PRELOAD");
    f17_bash_env: files::has_variable("BASH_ENV");
    f17_git_config: files::has_variable("GIT_CONFIG_COUNT");
    f19_raise_open_files: files::raised(libc::RLIMIT_NOFILE);
    f19_raise_file_size: files::raised(libc::RLIMIT_FSIZE);
    f19_fill_tmp: files::filled();
    f20_remove: files::removed("old/removed");
    f20_remove_by_proc: files::removed("/proc/self/cwd/old/proc");
    f20_remove_by_descriptor: files::removed_by_descriptor();
    f20_remove_folder: files::removed_folder();
    f20_move_out: files::moved_out();
    f20_replace_then_remove: files::replaced_and_removed();
    f20_link_then_remove: files::linked_and_removed();
    f20_exchange_then_remove: files::exchanged_and_removed();
    more_keyctl_session: raw(libc::SYS_keyctl, &[0, -3_i64 as u64, 1]);
    more_add_key: raw(libc::SYS_add_key, &[path("user"), path("cordon"), address(b"x"), 1, -2_i64 as u64]);
    more_request_key: raw(libc::SYS_request_key, &[path("user"), path("cordon"), 0, 0]);
    more_bpf: or_invalid(raw(libc::SYS_bpf, &[0, address(&[0_u64; 9]), 72]));
    more_perf: or_invalid(raw(libc::SYS_perf_event_open, &[address(&[0_u64; 16]), 0, u64::MAX, u64::MAX, 0]));
    more_userfaultfd: raw(libc::SYS_userfaultfd, &[flags(libc::O_CLOEXEC)]);
    more_open_by_handle: or_stale(raw(libc::SYS_open_by_handle_at, &[flags(AT_FDCWD), address(&[8_u32, 1, 0, 0]), 0]));
    more_fanotify: raw(libc::SYS_fanotify_init, &[0, 0]);
    more_quotactl: raw(libc::SYS_quotactl, &[0x80_0001, 0, 0, 0]);
    more_kernel_log: raw(libc::SYS_syslog, &[10, 0, 0]);
    more_modify_ldt: raw(libc::SYS_modify_ldt, &[0, address(&[0_u64; 8]), 64]);
    more_make_device: made(raw(libc::SYS_mknodat, &[flags(AT_FDCWD), path("/tmp/hostile-null"), u64::from(libc::S_IFCHR | 0o600), 0x103]));
    more_set_user_root: raw(libc::SYS_setuid, &[if own_user() == 0 { 1 } else { 0 }]);
    more_set_host_name: raw(libc::SYS_sethostname, &[address(b"x"), 1]);
    more_gain_capability: capability();
    more_usr_writable: of(File::create("/usr/bin/hostile"));
    more_root_writable: files::made_and_removed(&format!("/hostile-{}", std::process::id()));
    more_etc_writable: of(File::create("/etc/hostile"));
    more_shadow: of(File::open("/etc/shadow"));
    more_core_pattern: written("/proc/sys/kernel/core_pattern");
    more_sysrq_trigger: written("/proc/sysrq-trigger");
    more_oom_score_of_the_first: written("/proc/1/oom_score_adj");
    more_writable_kernel_file: writable_kernel_file();
    more_kernel_memory: of(File::open("/proc/kcore"));
    more_devices: of(File::open("/dev/kvm").or_else(|_| File::open("/dev/mem")).or_else(|_| File::open("/dev/sda")));
    more_cgroups: of(fs::read_dir("/sys/fs/cgroup"));
    more_host_run: of(fs::read_dir("/run"));
    more_host_home: of(fs::read_dir("/home"));
    more_set_user_id_chmod: marked(|file| raw(libc::SYS_chmod, &[file, 0o4755]));
    more_set_group_id_chmod: marked(|file| raw(libc::SYS_chmod, &[file, 0o2755]));
    more_set_user_id_chmod_high_bits: marked(|file| raw(libc::SYS_chmod, &[file, HIGH | 0o4755]));
    more_set_user_id_fchmod: marked(|file| raw(libc::SYS_fchmod, &[opened(file, 0, 0), 0o4755]));
    more_set_user_id_fchmodat: marked(|file| raw(libc::SYS_fchmodat, &[flags(AT_FDCWD), file, 0o4755]));
    more_set_user_id_fchmodat2: marked(|file| raw(libc::SYS_fchmodat2, &[flags(AT_FDCWD), file, 0o4755, 0]));
    more_set_user_id_open: unmarked(|file| raw(libc::SYS_open, &[file, flags(libc::O_CREAT | libc::O_WRONLY), 0o4755]));
    more_set_user_id_openat: unmarked(|file| raw(libc::SYS_openat, &[flags(AT_FDCWD), file, flags(libc::O_CREAT | libc::O_WRONLY), 0o4755]));
    more_set_user_id_openat2: unmarked(|file| raw(libc::SYS_openat2, &[flags(AT_FDCWD), file, address(&[flags(libc::O_CREAT | libc::O_WRONLY), 0o4755, 0]), 24]));
    more_set_user_id_nameless: raw(libc::SYS_openat, &[flags(AT_FDCWD), path("/tmp"), flags(libc::O_TMPFILE | libc::O_WRONLY), 0o4755]);
    more_set_user_id_creat: unmarked(|file| raw(libc::SYS_creat, &[file, 0o4755]));
    more_set_user_id_mknod: unmarked(|file| raw(libc::SYS_mknod, &[file, (libc::S_IFREG | 0o4755).into(), 0]));
    more_set_user_id_mknodat: unmarked(|file| raw(libc::SYS_mknodat, &[flags(AT_FDCWD), file, (libc::S_IFREG | 0o4755).into(), 0]));
    more_set_group_id_mkdir: unmarked(|file| raw(libc::SYS_mkdir, &[file, 0o2755]));
    more_set_group_id_mkdirat: unmarked(|file| raw(libc::SYS_mkdirat, &[flags(AT_FDCWD), file, 0o2755]));
    more_file_capability: marked(give_capability);
    more_file_capability_in_a_grant: marked_in(".", give_capability);
    works_tcp: tcp();
    works_udp: socket(AF_INET, SOCK_DGRAM, 0);
    works_route_netlink: socket(AF_NETLINK, SOCK_RAW, 0);
    works_in_build_own_socket: bound("/tmp/hostile.sock");
    works_in_build_abstract_socket: own_abstract();
    works_pair_stream: pair(SOCK_STREAM);
    works_pair_seqpacket: pair(libc::SOCK_SEQPACKET);
    works_terminal_size: on_terminal(libc::TIOCGWINSZ, room());
    works_own_tmp: own_tmp();
    works_chmod_with_sticky_bit: marked(|file| raw(libc::SYS_chmod, &[file, 0o1755]));
    works_open_without_making: marked(|file| raw(libc::SYS_open, &[file, 0, 0o4755]));
    works_unshare_files: unshare(libc::CLONE_FILES);
    works_personality_asked: personality(0xffff_ffff);
    works_thread: of(std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().is_ok()));
    works_program: of(Command::new("/bin/true").status());
    works_shared_memory: raw(libc::SYS_shmget, &[0, 4096, 0o1600]);
    works_stay_behind: files::stayed_behind();
    works_make_in_a_grant: files::made("sub/own");
    works_remove_own_in_a_grant: files::removed("sub/own");
    works_own_process: of(fs::read("/proc/self/environ"));
}

const HIGH: u64 = 1 << 40;

/// As a register holds it.
pub fn flags(value: i32) -> u64 {
    // As the register holds it: sign and all.
    i64::from(value) as u64
}

/// Zero, or -1 with the thread's error set.
pub fn of<T>(result: io::Result<T>) -> c_long {
    match result {
        Ok(_) => 0,
        Err(error) => {
            set_errno(error.raw_os_error().unwrap_or(libc::EIO));
            -1
        }
    }
}

/// Whether there was something.
pub fn some(yes: bool) -> io::Result<()> {
    match yes {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EACCES)),
    }
}

/// It was asked, only not with sense.
fn asked(result: c_long, errors: &[i32]) -> c_long {
    if result < 0 && errors.contains(&errno()) {
        0
    } else {
        result
    }
}

fn or_invalid(result: c_long) -> c_long {
    asked(result, &[libc::EINVAL, libc::ENOENT, libc::E2BIG])
}

fn or_stale(result: c_long) -> c_long {
    asked(result, &[libc::ESTALE, libc::EINVAL])
}

fn not_a_console(result: c_long) -> c_long {
    asked(result, &[libc::ENOTTY])
}

fn made(result: c_long) -> c_long {
    let error = errno();
    let _absent = fs::remove_file("/tmp/hostile-null");
    set_errno(error);
    result
}

/// The low word of `VFS_CAP_REVISION_2` with the effective bit, then every capability.
const FILE_CAPABILITY: [u32; 5] = [0x0200_0001, u32::MAX, 0, 0, 0];

fn give_capability(file: u64) -> c_long {
    let name = path("security.capability");
    raw(
        libc::SYS_setxattr,
        &[file, name, address(&FILE_CAPABILITY), 20, 0],
    )
}

/// With the path of a file of our own, which is removed afterwards.
fn marked(call: impl FnOnce(u64) -> c_long) -> c_long {
    marked_in("/tmp", call)
}

fn marked_in(folder: &str, call: impl FnOnce(u64) -> c_long) -> c_long {
    unmarked_in(folder, |file| {
        if opened(file, libc::O_CREAT | libc::O_WRONLY, 0o600) == u64::MAX {
            return -1;
        }
        call(file)
    })
}

/// With a path at which there is nothing; what was made there is removed.
fn unmarked(call: impl FnOnce(u64) -> c_long) -> c_long {
    unmarked_in("/tmp", call)
}

fn unmarked_in(folder: &str, call: impl FnOnce(u64) -> c_long) -> c_long {
    let name = format!("{folder}/hostile-mode-{}", std::process::id());
    let result = call(path(&name));
    let error = errno();
    let _absent = fs::remove_file(&name).or_else(|_| fs::remove_dir(&name));
    set_errno(error);
    result
}

/// A descriptor; all ones for none.
fn opened(file: u64, how: i32, mode: u64) -> u64 {
    raw(libc::SYS_openat, &[flags(AT_FDCWD), file, flags(how), mode]) as u64
}

/// Memory that the kernel may write to; it stays until the child ends.
fn room() -> u64 {
    address(Box::leak(Box::new([0_u64; 16])))
}

fn own_tmp() -> c_long {
    let file = format!("/tmp/hostile-{}", std::process::id());
    of(fs::write(&file, "x").and_then(|()| fs::remove_file(&file)))
}

fn uptime() -> Option<u64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    text.split('.').next()?.parse().ok()
}

fn own_pid() -> u64 {
    std::process::id().into()
}

fn own_user() -> u32 {
    // SAFETY: takes no argument and cannot fail.
    unsafe { libc::getuid() }
}

fn unshare(what: i32) -> c_long {
    raw(libc::SYS_unshare, &[flags(what)])
}

fn personality(which: u64) -> c_long {
    raw(libc::SYS_personality, &[which])
}

fn socket(family: i32, kind: i32, protocol: u64) -> c_long {
    raw(libc::SYS_socket, &[flags(family), flags(kind), protocol])
}

fn pair(kind: i32) -> c_long {
    raw(libc::SYS_socketpair, &[1, flags(kind), 0, room()])
}

fn with_file(name: &str, then: impl FnOnce(u64) -> c_long) -> c_long {
    match File::open(name) {
        Ok(file) => then(flags(file.as_raw_fd())),
        Err(error) => of::<()>(Err(error)),
    }
}

/// Outside, what follows changes nobody's mounts but the child's.
fn private_mounts() {
    unshare(CLONE_NEWNS);
    let private = MS_REC | MS_PRIVATE;
    raw(libc::SYS_mount, &[0, path("/"), 0, private, 0]);
}

fn mount_tmpfs() -> c_long {
    raw(
        libc::SYS_mount,
        &[path("none"), path("/tmp"), path("tmpfs"), 0, 0],
    )
}

fn remount(folder: &str) -> c_long {
    let at = path(folder);
    if raw(libc::SYS_mount, &[at, at, 0, MS_BIND, 0]) < 0 {
        return -1;
    }
    raw(libc::SYS_mount, &[0, at, 0, MS_BIND | MS_REMOUNT, 0])
}

/// The classic: a user namespace gives the capability to take the read-only binds away.
fn chain() -> c_long {
    if unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 {
        return -1;
    }
    raw(libc::SYS_umount2, &[path("/usr"), flags(MNT_DETACH)]);
    mount_tmpfs()
}

fn pivot() -> c_long {
    private_mounts();
    mount_tmpfs();
    if std::env::set_current_dir("/tmp").is_err() {
        return -1;
    }
    raw(libc::SYS_pivot_root, &[path("."), path(".")])
}

#[cfg(target_arch = "x86_64")]
fn i386() -> c_long {
    let mut number = 20_i64;
    // SAFETY: interrupt 0x80 with getpid's number changes these registers and nothing else.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") number, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    number
}

#[cfg(not(target_arch = "x86_64"))]
fn i386() -> c_long {
    raw(0x4000_0000, &[])
}

fn process_vm(number: c_long, pid: u32) -> c_long {
    let buffer = [0_u64; 2];
    let part = [address(&buffer), 8];
    raw(
        number,
        &[pid.into(), address(&part), 1, address(&part), 1, 0],
    )
}

fn pidfd_getfd(pid: u32) -> c_long {
    let pidfd = raw(libc::SYS_pidfd_open, &[pid.into(), 0]);
    if pidfd < 0 {
        return pidfd;
    }
    raw(libc::SYS_pidfd_getfd, &[pidfd as u64, 0, 0])
}

fn own_abstract() -> c_long {
    let name = SocketAddr::from_abstract_name("hostile");
    let reached = name.and_then(|name| {
        let _server = UnixListener::bind_addr(&name)?;
        UnixStream::connect_addr(&name)
    });
    of(reached)
}

fn abstract_socket(told: &Told) -> c_long {
    let name = SocketAddr::from_abstract_name(&told.abstract_name);
    of(name.and_then(|name| UnixStream::connect_addr(&name)))
}

/// The same file by the link of `/proc` to this process' root.
fn from_own_root(name: &str) -> String {
    let folder = std::env::current_dir().unwrap_or_default();
    format!("/proc/self/root{}", folder.join(name).display())
}

/// The same by what `/proc` shows of an open file.
fn by_descriptor(told: &Told) -> c_long {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(&told.stream);
    of(opened.and_then(|file| UnixStream::connect(format!("/proc/self/fd/{}", file.as_raw_fd()))))
}

/// A handle on whoever made the connection: in a session that is not who asked for it.
fn peer_pidfd() -> c_long {
    const SO_PEERPIDFD: u64 = 77;
    let accepted = UnixListener::bind("/tmp/hostile-peer.sock").and_then(|server| {
        let client = UnixStream::connect("/tmp/hostile-peer.sock")?;
        Ok((server.accept()?.0, client))
    });
    let _none = fs::remove_file("/tmp/hostile-peer.sock");
    match accepted {
        Ok((accepted, _client)) => {
            let mut length = 4_u32;
            let length = std::ptr::from_mut(&mut length).expose_provenance() as u64;
            let fd = flags(accepted.as_raw_fd());
            raw(libc::SYS_getsockopt, &[fd, 1, SO_PEERPIDFD, room(), length])
        }
        Err(error) => of::<()>(Err(error)),
    }
}

/// A server of the session's, and whether somebody reaches it.
fn bound(name: &str) -> c_long {
    let reached = UnixListener::bind(name).and_then(|_server| UnixStream::connect(name));
    let _none = fs::remove_file(name);
    of(reached)
}

/// A pair of datagram sockets has an end that can be turned to a path.
fn turned(told: &Told) -> c_long {
    let reached = UnixDatagram::pair().and_then(|(end, _other)| {
        end.connect(Path::new(&told.socket))?;
        end.send(b"escaped")
    });
    of(reached)
}

fn stray_descriptor() -> c_long {
    (3..4096)
        .find(|fd| raw(libc::SYS_fcntl, &[*fd, flags(libc::F_GETFD)]) >= 0)
        .map_or_else(
            || {
                set_errno(libc::EBADF);
                -1
            },
            |_found| 0,
        )
}

/// On a terminal of its own, made the controlling one: no setting of the host for real ones counts.
fn on_terminal(request: u64, argument: u64) -> c_long {
    let (mut master, mut terminal) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: writes two descriptors into locals; the other pointers may be null.
    let opened = unsafe {
        libc::openpty(
            &raw mut master,
            &raw mut terminal,
            null,
            null.cast(),
            null.cast(),
        )
    };
    if opened < 0 {
        return -1;
    }
    raw(libc::SYS_setsid, &[]);
    if raw(libc::SYS_ioctl, &[flags(terminal), libc::TIOCSCTTY, 0]) < 0 {
        return -1;
    }
    raw(libc::SYS_ioctl, &[flags(terminal), request, argument])
}

fn capability() -> c_long {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = ["CapPrm:", "CapEff:", "CapBnd:", "CapInh:", "CapAmb:"]
        .iter()
        .any(|set| {
            let line = status.lines().find_map(|line| line.strip_prefix(set));
            line.is_none_or(|bits| bits.trim().chars().any(|digit| digit != '0'))
        });
    of(match held {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EPERM)),
    })
}

fn written(name: &str) -> c_long {
    of(OpenOptions::new().write(true).open(name))
}

/// Any file of the kernel's own in /proc that could be written. The files of processes are not
/// meant, nor pressure stall triggers, which everybody may set.
fn writable_kernel_file() -> c_long {
    let mut folders = vec![Path::new("/proc").to_path_buf()];
    while let Some(folder) = folders.pop() {
        let top = folder == Path::new("/proc");
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let process = name.starts_with(|c: char| c.is_ascii_digit());
            if top && (process || ["self", "thread-self", "pressure"].contains(&&*name)) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && may_write(&entry.path()) => {
                    eprintln!("writable: {}", entry.path().display());
                    return 0;
                }
                _ => {}
            }
        }
    }
    set_errno(libc::EROFS);
    -1
}

/// Asked, not opened: opening some of them does something.
fn may_write(file: &Path) -> bool {
    let name = path(&file.to_string_lossy());
    raw(
        libc::SYS_faccessat,
        &[flags(AT_FDCWD), name, flags(libc::W_OK)],
    ) >= 0
}

fn tcp() -> c_long {
    let reached = TcpListener::bind("127.0.0.1:0").and_then(|listener| {
        // It listens until it is reached.
        let address = listener.local_addr()?;
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop)
    });
    of(reached)
}
