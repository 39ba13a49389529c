//! The check of the boundary: the stage, the host's listeners, the probe, and the judgement.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use cordon_policy::{Backend, SeccompProfile};
use cordon_sandbox::{
    adapter::probe::{self, Finding, OLD, Orders, SOCKET, WORK},
    launch::{BUBBLEWRAP_PATHS, PODMAN},
};
use serde::{Deserialize, Serialize};

use super::{
    host::{self, Counter, Service},
    stage::{Said, Stage},
};
use crate::{cli::run::backend::Chosen, error::Failure};

/// What was found.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Whether every wall stands.
    pub passed: bool,
    /// What holds them.
    pub backend: String,
    /// Which system calls the session had.
    pub profile: SeccompProfile,
    /// Name and version of what built them.
    pub built_by: String,
    /// Version of the kernel.
    pub kernel: String,
    /// How long it took.
    pub milliseconds: u128,
    /// Every attempt.
    pub findings: Vec<Finding>,
}

/// Tries the walls.
///
/// # Errors
/// [`Failure`] when they could not be tried at all, which is no better than a hole.
pub fn check(chosen: &Chosen) -> Result<Report, Failure> {
    let started = Instant::now();
    let in_container = chosen.adapter.backend() == Backend::Container;
    let mut stage = Stage::new(&chosen.flags, in_container)?;
    let host = Host::start(&stage)?;
    let orders = host.orders(&stage, in_container, chosen.profile);
    let mut findings = host.controls(&stage, &orders);
    findings.extend(probe::outside()?);
    stage.start_daemon(&orders)?;
    let said = stage.run_probe(&orders)?;
    findings.extend(read(&said)?);
    findings.extend(host.judge(&stage));
    Ok(Report {
        passed: findings.iter().all(|finding| finding.ok),
        backend: if in_container {
            "container"
        } else {
            "bubblewrap"
        }
        .into(),
        profile: chosen.profile,
        built_by: match in_container {
            true => version_of(&[PODMAN], "podman"),
            false => version_of(&BUBBLEWRAP_PATHS, "bubblewrap"),
        },
        kernel: rustix::system::uname().release().to_string_lossy().into(),
        milliseconds: started.elapsed().as_millis(),
        findings,
    })
}

/// The host's listeners.
struct Host {
    services: Vec<Service>,
    allowed: Service,
    denied: Service,
    socket: Counter,
    abstract_name: String,
    abstract_socket: Counter,
}

/// What every listener answers. Nothing else says it.
const ANSWER: &str = "the host answered the boundary check";

impl Host {
    fn start(stage: &Stage) -> io::Result<Self> {
        let services = host::addresses()
            .into_iter()
            .map(|ip| Service::start(ip, ANSWER))
            .collect::<io::Result<_>>()?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // As unique as the stage.
        let abstract_name = stage.at("abstract").to_string_lossy().into_owned();
        Ok(Self {
            services,
            allowed: Service::start(loopback, ANSWER)?,
            denied: Service::start(loopback, ANSWER)?,
            socket: host::unix_service(&stage.at(WORK).join(SOCKET))?,
            abstract_socket: host::abstract_service(&abstract_name)?,
            abstract_name,
        })
    }

    fn orders(&self, stage: &Stage, in_container: bool, profile: SeccompProfile) -> Orders {
        Orders {
            own_sockets: profile == SeccompProfile::Build,
            sealed: sealed(stage, in_container),
            host: self
                .services
                .iter()
                .map(|service| service.address)
                .collect(),
            abstract_name: self.abstract_name.clone(),
            process: std::process::id(),
            // Runc makes no time namespace: there is no wall to try.
            uptime: (!in_container).then(uptime),
            allowed: "allowed.boundary.test".into(),
            allowed_port: self.allowed.address.port(),
            denied: "denied.boundary.test".into(),
            denied_port: self.denied.address.port(),
            answer: ANSWER.into(),
        }
    }

    /// From the host, all of it can be reached.
    fn controls(&self, stage: &Stage, orders: &Orders) -> Vec<Finding> {
        let wall = "from the host";
        let works = |what: &str, result| Finding::works(wall, what, result);
        let mut found = Vec::new();
        for service in self.services.iter().chain([&self.allowed, &self.denied]) {
            found.push(works(&service.tcp.what, service.control_tcp()));
            found.push(works(&service.udp.what, service.control_udp()));
        }
        let path = stage.at(WORK).join(SOCKET);
        let by_path = self.socket.control(|| UnixStream::connect(&path).map(drop));
        found.push(works(&self.socket.what, by_path));
        let by_name = self
            .abstract_socket
            .control(|| host::knock_abstract(&self.abstract_name));
        found.push(works(&self.abstract_socket.what, by_name));
        for path in &orders.sealed {
            let opened = File::open(path).map(|_file| "opened".into());
            found.push(works(&format!("open {}", path.display()), opened));
        }
        found
    }

    /// After the session: who was reached, and what is left.
    fn judge(&self, stage: &Stage) -> Vec<Finding> {
        let wall = "counted outside";
        let unreached = |counter: &Counter, expected: usize| {
            let hits = counter.hits();
            let result = match hits == expected {
                true => Ok(hits.to_string()),
                false => Err(io::Error::other(format!("{hits}"))),
            };
            let attempt = format!("{expected} {}", counter.what);
            Finding::works(wall, &attempt, result)
        };
        let mut found: Vec<Finding> = Vec::new();
        for service in self.services.iter().chain([&self.denied]) {
            found.push(unreached(&service.tcp, 0));
            found.push(unreached(&service.udp, 0));
        }
        found.push(unreached(&self.allowed.tcp, WAYS_OUT));
        found.push(unreached(&self.allowed.udp, 0));
        found.push(unreached(&self.socket, 0));
        found.push(unreached(&self.abstract_socket, 0));
        let old = fs::read_to_string(stage.at(WORK).join(OLD)).and_then(|text| match &*text {
            "old" => Ok("there".into()),
            _ => Err(io::Error::other("its contents are others")),
        });
        found.push(Finding::works(
            "no delete",
            "the file that was there is still there, outside",
            old,
        ));
        found
    }
}

/// HTTP, CONNECT, SOCKS5, captured TCP: each reaches the allowed name once.
const WAYS_OUT: usize = 4;

/// What no session may open, of what this user can.
fn sealed(stage: &Stage, in_container: bool) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let fixed = [
        "/etc/shadow",
        "/root",
        "/home",
        "/var/log",
        "/var/lib",
        "/run",
        "/sys",
        "/sys/kernel",
        "/boot",
    ];
    fixed
        .into_iter()
        .map(PathBuf::from)
        .chain(home)
        .chain([stage.at("secret"), stage.at("state"), stage.at("run")])
        .filter(|path| !in_container || !OF_THE_IMAGE.iter().any(|own| path == Path::new(own)))
        .filter(|path| File::open(path).is_ok())
        .collect()
}

/// What an image has of its own, under the names that the host has too; podman's `/sys` is an empty
/// folder over the kernel's.
const OF_THE_IMAGE: [&str; 7] = [
    "/root", "/home", "/var/log", "/var/lib", "/run", "/sys", "/boot",
];

/// The probe's findings. One that broke off is not a check.
fn read(said: &Said) -> Result<Vec<Finding>, Failure> {
    let failed = |why: &str| {
        let heard = said.err.trim();
        let heard = if heard.is_empty() { "nothing" } else { heard };
        Failure::new(format!(
            "the walls could not be tried: {why}; it said: {heard}"
        ))
        .help("`cordon doctor` says what is missing on this machine")
    };
    match said.status {
        Some(status) if status.success() => {}
        Some(_failed) => return Err(failed("the session of the check failed")),
        None => return Err(failed("the session of the check took too long")),
    }
    let findings: Result<Vec<Finding>, _> = said.out.lines().map(serde_json::from_str).collect();
    match findings {
        Ok(findings) if !findings.is_empty() => Ok(findings),
        _ => Err(failed(
            "the session of the check said nothing that is known",
        )),
    }
}

fn version_of(paths: &[&str], name: &str) -> String {
    let found = paths.iter().find_map(|path| {
        Command::new(path)
            .arg("--version")
            .env_clear()
            .output()
            .ok()
    });
    let text = found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.filter(|text| !text.is_empty())
        .unwrap_or_else(|| name.into())
}

/// Seconds since this machine started.
fn uptime() -> u64 {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(boot.tv_sec).unwrap_or(u64::MAX)
}
