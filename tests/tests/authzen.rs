//! OpenID AuthZEN: the scenarios that its working group publishes, against the daemon, each with an
//! application of its own; its certification over TLS; and what is ours beside it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod authzen {
    pub mod certification;
    pub mod clients;
    pub mod own;
    pub mod vectors;
}

use std::path::{Path, PathBuf};

use cordon_tests::{
    World,
    api::{curl, send},
    bundle::Bundle,
};
use serde_json::Value;

/// The organisation's bundle, beside which the policy of a world counts.
fn house(revision: u64) -> Bundle {
    Bundle::house(revision).head("[trust]\nuser = true")
}

/// The organisation's bundle of this world, with the application of a scenario.
fn serve(world: &mut World, scenario: &str) -> PathBuf {
    let folder = house(1).write(world, "house");
    install(world, scenario, &folder, |_, text| text);
    world.organisation(&format!("dir:{}", folder.display()), "");
    folder
}

/// Writes the application of a scenario into a bundle, each file as `edit` makes it.
fn install(world: &World, scenario: &str, bundle: &Path, edit: impl Fn(&str, String) -> String) {
    let own = world.folder(bundle.join("app"));
    for file in std::fs::read_dir(fixture(scenario).join("app")).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        world.write(own.join(&name), edit(&name, text));
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/authzen")).join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

fn ask(world: &World, path: &str, body: &Value) -> (u16, Value) {
    send(
        world,
        "POST",
        &format!("/access/v1/{path}"),
        &body.to_string(),
    )
}

/// The ids or names of a search's results.
fn ids(answer: &Value) -> Vec<String> {
    let results = answer["results"].as_array().unwrap();
    let id = |one: &Value| {
        let id = one.get("id").or(one.get("name")).unwrap();
        id.as_str().unwrap().to_owned()
    };
    results.iter().map(id).collect()
}

/// Everything the log has of what was asked about applications.
fn access_records(world: &World) -> Vec<Value> {
    let all = world.records_of("decision");
    all.into_iter()
        .filter(|record| record["access"].is_object())
        .collect()
}

/// What `curl` says of a path, for those who only read.
fn get(world: &World, path: &str) -> (u16, Value) {
    curl(world, path, &[])
}
