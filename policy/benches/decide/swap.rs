//! A 10,000-policy bundle loaded and swapped in while another thread decides.

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cordon_policy::{SessionFacts, Snapshot};
use rustix::time::{ClockId, clock_gettime};

use super::sets;

const SWAPS: usize = 5;

/// Measures and prints; whether a mark is missed.
pub(crate) fn measure(session: Arc<SessionFacts>, rounds: usize) -> bool {
    let source = sets::source(&sets::rules(), "");
    let (before, started, cpu) = (resident_mib(), Instant::now(), process_cpu());
    let first = Snapshot::load(&source).unwrap();
    let (load, grown) = (started.elapsed(), resident_mib() - before);
    let load_cpu = process_cpu().saturating_sub(cpu);
    let live = Mutex::new(Arc::new(first));
    let swapping = Instant::now();
    let swapped = slowest_while(&session, &live, || {
        for _ in 0..SWAPS.min(rounds) {
            let next = Arc::new(Snapshot::load(&source).unwrap());
            // The old one goes where it is held last: here, or in the middle of a decision.
            *live.lock().unwrap() = next;
        }
    });
    let still = slowest_while(&session, &live, || thread::sleep(swapping.elapsed()));
    println!("\n| swap of 10,000 policies | | mark |\n|---|--:|---|");
    println!("| load, ms | {:.0} | 1000 |", load.as_secs_f64() * 1e3);
    let load_cpu = load_cpu.as_secs_f64() * 1e3;
    println!("| load, ms of CPU on all cores | {load_cpu:.0} | |");
    println!("| memory grown by a load, MiB | {grown} | 200 |");
    for (when, slowest) in [("meanwhile", swapped), ("as long without a swap", still)] {
        let slowest = slowest.as_secs_f64() * 1e6;
        println!("| slowest decision {when}, µs of its own CPU | {slowest:.0} | 1000 |");
    }
    load > Duration::from_secs(1) || grown > 200 || swapped > Duration::from_millis(1).max(still)
}

/// The slowest of the decisions made while the work is done.
fn slowest_while(
    session: &Arc<SessionFacts>,
    live: &Mutex<Arc<Snapshot>>,
    work: impl FnOnce(),
) -> Duration {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let decider = scope.spawn(|| decide(session, live, &stop));
        work();
        stop.store(true, Ordering::Relaxed);
        decider.join().unwrap()
    })
}

/// Decides until it is told to stop. The slowest decision, in CPU time: waiting for a core that
/// loading or other work holds is the scheduler's, and no lock of the engine's.
fn decide(session: &Arc<SessionFacts>, live: &Mutex<Arc<Snapshot>>, stop: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut number = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let host = format!("api.h{}.example.com", number % 50);
        let request = sets::connect(session, &host);
        let started = thread_cpu();
        let snapshot = Arc::clone(&live.lock().unwrap());
        drop(black_box(snapshot.decide(request)));
        drop(snapshot);
        slowest = slowest.max(thread_cpu().saturating_sub(started));
    }
    slowest
}

fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}

fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    (pages * 4_096) >> 20
}
