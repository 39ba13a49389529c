//! `cordon audit export`: records in the form that others read, with a signed manifest.
//!
//! What is exported is written aside first, then the export is recorded, then given out: an export
//! that is not in the log did not happen.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use cordon_audit::{
    Log,
    export::{self, Manifest, Select},
};

use super::{
    directory,
    filters::{FilterArgs, now_us},
    log_options,
};
use crate::{
    cli::connect,
    control::{Answer, Ask},
    error::Failure,
    paths::Paths,
    user::User,
};

/// Options of `cordon audit export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The form
    #[arg(long, value_enum)]
    format: Form,
    /// Where to write it (`tlog`: a directory that is made); standard output when left out
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to write the signed manifest; `FILE.manifest` when left out
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    #[command(flatten)]
    filters: FilterArgs,
    /// Only from this place in the log on
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Only up to this place in the log
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// The log's directory, when it is not the user's own; then nothing is recorded, and there is
    /// no manifest
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// The forms.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Ocsf,
    Ecs,
    Cef,
    Jsonl,
    Csv,
    Otlp,
    Tlog,
}

/// Does it.
pub fn export(args: &ExportArgs) -> Result<u8, Failure> {
    let log = directory(args.log.as_ref())?;
    let select = select(args)?;
    let format = form(args.format);
    if format == export::Format::Tlog {
        return tlog(args, &log, &select);
    }
    let mut spool = Spool::new(args)?;
    let source = export::source_of(&log)?;
    let manifest = spool
        .write(|out, hashes| export::write(&log, format, &select, &source, out, hashes))
        .inspect_err(|_| spool.discard())?;
    let given_out = finish(args, &log, &manifest).inspect_err(|_| spool.discard())?;
    spool.give_out()?;
    given_out.write()?;
    eprintln!("{} records exported", manifest.count);
    Ok(0)
}

/// Where an export's manifest lies when nothing else is said.
pub fn manifest_beside(export: &Path) -> PathBuf {
    with_end(export, ".manifest")
}

/// Where the hashes of an export's lines lie.
pub fn lines_beside(export: &Path) -> PathBuf {
    with_end(export, ".lines")
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn tlog(args: &ExportArgs, log: &Path, select: &Select) -> Result<u8, Failure> {
    let Some(out) = &args.out else {
        return Err(Failure::new("a `tlog` export is a directory")
            .help("name one that does not exist with `--out DIR`")
            .usage());
    };
    if !select.is_everything() {
        return Err(Failure::new("a `tlog` export is the whole log")
            .help("leave the filters out, or export as `jsonl`")
            .usage());
    }
    let manifest = export::copy_log(log, out)?;
    let given_out = finish(args, log, &manifest).inspect_err(|_| {
        let _removed = fs::remove_dir_all(out);
    })?;
    given_out.write()?;
    eprintln!("{} records exported", manifest.count);
    Ok(0)
}

/// A signed manifest and where it goes.
struct Signed(Option<(PathBuf, String)>);

impl Signed {
    fn write(&self) -> io::Result<()> {
        match &self.0 {
            Some((path, note)) => private(path)?.write_all(note.as_bytes()),
            None => Ok(()),
        }
    }
}

/// Records the export and has what it holds signed.
fn finish(args: &ExportArgs, log: &Path, manifest: &Manifest) -> Result<Signed, Failure> {
    let beside = args.out.as_deref().map(manifest_beside);
    let path = args.manifest.clone().or(beside);
    if args.log.is_some() {
        if args.manifest.is_some() {
            return Err(
                Failure::new("only the log's own user has its manifest signed")
                    .help("leave `--manifest` or `--log` out")
                    .usage(),
            );
        }
        return Ok(Signed(None));
    }
    let note = recorded(log, manifest, None)?;
    Ok(Signed(path.map(|path| (path, note))))
}

/// Records an export, of which a sink may be the receiver, and signs what it holds: by the daemon
/// when one runs, else with the log opened here.
pub fn recorded(log: &Path, manifest: &Manifest, sink: Option<&str>) -> Result<String, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    if let Some(mut client) = connect::reach_running(&paths)? {
        let ask = Ask::Export {
            manifest: Box::new(manifest.clone()),
            sink: sink.map(str::to_owned),
        };
        return match client.ask(&ask)? {
            Answer::Exported(note) => Ok(note),
            other => Err(super::not_told(other)),
        };
    }
    let user = User::current()?.name;
    let opened = Log::open(log, log_options()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let recorded = runtime.block_on(opened.event(export::exported(&user, manifest, sink)));
    let signed = export::sign(log, manifest);
    opened.close();
    recorded?;
    Ok(signed?)
}

/// Holds the export until it is recorded.
struct Spool {
    file: File,
    hashes: Option<File>,
    /// What lies aside, and where it is to lie; nothing of what goes to standard output.
    aside: Vec<(PathBuf, PathBuf)>,
}

impl Spool {
    fn new(args: &ExportArgs) -> Result<Self, Failure> {
        let Some(out) = &args.out else {
            let paths = Paths::from_env(|name| std::env::var_os(name))?;
            paths.make()?;
            let path = paths.state.join(format!("export-{}", std::process::id()));
            let file = private(&path)?;
            // Nobody else needs its name, and nothing is left of it however this ends.
            fs::remove_file(&path)?;
            return Ok(Self {
                file,
                hashes: None,
                aside: Vec::new(),
            });
        };
        let aside = [out.clone(), lines_beside(out)].map(|path| (with_end(&path, ".part"), path));
        let made = |path: &Path| {
            private(path).map_err(|error| {
                Failure::new(format!("`{}` could not be made: {error}", path.display()))
                    .help("remove it if it is left from an export that was interrupted")
            })
        };
        let [(file, _), (hashes, _)] = &aside;
        Ok(Self {
            file: made(file)?,
            hashes: Some(made(hashes).inspect_err(|_| {
                let _gone = fs::remove_file(file);
            })?),
            aside: aside.into(),
        })
    }

    fn write<T>(
        &mut self,
        write: impl FnOnce(&mut dyn io::Write, &mut dyn io::Write) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut out = BufWriter::new(&mut self.file);
        match &mut self.hashes {
            Some(hashes) => write(&mut out, &mut BufWriter::new(hashes)),
            None => write(&mut out, &mut io::sink()),
        }
    }

    fn give_out(mut self) -> Result<(), Failure> {
        if self.aside.is_empty() {
            self.file.rewind()?;
            return match io::copy(&mut self.file, &mut io::stdout().lock()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                copied => Ok(copied.map(|_| ())?),
            };
        }
        for file in [Some(&self.file), self.hashes.as_ref()]
            .into_iter()
            .flatten()
        {
            file.sync_all()?;
        }
        for (aside, path) in &self.aside {
            fs::rename(aside, path)?;
        }
        Ok(())
    }

    fn discard(&self) {
        for (aside, _) in &self.aside {
            let _gone = fs::remove_file(aside);
        }
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

fn select(args: &ExportArgs) -> Result<Select, Failure> {
    Ok(Select {
        from_seq: args.from,
        to_seq: args.to,
        ..Select::of(args.filters.query(now_us())?)
    })
}

fn form(form: Form) -> export::Format {
    match form {
        Form::Ocsf => export::Format::Ocsf,
        Form::Ecs => export::Format::Ecs,
        Form::Cef => export::Format::Cef,
        Form::Jsonl => export::Format::Jsonl,
        Form::Csv => export::Format::Csv,
        Form::Otlp => export::Format::Otlp,
        Form::Tlog => export::Format::Tlog,
    }
}
