//! Signatures and trust: one refusal for each way in which a bundle can be wrong, and beside it
//! the same bundle made right.

use std::time::{Duration, SystemTime};

use super::*;

/// 2026-11-21, within every validity below.
fn now() -> SystemTime {
    moment::parse("2026-11-21").unwrap()
}

fn key(id: &str, role: Role) -> SigningKey {
    let mut seed = [7; 32];
    for (to, from) in seed.iter_mut().zip(id.bytes()) {
        *to = from;
    }
    SigningKey::new(id, role, seed).unwrap()
}

fn alice() -> SigningKey {
    key("alice", Role::PolicyPublisher)
}

fn rita() -> SigningKey {
    key("rita", Role::PolicyReviewer)
}

/// A key's entry in a trust file.
fn entry(key: &SigningKey, more: &str) -> String {
    let layers = if more.contains("layers =") {
        ""
    } else {
        "layers = [\"organisation\", \"team\"]\n"
    };
    format!(
        "[[key]]\nid = \"{}\"\npublic = \"{}\"\nroles = [\"{}\"]\n{layers}{more}\n",
        key.id(),
        key.public(),
        key.role()
    )
}

fn root(text: &str) -> TrustRoot {
    TrustRoot::parse(Path::new("trust.toml"), text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn trusting(keys: &[&SigningKey]) -> TrustRoot {
    let entries: Vec<String> = keys.iter().map(|key| entry(key, "")).collect();
    root(&entries.concat())
}

fn signed_by(bundle: Bundle, keys: &[&SigningKey]) -> Bundle {
    keys.iter().fold(bundle, |bundle, key| {
        let signed = sign(&bundle, key).unwrap();
        bundle.with_signatures(&signed)
    })
}

fn verdict(bundle: &Bundle, trust: &TrustRoot) -> Result<Accepted, Refusal> {
    verify(bundle, trust, now(), None)
}

fn code(bundle: &Bundle, trust: &TrustRoot) -> &'static str {
    code_of(verdict(bundle, trust))
}

fn code_of(verdict: Result<Accepted, Refusal>) -> &'static str {
    match verdict {
        Ok(_) => "accepted",
        Err(refusal) => {
            assert!(!refusal.hint().is_empty() && !refusal.to_string().is_empty());
            refusal.code()
        }
    }
}

/// What was accepted before: this bundle.
fn accepted(bundle: &Bundle) -> Accepted {
    verdict(bundle, &trusting(&[&alice()])).unwrap()
}

fn revision(number: u64) -> Bundle {
    with_manifest(&MANIFEST.replace("revision = 7", &format!("revision = {number}")))
}

#[test]
fn a_signed_bundle_is_accepted_as_directory_and_as_archive() {
    let trust = trusting(&[&alice()]);
    let signed = signed_by(bundle(&[]), &[&alice()]);
    let expected = Accepted {
        name: "corp".into(),
        revision: 7,
        digest: signed.digest().into(),
        signers: vec![Signer {
            key: "alice".into(),
            person: "alice".into(),
            role: Role::PolicyPublisher,
        }],
    };
    assert_eq!(verdict(&signed, &trust).unwrap(), expected);
    let packed = signed.pack().unwrap();
    let unpacked = Bundle::read_archive(&packed, &Limits::default()).unwrap();
    assert_eq!(verdict(&unpacked, &trust).unwrap(), expected);
    let text = serde_json::to_string(&expected).unwrap();
    assert_eq!(serde_json::from_str::<Accepted>(&text).unwrap(), expected);
}

#[test]
fn unsigned_and_stripped_are_refused_and_told_apart() {
    let trust = trusting(&[&alice()]);
    let unsigned = bundle(&[]);
    let signed = signed_by(unsigned.clone(), &[&alice()]);
    assert_eq!(code(&unsigned, &trust), "unsigned");
    assert_eq!(code(&bundle(&[("bundle.sig", " \n")]), &trust), "unsigned");
    let last = accepted(&signed);
    assert_eq!(
        code_of(verify(&unsigned, &trust, now(), Some(&last))),
        "stripped"
    );
    let claims = with_manifest(&format!("{MANIFEST}signed = true\n"));
    assert_eq!(code(&claims, &trust), "stripped");
    assert_eq!(code(&signed, &trust), "accepted");
    assert_eq!(code(&signed_by(claims, &[&alice()]), &trust), "accepted");
}

#[test]
fn without_a_trust_root_only_a_promised_signature_is_missed() {
    let unsigned = |bundle: &Bundle| code_of(accept_unsigned(bundle, now()));
    assert_eq!(unsigned(&bundle(&[])), "accepted");
    let claims = with_manifest(&format!("{MANIFEST}signed = true\n"));
    assert_eq!(unsigned(&claims), "stripped");
    assert_eq!(unsigned(&signed_by(claims, &[&alice()])), "accepted");
    let old = with_manifest(&format!("{MANIFEST}not_after = 2026-01-01\n"));
    assert_eq!(unsigned(&old), "expired");
}

#[test]
fn keys_that_do_not_count_are_refused_each_with_its_reason() {
    let signed = signed_by(bundle(&[]), &[&alice()]);
    assert_eq!(
        code(&signed, &trusting(&[&key("bob", Role::PolicyPublisher)])),
        "unknown_key"
    );
    let impostor = SigningKey::new("alice", Role::PolicyPublisher, [9; 32]).unwrap();
    assert_eq!(code(&signed, &trusting(&[&impostor])), "wrong_key");
    let as_reviewer = entry(&alice(), "").replace("policy-publisher", "policy-reviewer");
    assert_eq!(code(&signed, &root(&as_reviewer)), "no_role");
    let scoped = |more: &str| code(&signed, &root(&entry(&alice(), more)));
    assert_eq!(scoped("layers = [\"team\"]"), "out_of_scope");
    assert_eq!(scoped("bundles = [\"other\"]"), "out_of_scope");
    // An empty list names nothing; a list that is not there names everything.
    assert_eq!(scoped("bundles = []"), "out_of_scope");
    assert_eq!(scoped("bundles = [\"other\", \"corp\"]"), "accepted");
    assert_eq!(scoped("not_after = 2026-11-21"), "key_out_of_validity");
    assert_eq!(scoped("not_after = 2026-11-22"), "accepted");
    assert_eq!(scoped("not_before = 2026-11-22"), "key_out_of_validity");
    assert_eq!(scoped("not_before = 2026-11-21"), "accepted");
    assert_eq!(scoped(""), "accepted");
}

#[test]
fn a_role_is_part_of_what_is_signed() {
    // One key with both roles signs as reviewer; the text is then changed to say publisher.
    let reviewer = SigningKey::new("alice", Role::PolicyReviewer, [5; 32]).unwrap();
    let publisher = SigningKey::new("alice", Role::PolicyPublisher, [5; 32]).unwrap();
    let both = entry(&publisher, "").replace(
        "[\"policy-publisher\"]",
        "[\"policy-publisher\", \"policy-reviewer\"]",
    );
    let trust = root(&both);
    let reviewed = signed_by(bundle(&[]), &[&reviewer]);
    assert_eq!(code(&reviewed, &trust), "no_publisher");
    assert_eq!(
        code(&signed_by(bundle(&[]), &[&publisher]), &trust),
        "accepted"
    );
    let text = reviewed.signatures().unwrap();
    let forged = change_payload(text, "policy-reviewer", "policy-publisher");
    assert_eq!(
        code(&with_signature_text(reviewed.clone(), forged), &trust),
        "bad_signature"
    );
}

fn change_payload(line: &str, from: &str, to: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut envelope: serde_json::Value = serde_json::from_str(line).unwrap();
    let payload = STANDARD
        .decode(envelope["payload"].as_str().unwrap())
        .unwrap();
    let changed = String::from_utf8(payload).unwrap().replace(from, to);
    envelope["payload"] = STANDARD.encode(changed).into();
    envelope.to_string()
}

fn with_signature_text(bundle: Bundle, text: String) -> Bundle {
    bundle.with_signatures(&Signed {
        text,
        kept: 0,
        dropped: 0,
    })
}

#[test]
fn changed_content_and_changed_signatures_are_refused() {
    let trust = trusting(&[&alice()]);
    let signed = signed_by(bundle(&[]), &[&alice()]);
    let text = signed.signatures().unwrap().to_owned();
    for changed in [
        ("rules/net.cedar", "permit (principal, action, resource);"),
        ("rules/more.cedar", ""),
        (
            "data/hosts.toml",
            "[host_groups]\nok = [\"*.example.com\"]\n",
        ),
        ("tests/a.toml", ""),
        ("README.md", "Signed by everybody."),
        (
            "bundle.toml",
            &MANIFEST.replace("revision = 7", "revision = 8"),
        ),
        ("bundle.toml", &format!("{MANIFEST}[trust]\nuser = true\n")),
    ] {
        let tampered = with_signature_text(bundle(&[changed]), text.clone());
        assert_eq!(code(&tampered, &trust), "tampered", "{changed:?}");
    }
    let digest = signed.digest();
    let other = format!("{:064}", 0);
    for (from, to) in [
        (digest, other.as_str()),
        ("\"revision\":7", "\"revision\":8"),
    ] {
        let forged = with_signature_text(signed.clone(), change_payload(&text, from, to));
        assert_eq!(code(&forged, &trust), "bad_signature", "{from}");
    }
    assert_eq!(
        code(&with_signature_text(signed.clone(), text), &trust),
        "accepted"
    );
}

#[test]
fn what_is_no_signature_file_is_refused() {
    let trust = trusting(&[&alice()]);
    let good = signed_by(bundle(&[]), &[&alice()]);
    let line = good.signatures().unwrap().trim().to_owned();
    let cases = [
        "signed".to_owned(),
        "{}".to_owned(),
        "[".repeat(5_000),
        line.replace("in-toto+json", "in-toto+jsom"),
        line.replace("\"keyid\":\"alice\"", "\"keyid\":\"rita\""),
        line.replace("{\"payloadType\"", "{\"extra\":1,\"payloadType\""),
        change_payload(&line, "urn:cordon:policy-bundle:v1", "urn:cordon:other:v1"),
        change_payload(&line, "\"role\"", "\"rolle\""),
        format!("{line}\n{}", "x".repeat(100_000)),
        format!("{line}\n").repeat(17),
    ];
    for text in cases {
        let broken = with_signature_text(good.clone(), text.clone());
        assert_eq!(code(&broken, &trust), "unreadable_signature", "{text:.60}");
    }
    assert_eq!(code(&good, &trust), "accepted");
}

#[test]
fn revisions_only_grow() {
    let trust = trusting(&[&alice()]);
    let alice = alice();
    let signed = |bundle: Bundle| signed_by(bundle, &[&alice]);
    let last = accepted(&signed(revision(7)));
    let after = |bundle: Bundle| code_of(verify(&signed(bundle), &trust, now(), Some(&last)));
    assert_eq!(after(revision(6)), "stale");
    assert_eq!(after(revision(7)), "accepted");
    assert_eq!(after(revision(8)), "accepted");
    assert_eq!(after(bundle(&[("README.md", "changed")])), "same_revision");
    assert_eq!(
        after(with_manifest(&MANIFEST.replace("corp", "other"))),
        "other_name"
    );
}

#[test]
fn a_bundle_is_valid_from_its_begin_to_its_end() {
    let trust = trusting(&[&alice()]);
    let window = "not_before = 2026-11-01\nnot_after = 2026-12-01\n";
    let signed = signed_by(with_manifest(&format!("{MANIFEST}{window}")), &[&alice()]);
    let at = |moment: &str, seconds: i64| {
        let base = moment::parse(moment).unwrap();
        let second = Duration::from_secs(seconds.unsigned_abs());
        let at = if seconds < 0 {
            base - second
        } else {
            base + second
        };
        code_of(verify(&signed, &trust, at, None))
    };
    assert_eq!(at("2026-11-01", -1), "not_yet_valid");
    assert_eq!(at("2026-11-01", 0), "accepted");
    assert_eq!(at("2026-12-01", -1), "accepted");
    assert_eq!(at("2026-12-01", 0), "expired");
}

#[test]
fn what_is_over_is_told_so_only_where_nothing_else_is_wrong() {
    let trust = trusting(&[&alice()]);
    let over = with_manifest(&format!("{MANIFEST}not_after = 2026-01-01\n"));
    let claims = format!("{MANIFEST}signed = true\nnot_after = 2026-01-01\n");
    let mallory = key("mallory", Role::PolicyPublisher);
    assert_eq!(
        code(&signed_by(over.clone(), &[&alice()]), &trust),
        "expired"
    );
    assert_eq!(
        code(&signed_by(over.clone(), &[&mallory]), &trust),
        "unknown_key"
    );
    assert_eq!(code(&over, &trust), "unsigned");
    assert_eq!(
        code_of(accept_unsigned(&with_manifest(&claims), now())),
        "stripped"
    );
    let last = accepted(&signed_by(bundle(&[]), &[&alice()]));
    let last = Accepted {
        revision: last.revision + 1,
        ..last
    };
    let older = signed_by(over, &[&alice()]);
    assert_eq!(code_of(verify(&older, &trust, now(), Some(&last))), "stale");
}

#[test]
fn two_people_means_two_people() {
    let (alice, rita) = (alice(), rita());
    let bob = key("bob", Role::PolicyPublisher);
    let second = key("alice-2", Role::PolicyPublisher);
    let trust = root(&format!(
        "[signatures]\norganisation = 2\n{}{}{}",
        entry(&alice, "person = \"alice\""),
        entry(&second, "person = \"alice\""),
        entry(&rita, ""),
    ));
    let by = |keys: &[&SigningKey]| code(&signed_by(bundle(&[]), keys), &trust);
    assert_eq!(by(&[&alice]), "too_few_signatures");
    assert_eq!(by(&[&alice, &second]), "too_few_signatures");
    assert_eq!(by(&[&alice, &bob]), "too_few_signatures");
    assert_eq!(by(&[&bob]), "unknown_key");
    assert_eq!(by(&[&alice, &rita]), "accepted");
    // One that does not count takes nothing away.
    assert_eq!(by(&[&bob, &alice, &rita]), "accepted");
    let one = verdict(&signed_by(bundle(&[]), &[&alice, &bob]), &trust).unwrap_err();
    assert!(one.to_string().contains("1 signed it and 2 must"), "{one}");
    assert!(one.to_string().contains("`bob`"), "{one}");
    // A team's bundle needs one.
    let team = with_manifest(&MANIFEST.replace("organisation", "team"));
    assert_eq!(code(&signed_by(team, &[&alice]), &trust), "accepted");
}

#[test]
fn the_same_line_twice_is_one_signature() {
    let trust = root(&format!(
        "[signatures]\norganisation = 2\n{}{}",
        entry(&alice(), ""),
        entry(&rita(), "")
    ));
    let signed = signed_by(bundle(&[]), &[&alice()]);
    let twice = signed.signatures().unwrap().repeat(2);
    assert_eq!(
        code(&with_signature_text(signed, twice), &trust),
        "too_few_signatures"
    );
}

#[test]
fn signing_keeps_others_and_drops_what_was_for_other_content() {
    let before = signed_by(bundle(&[]), &[&alice(), &rita()]);
    let again = sign(&before, &alice()).unwrap();
    assert_eq!(
        (again.kept, again.dropped, again.text.lines().count()),
        (1, 0, 2)
    );
    let text = before.signatures().unwrap();
    let changed = bundle(&[("README.md", "changed"), ("bundle.sig", text)]);
    let after = sign(&changed, &alice()).unwrap();
    assert_eq!(
        (after.kept, after.dropped, after.text.lines().count()),
        (0, 2, 1)
    );
    assert!(sign(&bundle(&[("bundle.sig", "no")]), &alice()).is_err());
}

#[test]
fn key_files_say_whose_they_are_and_never_show_their_secret() {
    let text = alice().to_secret_text();
    let read = |text: &str| SigningKey::parse(Path::new("a.key"), text);
    let key = read(&text).unwrap();
    assert_eq!(
        (key.id(), key.role(), key.public()),
        ("alice", Role::PolicyPublisher, alice().public())
    );
    assert_eq!(key.public().to_string().parse(), Ok(key.public()));
    let secret = text
        .split("secret = \"")
        .nth(1)
        .unwrap()
        .trim_end_matches("\"\n");
    assert!(!format!("{key:?}").contains(secret));
    let secret_tail = &secret[10..];
    for broken in [
        text.replace("id =", "name ="),
        text.replace("policy-publisher", "root"),
        text.replace("ed25519:", "rsa:"),
        text.replace("id = \"alice\"", "id = \"A b\""),
        text.replace("secret = \"", "secret = "),
        format!("{text}{text}"),
        text.replace(secret, "ed25519:AAAA"),
    ] {
        let error = read(&broken).unwrap_err();
        assert!(!error.to_string().contains(secret_tail), "{error}");
        assert!(error.to_string().starts_with("key not accepted"), "{error}");
    }
}

#[test]
fn mistakes_in_a_trust_file_are_refused_with_their_line() {
    let good = entry(&alice(), "");
    let two = format!("{good}{}", entry(&rita(), ""));
    let weak = format!("ed25519:{}=", "A".repeat(43));
    let cases = [
        (String::new(), "0 keys"),
        (format!("[signatures]\norganisation = 0\n{good}"), "line 2"),
        (
            format!("[signatures]\norganisation = 2\n{good}"),
            "2 people must sign for layer `organisation`, and 1 can",
        ),
        (format!("[signatures]\nuser = 1\n{good}"), "and 0 can"),
        (format!("[signatures]\norganization = 1\n{good}"), "line 2"),
        (good.replace("[\"policy-publisher\"]", "[]"), "no role"),
        (good.replace("policy-publisher", "publisher"), "line 4"),
        (
            good.replace("[\"organisation\", \"team\"]", "[]"),
            "no layer",
        ),
        (
            good.replace("[\"organisation\", \"team\"]", "[\"workspace\"]"),
            "no layer",
        ),
        (
            good.replace("ed25519:", "rsa:"),
            "line 3: `public` is no Ed25519 public key",
        ),
        (
            good.replace(&alice().public().to_string(), &weak),
            "`public` is no Ed25519 public key",
        ),
        (
            good.replace("id = \"alice\"", "id = \"Alice\""),
            "is not a name",
        ),
        (format!("{good}person = \"\"\n"), "is not a name"),
        (format!("{good}bundles = [\"*\"]\n"), "is not a name"),
        (format!("{good}not_after = \"never\"\n"), "line 7"),
        (format!("{good}role = \"x\"\n"), "unknown field"),
        (format!("{good}{good}"), "under another name, too"),
        (
            format!(
                "{good}{}",
                entry(&rita(), "").replace("\"rita\"", "\"alice\"")
            ),
            "is there twice",
        ),
        ("[".repeat(100_000), "trust file not accepted"),
        (format!("#{}", "x".repeat(300_000)), "too large"),
    ];
    for (text, expected) in cases {
        let error = TrustRoot::parse(Path::new("trust.toml"), &text).unwrap_err();
        assert!(error.to_string().contains(expected), "{text:.200}\n{error}");
        assert!(!error.hint().is_empty());
    }
    assert_eq!(root(&two).keys().count(), 2);
}

/// Made with Python's standard library from RFC 8032, DSSE and in-toto alone, not with our code.
#[test]
fn a_signature_that_another_program_made_is_accepted() {
    let line = include_str!("../../../fuzz/corpus/signature/good.sig");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bundle.toml"), MANIFEST).unwrap();
    fs::write(folder.path().join("bundle.sig"), line).unwrap();
    let bundle = Bundle::read_directory(folder.path()).unwrap();
    let alice = SigningKey::new("alice", Role::PolicyPublisher, [7; 32]).unwrap();
    assert_eq!(code(&bundle, &trusting(&[&alice])), "accepted");
    let ours = sign(&bundle, &alice).unwrap();
    assert_eq!(ours.text, line, "and is what we make");
}
