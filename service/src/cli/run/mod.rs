//! `cordon run`: a command inside the cordon.
//!
//! Single-threaded until the sandbox is forked, and synchronous: the thread that forks must stay,
//! because the kernel ends the sandbox with it.

mod ask;
pub mod backend;
mod defaults;
mod environment;
mod handed;
mod limits;
mod live;
mod plan;
mod publish;
mod trust;
mod unwalled;
mod watch;
pub mod who;

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    os::fd::AsFd,
    path::PathBuf,
};

use clap::{Args as ClapArgs, ValueEnum};
use cordon_audit::SessionEnd;
use cordon_policy::{GrantSource, SeccompProfile};
use cordon_sandbox::{
    adapter::{Sandbox, SandboxAdapter},
    guard::SessionStart,
    launch::{LaunchError, Outcome},
    limits::Held,
    plan::HostLayout,
    terminal::Stdio,
};

use super::{Format, check, connect, exit, print_failure, session};
use crate::{
    control::{Answer, Ask, Client, Handed, Opened, OrderStream, PublishAsked, Refused},
    error::Failure,
    paths::Paths,
    summary::{Summary, render},
};
use backend::Chosen;
use live::LiveGrants;
use watch::{Counted, SharedClient, Watch};
use who::Who;

/// Options of `cordon run`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    cordon run -- claude\n  \
    cordon run -- npm test\n  \
    cordon run --grant ~/data:ro --grant ./out:rw -- python3 report.py\n  \
    cordon run --policy my.cedar -- curl https://api.example.com/\n\n\
    Without --grant, the current directory is granted (rw; rwd for a coding agent) and is the \
    working directory inside.")]
pub struct Args {
    /// A folder or file for the session: DIR[:ro|rw|rwd][=NAME], read-only unless said otherwise
    ///
    /// `rw`: create, write, replace contents and rename; nothing that was there disappears (its
    /// contents can still change). `rwd`: delete too. It appears as /sessions/ID/mnt/NAME.
    #[arg(long, value_name = "DIR[:MODE][=NAME]")]
    grant: Vec<String>,
    /// Policy files (*.cedar, *.toml) or directories, instead of the built-in pack; `default` adds
    /// that one to them
    #[arg(long, value_name = "FILE|DIR")]
    policy: Vec<PathBuf>,
    /// Session defaults: modes of grants by name, folders that are always granted, variables that
    /// never go in; `cordon import cowork-baseline --out` writes one
    #[arg(long, value_name = "FILE", value_parser = defaults::Defaults::read)]
    defaults: Option<defaults::Defaults>,
    /// Let a port inside be reached from outside: [ADDRESS:]PORT[:INSIDE], on 127.0.0.1 unless said
    /// otherwise; policy decides, and the built-in policy refuses it
    #[arg(long, value_name = "[ADDRESS:]PORT[:INSIDE]", value_parser = publish::parse)]
    publish: Vec<PublishAsked>,
    /// A variable for the session, from here or with a value
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// The agent profile, or `none`; by the command's name when left out
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// What holds the walls; `none` is a decision of its own, which the built-in policy refuses
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// With `--backend container`: an image that podman has; it is never fetched
    #[arg(long, value_name = "IMAGE", conflicts_with = "rootfs")]
    image: Option<String>,
    /// With `--backend container`: a folder with a root file system
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    #[command(flatten)]
    limits: limits::LimitFlags,
    /// Which system calls the session may make; policy decides
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Nothing of this machine: the current directory stays outside too, where no --grant is named
    #[arg(long, conflicts_with = "grant")]
    no_grant: bool,
    /// The running session that this one is started for; the records of its start name it
    #[arg(long, value_name = "SESSION")]
    parent: Option<String>,
    /// The session's id as the first line on standard output, for a program that waits for it
    #[arg(long, hide = true)]
    print_session: bool,
    /// The tool server that the session is for: whether it may be loaded is decided first
    #[arg(long, hide = true, value_name = "NAME")]
    loads: Option<String>,
    /// More is on standard input: the daemon started us
    #[arg(long, hide = true, requires = "no_grant")]
    handed_over: bool,
    #[arg(skip)]
    handed: Handed,
    /// No summary, only errors
    #[arg(long, short)]
    quiet: bool,
    /// How the summary is printed, on standard error
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// What can run a session here.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Backend {
    /// Namespaces, system call filters, and what is granted
    #[default]
    Bubblewrap,
    /// A container of rootless podman, from an image or a root file system
    Container,
    /// No walls: only what goes over the session's proxy is decided and recorded
    None,
}

impl From<Backend> for cordon_policy::Backend {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Bubblewrap => Self::Bubblewrap,
            Backend::Container => Self::Container,
            Backend::None => Self::None,
        }
    }
}

/// The profiles of [`SeccompProfile`], as they are typed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Profile {
    /// Less than programs commonly use, for what handles hostile data
    Strict,
    /// What programs commonly use
    #[default]
    Default,
    /// For debuggers, sanitisers and test suites: ptrace and unix sockets within the session, fixed
    /// addresses
    Build,
}

impl From<Profile> for SeccompProfile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Strict => Self::Strict,
            Profile::Default => Self::Default,
            Profile::Build => Self::Build,
        }
    }
}

/// Runs the command; its exit code, or one of ours when it never ran.
pub fn run(mut args: Args) -> Result<u8, Failure> {
    args.take_what_is_handed_over()?;
    let host = |name: &str| env::var_os(name);
    let paths = Paths::from_env(host)?;
    let directory = env::current_dir()?;
    let stdio = Stdio::inherit()?;
    environment::check_flags(&args.env, args.stripped(), host)
        .map_err(|error| Failure::from(error).usage())?;
    // What is missing is said before anything is asked.
    let chosen = match args.backend {
        Backend::None => unwalled::check(&args).map(|()| None)?,
        _walls => Some(backend::of(&args.walls(), &paths)?),
    };
    let image = chosen.as_ref().and_then(|chosen| chosen.image.clone());
    let agent = ask::agent(&args, &paths, &host)?;
    let request = ask::open(&args, &paths, agent.as_ref(), &directory, image)?;

    let begun = chosen
        .map(|chosen| Begun::new(chosen, &paths, stdio))
        .transpose()?;
    let mut client = connect::reach(&paths)?;
    client.tell(&Ask::Open(Box::new(request)))?;
    // While it decides: what of the plan hangs on no decision.
    let layout = begun.as_ref().map(|_walls| HostLayout::read()).transpose();
    let opened = match client.answer()? {
        Answer::Opened(opened) => *opened,
        Answer::Refused(refused) => {
            print_refused(&args, &refused)?;
            return Ok(exit::DENIED);
        }
        _other => return Err(Failure::new("the daemon answered something unexpected")),
    };
    if args.print_session {
        println!("{}", opened.session);
    }
    if !args.quiet && args.format == Format::Text {
        announce_observe(&opened);
        announce_refused_directory(&opened);
        announce_copied(&opened);
    }
    let Some(begun) = begun.zip(layout?) else {
        let result = unwalled::run(&args, &opened, &mut client);
        let exit_code = result
            .as_ref()
            .ok()
            .map(|outcome| i32::from(outcome.code()));
        let summary = client.ask(&Ask::Ended {
            exit_code,
            end: None,
            used: None,
            changes: None,
        });
        return finish(&args, result, summary);
    };
    let client = SharedClient::new(client);
    let mut counted = Counted::default();
    let result = in_session(
        &args,
        &paths,
        agent.as_ref(),
        &opened,
        begun,
        &client,
        &mut counted,
    );
    let (exit_code, end) = match &result {
        Ok(outcome) => (Some(i32::from(outcome.code())), None),
        Err(NotRun { end, .. }) => (None, *end),
    };
    let result = result.map_err(|not_run| not_run.failure);
    let summary = client.ask(&Ask::Ended {
        exit_code,
        end,
        used: counted.used,
        changes: counted.changes,
    });
    finish(&args, result, summary)
}

impl Args {
    /// Variables that never go in.
    fn stripped(&self) -> &[String] {
        let defaults = self.defaults.as_ref();
        defaults.map_or(&[], |defaults| &defaults.strip_env)
    }

    fn walls(&self) -> backend::Wanted {
        backend::Wanted {
            backend: self.backend,
            image: self.image.clone(),
            rootfs: self.rootfs.clone(),
            profile: self.profile.into(),
        }
    }
}

/// What is chosen, and begun, while policy is still asked.
struct Begun {
    backend: Box<dyn SandboxAdapter>,
    who: Who,
    stdio: Stdio,
}

impl Begun {
    fn new(chosen: Chosen, paths: &Paths, stdio: Stdio) -> Result<Self, Failure> {
        check::before_first_session(paths, &chosen)?;
        let who = who::choose(paths)?;
        let mut backend = chosen.adapter;
        backend.begin(who.uid())?;
        Ok(Self {
            backend,
            who,
            stdio,
        })
    }
}

/// Builds the sandbox, has its listeners served, runs the command.
fn in_session(
    args: &Args,
    paths: &Paths,
    agent: Option<&cordon_session::agents::ResolvedAgent>,
    opened: &Opened,
    (begun, layout): (Begun, HostLayout),
    client: &SharedClient,
    counted: &mut Counted,
) -> Result<Outcome, NotRun> {
    let host = |name: &str| env::var_os(name);
    // The hold on the user's id stays until the session is over.
    let Begun {
        mut backend,
        who,
        stdio,
    } = begun;
    let permitted = |asked: &[PathBuf]| live::permitted(client, asked);
    let made = plan::plan(
        args,
        agent,
        opened,
        &host,
        &permitted,
        &who.user(&opened.user),
        layout,
    )?;
    let start = SessionStart::now();
    let mut sandbox = backend.prepare(&made.plan, stdio)?;
    refuse_unheld(args, sandbox.held())?;
    attach(&mut *sandbox, client)?;
    sandbox.wait_ready()?;
    let _way_in = publish::serve(&args.publish, client, &*sandbox)?;
    let copies = made.copies.hold(&*sandbox)?;
    let orders = follow(paths, opened, &*sandbox)?;
    let grants = LiveGrants::new(client, &*sandbox, made.guarded, paths.kept(&opened.session))?;
    let mut watch = Watch::new(client, orders, grants, start)?;
    if made.plan.guard {
        // Nothing that is there now may pass for a file of the session. By now the clock has
        // nearly always moved on.
        start.settle();
    }
    let outcome = sandbox.run(&mut watch);
    *counted = watch.finish();
    copies.give_back();
    Ok(outcome?)
}

/// Why a session has no outcome.
struct NotRun {
    failure: Failure,
    /// What the record of its end says, where that is more than that it failed.
    end: Option<SessionEnd>,
}

impl From<LaunchError> for NotRun {
    fn from(error: LaunchError) -> Self {
        let end = match error {
            LaunchError::Unresponsive => Some(SessionEnd::Unresponsive),
            LaunchError::OverLimit(_) => Some(SessionEnd::OverLimit),
            _ => None,
        };
        Self {
            failure: error.into(),
            end,
        }
    }
}

impl From<Failure> for NotRun {
    fn from(failure: Failure) -> Self {
        Self { failure, end: None }
    }
}

/// Hands the listeners to the daemon; when it answers, they are served.
fn attach(sandbox: &mut dyn Sandbox, client: &SharedClient) -> Result<(), Failure> {
    let listeners = sandbox
        .take_listeners()
        .ok_or_else(|| Failure::new("the sandbox has no listeners"))?
        .into_fds();
    let borrowed: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    match client.ask_with(&Ask::Attach, &borrowed)? {
        Answer::Attached => Ok(()),
        _other => Err(Failure::new("the daemon answered something unexpected")),
    }
}

/// A limit that somebody asked for is held, or nothing runs; one that is held less well than it
/// could be is said so.
fn refuse_unheld(args: &Args, held: &[Held]) -> Result<(), Failure> {
    let asked = args.limits.asked();
    if let Some(unheld) = limits::not_held(&asked, held) {
        let why = unheld.weaker.as_deref().unwrap_or("it cannot be held here");
        return Err(
            Failure::new(format!("`{}` cannot be limited here: {why}", unheld.name)).help(
                "run where this user has a control group of its own (`systemd-run --user --scope \
                 -p Delegate=yes cordon run …`), or leave the flag out",
            ),
        );
    }
    let named = asked.named();
    for line in held
        .iter()
        .filter(|held| named.contains(&held.name.as_str()))
    {
        if let (Some(weaker), false) = (&line.weaker, args.quiet) {
            eprintln!("cordon: {} is held by {}: {weaker}", line.name, line.by);
        }
    }
    Ok(())
}

/// A second connection to the same daemon, over which it gives orders.
fn follow(paths: &Paths, opened: &Opened, sandbox: &dyn Sandbox) -> Result<OrderStream, Failure> {
    let first = sandbox
        .first_process()
        .map(|pid| pid.as_raw_nonzero().get());
    let follow = Ask::Follow {
        session: opened.session.clone(),
        token: opened.token.clone(),
        first_process: first.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
        held: sandbox.held().to_vec(),
        groups: sandbox.groups(),
        pauses_by: sandbox.pauses_by().into(),
    };
    Ok(Client::connect(&paths.socket())?.follow(&follow)?)
}

/// Prints the summary and gives the exit code. A session that failed is said to have failed even
/// when its summary is fine.
fn finish(
    args: &Args,
    result: Result<Outcome, Failure>,
    summary: Result<Answer, crate::control::ClientError>,
) -> Result<u8, Failure> {
    let outcome = match result {
        Ok(outcome) => Some(outcome),
        Err(failure) => {
            print_failure(&failure);
            None
        }
    };
    match summary {
        Ok(Answer::Summary(summary)) => print_summary(args, &summary)?,
        Ok(_other) => return Err(Failure::new("the daemon answered something unexpected")),
        Err(error) => {
            let failure = Failure::from(error)
                .help("the session is over; `cordon audit show` tells what was recorded");
            if outcome.is_some() {
                return Err(failure);
            }
            print_failure(&failure);
        }
    }
    Ok(outcome.map_or(exit::FAILED, Outcome::code))
}

fn print_summary(args: &Args, summary: &Summary) -> Result<(), Failure> {
    if args.format == Format::Json {
        eprintln!("{}", serde_json::to_string(summary)?);
    } else if !args.quiet {
        eprint!("{}", render(summary, colour()));
    }
    Ok(())
}

fn print_refused(args: &Args, refused: &Refused) -> Result<(), Failure> {
    if args.format == Format::Json {
        eprintln!(
            "{}",
            serde_json::to_string(&serde_json::json!({ "refused": refused }))?
        );
        return Ok(());
    }
    eprintln!("denied: {}: {}", refused.what, refused.why);
    if let Some(rule) = &refused.allow_with {
        eprintln!("help: to allow it: {rule}");
    }
    eprintln!("record: {}", refused.decision);
    Ok(())
}

/// Observe mode protects nobody: whoever starts a session under it should know (N15).
fn announce_observe(opened: &Opened) {
    if let Some(until) = &opened.observe {
        eprintln!(
            "cordon: policy {} ONLY OBSERVES until {until}: what it would refuse goes through, and \
             is recorded",
            opened.policy
        );
    }
}

/// The working directory was nobody's explicit wish: without it the session starts all the same,
/// with less, and says so.
fn announce_refused_directory(opened: &Opened) {
    for grant in &opened.refused {
        if grant.source == GrantSource::WorkingDirectory {
            eprintln!(
                "cordon: the current directory stays outside: {}; the session starts in its own \
                 empty directory (use --grant for the folders it needs)",
                grant.refused.why
            );
        }
    }
}

/// Where originals cannot be cloned, what that means is said when the folder is granted.
fn announce_copied(opened: &Opened) {
    for grant in &opened.grants {
        if let Some(most) = grant.copied_up_to {
            eprintln!("cordon: {}", session::copied(&grant.path, most));
        }
    }
}

fn colour() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none()
}
