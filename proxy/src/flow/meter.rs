//! Counts what moves over one upstream connection, and remembers what was seen while it was made.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use cordon_policy::Seen;
use cordon_session::past::Bytes as Told;

use super::Bytes;
use crate::{accounts::Place, metrics, parent::Held};

/// Counts bytes of one upstream connection, and of its session and destination with it.
#[derive(Debug)]
pub(crate) struct Meter {
    /// `None` where another meter counts the same bytes for the session.
    place: Option<Place>,
    /// Where policy is told of them.
    told: Told,
    since: Instant,
    /// What was seen while the connection was made, for further requests on it.
    route: OnceLock<Seen>,
    /// The TLS session of a parent proxy, where the connection goes through one.
    link: OnceLock<Held>,
    out: AtomicU64,
    r#in: AtomicU64,
}

impl Meter {
    pub(super) fn new(place: Option<Place>, told: Told) -> Arc<Self> {
        Arc::new(Self {
            place,
            told,
            since: Instant::now(),
            route: OnceLock::new(),
            link: OnceLock::new(),
            out: AtomicU64::new(0),
            r#in: AtomicU64::new(0),
        })
    }

    /// Counts bytes that another meter counts for the session: those of one request among several
    /// in a tunnel.
    pub(crate) fn within() -> Arc<Self> {
        Self::new(None, Told::default())
    }

    /// Counts bytes sent to the destination.
    pub(crate) fn count_out(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.out.fetch_add(bytes, Relaxed);
        if let Some(place) = &self.place {
            place.count_out(bytes);
            self.told.sent(bytes);
            metrics::PROXY.bytes_out.inc_by(bytes);
        }
    }

    /// Counts bytes received from the destination.
    pub(crate) fn count_in(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.r#in.fetch_add(bytes, Relaxed) == 0 {
            let waited = self.since.elapsed().as_secs_f64();
            metrics::PROXY.first_byte.observe(waited);
        }
        if let Some(place) = &self.place {
            place.count_in(bytes);
            self.told.received(bytes);
            metrics::PROXY.bytes_in.inc_by(bytes);
        }
    }

    /// What its session has used up, for a connection that is there or that is to be opened.
    pub(super) fn excess(&self, to_open: bool) -> Option<String> {
        let place = self.place.as_ref()?;
        if to_open {
            place.excess_to_open()
        } else {
            place.excess()
        }
    }

    /// What was seen while the connection was made.
    pub(super) fn route(&self) -> Option<&Seen> {
        self.route.get()
    }

    /// Whether there is a budget that it can use up.
    pub(super) fn is_bounded(&self) -> bool {
        self.place.as_ref().is_some_and(Place::is_bounded)
    }

    /// Resolves with the budget that is used up; never, where another meter counts for it.
    pub(super) async fn spent(&self) -> String {
        match &self.place {
            Some(place) => place.spent().await,
            None => std::future::pending().await,
        }
    }

    /// Keeps what its bytes travel through for as long as it counts them.
    pub(crate) fn hold(&self, link: Held) {
        // One connection has one such thing.
        let _held = self.link.set(link);
    }

    /// Remembers by what names and whether unchecked the connection was made.
    pub(super) fn remember(&self, seen: &Seen) {
        // The first time only: later things are seen inside the connection.
        let _noted = self.route.set(Seen {
            names: seen.names.clone(),
            address_unverified: seen.address_unverified,
            ..Seen::default()
        });
    }

    pub(super) fn read(&self) -> Bytes {
        Bytes {
            out: self.out.load(Relaxed),
            r#in: self.r#in.load(Relaxed),
        }
    }
}
