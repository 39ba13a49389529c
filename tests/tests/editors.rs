//! The language server with a client that we did not write: Neovim's own.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

const RULES: &str = "// Gr\u{f6}\u{df}e \u{1f600}
@id(\"forges\")
permit (principal, action == Action::\"connect\", resource in HostGroup::\"forges\") when { context.port == 443 };
@id(\"one\")
permit (principal, action == Action::\"connect\", resource == Host::\"API.example.com\") when { context.port == 443 };
";
const HOSTS: &str = "[host_groups]\nforges = [\"git.example.com\"]\n";

#[test]
fn neovim_shows_mistakes_meanings_and_proposals_and_corrects_and_formats() {
    if Command::new("nvim").arg("--version").output().is_err() {
        eprintln!("skipped: Neovim is not installed (Debian: neovim)");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder of its own");
    fs::write(folder.path().join("rules.cedar"), RULES).expect("it is ours");
    fs::write(folder.path().join("hosts.toml"), HOSTS).expect("it is ours");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("editors/neovim.lua");
    let output = Command::new("nvim")
        .args(["--headless", "--clean", "-c"])
        .arg(format!("luafile {}", script.display()))
        .env("CORDON", cordon_tests::binary::cordon())
        .env("FOLDER", folder.path())
        .env("HOME", folder.path())
        .output()
        .expect("Neovim starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let result: Value = serde_json::from_str(said.trim()).unwrap_or_else(|_| {
        let problem = String::from_utf8_lossy(&output.stderr);
        panic!("Neovim said {said:?} and {problem:?}")
    });
    assert_eq!(result["before"][0]["code"], "CP004", "{result}");
    assert_eq!(result["before"][0]["line"], 4, "{result}");
    assert!(
        result["hover"]
            .as_str()
            .is_some_and(|text| text.contains("not looked into"))
    );
    let proposals = [
        "address_unverified",
        "approval",
        "destination",
        "names",
        "port",
        "process",
        "session",
        "time",
        "tls",
        "transport",
    ];
    assert_eq!(result["completion"], json!(proposals), "{result}");
    assert_eq!(result["definition"], 1, "{result}");
    assert_eq!(result["after"], json!([]), "{result}");
    let formatted = result["formatted"].as_str().expect("it is formatted");
    assert!(
        formatted.starts_with("// Gr\u{f6}\u{df}e \u{1f600}\n@id(\"forges\")\npermit (\n"),
        "{formatted}"
    );
    assert!(
        formatted.contains("Host::\"api.example.com\""),
        "{formatted}"
    );
    let saved = fs::read_to_string(folder.path().join("rules.cedar")).expect("it is still there");
    assert_eq!(saved, RULES, "the server writes no file");
}
