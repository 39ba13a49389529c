//! The flags of `cordon run` that limit a session.

use cordon_sandbox::limits::Held;
use cordon_session::config::SandboxLimits;

/// Each lowers what `sandbox.limits` in `cordon.toml` names, or stands for its default.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Limits of the session")]
pub struct LimitFlags {
    /// Memory of all its processes and its file systems in memory; three quarters of the
    /// machine's unless said otherwise
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Processes and threads at a time; 4096 unless said otherwise
    #[arg(long, value_name = "COUNT")]
    processes: Option<u64>,
    /// Processor time, in hundredths of one processor: 150 is one and a half
    #[arg(long, value_name = "PERCENT")]
    cpu: Option<u64>,
    /// Open files of each process; 16384 unless said otherwise
    #[arg(long, value_name = "COUNT")]
    open_files: Option<u64>,
    /// Size of each file that it writes; 64G unless said otherwise
    #[arg(long, value_name = "SIZE", value_parser = size)]
    file_size: Option<u64>,
    /// Size of `/tmp`, and at most that of its home and `/dev/shm`; 4G, or an eighth of the
    /// machine's memory where that is less
    #[arg(long, value_name = "SIZE", value_parser = size)]
    tmp_size: Option<u64>,
    /// Time from start to end, pauses included: 90s, 10m, 2h, 1d
    #[arg(long, value_name = "TIME", value_parser = time)]
    wall_time: Option<u64>,
}

impl LimitFlags {
    /// What they ask for.
    pub fn asked(&self) -> SandboxLimits {
        SandboxLimits {
            memory_bytes: self.memory,
            processes: self.processes,
            cpu_percent: self.cpu,
            open_files: self.open_files,
            file_bytes: self.file_size,
            tmp_bytes: self.tmp_size,
            wall_seconds: self.wall_time,
        }
    }
}

/// What was asked for by name and nothing on this host holds.
pub fn not_held<'a>(asked: &SandboxLimits, held: &'a [Held]) -> Option<&'a Held> {
    let named = asked.named();
    held.iter()
        .find(|held| !held.is_held() && named.contains(&held.name.as_str()))
}

/// A whole number with `K`, `M`, `G` or `T` (powers of 1024), or of bytes.
fn size(text: &str) -> Result<u64, String> {
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40), ("", 0)];
    let wrong = || "write a whole number with K, M, G or T, for example 512M".to_owned();
    let text = text.trim_end_matches("iB").trim_end_matches('B');
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
        .ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_error| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// A whole number with `s`, `m`, `h` or `d`, or of seconds.
fn time(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("", 1)];
    let wrong = || "write a whole number with s, m, h or d, for example 10m".to_owned();
    let (number, seconds) = units
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))
        .ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_error| wrong())?;
    number.checked_mul(seconds).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        for (text, bytes) in [
            ("4096", Some(4096)),
            ("512K", Some(512 << 10)),
            ("3MiB", Some(3 << 20)),
            ("2G", Some(2 << 30)),
            ("1.5G", None),
            ("-1", None),
            ("G", None),
            ("99999999999T", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
        for (text, seconds) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("2h", Some(7200)),
            ("1d", Some(86_400)),
            ("1w", None),
            ("", None),
        ] {
            assert_eq!(time(text).ok(), seconds, "{text}");
        }
    }
}
