//! Originals that sessions kept: which go because they are old or too many, and which by somebody's
//! wish. Each removal is a record first. What a running session keeps is never touched.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use cordon_audit::{Event, Kind, RecordError, record::Upkeep};
use cordon_session::config::OriginalsConfig;
use tracing::{info, warn};
use uuid::Uuid;

use super::Daemon;
use crate::control::{PurgedLine, SessionAnswer};

/// Lets go what is too old or too much, now and then once a day, until it is aborted.
pub async fn tend(daemon: Arc<Daemon>) {
    loop {
        if let Err(why) = tidy(&daemon).await {
            warn!(%why, "originals that sessions kept were not looked through");
        }
        tokio::time::sleep(DAY).await;
    }
}

async fn tidy(daemon: &Daemon) -> Result<(), String> {
    let kept = over(daemon).await?;
    for (kept, because) in surplus(kept, &daemon.originals, SystemTime::now()) {
        let session = kept.session.clone();
        match let_go(daemon, kept, None, because).await {
            Ok(()) => info!(%session, because, "originals of a session went"),
            Err(why) => warn!(%session, %why, "originals of a session stay"),
        }
    }
    Ok(())
}

/// Removes what was kept of the session that `named` begins, or of every one that is over.
///
/// # Errors
/// In words: nothing was kept, it runs, or it cannot be removed.
pub async fn purge(daemon: &Daemon, named: Option<&str>) -> Result<SessionAnswer, String> {
    let mut kept = over(daemon).await?;
    if let Some(named) = named {
        if daemon.registry.find(named).is_ok() {
            return Err("it runs, and what it keeps stays until it is over".into());
        }
        kept.retain(|kept| !named.is_empty() && kept.session.starts_with(named));
        match kept.len() {
            0 => return Err("nothing was kept of such a session".into()),
            1 => {}
            _ => return Err("more than one session begins so".into()),
        }
    }
    let mut purged = Vec::new();
    for kept in kept {
        let line = PurgedLine {
            session: kept.session.clone(),
            bytes: kept.bytes,
        };
        let by = Some(daemon.user.name.clone());
        let_go(daemon, kept, by, "it was asked for").await?;
        purged.push(line);
    }
    Ok(SessionAnswer::Purged(purged))
}

/// What one session kept.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Kept {
    session: String,
    folder: PathBuf,
    bytes: u64,
    /// When something was added last.
    last: SystemTime,
}

/// Of all sessions that do not run.
async fn over(daemon: &Daemon) -> Result<Vec<Kept>, String> {
    let folder = daemon.paths.kept("");
    let listed = tokio::task::spawn_blocking(move || list(&folder)).await;
    let mut kept = listed
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("what was kept cannot be listed: {error}"))?;
    // After they were listed: one that has begun since is not among them.
    kept.retain(|kept| daemon.registry.of_id(&kept.session).is_none());
    Ok(kept)
}

fn list(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // Whatever else lies there is not a session's, and not ours to remove.
        let name = entry.file_name().to_string_lossy().into_owned();
        if Uuid::parse_str(&name).is_err() || !entry.file_type()?.is_dir() {
            continue;
        }
        let mut kept = Kept {
            session: name,
            folder: entry.path(),
            bytes: 0,
            last: entry.metadata()?.modified()?,
        };
        for file in fs::read_dir(entry.path())? {
            let file = file?.metadata()?;
            kept.bytes = kept.bytes.saturating_add(file.len());
            kept.last = kept.last.max(file.modified()?);
        }
        found.push(kept);
    }
    Ok(found)
}

/// What goes, and why: first what is too old, then the oldest of what is too much together.
fn surplus(
    mut kept: Vec<Kept>,
    config: &OriginalsConfig,
    now: SystemTime,
) -> Vec<(Kept, &'static str)> {
    kept.sort_by_key(|kept| kept.last);
    let mut total: u64 = kept
        .iter()
        .fold(0, |sum, kept| sum.saturating_add(kept.bytes));
    let mut go = Vec::new();
    for kept in kept {
        // A clock that was set back makes nothing old.
        let age = now.duration_since(kept.last).unwrap_or_default();
        let because = if age > config.age() {
            "older than `sandbox.originals.keep_days`"
        } else if total > config.bytes() {
            "more than `sandbox.originals.keep_bytes`, and this is the oldest"
        } else {
            continue;
        };
        total = total.saturating_sub(kept.bytes);
        go.push((kept, because));
    }
    go
}

/// On record, then removed.
async fn let_go(
    daemon: &Daemon,
    kept: Kept,
    by: Option<String>,
    because: &str,
) -> Result<(), String> {
    let upkeep = Upkeep {
        because: Some(because.into()),
        session: Some(kept.session),
        size: Some(kept.bytes),
        ..Upkeep::default()
    };
    let event = Event::Upkeep {
        kind: Kind::OriginalsPurge,
        by,
        upkeep: Box::new(upkeep),
    };
    let recorded = daemon.log.event(event).await;
    recorded.map_err(|error: RecordError| format!("it is not on record: {error}"))?;
    let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(kept.folder)).await;
    match removed.map_err(|error| error.to_string())? {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _gone => Ok(()),
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_go_and_then_the_oldest_until_the_rest_fits() {
        let now = SystemTime::UNIX_EPOCH + DAY * 1000;
        let kept = |session: &str, days: u32, bytes| Kept {
            session: session.into(),
            folder: session.into(),
            bytes,
            last: now - DAY * days,
        };
        let all = vec![
            kept("new", 0, 4),
            kept("old", 9, 1),
            kept("mid", 2, 4),
            kept("more", 1, 4),
        ];
        let go = |days, bytes| {
            let config = OriginalsConfig {
                keep_days: Some(days),
                keep_bytes: Some(bytes),
            };
            let go = surplus(all.clone(), &config, now).into_iter();
            go.map(|(kept, _)| kept.session).collect::<Vec<_>>()
        };
        assert_eq!(go(30, 100), [""; 0]);
        assert_eq!(go(5, 100), ["old"]);
        assert_eq!(go(30, 12), ["old"]);
        assert_eq!(go(30, 9), ["old", "mid"]);
        assert_eq!(go(1, 3), ["old", "mid", "more", "new"]);
    }

    #[test]
    fn only_what_is_a_sessions_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let session = Uuid::now_v7().to_string();
        fs::create_dir(folder.path().join(&session)).unwrap();
        fs::write(folder.path().join(&session).join("0"), "12345").unwrap();
        fs::create_dir(folder.path().join("mine")).unwrap();
        fs::write(folder.path().join(Uuid::now_v7().to_string()), "a file").unwrap();
        let found = list(folder.path()).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|kept| (&*kept.session, kept.bytes))
            .collect();
        assert_eq!(found, [(&*session, 5)]);
        assert_eq!(list(&folder.path().join("none")).unwrap(), []);
    }
}
