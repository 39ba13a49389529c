//! The fuzz targets on the stable toolchain; see `tests/fuzzing/run.rs`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test's helpers fail loudly"
)]

use std::time::Duration;

#[path = "../fuzz/targets.rs"]
mod targets;

#[path = "../../tests/fuzzing/run.rs"]
mod run;

#[test]
fn no_target_fails_on_its_corpus_or_on_mutations_of_it() {
    let effort = run::Effort {
        mutations: 300,
        longest: Duration::MAX,
    };
    run::run(&targets::TARGETS, &effort);
}
