use super::*;
use crate::Config;

fn load(texts: &[&str]) -> Result<PolicyConfig, String> {
    let files: Vec<_> = texts
        .iter()
        .map(|text| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            file
        })
        .collect();
    let paths: Vec<_> = files.iter().map(tempfile::NamedTempFile::path).collect();
    Config::load(&paths)
        .map(|config| config.policy)
        .map_err(|error| error.to_string())
}

fn bundle(layer: &str, source: &str) -> String {
    format!("[[policy.bundle]]\nlayer = \"{layer}\"\nsource = \"{source}\"\n")
}

#[test]
fn sources_are_read_and_written_in_one_spelling() {
    let hex = "a".repeat(64);
    let by_digest = format!("oci://registry.example.com/p@sha256:{hex}");
    let table = [
        ("manual", Some("manual")),
        ("dir:/etc/cordon/policy", Some("dir:/etc/cordon/policy")),
        ("dir:policy", None),
        (
            "https://Example.com:443/b.tar.gz",
            Some("https://example.com/b.tar.gz"),
        ),
        (
            "https://example.com:8443",
            Some("https://example.com:8443/"),
        ),
        (
            "https://[2001:db8::1]:8443/b?x=1",
            Some("https://[2001:db8::1]:8443/b?x=1"),
        ),
        ("https://u:p@example.com/b", None),
        ("https://example.com:0/b", None),
        ("https://example.com:65536/b", None),
        ("https://example.com:+80/b", None),
        ("https:///b", None),
        ("https://example.com/a b", None),
        ("https://example.com/#x", None),
        ("ftp://example.com/b", None),
        (
            "oci://registry.example.com/policy/main:stable",
            Some("oci://registry.example.com/policy/main:stable"),
        ),
        (by_digest.as_str(), Some(by_digest.as_str())),
        ("oci://registry.example.com/p@sha256:abc", None),
        ("oci://registry.example.com/p", None),
        ("oci://registry.example.com/../p:tag", None),
        ("oci://registry.example.com/P:tag", None),
        ("oci://registry.example.com/p:t/ag", None),
        ("oci://registry.example.com", None),
    ];
    for (text, expected) in table {
        let read = text
            .parse::<BundleSource>()
            .map(|source| source.to_string());
        assert_eq!(read.as_deref().ok(), expected, "{text}: {read:?}");
    }
}

#[test]
fn a_registry_on_this_machine_speaks_plain_http_and_no_other_does() {
    for (text, tls) in [
        ("oci://127.0.0.1:5000/p:t", false),
        ("oci://localhost:5000/p:t", false),
        ("oci://registry.example.com/p:t", true),
        ("oci://localhost.example.com/p:t", true),
    ] {
        let BundleSource::Oci(image) = text.parse().unwrap() else {
            panic!("{text} is an image");
        };
        assert_eq!(image.registry.tls, tls, "{text}");
    }
}

#[test]
fn mistakes_are_named() {
    let organisation = bundle("organisation", "manual");
    let workspace = bundle("workspace", "manual");
    let plain = bundle("team", "http://example.com/b");
    let table = [
        (
            format!("{organisation}{organisation}"),
            "a layer has one bundle",
        ),
        (workspace, ".cordon/policy"),
        (plain, "plain HTTP"),
        ("[policy]\nkeep = 1\n".into(), "between 2 and 1000"),
        ("[policy]\ntrust = \"trust.toml\"\n".into(), "absolute"),
        (format!("{organisation}poll_seconds = 1\n"), "poll_seconds"),
        (format!("{organisation}adopt = \"maybe\"\n"), "adopt"),
        (format!("{organisation}colour = 1\n"), "colour"),
    ];
    for (text, expected) in table {
        let error = load(&[&text]).unwrap_err();
        assert!(error.contains(expected), "{text:?} gave {error:?}");
    }
    let signed = format!(
        "[policy]\ntrust = \"/t\"\n{}",
        bundle("team", "http://example.com/b")
    );
    assert_eq!(load(&[&signed]).unwrap().bundle.len(), 1);
    assert!(load(&[&bundle("team", "http://127.0.0.1:1/b")]).is_ok());
}

#[test]
fn f02_a_later_file_adds_layers_and_replaces_none() {
    let machine = format!(
        "[policy]\ntrust = \"/t\"\n{}",
        bundle("organisation", "manual")
    );
    let both = load(&[&machine, &bundle("user", "dir:/p")]).unwrap();
    assert_eq!(both.bundle.len(), 2);
    assert_eq!(both.trust.as_deref(), Some(Path::new("/t")));
    let error = load(&[&machine, &bundle("organisation", "dir:/mine")]).unwrap_err();
    assert!(error.contains("a layer has one bundle"), "{error}");
    let error = load(&[&machine, "[policy]\ntrust = \"/mine\"\n"]).unwrap_err();
    assert!(error.contains("set by an earlier file"), "{error}");
    let untrusting = bundle("organisation", "manual");
    let error = load(&[&untrusting, "[policy]\ntrust = \"/mine\"\n"]).unwrap_err();
    assert!(error.contains("belongs"), "{error}");
}

#[test]
fn n03_a_contact_is_one_short_line() {
    let loaded = |text: &str| load(&[&format!("[policy]\ncontact = {text}\n")]);
    let contact = loaded("\"policy@example.com\"").unwrap().contact;
    assert_eq!(contact.as_deref(), Some("policy@example.com"));
    assert!(loaded(&format!("\"{}\"", "x".repeat(200))).is_ok());
    for bad in [
        "\"\"",
        "\"a\\r\\nb: c\"",
        &format!("\"{}\"", "x".repeat(201)),
    ] {
        let error = loaded(bad).unwrap_err();
        assert!(error.contains("policy.contact"), "{bad}: {error}");
    }
    // What the machine's own file names stays.
    let both = [
        "[policy]\ncontact = \"first\"\n",
        "[policy]\ncontact = \"later\"\n",
    ];
    assert_eq!(load(&both).unwrap().contact.as_deref(), Some("first"));
}
