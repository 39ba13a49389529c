//! The page that says what passed: a column for each adapter, whose cells are what came of its run.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::{Adapter, CHECKS, SHOWN_IN_CONTAINER};

/// What came of each check, in order.
pub type Cells = Vec<&'static str>;

/// Holds what came of an adapter's run against its column; `CORDON_WRITE_TABLE` writes it anew.
pub fn column(adapter: Adapter, came: &Cells) {
    // The runs of the others may end at the same moment.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cells = written();
    for (row, came) in cells.iter_mut().zip(came) {
        row[adapter as usize] = (*came).to_owned();
    }
    if std::env::var_os("CORDON_WRITE_TABLE").is_some() {
        fs::write(place(), page(&cells)).expect("the checkout can be written");
    }
    assert!(
        cells == written(),
        "{adapter:?} did {came:?}, and the page says otherwise"
    );
}

/// Whether the page has these checks, in this order, and nothing else.
pub fn is_of_these_checks() -> bool {
    fs::read_to_string(place()).is_ok_and(|text| text == page(&written()))
}

fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/sandbox/conformance.md")
}

/// The cells of the page, by the names of the checks.
fn written() -> Vec<[String; 3]> {
    let text = fs::read_to_string(place()).unwrap_or_default();
    let row = |what: &str| {
        let line = text
            .lines()
            .find(|line| line.contains(&format!(" {what} |")));
        let cells = line.unwrap_or_default().split('|').skip(3);
        let mut cells = cells.map(|cell| cell.trim().trim_end_matches('¹').to_owned());
        std::array::from_fn(|_column| cells.next().unwrap_or_else(|| "not run".into()))
    };
    CHECKS.iter().map(|(_, what, _)| row(what)).collect()
}

fn page(cells: &[[String; 3]]) -> String {
    let mut page = String::from(
        "# Conformance of backends\n\nEvery backend with walls passes one list of checks, in real \
         sessions: `tests/hostile/tests/conformance/`. Each cell is what came of a run, which fails \
         when the page says otherwise: `yes`, `no`, or `not run`. Escape is tried by one hostile \
         program with every system call; life and mounts by what a user does.\n\n\
         ```sh\ncargo test --workspace --test conformance\n```\n\n\
         | | check | bubblewrap, user | bubblewrap, root | container, user |\n|---|---|---|---|---|\n",
    );
    for ((group, what, _), [user, root, container]) in CHECKS.iter().zip(cells) {
        let note = if *group == "escape" { "¹" } else { "" };
        page += &format!("| {group} | {what} | {user} | {root} | {container}{note} |\n");
    }
    page += "\nRoot starts no containers: they are rootless podman's. Where podman is not installed \
             the run fails.\n\n¹ Inside a container is also seen:\n\n";
    for (row, why) in SHOWN_IN_CONTAINER {
        page += &format!("- {why} (`{row}`).\n");
    }
    page
}
