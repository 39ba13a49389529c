//! A kernel that lacks something, for one process and all it starts: a filter answers its calls as
//! a kernel without them does.

/// Python that makes this process, and what it becomes, see a kernel without Landlock. Number 444
/// is `landlock_create_ruleset` on every architecture.
pub const WITHOUT_LANDLOCK: &str = r#"
import ctypes, struct
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7fff0000)]
code = b"".join(struct.pack("HBBI", *step) for step in steps)
held = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(held)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0, "no new privileges"
assert libc.prctl(22, 2, program, 0, 0) == 0, "the filter"
"#;
