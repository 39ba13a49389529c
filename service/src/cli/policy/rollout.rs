//! `cordon policy try` and `cordon policy rollout`: a candidate beside what is in force, then for
//! some.

use std::path::PathBuf;

use clap::Args;
use cordon_policy::Layer;
use cordon_session::comparison::Bound;

use super::{
    Format,
    change::{absolute, change, layer, per_mille, seconds},
};
use crate::{control::PolicyAsk, error::Failure};

/// Fewer requests than this in a window prove nothing.
const AT_LEAST: u64 = 20;

/// Options of `cordon policy try`.
#[derive(Debug, Args)]
pub struct TryArgs {
    /// The bundle; without one, the one that its source brought and that waits
    bundle: Option<PathBuf>,
    /// Of which layer, where no bundle is named
    #[arg(long, value_parser = layer)]
    layer: Option<Layer>,
    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "7d", value_parser = seconds)]
    time: u64,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon policy rollout`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cordon policy rollout house.tar.gz --user ada\n  \
    cordon policy rollout house.tar.gz --share 10% --max-deny-rate 5% --window 10m\n  \
    cordon policy rollout --group developers")]
pub struct RolloutArgs {
    /// The bundle; without one, the one that is tried out, or that waits
    bundle: Option<PathBuf>,
    /// Of which layer, where no bundle is named
    #[arg(long, value_parser = layer)]
    layer: Option<Layer>,
    /// For this share of the sessions, chosen by session id
    #[arg(
        long,
        value_name = "PERCENT",
        value_parser = per_mille,
        required_unless_present_any = ["group", "user"]
    )]
    share: Option<u16>,
    /// For sessions of users in this group
    #[arg(long)]
    group: Vec<String>,
    /// For this user's sessions
    #[arg(long)]
    user: Vec<String>,
    /// Take it back by itself when it refuses a larger share of requests than this that what it
    /// would replace allows
    #[arg(long, value_name = "PERCENT", value_parser = per_mille)]
    max_deny_rate: Option<u16>,
    /// Over how long the rate is taken
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10m",
        value_parser = seconds,
        requires = "max_deny_rate"
    )]
    window: u64,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Tries a bundle out. Exit 0 when it is, 3 when it may not be.
pub fn try_out(args: &TryArgs) -> Result<u8, Failure> {
    let ask = PolicyAsk::Try {
        bundle: args.bundle.as_deref().map(absolute).transpose()?,
        layer: args.layer,
        seconds: args.time,
    };
    change(ask, args.format)
}

/// Rolls a bundle out. Exit 0 when it is, 3 when it may not be.
pub fn roll_out(args: &RolloutArgs) -> Result<u8, Failure> {
    let bound = args.max_deny_rate.map(|refused_per_mille| Bound {
        refused_per_mille,
        window_seconds: args.window,
        at_least: AT_LEAST,
    });
    let ask = PolicyAsk::Rollout {
        bundle: args.bundle.as_deref().map(absolute).transpose()?,
        layer: args.layer,
        per_mille: args.share.unwrap_or(0),
        groups: args.group.clone(),
        users: args.user.clone(),
        bound,
    };
    change(ask, args.format)
}
