//! Signed checkpoints leave the host: to a directory, an address, a witness, and sinks.
//!
//! Each place gets the newest one; one that could not be delivered is superseded by the next. A
//! witness (C2SP tlog-witness) gets a proof with it that the log only grew; its cosignature is
//! kept with the checkpoint in the log's history.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use cordon_audit::{
    durable::{create_shared, replace, sync_parent},
    prove, verify,
};
use cordon_session::config::{CheckpointConfig, SinkConfig};
use hyper::Method;
use tokio::{sync::watch, time::sleep};
use tracing::warn;

use crate::{
    Places, Shared, SinkError,
    backoff::{Backoff, random},
    cursor::Cursor,
    http::Endpoint,
    source,
    target::{Failure, Target},
};

/// Delivers checkpoints.
#[derive(Debug)]
pub(crate) struct Shipper {
    log: PathBuf,
    every: Duration,
    places: Vec<Place>,
    shared: Arc<Shared>,
}

/// One place, and how it does.
#[derive(Debug)]
struct Place {
    name: String,
    to: To,
    /// Size that the last checkpoint there covers.
    size: u64,
    /// The log that it is of.
    origin: String,
    backoff: Backoff,
}

#[derive(Debug)]
enum To {
    Directory(PathBuf),
    Address(Endpoint),
    Witness(Box<Witness>),
    Sink(Box<Target>),
}

#[derive(Debug)]
struct Witness {
    endpoint: Endpoint,
    key: String,
    /// Size that it cosigned last.
    cursor: Cursor,
}

impl Shipper {
    pub(crate) fn new(
        places: &Places,
        config: &CheckpointConfig,
        sinks: &[SinkConfig],
        shared: Arc<Shared>,
    ) -> Result<Self, SinkError> {
        let ca = config.ca.as_deref();
        let fail = |name: &str, why: String| SinkError::new(name, &why);
        let mut all = Vec::new();
        if let Some(directory) = &config.directory {
            all.push(("directory".into(), To::Directory(directory.clone())));
        }
        if let Some(url) = &config.url {
            let endpoint = Endpoint::parse(url, ca).map_err(|why| fail("checkpoints", why))?;
            all.push(("url".into(), To::Address(endpoint)));
        }
        if let (Some(url), Some(key)) = (&config.witness, &config.witness_key) {
            let witness = Witness {
                endpoint: Endpoint::parse(url, ca).map_err(|why| fail("witness", why))?,
                key: key.clone(),
                cursor: Cursor::open(&places.state, "checkpoints.witness")
                    .map_err(|error| fail("witness", error.to_string()))?,
            };
            if !verify::is_witness_key(key) {
                let what = "`witness_key` is no Ed25519 cosigning key (`name+id+key`)";
                return Err(fail("witness", what.into()));
            }
            all.push(("witness".into(), To::Witness(Box::new(witness))));
        }
        for sink in sinks
            .iter()
            .filter(|sink| config.sinks.contains(&sink.name))
        {
            let target = To::Sink(Box::new(Target::new(sink)?));
            all.push((format!("sink {}", sink.name), target));
        }
        let places_to = all.into_iter().map(|(name, to)| Place {
            name,
            to,
            size: 0,
            origin: String::new(),
            backoff: Backoff::default(),
        });
        Ok(Self {
            log: places.log.clone(),
            every: Duration::from_secs(config.every_seconds.unwrap_or(60).into()),
            places: places_to.collect(),
            shared,
        })
    }

    /// Delivers until it is stopped, then once more, so that the last checkpoint is elsewhere.
    pub(crate) async fn run(
        mut self,
        mut covered: watch::Receiver<u64>,
        mut stopped: watch::Receiver<bool>,
    ) {
        loop {
            let size = *covered.borrow_and_update();
            let behind = self.places.iter().any(|place| place.size < size);
            let wait = async {
                if behind {
                    let now = Instant::now();
                    let retry = self.places.iter().filter(|place| place.size < size);
                    let retry = retry.map(|place| place.backoff.wait(now)).min();
                    sleep(retry.unwrap_or_default()).await;
                } else {
                    let _gone = covered.changed().await;
                }
            };
            tokio::select! {
                () = wait => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            if behind && self.ship().await {
                tokio::select! {
                    () = sleep(self.every) => {}
                    _ = stopped.wait_for(|stop| *stop) => break,
                }
            }
        }
        self.ship().await;
    }

    /// Gives the newest checkpoint to every place that is due; whether any took it.
    async fn ship(&mut self) -> bool {
        let Ok(note) = prove::checkpoint(&self.log) else {
            return false;
        };
        let Some(size) = prove::checkpoint_size(&note) else {
            return false;
        };
        let origin = note.lines().next().unwrap_or_default();
        let mut any = false;
        for place in &mut self.places {
            if place.origin != origin {
                // Another log in the place of the one before: it begins again.
                (place.size, place.origin) = (0, origin.to_owned());
            }
            if place.size >= size || !place.backoff.wait(Instant::now()).is_zero() {
                continue;
            }
            let shipped = place.to.deliver(&self.log, &note, size).await;
            match shipped {
                Ok(()) => {
                    place.size = size;
                    place.backoff.succeed();
                    any = true;
                    self.shared.checkpoint(&place.name, |status| {
                        status.size = size;
                        status.failures = 0;
                        status.error = None;
                    });
                }
                Err(Failure::Retry(why) | Failure::Refused(why)) => {
                    place.backoff.fail(Instant::now(), random());
                    if place.backoff.failures() == 1 {
                        warn!(place = %place.name, %why, "checkpoint not delivered");
                    }
                    self.shared.checkpoint(&place.name, |status| {
                        status.failures += 1;
                        status.error = Some(why.clone());
                    });
                }
            }
        }
        any
    }
}

impl To {
    async fn deliver(&mut self, log: &Path, note: &str, size: u64) -> Result<(), Failure> {
        match self {
            Self::Directory(directory) => keep(directory, note, size)
                .map_err(|error| Failure::Retry(format!("`{}`: {error}", directory.display()))),
            Self::Address(endpoint) => {
                let headers = [("content-type", "text/plain; charset=utf-8".to_owned())];
                let body = note.as_bytes().to_vec();
                let answer = endpoint.send(Method::POST, "", &headers, body).await?;
                answer.accepted(&endpoint.authority).map(|_| ())
            }
            Self::Witness(witness) => witness.cosign(log, note, size).await,
            Self::Sink(target) => {
                let source = source(log).map_err(Failure::Retry)?;
                target.deliver_note(note, &source).await
            }
        }
    }
}

impl Witness {
    /// Asks for a cosignature and keeps it.
    async fn cosign(&mut self, log: &Path, note: &str, size: u64) -> Result<(), Failure> {
        self.cursor
            .belong_to(note.lines().next().unwrap_or_default());
        let mut answer = self.ask(log, note).await?;
        if answer.status == 409 {
            // It has seen another size than we thought; it says which.
            let seen = std::str::from_utf8(&answer.body).ok();
            let seen: Option<u64> = seen.and_then(|text| text.trim().parse().ok());
            let Some(seen) = seen.filter(|seen| *seen <= size) else {
                return Err(Failure::Retry(
                    "the witness has cosigned more of this log than there is: the log was rolled \
                     back; run `cordon audit verify --against` with a checkpoint from elsewhere"
                        .into(),
                ));
            };
            self.cursor.kept.next = seen;
            answer = self.ask(log, note).await?;
        }
        let answer = answer.accepted(&self.endpoint.authority)?;
        let lines = String::from_utf8_lossy(&answer.body).into_owned();
        let cosigned = verify::add_cosignature(note, &lines, &self.key)
            .map_err(|why| Failure::Retry(format!("what the witness answered {why}")))?;
        let path = log.join("checkpoints").join(size.to_string());
        // What is kept already may carry other signatures: of the key before, of other witnesses.
        let cosigned = match fs::read_to_string(&path) {
            Ok(kept) => verify::join_signatures(&cosigned, &kept)
                .map_err(|why| Failure::Retry(format!("the log's checkpoint {why}")))?,
            Err(_none) => cosigned,
        };
        let kept = fs::create_dir_all(log.join("checkpoints"))
            .and_then(|()| replace(&path, cosigned.as_bytes()));
        kept.map_err(|error| Failure::Retry(format!("`{}`: {error}", path.display())))?;
        self.cursor.kept.next = size;
        let saved = self.cursor.save();
        saved.map_err(|error| Failure::Retry(format!("its cursor was not kept: {error}")))
    }

    async fn ask(&mut self, log: &Path, note: &str) -> Result<crate::http::Answer, Failure> {
        let (log, text, old) = (log.to_owned(), note.to_owned(), self.cursor.kept.next);
        let proof = tokio::task::spawn_blocking(move || prove::consistency_with(&log, old, &text));
        let proof = proof
            .await
            .map_err(|error| Failure::Retry(error.to_string()))?
            .map_err(|error| Failure::Retry(error.to_string()))?;
        let headers = [("content-type", "text/plain; charset=utf-8".to_owned())];
        let body = proof.to_text().into_bytes();
        self.endpoint
            .send(Method::POST, "/add-checkpoint", &headers, body)
            .await
    }
}

/// Writes a checkpoint into a directory under the log's name and its size; never over another.
fn keep(directory: &Path, note: &str, size: u64) -> io::Result<()> {
    let origin = note.lines().next().unwrap_or_default().replace('/', "-");
    let path = directory.join(format!("{origin}-{size:020}.checkpoint"));
    let kept = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return create_shared(&path, note.as_bytes());
        }
        kept => kept?,
    };
    let signed = kept.ends_with('\n') && !kept.ends_with("\n\n");
    if signed && verify::same_checkpoint(&kept, note) {
        // From before a restart; a witness may have cosigned it since.
        return sync_parent(&path);
    }
    let name = path.display();
    Err(io::Error::other(if note.starts_with(&kept) {
        format!(
            "`{name}` is a part of the checkpoint of this size, not written to its end: move it away"
        )
    } else {
        // It is evidence, and stays.
        format!(
            "`{name}` holds another checkpoint of this size: keep it as evidence and run \
             `cordon audit verify --against` with it"
        )
    }))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    fn note(root: u8, signatures: &[&str]) -> String {
        let root = STANDARD.encode([root; 32]);
        let signatures = signatures.iter().map(|by| format!("\u{2014} {by} AAAA\n"));
        format!(
            "cordon/log\n7\n{root}\n\n{}",
            signatures.collect::<String>()
        )
    }

    #[test]
    fn a_checkpoint_that_a_witness_has_cosigned_since_is_the_one_that_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let only = |expected: &str| {
            let files: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
            assert_eq!(files.len(), 1);
            let kept = fs::read_to_string(files[0].as_ref().unwrap().path()).unwrap();
            assert_eq!(kept, expected);
        };
        let (first, cosigned) = (note(1, &["log"]), note(1, &["log", "witness"]));
        for again in [&first, &first, &cosigned] {
            keep(place.path(), again, 7).unwrap();
            only(&first);
        }
        let other = note(2, &["log", "witness"]);
        let why = keep(place.path(), &other, 7).unwrap_err().to_string();
        assert!(why.contains("keep it as evidence"), "{why}");
        only(&first);
    }

    #[test]
    fn what_a_crash_has_left_of_a_checkpoint_is_no_other_one() {
        let place = tempfile::tempdir().unwrap();
        let path = place
            .path()
            .join(format!("cordon-log-{:020}.checkpoint", 7));
        let whole = note(1, &["log"]);
        let beside = place
            .path()
            .join(format!("cordon-log-{:020}.checkpoint.tmp", 7));
        fs::write(&beside, &whole[..20]).unwrap();
        keep(place.path(), &whole, 7).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        assert!(!beside.exists());
        // Of a version that wrote it where it is kept: it proves nothing, and accuses nobody.
        let body = whole.find('\u{2014}').unwrap();
        for len in [0, 20, body - 1, body, whole.len() - 1] {
            fs::write(&path, &whole[..len]).unwrap();
            let why = keep(place.path(), &whole, 7).unwrap_err().to_string();
            assert!(why.contains("not written to its end"), "{len}: {why}");
            assert_eq!(fs::read(&path).unwrap(), &whole.as_bytes()[..len]);
        }
    }
}
