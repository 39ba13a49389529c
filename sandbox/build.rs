//! Compiles `seccomp/*.json` into the bytes of BPF programs: one for each profile and processor.
//!
//! `default.json` treats every call; another profile's file says what it changes. The data is
//! checked for every processor it serves, whichever the target is: a call that does not exist, is
//! named twice, was left out, or is changed into what it was ends the build.

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
    println!("cargo::rerun-if-changed=seccomp");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let data: data::Data = read(DEFAULT)?;
    let target = env::var("CARGO_CFG_TARGET_ARCH")?;
    if !PROCESSORS.iter().any(|processor| processor.name == target) {
        return Err(format!("{DEFAULT} knows no calls of {target}").into());
    }
    let out = env::var("OUT_DIR")?;
    let mut index = String::from("&[\n");
    for processor in PROCESSORS {
        for profile in PROFILES {
            let changes = match profile {
                DEFAULT => None,
                changed => Some(read::<data::Changes>(changed)?),
            };
            let program = compile(&data, changes.as_ref(), &processor).map_err(|error| {
                format!(
                    "seccomp/{profile}.json not compiled for {}: {error}",
                    processor.name
                )
            })?;
            let file = format!("{profile}-{}.bpf", processor.name);
            fs::write(Path::new(&out).join(&file), bytes(&program))?;
            index += &format!(
                "    (\"{profile}\", \"{}\", include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\"))),\n",
                processor.name
            );
        }
    }
    fs::write(Path::new(&out).join("programs.rs"), index + "]\n")?;
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(profile: &str) -> Result<T, Fault> {
    let path = format!("seccomp/{profile}.json");
    serde_json::from_str(&fs::read_to_string(&path)?)
        .map_err(|error| format!("{path}: {error}").into())
}

fn compile(
    data: &data::Data,
    changes: Option<&data::Changes>,
    processor: &Processor,
) -> Result<BpfProgram, Fault> {
    let mut treatments = data.treatments(processor)?;
    let unnamed = (0..=data.known_through).filter(|number| {
        let gap = processor.gaps.iter().any(|gap| gap.contains(number));
        gap == treatments.contains_key(number)
    });
    let unnamed: Vec<u32> = unnamed.collect();
    if !unnamed.is_empty() {
        return Err(format!("calls without a rule, or rules in a gap: {unnamed:?}").into());
    }
    if let Some(changes) = changes {
        changes.apply(&mut treatments, processor)?;
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

const DEFAULT: &str = "default";

/// The profiles, by the names of their files.
const PROFILES: [&str; 3] = ["strict", DEFAULT, "build"];

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
