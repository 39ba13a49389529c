//! Programs that take long to read.

use std::sync::{
    Condvar,
    atomic::{AtomicUsize, Ordering},
};

use cordon_policy::Holder;

use super::*;

/// Knows who it is at once, and its digest once the door is open.
#[derive(Debug, Default)]
struct Slow {
    open: Mutex<bool>,
    opened: Condvar,
    reading: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Its number changes between the two looks.
    leaves: bool,
}

impl Slow {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Processes for Slow {
    fn find(&self, _: SocketAddr, _: SocketAddr, work_out_digests: bool) -> Option<ProcessFacts> {
        if work_out_digests {
            let now = self.reading.fetch_add(1, Ordering::AcqRel) + 1;
            self.most_at_once.fetch_max(now, Ordering::AcqRel);
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
            self.reading.fetch_sub(1, Ordering::AcqRel);
        }
        Some(ProcessFacts {
            holders: vec![Holder {
                pid: 7 + u32::from(work_out_digests && self.leaves),
                executable: "/usr/bin/large".into(),
                digest: work_out_digests.then(|| "00".into()),
                ..Holder::default()
            }],
            complete: true,
        })
    }
}

fn asked(processes: &Arc<Slow>, digesting: &Arc<Digesting>) -> MadeBy {
    let (told, found) = watch::channel(Told::Nothing);
    let asked = Asked {
        processes: Arc::<Slow>::clone(processes),
        digesting: Arc::clone(digesting),
        from: ([127, 0, 0, 1], 1).into(),
        to: ([127, 0, 0, 1], 2).into(),
        told,
    };
    let runtime = Handle::current();
    spawn_blocking(move || asked.look(true, &runtime));
    MadeBy(Some(found))
}

async fn settled(made_by: &MadeBy) -> Option<Arc<ProcessFacts>> {
    let mut found = made_by.0.clone().unwrap();
    let all = found.wait_for(|told| matches!(told, Told::All(_)));
    let all = tokio::time::timeout(Duration::from_secs(20), all).await;
    match &*all.unwrap().unwrap() {
        Told::All(known) => known.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_program_that_takes_long_to_read_is_told_without_its_digest() {
    let (slow, digesting) = (Arc::new(Slow::default()), Arc::new(Digesting::new()));
    let made_by = asked(&slow, &digesting);
    let known = made_by.known().await.unwrap();
    assert_eq!(known.only().unwrap().executable, "/usr/bin/large");
    assert_eq!(known.only().unwrap().digest, None);
    // The control: once it is read, the digest is there.
    slow.open();
    let known = settled(&made_by).await.unwrap();
    assert_eq!(known.only().unwrap().digest.as_deref(), Some("00"));
    let known = made_by.known().await.unwrap();
    assert_eq!(known.only().unwrap().digest.as_deref(), Some("00"));
}

#[tokio::test]
async fn who_is_another_after_reading_lends_no_digest() {
    let slow = Arc::new(Slow {
        leaves: true,
        ..Slow::default()
    });
    slow.open();
    let made_by = asked(&slow, &Arc::new(Digesting::new()));
    let known = settled(&made_by).await.unwrap();
    assert_eq!((known.holders[0].pid, &known.holders[0].digest), (7, &None));
}

#[tokio::test]
async fn n24_a_session_reads_one_program_at_a_time_and_only_its_share() {
    let (slow, digesting) = (Arc::new(Slow::default()), Arc::new(Digesting::new()));
    let many: Vec<MadeBy> = (0..4).map(|_| asked(&slow, &digesting)).collect();
    slow.open();
    for made_by in &many {
        let known = settled(made_by).await.unwrap();
        assert!(known.only().unwrap().digest.is_some());
    }
    assert_eq!(slow.most_at_once.load(Ordering::Acquire), 1);

    // All spent, and no time passes that would earn any.
    *digesting.budget() = Budget {
        left: Duration::ZERO,
        since: Instant::now() + Duration::from_secs(60),
    };
    let known = settled(&asked(&slow, &digesting)).await.unwrap();
    assert_eq!(known.only().unwrap().digest, None, "its share is used up");
    digesting.budget().since = Instant::now() - Duration::from_secs(60);
    let known = settled(&asked(&slow, &digesting)).await.unwrap();
    assert!(
        known.only().unwrap().digest.is_some(),
        "time earns it again"
    );
    assert!(digesting.budget().left <= READING);
}
