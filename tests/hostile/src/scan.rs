//! Every system call number, with arguments that no call accepts: which are refused, and how.

use std::{collections::BTreeMap, fs, ops::RangeInclusive};

use crate::call::{Outcome, attempt, raw};

/// Numbers that are known to every kernel that is supported, and numbers of the future. Between
/// them lie those that an older kernel may not have.
const NUMBERS: [RangeInclusive<u32>; 3] = [0..=439, 463..=520, 1_000_000..=1_000_000];

/// One line for each way of refusing, with its numbers as ranges.
///
/// # Errors
/// Without a filter: some of these calls do something whatever their arguments are.
pub fn scan() -> Result<Vec<String>, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    if !status.lines().any(|line| line == "Seccomp:\t2") {
        return Err("this process is behind no filter".into());
    }
    let mut refused: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for number in NUMBERS.into_iter().flatten() {
        let outcome = attempt(|| raw(number.into(), &[u64::MAX; 6]));
        let refusal = matches!(
            outcome,
            Outcome::Refused(libc::EPERM | libc::ENOSYS | libc::EAFNOSUPPORT)
                | Outcome::Killed(libc::SIGSYS)
        );
        if refusal {
            refused.entry(outcome.to_string()).or_default().push(number);
        }
    }
    let line = |(how, numbers): (&String, &Vec<u32>)| format!("scan {how} {}", ranges(numbers));
    Ok(refused.iter().map(line).collect())
}

fn ranges(numbers: &[u32]) -> String {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => found.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    found.iter().map(text).collect::<Vec<_>>().join(",")
}
