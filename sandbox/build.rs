//! Compiles `seccomp/default.json` into the bytes of a BPF program, for the target's processor.
//!
//! The data is checked for every processor it serves, whichever the target is: a call that does
//! not exist, or is named twice, ends the build.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::{env, fs};

use seccompiler::{BpfProgram, TargetArch, compile_from_json, sock_filter};
use serde::Deserialize;
use serde_json::{Value, json};

type Fault = Box<dyn Error>;

fn main() -> Result<(), Fault> {
    println!("cargo::rerun-if-changed={DATA}");
    println!("cargo::rerun-if-changed=build.rs");
    let data: Data = serde_json::from_str(&fs::read_to_string(DATA)?)?;
    let target = env::var("CARGO_CFG_TARGET_ARCH")?;
    let mut wanted = None;
    for processor in PROCESSORS {
        let name = processor.name;
        let program = compile(&data, &processor)
            .map_err(|error| format!("{DATA} not compiled for {name}: {error}"))?;
        if name == target {
            wanted = Some(program);
        }
    }
    let program = wanted.ok_or_else(|| format!("{DATA} knows no calls of {target}"))?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("seccomp.bpf"), bytes(&program))?;
    Ok(())
}

/// One program out of several parts; the first that refuses has the word.
fn compile(data: &Data, processor: &Processor) -> Result<BpfProgram, Fault> {
    let lists = Lists::of(data, processor)?;
    let (allow, refuse) = (json!("allow"), |errno| json!({ "errno": errno }));
    let part = |on_match: &Value, otherwise: &Value, rules: &[&Rule]| -> Result<Value, Fault> {
        let rules: Vec<Value> = rules
            .iter()
            .map(|rule| rule.for_seccompiler())
            .collect::<Result<Vec<_>, _>>()?
            .concat();
        Ok(json!({ "match_action": on_match, "mismatch_action": otherwise, "filter": rules }))
    };
    let parts = json!({
        "missing": part(&refuse(libc::ENOSYS), &allow, &lists.missing)?,
        "unsupported": part(&refuse(libc::EAFNOSUPPORT), &allow, &lists.unsupported)?,
        "allow": part(&allow, &refuse(libc::EPERM), &lists.allow)?,
        // Not used; compiled to learn whether every refused call exists.
        "refuse": part(&refuse(libc::EPERM), &allow, &lists.refuse)?,
    });
    let mut parts = compile_from_json(parts.to_string().as_bytes(), processor.arch)?;
    let mut take = |name| parts.remove(name).ok_or("a part is lost");
    let mut program = foreign_and_future_calls(processor, data.known_through);
    program.extend(passing_on(take("missing")?)?);
    program.extend(passing_on(take("unsupported")?)?);
    program.extend(take("allow")?);
    if program.len() > libc::BPF_MAXINSNS.try_into()? {
        return Err(format!(
            "{} instructions are more than the kernel takes",
            program.len()
        )
        .into());
    }
    Ok(program)
}

/// What the compiled filter does not look at: the x32 calls, which share the processor's name
/// and differ by bit 30 of the number, and numbers above all that the data knows.
fn foreign_and_future_calls(processor: &Processor, known_through: u32) -> BpfProgram {
    const NUMBER_OFFSET: u32 = 0;
    const ARCH_OFFSET: u32 = 4;
    const X32_BIT: u32 = 0x4000_0000;
    let ret = |action| statement(libc::BPF_RET | libc::BPF_K, action);
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    vec![
        load(ARCH_OFFSET),
        branch(libc::BPF_JEQ, processor.audit_arch, 1, 0),
        ret(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_OFFSET),
        branch(libc::BPF_JGE, X32_BIT, 0, 1),
        ret(libc::SECCOMP_RET_KILL_PROCESS),
        branch(libc::BPF_JGT, known_through, 0, 1),
        ret(errno(libc::ENOSYS)),
    ]
}

/// Where `part` would allow, makes it go on to what follows it.
fn passing_on(mut part: BpfProgram) -> Result<BpfProgram, Fault> {
    let length = part.len();
    for (at, instruction) in part.iter_mut().enumerate() {
        let is_return = u32::from(instruction.code) == libc::BPF_RET | libc::BPF_K;
        if is_return && instruction.k == libc::SECCOMP_RET_ALLOW {
            let to_the_end = u32::try_from(length - at - 1)?;
            *instruction = statement(libc::BPF_JMP | libc::BPF_JA, to_the_end);
        }
    }
    Ok(part)
}

fn statement(code: u32, k: u32) -> sock_filter {
    branch_or_statement(code, k, 0, 0)
}

fn branch(comparison: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    branch_or_statement(libc::BPF_JMP | comparison | libc::BPF_K, k, jt, jf)
}

fn branch_or_statement(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // INVARIANT: the codes are a byte wide.
    let code = u16::try_from(code).unwrap_or(u16::MAX);
    sock_filter { code, jt, jf, k }
}

/// The instructions as the kernel reads them: `struct sock_filter`, little-endian on both.
fn bytes(program: &BpfProgram) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_le_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_le_bytes());
    }
    bytes
}

const DATA: &str = "seccomp/default.json";

struct Processor {
    name: &'static str,
    arch: TargetArch,
    /// Its name in linux/audit.h.
    audit_arch: u32,
}

const PROCESSORS: [Processor; 2] = [
    Processor {
        name: "x86_64",
        arch: TargetArch::x86_64,
        audit_arch: 0xc000_003e,
    },
    Processor {
        name: "aarch64",
        arch: TargetArch::aarch64,
        audit_arch: 0xc000_00b7,
    },
];

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    #[serde(rename = "about")]
    _about: String,
    known_through: u32,
    missing: Vec<Rule>,
    unsupported: Vec<Rule>,
    allow: Vec<Rule>,
    refuse: Vec<Rule>,
}

/// Calls that are treated alike, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    why: String,
    calls: Vec<String>,
    /// The processor that alone has these calls.
    only: Option<String>,
    /// The rule holds in any of these cases; without them, always.
    #[serde(default)]
    cases: Vec<Case>,
}

/// Arguments that a call must have, all of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    why: String,
    args: Vec<Argument>,
}

/// The low 32 bits of an argument: with `is` (under `mask`, if given) or `not`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    arg: u8,
    mask: Option<Number>,
    is: Option<Number>,
    not: Option<Number>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Decimal(u32),
    Hexadecimal(String),
}

impl Number {
    fn value(&self) -> Result<u32, Fault> {
        match self {
            Self::Decimal(value) => Ok(*value),
            Self::Hexadecimal(text) => {
                let digits = text
                    .strip_prefix("0x")
                    .ok_or("a number in text starts with 0x")?;
                Ok(u32::from_str_radix(digits, 16)?)
            }
        }
    }
}

impl Rule {
    fn for_seccompiler(&self) -> Result<Vec<Value>, Fault> {
        let mut rules = Vec::new();
        for call in &self.calls {
            if self.cases.is_empty() {
                rules.push(json!({ "syscall": call }));
            }
            for case in &self.cases {
                let args: Vec<Value> = case
                    .args
                    .iter()
                    .map(Argument::for_seccompiler)
                    .collect::<Result<_, _>>()?;
                rules.push(json!({ "syscall": call, "args": args }));
            }
        }
        Ok(rules)
    }
}

impl Argument {
    fn for_seccompiler(&self) -> Result<Value, Fault> {
        let (op, value) = match (&self.mask, &self.is, &self.not) {
            (None, Some(is), None) => (json!("eq"), is.value()?),
            (None, None, Some(not)) => (json!("ne"), not.value()?),
            (Some(mask), Some(is), None) => (json!({ "masked_eq": mask.value()? }), is.value()?),
            _ => return Err("an argument has `is`, `not`, or `mask` and `is`".into()),
        };
        Ok(json!({ "index": self.arg, "type": "dword", "op": op, "val": value }))
    }
}

/// The rules of one processor, checked.
struct Lists<'a> {
    missing: Vec<&'a Rule>,
    unsupported: Vec<&'a Rule>,
    allow: Vec<&'a Rule>,
    refuse: Vec<&'a Rule>,
}

impl<'a> Lists<'a> {
    fn of(data: &'a Data, processor: &Processor) -> Result<Self, Fault> {
        let applies = |rule: &&Rule| {
            rule.only
                .as_deref()
                .is_none_or(|only| only == processor.name)
        };
        let lists = Self {
            missing: data.missing.iter().filter(applies).collect(),
            unsupported: data.unsupported.iter().filter(applies).collect(),
            allow: data.allow.iter().filter(applies).collect(),
            refuse: data.refuse.iter().filter(applies).collect(),
        };
        lists.check()?;
        Ok(lists)
    }

    /// A call twice in these lists would mean that one rule makes another void.
    fn check(&self) -> Result<(), Fault> {
        let mut seen = BTreeSet::new();
        for rule in self.missing.iter().chain(&self.allow).chain(&self.refuse) {
            for call in &rule.calls {
                if !seen.insert(call) {
                    return Err(format!("`{call}` is named twice").into());
                }
            }
        }
        let all = self
            .unsupported
            .iter()
            .chain(&self.missing)
            .chain(&self.allow);
        for rule in all.chain(&self.refuse) {
            let unexplained = rule
                .cases
                .iter()
                .any(|case| case.why.is_empty() || case.args.is_empty());
            if rule.why.is_empty() || rule.calls.is_empty() || unexplained {
                return Err(format!(
                    "a rule of {:?} lacks a reason, calls or arguments",
                    rule.calls
                )
                .into());
            }
        }
        if self.unsupported.iter().any(|rule| rule.cases.is_empty()) {
            return Err("`unsupported` without cases would refuse a whole call".into());
        }
        Ok(())
    }
}
