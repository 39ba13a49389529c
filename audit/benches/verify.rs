//! Records verified per second, over a sealed log made from the specifications: `cargo bench -p
//! cordon-audit --bench verify`. `CORDON_BENCH_RECORDS` sets how many (default 2,000,000, about
//! 1 GB below the system's temporary directory).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use std::time::Instant;

use cordon_audit::verify::verify;

#[path = "../src/verify/made.rs"]
#[expect(dead_code, reason = "the benchmark needs less of it than the tests")]
mod made;

fn main() {
    let count = std::env::var("CORDON_BENCH_RECORDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let count: usize = count.unwrap_or(2_000_000);
    let directory = tempfile::tempdir().unwrap();
    made::Made::whole(directory.path(), count, count);
    for _turn in 0..3 {
        let begun = Instant::now();
        let report = verify(directory.path()).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        assert!(report.is_clean(), "{report:?}");
        println!(
            "{count} records in {seconds:.2} s: {:.0} records/s",
            count as f64 / seconds
        );
    }
}
