//! Extensions: installed with what came of their signature, approved by digest, loaded by policy.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};

use cordon_tests::{
    Outcome, World,
    api::{only_session, send},
    for_both,
    link::Link,
    process,
};
use serde_json::{Value, json};

for_both! {
    /// Four findings, each told apart, and a broken one is never installed.
    fn p07_a_signature_is_trusted_untrusted_broken_or_none(world) {
        let acme = key(world, "acme");
        let other = key(world, "other");
        world.config.push_str(&format!(
            "[extensions.publishers.acme]\ncertificates = [\"{}\"]\n",
            acme.with_extension("pem").display()
        ));
        let content = content(world, "1", &[]);
        for (signer, finding, signed_by) in [
            (None, "unsigned", None),
            (Some(&acme), "trusted", Some("acme")),
            (Some(&other), "untrusted", Some("CN=other")),
        ] {
            let archive = archive(world, &content, signer);
            let installed = world.cordon(&["extension", "install", "--format", "json", &archive]);
            installed.expect_code(0);
            let installed: Value = serde_json::from_slice(&installed.stdout).unwrap();
            assert_eq!(installed["signature"], finding, "{installed}");
            assert_eq!(installed["signer"], json!(signed_by));
            assert_eq!(installed["state"], "new");
            world.cordon(&["extension", "remove", "notes"]).expect_code(0);
        }
        let signed = archive(world, &content, Some(&acme));
        let mut bytes = std::fs::read(&signed).unwrap();
        // The time of its first entry: the archive stays one, and is not what was signed.
        bytes[10] ^= 1;
        let broken = world.write("home/broken.mcpb", bytes);
        let refused = world.cordon(&["extension", "install", broken.to_str().unwrap()]);
        refused.expect_code(3);
        let cut = std::fs::read(&signed).unwrap();
        let cut = world.write("home/cut.mcpb", &cut[..cut.len() - 5]);
        assert_ne!(world.cordon(&["extension", "install", cut.to_str().unwrap()]).code, 0);
        let listed = world.cordon(&["extension", "list", "--format", "json"]);
        assert_eq!(listed.text(), "[]");
        let decided = world.cordon(&["audit", "query", "--format", "json", "--action", "extension.install"]);
        let page: Value = serde_json::from_slice(&decided.stdout).unwrap();
        let signatures: Vec<&Value> = page["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| &record["extension"]["signature"])
            .collect();
        // Each that was installed was removed as well, which is the same decision.
        let decided = ["broken", "untrusted", "untrusted", "trusted", "trusted", "unsigned", "unsigned"];
        assert_eq!(signatures, decided);
        let done = world.records("administration");
        let said = |what: &str| done.iter().filter(|one| one["message"] == what).count();
        assert_eq!(said("extension notes 1 installed"), 3);
        assert_eq!(said("extension notes 1 removed"), 3);
    }

    /// Who installs, approves or removes is told by which decision they may.
    fn p08_what_is_done_with_an_extension_names_its_decision(world) {
        let first = archive(world, &content(world, "1", &[]), None);
        let named = |said: &str| {
            let shown = world.cordon(&["audit", "show", "--format", "json", said]).text();
            let shown: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
            assert_eq!((&shown["record"]["action"], &shown["record"]["effect"]), (&json!("extension.install"), &json!("allow")), "{shown}");
            said.to_owned()
        };
        let (code, installed) = send(world, "POST", "/v1/extensions", &json!({"path": first}).to_string());
        assert_eq!(code, 201, "{installed}");
        let install = named(installed["decision_id"].as_str().unwrap());
        let digest = json!({"digest": installed["digest"]}).to_string();
        let (code, approved) = send(world, "POST", "/v1/extensions/notes/approve", &digest);
        assert_eq!(code, 200, "{approved}");
        let approve = named(approved["decision_id"].as_str().unwrap());
        assert!(shown(world)["decision_id"].is_null(), "to look is no decision");
        let removed = Link::unix(world).call("DELETE", "/v1/extensions/notes", &[], "").unwrap();
        assert_eq!(removed.status, 204);
        let header = removed.head.lines().find_map(|line| line.strip_prefix("cordon-decision: "));
        let remove = named(header.unwrap());
        assert!(install != approve && approve != remove);
        world.cordon(&["stop"]).expect_code(0);
    }

    /// Nothing is loaded that the user did not approve as it is; an update is a new decision, and so
    /// is content that somebody changed on disk.
    fn p08_an_approval_is_of_one_content(world) {
        let Some(sdk) = sdk() else { return };
        let first = archive(world, &content(world, "1", &[]), None);
        world.cordon(&["extension", "install", &first]).expect_code(0);
        world.cordon(&["extension", "install", &first]).expect_code(1);
        let refused = used(world, &sdk);
        assert_ne!(refused.code, 0);
        refused.expect_stderr("nobody approved it");
        let digest = shown(world)["digest"].as_str().unwrap().to_owned();
        world.cordon(&["extension", "approve", "notes", "--digest", "000000000000"]).expect_code(1);
        world.cordon(&["extension", "approve", "notes", "--digest", &digest[..12]]).expect_code(0);
        let done = used(world, &sdk);
        done.expect_code(0);
        assert!(done.text().contains("\"5\""), "{done}");
        // No other program goes by its name.
        let other = ["mcp", "wrap", "--server", "notes", "--", "cat"];
        world.cordon(&other).expect_code(64).expect_stderr("an installed extension");
        // A session that has loaded it has to load it again once it is another.
        let running = world.session(&["sleep", "600"]).policy(world.home().join("rules.cedar")).start();
        let id = only_session(world);
        let place = format!("/v1/sessions/{id}/mcp/notes");
        let loaded = || send(world, "GET", &place, "").0;
        let call = |floor: &str| {
            let asked = world.cordon(&["decide", "--session", &id, "call", "add", "of", "notes"]);
            assert_eq!(asked.code == 0, floor.is_empty(), "{asked}");
            assert!(asked.to_string().contains(floor), "{asked}");
        };
        assert_eq!(loaded(), 409);
        assert_eq!(send(world, "POST", &place, "{}").0, 200);
        assert_eq!(loaded(), 200);
        call("");
        let second = archive(world, &content(world, "2", &["files:read"]), None);
        let updated = world.cordon(&["extension", "update", &second]);
        updated.expect_code(0);
        for change in ["version      was 1, is 2", "permissions  was none, is files:read"] {
            assert!(updated.text().contains(change), "{updated}");
        }
        used(world, &sdk).expect_stderr("it changed since it was approved");
        assert_eq!(loaded(), 409);
        call("it changed since it was approved");
        // Back to what was approved: it still is.
        world.cordon(&["extension", "update", &first]).expect_code(0);
        used(world, &sdk).expect_code(0);
        assert_eq!(send(world, "POST", &place, "{}").0, 200);
        world.cordon(&["extension", "remove", "notes"]).expect_code(0);
        assert_eq!(loaded(), 409);
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
        world.cordon(&["extension", "install", &first]).expect_code(0);
        world.cordon(&["extension", "approve", "notes"]).expect_code(0);
        let folder = PathBuf::from(shown(world)["folder"].as_str().unwrap());
        std::fs::write(folder.join("server.py"), "print('mine now')").unwrap();
        used(world, &sdk).expect_stderr("its content is not what was installed");
    }

    /// What an extension declared is the most it gets, what was approved is the limit, and policy
    /// still decides.
    fn p09_a_permission_that_was_not_declared_is_refused(world) {
        world.policy.rule(
            "@id(\"reads\") permit (principal, action == Action::\"use_permission\", resource) \
             when { resource.name != \"network\" };",
        );
        let declared = archive(world, &content(world, "1", &["files:read", "network"]), None);
        world.cordon(&["extension", "install", &declared]).expect_code(0);
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let ask = |permission: &str| {
            let path = format!("/v1/sessions/{id}/extensions/notes/permissions");
            send(world, "POST", &path, &json!({"permission": permission}).to_string()).1
        };
        let before = ask("files:read");
        assert_eq!((&before["allowed"], &before["code"]), (&json!(false), &json!("approval_required")));
        world.cordon(&["extension", "approve", "notes"]).expect_code(0);
        assert_eq!(ask("files:read")["allowed"], true);
        let undeclared = ask("files:write");
        assert_eq!(undeclared["allowed"], false, "{undeclared}");
        assert!(undeclared["reason"].as_str().unwrap().contains("did not declare"));
        assert!(undeclared["decision_id"].is_string());
        let forbidden = ask("network");
        assert_eq!((&forbidden["allowed"], &forbidden["code"]), (&json!(false), &json!("default_deny")));
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }
}

const RULES: &str = r#"
permit (principal, action == Action::"start_session", resource);
permit (principal, action in Action::"grant", resource);
permit (principal, action == Action::"load_extension", resource);
permit (principal, action == Action::"call_tool", resource in Extension::"notes");
"#;

fn sdk() -> Option<String> {
    let sdk = std::env::var("CORDON_TEST_CLIENTS").ok();
    if sdk.is_none() {
        eprintln!("not run: set CORDON_TEST_CLIENTS, or run tests/all.sh, which installs it");
    }
    sdk
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/mcp")
        .join(name)
}

/// A key and a certificate for signing code, by that name.
fn key(world: &World, name: &str) -> PathBuf {
    let place = world.home().join(name);
    let (key, certificate) = (place.with_extension("key"), place.with_extension("pem"));
    let made = world.host(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "30",
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            "extendedKeyUsage=codeSigning",
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            certificate.to_str().unwrap(),
        ],
    );
    made.expect_code(0);
    place
}

/// An extension's folder.
fn content(world: &World, version: &str, permissions: &[&str]) -> PathBuf {
    let folder = world.folder(format!("home/content-{version}"));
    let pack = fixture("pack.py");
    let words = [
        &[pack.to_str().unwrap(), "--manifest", version],
        permissions,
    ]
    .concat();
    let manifest = process::finish(command("/usr/bin/python3", &words), b"");
    manifest.expect_code(0);
    world.write(folder.join("manifest.json"), &manifest.stdout);
    world.write(
        folder.join("server.py"),
        std::fs::read(fixture("server.py")).unwrap(),
    );
    folder
}

/// Its archive, signed where somebody signs.
fn archive(world: &World, content: &Path, signer: Option<&PathBuf>) -> String {
    let archive = content.with_extension("mcpb");
    let (archive, pack) = (archive.to_str().unwrap(), fixture("pack.py"));
    let pack = pack.to_str().unwrap();
    let run = |program: &str, words: &[&str]| {
        process::finish(command(program, words), b"").expect_code(0);
    };
    run(
        "/usr/bin/python3",
        &[pack, content.to_str().unwrap(), archive],
    );
    if let Some(signer) = signer {
        let der = content.with_extension("der");
        let (key, certificate) = (signer.with_extension("key"), signer.with_extension("pem"));
        run(
            "openssl",
            &[
                "cms",
                "-sign",
                "-binary",
                "-in",
                archive,
                "-signer",
                certificate.to_str().unwrap(),
                "-inkey",
                key.to_str().unwrap(),
                "-md",
                "sha256",
                "-outform",
                "DER",
                "-out",
                der.to_str().unwrap(),
            ],
        );
        run(
            "/usr/bin/python3",
            &[pack, "--sign", archive, der.to_str().unwrap()],
        );
    }
    world.give(Path::new(archive));
    archive.to_owned()
}

fn command(program: &str, words: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.args(words);
    command
}

/// Uses the installed extension through the gateway: adds two numbers.
fn used(world: &World, sdk: &str) -> Outcome {
    let rules = world.write("home/rules.cedar", RULES);
    world.project_file("client.py", std::fs::read(fixture("client.py")).unwrap());
    let product = world.command();
    let mut words = std::iter::once(product.get_program()).chain(product.get_args());
    let product = words
        .find(|word| word.to_string_lossy().ends_with("/cordon"))
        .unwrap();
    let mut client = world.as_account(format!("{sdk}/mcp/bin/python"));
    client
        .current_dir(world.project())
        .arg("client.py")
        .arg(product);
    client.args([
        "mcp",
        "wrap",
        "--extension",
        "notes",
        "--policy",
        rules.to_str().unwrap(),
    ]);
    client.args(["--grant", &format!("{sdk}:ro=clients")]);
    let step = json!({"do": "call", "name": "add", "with": {"a": 2, "b": 3}});
    process::finish(client, step.to_string().as_bytes())
}

fn shown(world: &World) -> Value {
    let shown = world.cordon(&["extension", "show", "notes", "--format", "json"]);
    shown.expect_code(0);
    serde_json::from_slice(&shown.stdout).unwrap()
}
