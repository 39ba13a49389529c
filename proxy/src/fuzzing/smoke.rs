//! The fuzz targets on the stable toolchain; see `tests/fuzzing/run.rs`.

use std::time::Duration;

#[path = "../../fuzz/targets.rs"]
mod targets;

#[path = "../../../tests/fuzzing/run.rs"]
mod run;

#[test]
fn no_target_fails_on_its_corpus_or_on_mutations_of_it() {
    let effort = run::Effort {
        mutations: 400,
        // Those of slow targets end with this.
        longest: Duration::from_millis(900),
    };
    run::run(&targets::TARGETS, &effort);
}
