//! `cordon policy pack`: makes an archive of a bundle's directory.

use std::path::{Path, PathBuf};

use clap::Args;
use cordon_policy::{
    bundle::Bundle,
    check::{self, Finding, Severity},
};
use serde_json::json;

use super::{Format, files};
use crate::error::Failure;

/// Options of `cordon policy pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// The bundle's directory
    directory: PathBuf,
    /// The archive to write [default: NAME-REVISION.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. A bundle with errors is not packed.
pub fn pack(args: &PackArgs) -> Result<u8, Failure> {
    let bundle = Bundle::read_directory(&args.directory)?;
    let reference = bundle.reference();
    let output = args.output.clone().unwrap_or_else(|| {
        PathBuf::from(format!("{}-{}.tar.gz", reference.name, reference.revision))
    });
    refuse_inside(&args.directory, &output)?;
    refuse_broken(&bundle)?;
    let bytes = bundle.pack()?;
    files::replace(&output, &bytes)?;
    match args.format {
        Format::Json => println!(
            "{}",
            json!({
                "file": output.display().to_string(),
                "bytes": bytes.len(),
                "signed": bundle.is_signed(),
                "bundle": reference,
            })
        ),
        Format::Text => {
            println!("{}", title(&bundle));
            println!("packed into {}, {} bytes", output.display(), bytes.len());
            if !bundle.is_signed() {
                println!(
                    "it is not signed: cordon policy sign {} --key KEYFILE",
                    output.display()
                );
            }
        }
    }
    Ok(0)
}

/// `corp revision 7, layer organisation`, and its digest on a line of its own.
pub fn title(bundle: &Bundle) -> String {
    let manifest = bundle.manifest();
    format!(
        "{} revision {}, layer {}\n  digest     {}",
        manifest.name,
        manifest.revision,
        manifest.layer,
        bundle.digest()
    )
}

/// Refuses a bundle that would not load; prints all of what is wrong.
pub fn refuse_broken(bundle: &Bundle) -> Result<(), Failure> {
    let findings = check::check(&bundle.source());
    let errors: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    for finding in &errors {
        eprintln!("{finding}\n");
    }
    Err(Failure::new(format!(
        "bundle `{}` has {} error(s) and would not load",
        bundle.manifest().name,
        errors.len()
    ))
    .help("correct them; `cordon policy check BUNDLE` shows them again"))
}

/// An archive in the directory would be a file of the bundle next time, and none that belongs.
fn refuse_inside(directory: &Path, output: &Path) -> Result<(), Failure> {
    let folder = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _here => Path::new("."),
    };
    let inside = match (folder.canonicalize(), directory.canonicalize()) {
        (Ok(folder), Ok(directory)) => folder.starts_with(directory),
        _not_there => false,
    };
    if inside {
        return Err(Failure::new(format!(
            "`{}` lies in the bundle's own directory",
            output.display()
        ))
        .help("write it elsewhere: --output ../FILE")
        .usage());
    }
    Ok(())
}
