//! The attempts that may fail outside as well, each with its reason: all others are controls.

use rustix::process::{Resource, getrlimit};

/// Whether this attempt may fail outside.
pub fn may_fail(name: &str, as_user: bool) -> bool {
    let told = |list: &[(&str, &str)]| list.iter().any(|(row, _why)| *row == name);
    let most = getrlimit(Resource::Nofile).maximum;
    let raises_above_it = most.is_some_and(|most| most <= SESSION_FILES) && told(&ABOVE_THE_LIMIT);
    told(&EVEN_OUTSIDE) || (as_user && (told(&AS_A_USER) || raises_above_it))
}

/// The open files that a session has when nobody names its limits; an attempt takes one more.
const SESSION_FILES: u64 = 16_384;

/// What may fail outside for an ordinary user where the machine allows them no more open files than
/// [`SESSION_FILES`], and why.
const ABOVE_THE_LIMIT: [(&str, &str); 1] = [(
    "f19_raise_open_files",
    "only root takes more than the machine's own hard limit",
)];

/// What may fail outside too, and why; it is no control of anything then.
const EVEN_OUTSIDE: [(&str, &str); 24] = [
    (
        "f08_fsmount",
        "asked of the kernel with no sense: it answers, and with another error than a wall does",
    ),
    (
        "f08_move_mount",
        "asked of the kernel with no sense: it answers, and with another error than a wall does",
    ),
    (
        "f09_io_uring_setup",
        "asked of the kernel with no sense: it answers, and with another error than a wall does",
    ),
    (
        "f09_io_uring_enter",
        "asked of the kernel with no sense: it answers, and with another error than a wall does",
    ),
    (
        "f09_io_uring_register",
        "asked of the kernel with no sense: it answers, and with another error than a wall does",
    ),
    (
        "f10_future_call",
        "asked of the kernel with no sense: it answers, and with another error than a wall does",
    ),
    (
        "f11_process_madvise",
        "asked of the kernel with no sense: it answers, and with another error than a wall does",
    ),
    (
        "more_request_key",
        "asked of the kernel with no sense: it answers, and with another error than a wall does",
    ),
    (
        "more_quotactl",
        "asked of the kernel with no sense: it answers, and with another error than a wall does",
    ),
    ("f10_x32_getpid", "the kernel may be built without them"),
    ("f12_alg", "the kernel may be built without them"),
    ("f12_bluetooth", "the kernel may be built without them"),
    ("f12_sctp", "the kernel may be built without them"),
    (
        "f11_ptrace_first_process",
        "the first process of a machine may be closed to root, where that is a container itself",
    ),
    (
        "f11_process_vm_read_first_process",
        "the first process of a machine may be closed to root, where that is a container itself",
    ),
    (
        "f11_pidfd_getfd_first_process",
        "the first process of a machine may be closed to root, where that is a container itself",
    ),
    (
        "f11_first_process_memory",
        "the first process of a machine may be closed to root, where that is a container itself",
    ),
    (
        "f11_first_process_root",
        "the first process of a machine may be closed to root, where that is a container itself",
    ),
    (
        "f11_first_process_descriptors",
        "the first process of a machine may be closed to root, where that is a container itself",
    ),
    (
        "f11_first_process_environment",
        "the first process of a machine may be closed to root, where that is a container itself",
    ),
    (
        "f11_first_process_is_dumpable",
        "the first process of a machine may be closed to root, where that is a container itself",
    ),
    ("f12_ping_icmp", "`net.ipv4.ping_group_range` names who may"),
    ("more_sysrq_trigger", "a container has no such file"),
    ("more_kernel_memory", "a container has no such file"),
];

/// What may fail outside for an ordinary user beside that, and why.
const AS_A_USER: [(&str, &str); 33] = [
    ("f08_unshare_mount", "root's alone"),
    ("f08_unshare_net", "root's alone"),
    ("f08_unshare_pid", "root's alone"),
    ("f08_unshare_time", "root's alone"),
    ("f08_setns_own_net", "root's alone"),
    ("f08_mount_tmpfs", "root's alone"),
    ("f08_remount_usr_writable", "root's alone"),
    ("f08_umount_proc", "root's alone"),
    ("f08_fsopen_tmpfs", "root's alone"),
    ("f08_fspick", "root's alone"),
    ("f08_open_tree_clone", "root's alone"),
    ("f08_mount_setattr_root", "root's alone"),
    ("f08_chroot_root", "root's alone"),
    ("f08_pivot_root_tmp", "root's alone"),
    ("f12_packet", "root's alone"),
    ("f12_raw_icmp", "root's alone"),
    ("more_open_by_handle", "root's alone"),
    ("more_fanotify", "root's alone"),
    ("more_make_device", "root's alone"),
    ("more_set_user_root", "root's alone"),
    ("more_set_host_name", "root's alone"),
    ("more_file_capability", "root's alone"),
    ("more_file_capability_in_a_grant", "root's alone"),
    (
        "more_perf",
        "settings of the kernel give it to root alone, or to everybody",
    ),
    (
        "more_userfaultfd",
        "settings of the kernel give it to root alone, or to everybody",
    ),
    (
        "more_kernel_log",
        "settings of the kernel give it to root alone, or to everybody",
    ),
    ("more_root_writable", "files of root's"),
    ("more_usr_writable", "files of root's"),
    ("more_etc_writable", "files of root's"),
    ("more_shadow", "files of root's"),
    ("more_core_pattern", "files of root's"),
    ("more_oom_score_of_the_first", "files of root's"),
    ("more_devices", "files of root's"),
];
