//! The filter's data: its shape, its checks, and what follows from it for each call.

use std::collections::BTreeMap;

use seccompiler::{
    SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, compile_from_json,
};
use serde::Deserialize;
use serde_json::json;

use super::{Fault, Processor};

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    #[serde(rename = "about")]
    _about: String,
    /// The highest call number that was reviewed.
    pub known_through: u32,
    missing: Vec<Rule>,
    unsupported: Vec<Rule>,
    allow: Vec<Rule>,
    refuse: Vec<Rule>,
}

/// A file of changes: a profile that differs from the default in what it says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    #[serde(rename = "about")]
    _about: String,
    /// Allowed beside the default: a call that it refuses, or further cases of one.
    #[serde(default)]
    allow: Vec<Rule>,
    /// Refused although the default allows it.
    #[serde(default)]
    refuse: Vec<Rule>,
    /// Answered as by a kernel without it, although the default allows it.
    #[serde(default)]
    missing: Vec<Rule>,
    /// Allowed in these cases only, although the default allows it in others too.
    #[serde(default)]
    only_in: Vec<Rule>,
}

/// What a profile's file says for each call, changed.
pub type Treatments = BTreeMap<u32, Treatment>;

impl Changes {
    /// Changes the default's treatments. A change that changes nothing is void, and an error.
    pub fn apply(&self, to: &mut Treatments, processor: &Processor) -> Result<(), Fault> {
        for (call, rule) in named(&self.allow, processor)? {
            let treatment = found(to, call, processor)?;
            let mut wanted = rule.treatment(libc::SECCOMP_RET_ALLOW)?;
            if rule.cases.is_empty() == treatment.cases.is_empty() {
                if treatment.otherwise == libc::SECCOMP_RET_ALLOW {
                    return Err(format!("`{call}` is allowed by the default already").into());
                }
                // First, since the default may have an error of its own for what it leaves out.
                wanted.cases.append(&mut treatment.cases);
            } else if !treatment.cases.is_empty() {
                return Err(
                    format!("`{call}` has cases in the default: name the further ones").into(),
                );
            }
            *treatment = wanted;
        }
        let narrowed = [
            (&self.refuse, REFUSED),
            (&self.missing, errno(libc::ENOSYS)),
            (&self.only_in, libc::SECCOMP_RET_ALLOW),
        ];
        for (list, answer) in narrowed {
            for (call, rule) in named(list, processor)? {
                let treatment = found(to, call, processor)?;
                let plain =
                    treatment.cases.is_empty() && treatment.otherwise != libc::SECCOMP_RET_ALLOW;
                let widens = answer == libc::SECCOMP_RET_ALLOW && rule.cases.is_empty();
                if plain || widens {
                    return Err(format!("`{call}` is not narrowed by its rule").into());
                }
                let mut wanted = rule.treatment(answer)?;
                // What is answered with an error of its own still is.
                treatment
                    .cases
                    .retain(|(_, answer)| *answer != libc::SECCOMP_RET_ALLOW);
                if !wanted.cases.is_empty() {
                    wanted.cases.splice(0..0, treatment.cases.drain(..));
                }
                *treatment = wanted;
            }
        }
        Ok(())
    }
}

fn found<'a>(
    treatments: &'a mut Treatments,
    call: &str,
    processor: &Processor,
) -> Result<&'a mut Treatment, Fault> {
    treatments
        .get_mut(&number_of(call, processor)?)
        .ok_or_else(|| format!("`{call}` is not in the default's data").into())
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

/// What the filter says to one call: the answer of the first case that holds, else the last.
#[derive(Clone, Eq, PartialEq)]
pub struct Treatment {
    pub cases: Vec<(SeccompRule, u32)>,
    pub otherwise: u32,
}

impl Data {
    /// The treatment of every call that the data names, by its number; any other is refused.
    pub fn treatments(&self, processor: &Processor) -> Result<BTreeMap<u32, Treatment>, Fault> {
        let mut treatments = BTreeMap::new();
        let lists = [
            (&self.missing, errno(libc::ENOSYS)),
            (&self.allow, libc::SECCOMP_RET_ALLOW),
            (&self.refuse, REFUSED),
        ];
        for (list, answer) in lists {
            for (call, rule) in named(list, processor)? {
                let number = number_of(call, processor)?;
                let treatment = rule.treatment(answer)?;
                if treatments.insert(number, treatment).is_some() {
                    return Err(format!("`{call}` is named twice: one of the rules is void").into());
                }
            }
        }
        for (call, rule) in named(&self.unsupported, processor)? {
            let treatment = treatments
                .get_mut(&number_of(call, processor)?)
                .filter(|treatment| !treatment.cases.is_empty() && !rule.cases.is_empty())
                .ok_or_else(|| {
                    format!("`{call}` is `unsupported` without cases, or not allowed")
                })?;
            let mut cases = rule.treatment(errno(libc::EAFNOSUPPORT))?.cases;
            cases.append(&mut treatment.cases);
            treatment.cases = cases;
        }
        Ok(treatments)
    }
}

/// The calls of a list that a processor has, each with its rule.
fn named<'a>(list: &'a [Rule], processor: &Processor) -> Result<Vec<(&'a str, &'a Rule)>, Fault> {
    let mut named = Vec::new();
    for rule in list {
        let bare = rule
            .cases
            .iter()
            .any(|case| case.why.is_empty() || case.args.is_empty());
        if bare || rule.why.is_empty() || rule.calls.is_empty() {
            let calls = rule.calls.join(", ");
            return Err(format!("a rule lacks its reason, calls or arguments: {calls}").into());
        }
        if rule
            .only
            .as_deref()
            .is_none_or(|only| only == processor.name)
        {
            named.extend(rule.calls.iter().map(|call| (call.as_str(), rule)));
        }
    }
    Ok(named)
}

/// The number of a call on a processor: the library keeps its table to itself, but compiles a
/// filter of one call into a program whose fifth instruction compares with that number.
fn number_of(call: &str, processor: &Processor) -> Result<u32, Fault> {
    const COMPARE: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let filter = json!({ "one": {
        "match_action": "allow", "mismatch_action": "trap", "filter": [{ "syscall": call }],
    }});
    let compiled = compile_from_json(filter.to_string().as_bytes(), processor.arch)?;
    let comparison = compiled.get("one").and_then(|program| program.get(4));
    comparison
        .filter(|instruction| u32::from(instruction.code) == COMPARE)
        .map(|instruction| instruction.k)
        .ok_or_else(|| "the library compiles to another shape than expected".into())
}

impl Rule {
    /// Without cases the answer itself; with them the answer in each case, else refused.
    fn treatment(&self, answer: u32) -> Result<Treatment, Fault> {
        let cases: Vec<_> = self
            .cases
            .iter()
            .map(|case| {
                let conditions = case.args.iter().map(Argument::condition);
                let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
                Ok((rule, answer))
            })
            .collect::<Result<_, Fault>>()?;
        let otherwise = if cases.is_empty() { answer } else { REFUSED };
        Ok(Treatment { cases, otherwise })
    }
}

impl Argument {
    fn condition(&self) -> Result<SeccompCondition, Fault> {
        let (operator, value) = match (&self.mask, &self.is, &self.not) {
            (None, Some(is), None) => (SeccompCmpOp::Eq, is.value()?),
            (None, None, Some(not)) => (SeccompCmpOp::Ne, not.value()?),
            (Some(mask), Some(is), None) => (SeccompCmpOp::MaskedEq(mask.value()?), is.value()?),
            _ => return Err("an argument has `is`, `not`, or `mask` and `is`".into()),
        };
        let low_half = SeccompCmpArgLen::Dword;
        Ok(SeccompCondition::new(self.arg, low_half, operator, value)?)
    }
}

impl Number {
    fn value(&self) -> Result<u64, Fault> {
        let value = match self {
            Self::Decimal(value) => *value,
            Self::Hexadecimal(text) => {
                let digits = text.strip_prefix("0x");
                u32::from_str_radix(digits.ok_or("a number in text starts with 0x")?, 16)?
            }
        };
        Ok(value.into())
    }
}

/// The answer to what no list allows.
pub const REFUSED: u32 = errno(libc::EPERM);

/// The action that makes a call fail.
pub const fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}
