//! Lays a filter out as a BPF program that finds a call's treatment by halving.
//!
//! A chain of comparisons, one per call, would be ten times as long: the kernel walks the whole
//! program for every call number when it is installed, which then takes longer than everything
//! else in a launch.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

use super::Fault;
use super::data::{REFUSED, Treatment, errno};

/// The program: foreign calls, future calls, then a tree over ranges of calls whose leaves
/// answer at once or go on to a block that looks at the arguments.
pub fn program(
    audit_arch: u32,
    known_through: u32,
    treatments: &BTreeMap<u32, Treatment>,
) -> Result<BpfProgram, Fault> {
    let ranges = ranges(known_through, treatments)?;
    let mut blocks: Vec<&Treatment> = Vec::new();
    let tree = tree(&ranges, &mut blocks)?;

    let mut program = foreign_and_future_calls(audit_arch, known_through);
    let blocks_start = program.len() + tree.len();
    let blocks: Vec<BpfProgram> = blocks.into_iter().map(block).collect();
    for step in tree {
        program.push(match step {
            Step::Ready(instruction) => instruction,
            Step::GoToBlock(index) => {
                let before: usize = blocks.iter().take(index).map(Vec::len).sum();
                jump(blocks_start + before - program.len() - 1)?
            }
        });
    }
    program.extend(blocks.into_iter().flatten());
    if program.len() > libc::BPF_MAXINSNS.try_into()? {
        return Err(format!(
            "{} instructions are more than the kernel takes",
            program.len()
        )
        .into());
    }
    Ok(program)
}

/// The x32 calls share the processor's name and differ by bit 30 of the number; a number above
/// all that the data knows is a call of a kernel that nobody has reviewed.
fn foreign_and_future_calls(audit_arch: u32, known_through: u32) -> BpfProgram {
    const NUMBER_OFFSET: u32 = 0;
    const ARCH_OFFSET: u32 = 4;
    const X32_BIT: u32 = 0x4000_0000;
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    vec![
        load(ARCH_OFFSET),
        branch(libc::BPF_JEQ, audit_arch, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_OFFSET),
        branch(libc::BPF_JGE, X32_BIT, 0, 1),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        branch(libc::BPF_JGT, known_through, 0, 1),
        answer(errno(libc::ENOSYS)),
    ]
}

/// Calls from `first` up to the next range's first, all treated alike.
struct Range {
    first: u32,
    treatment: Treatment,
}

fn ranges(known_through: u32, treatments: &BTreeMap<u32, Treatment>) -> Result<Vec<Range>, Fault> {
    if treatments.keys().any(|number| *number > known_through) {
        return Err("a named call is newer than `known_through`".into());
    }
    let unnamed = Treatment {
        cases: Vec::new(),
        otherwise: REFUSED,
    };
    let mut ranges: Vec<Range> = Vec::new();
    for number in 0..=known_through {
        let treatment = treatments.get(&number).unwrap_or(&unnamed);
        if ranges
            .last()
            .is_none_or(|range| range.treatment != *treatment)
        {
            ranges.push(Range {
                first: number,
                treatment: treatment.clone(),
            });
        }
    }
    Ok(ranges)
}

enum Step {
    Ready(sock_filter),
    /// Where the block lies is known once the tree's length is.
    GoToBlock(usize),
}

/// Halves the ranges until one is left; expects the call's number in the accumulator.
fn tree<'a>(ranges: &'a [Range], blocks: &mut Vec<&'a Treatment>) -> Result<Vec<Step>, Fault> {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let Some(middle) = upper.first() else {
        return Err("the data names no calls".into());
    };
    if lower.is_empty() {
        let treatment = &middle.treatment;
        return Ok(vec![if treatment.cases.is_empty() {
            Step::Ready(answer(treatment.otherwise))
        } else {
            blocks.push(treatment);
            Step::GoToBlock(blocks.len() - 1)
        }]);
    }
    let lower = tree(lower, blocks)?;
    let upper = tree(upper, blocks)?;
    // A branch reaches 255 instructions; should the data ever grow beyond, the build says so.
    let over_lower = u8::try_from(lower.len())?;
    let mut steps = vec![Step::Ready(branch(
        libc::BPF_JGE,
        middle.first,
        over_lower,
        0,
    ))];
    steps.extend(lower);
    steps.extend(upper);
    Ok(steps)
}

/// Looks at the arguments: each case falls through to its answer or goes on behind it.
fn block(treatment: &Treatment) -> BpfProgram {
    let mut program = BpfProgram::new();
    for (rule, action) in &treatment.cases {
        // The library starts a rule with a jump over a jump, which nothing else reaches; in the
        // last block the second would lead past the end, and the kernel would not take it.
        program.extend(BpfProgram::from(rule.clone()).into_iter().skip(2));
        program.push(answer(*action));
    }
    program.push(answer(treatment.otherwise));
    program
}

fn answer(action: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

fn jump(over: usize) -> Result<sock_filter, Fault> {
    let over = u32::try_from(over)?;
    Ok(instruction(libc::BPF_JMP | libc::BPF_JA, over, 0, 0))
}

fn branch(comparison: u32, with: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(
        libc::BPF_JMP | comparison | libc::BPF_K,
        with,
        if_true,
        if_false,
    )
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // INVARIANT: the codes are a byte wide; another would be refused by the kernel.
    let code = u16::try_from(code).unwrap_or(u16::MAX);
    sock_filter { code, jt, jf, k }
}
