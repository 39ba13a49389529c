//! `cordon policy verify`: says whether a node with this trust file would take a bundle.

use std::{path::PathBuf, time::SystemTime};

use clap::Args;
use cordon_policy::bundle::{self, Accepted, Bundle, Refusal, TrustRoot};
use serde_json::json;

use super::{Format, files, pack};
use crate::{cli::exit, error::Failure};

/// Options of `cordon policy verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The bundle: a directory or an archive
    bundle: PathBuf,
    /// The trust file: whose signature counts for what
    #[arg(short, long, value_name = "FILE")]
    trust: PathBuf,
    /// The bundle that is in use: the new one must be a later revision of it
    #[arg(long, value_name = "BUNDLE")]
    after: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. Exit 0 when the bundle is accepted, 1 when it is not.
pub fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
    let trust = TrustRoot::parse(&args.trust, &files::read_text(&args.trust)?)?;
    let bundle = Bundle::read(&args.bundle)?;
    let last = args.after.as_deref().map(Bundle::read).transpose()?;
    let last = last.map(|bundle| in_use(&bundle));
    let verdict = bundle::verify(&bundle, &trust, SystemTime::now(), last.as_ref());
    if verdict.is_ok() {
        pack::refuse_broken(&bundle)?;
    }
    match (args.format, &verdict) {
        (Format::Json, verdict) => println!("{}", as_json(&bundle, verdict)),
        (Format::Text, Ok(accepted)) => print_accepted(&bundle, accepted, &trust),
        (Format::Text, Err(refusal)) => {
            return Err(Failure::new(format!(
                "bundle `{}` revision {} is refused: {refusal}",
                bundle.manifest().name,
                bundle.manifest().revision
            ))
            .help(refusal.hint()));
        }
    }
    Ok(if verdict.is_ok() { 0 } else { exit::FAILED })
}

fn in_use(bundle: &Bundle) -> Accepted {
    let reference = bundle.reference();
    Accepted {
        name: reference.name,
        revision: reference.revision,
        digest: reference.digest,
        signers: Vec::new(),
    }
}

fn print_accepted(bundle: &Bundle, accepted: &Accepted, trust: &TrustRoot) {
    let manifest = bundle.manifest();
    println!("{}", pack::title(bundle));
    for signer in &accepted.signers {
        println!(
            "  signed by  {} ({}) as {}",
            signer.key, signer.person, signer.role
        );
    }
    let (from, until) = manifest.validity();
    if let Some(from) = from {
        println!("  valid from {from}");
    }
    if let Some(until) = until {
        println!("  until      {until}");
    }
    if let Some(observe) = manifest.observe {
        println!("  observes   until {observe}; it enforces from then on");
    }
    let needed = trust.needed(manifest.layer);
    println!("accepted; {needed} person(s) must sign for this layer");
}

fn as_json(bundle: &Bundle, verdict: &Result<Accepted, Refusal>) -> serde_json::Value {
    match verdict {
        Ok(accepted) => json!({
            "accepted": true,
            "bundle": bundle.reference(),
            "signers": accepted.signers,
        }),
        Err(refusal) => json!({
            "accepted": false,
            "bundle": bundle.reference(),
            "refusal": refusal.code(),
            "message": refusal.to_string(),
            "help": refusal.hint(),
        }),
    }
}
