//! Compiles `seccomp/default.json` into the bytes of a BPF program, for the target's processor.
//!
//! The data is checked for every processor it serves, whichever the target is: a call that does
//! not exist, is named twice, or was left out ends the build.

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::Path;
use std::{env, fs};

use seccompiler::{BpfProgram, TargetArch};

#[path = "build/assemble.rs"]
mod assemble;
#[path = "build/data.rs"]
mod data;

type Fault = Box<dyn Error>;

fn main() -> Result<(), Fault> {
    println!("cargo::rerun-if-changed={DATA}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let data: data::Data = serde_json::from_str(&fs::read_to_string(DATA)?)?;
    let target = env::var("CARGO_CFG_TARGET_ARCH")?;
    let mut wanted = None;
    for processor in PROCESSORS {
        let program = compile(&data, &processor)
            .map_err(|error| format!("{DATA} not compiled for {}: {error}", processor.name))?;
        if processor.name == target {
            wanted = Some(program);
        }
    }
    let program = wanted.ok_or_else(|| format!("{DATA} knows no calls of {target}"))?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("seccomp.bpf"), bytes(&program))?;
    Ok(())
}

fn compile(data: &data::Data, processor: &Processor) -> Result<BpfProgram, Fault> {
    let treatments = data.treatments(processor)?;
    let unnamed = (0..=data.known_through).filter(|number| {
        let gap = processor.gaps.iter().any(|gap| gap.contains(number));
        gap == treatments.contains_key(number)
    });
    let unnamed: Vec<u32> = unnamed.collect();
    if !unnamed.is_empty() {
        return Err(format!("calls without a rule, or rules in a gap: {unnamed:?}").into());
    }
    assemble::program(processor.audit_arch, data.known_through, &treatments)
}

/// The instructions as the kernel reads them: `struct sock_filter`, little-endian on all of ours.
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

/// A processor that the data serves.
struct Processor {
    name: &'static str,
    arch: TargetArch,
    /// Its name in linux/audit.h.
    audit_arch: u32,
    /// Numbers that belong to no call.
    gaps: &'static [RangeInclusive<u32>],
}

const PROCESSORS: [Processor; 2] = [
    Processor {
        name: "x86_64",
        arch: TargetArch::x86_64,
        audit_arch: 0xc000_003e,
        gaps: &[336..=423],
    },
    Processor {
        name: "aarch64",
        arch: TargetArch::aarch64,
        audit_arch: 0xc000_00b7,
        gaps: &[244..=259, 295..=423],
    },
];
