//! `cordon policy import`: allow lists of other programs as the draft of a bundle.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use cordon_analysis::import::{self, Imported, MAX_BYTES, Options};

use super::Format;
use crate::error::Failure;

/// Options of `cordon policy import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Which program the list is for
    #[arg(value_enum)]
    from: From,
    /// The file
    file: PathBuf,
    /// Make this new folder, with the draft of a bundle in it
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Ports of entries that name none (hosts files and lists)
    #[arg(long = "port", value_name = "PORT", default_values_t = [443_u16])]
    ports: Vec<u16>,
    /// An ACL of Squid about the client that holds for every session, for example `localnet`
    #[arg(long, value_name = "ACL")]
    holds: Vec<String>,
    /// How to print what is not in the draft
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Programs whose lists are read.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// squid.conf: acl and http_access
    Squid,
    /// smokescreen's YAML
    Smokescreen,
    /// A hosts file
    Hosts,
    /// One host, domain, address or network a line
    List,
}

/// Does it.
pub fn import(args: &ImportArgs) -> Result<u8, Failure> {
    if args.ports.contains(&0) {
        return Err(Failure::new("0 is no port").usage());
    }
    let text = read(&args.file).map_err(Failure::new)?;
    let folder = args.file.parent().unwrap_or(Path::new(""));
    let options = Options {
        ports: args.ports.clone(),
        holds: args.holds.clone(),
        read: &|name| read(&folder.join(name)),
    };
    let format = match args.from {
        From::Squid => import::Format::Squid,
        From::Smokescreen => import::Format::Smokescreen,
        From::Hosts => import::Format::Hosts,
        From::List => import::Format::List,
    };
    let imported = import::import(format, &text, &options).map_err(|error| {
        let help = error.help.clone();
        Failure::from(error).help(help)
    })?;
    if let Some(output) = &args.output {
        write(output, &imported)?;
    }
    print(args, &imported)?;
    Ok(0)
}

fn print(args: &ImportArgs, imported: &Imported) -> Result<(), Failure> {
    if args.format == Format::Json {
        println!("{}", serde_json::to_string(imported)?);
        return Ok(());
    }
    if args.output.is_none() {
        println!("{}\n{}", imported.cedar(), imported.data());
    }
    let members: usize = imported.groups.values().map(Vec::len).sum();
    eprintln!(
        "{} rule(s), {} host group(s) with {members} member(s)",
        imported.rules.len(),
        imported.groups.len(),
    );
    if !imported.not_expressed.is_empty() {
        eprintln!("not in the draft:");
    }
    for note in &imported.not_expressed {
        eprintln!("  {note}");
    }
    if let Some(output) = &args.output {
        eprintln!(
            "draft written to {0}; read it, then `cordon policy check {0}`",
            output.display()
        );
    }
    Ok(())
}

/// A folder that is new, so that no live rule is ever touched.
fn write(output: &Path, imported: &Imported) -> Result<(), Failure> {
    fs::create_dir(output).map_err(|error| {
        Failure::new(format!("`{}`: {error}", output.display()))
            .help("a draft is written into a new folder, beside nothing")
    })?;
    let create = |name: &str, text: &str| {
        let path = output.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        File::create_new(path)?.write_all(text.as_bytes())
    };
    let files = imported.bundle();
    for (name, text) in &files {
        create(name, text)?;
    }
    Ok(())
}

/// A regular file of bounded size.
fn read(path: &Path) -> Result<String, String> {
    let shown = |what: &dyn std::fmt::Display| format!("`{}`: {what}", path.display());
    let is_file = fs::metadata(path).map_err(|error| shown(&error))?.is_file();
    if !is_file {
        return Err(shown(&"it is not a regular file"));
    }
    let mut text = String::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_string(&mut text))
        .map_err(|error| shown(&error))?;
    if text.len() > MAX_BYTES {
        return Err(shown(&format!("it is longer than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_a_new_folder_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list.txt");
        fs::write(&list, "example.com\n").unwrap();
        let output = folder.path().join("draft");
        let args = ImportArgs {
            from: From::List,
            file: list,
            output: Some(output.clone()),
            ports: vec![443],
            holds: Vec::new(),
            format: Format::Json,
        };
        assert_eq!(import(&args).unwrap(), 0);
        let bundle = cordon_policy::bundle::Bundle::read(&output).unwrap();
        cordon_policy::Snapshot::load(&bundle.source()).unwrap();
        let again = import(&args).unwrap_err();
        assert!(again.to_string().contains("draft"), "{again}");
    }

    #[test]
    fn only_a_regular_file_of_bounded_size_is_read() {
        assert!(read(Path::new("/dev/zero")).is_err());
        assert!(read(Path::new("/nowhere/list")).is_err());
    }
}
