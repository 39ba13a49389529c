//! Exports hold what they say, and hostile text stays within its field (A06).

use std::{fs, path::Path};

use serde_json::json;

use super::*;
use crate::{
    find::{Condition, Field, Pattern},
    verify::{Completeness, Integrity, made::*, verify_export},
};

/// Text that would act on a terminal, end a line, a field or a value, or run as a formula.
const HOSTILE: &str = "=x|y\\z\n\r\u{1b}[2J\u{202e}\u{2028}\"',]";

fn source() -> Source {
    Source {
        origin: NAME.into(),
        host: "host.example.com".into(),
    }
}

fn hostile() -> Record {
    let mut record: serde_json::Value = serde_json::from_slice(&leaf(7, "decision", "")).unwrap();
    record["session"] = json!(HOSTILE);
    record["action"] = json!("http.request");
    record["effect"] = json!("deny");
    record["net"]["host"] = json!(HOSTILE);
    record["http"] = json!({"method": HOSTILE, "path": HOSTILE});
    record["resource"] = json!({"id": HOSTILE, "type": "network"});
    record["reason"] = json!(HOSTILE);
    serde_json::from_value(record).unwrap()
}

#[test]
fn a06_hostile_text_is_one_line_in_every_format_and_nothing_else() {
    let record = hostile();
    let leaf = serde_json::to_vec(&record).unwrap();
    for format in [
        Format::Ocsf,
        Format::Ecs,
        Format::Cef,
        Format::Csv,
        Format::Otlp,
        Format::Jsonl,
    ] {
        let bytes = one(format, &record, &leaf, &source()).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let body = text.strip_suffix('\n').unwrap();
        let body = body.strip_suffix('\r').unwrap_or(body);
        assert!(
            !body.contains(['\n', '\r', '\u{1b}']),
            "{format:?}: {body:?}"
        );
        if matches!(format, Format::Cef | Format::Csv) {
            assert!(
                !body.contains(['\u{202e}', '\u{2028}']),
                "{format:?}: {body:?}"
            );
        }
    }
}

#[test]
fn a06_cef_values_and_headers_are_escaped() {
    let line = String::from_utf8(one(Format::Cef, &hostile(), b"", &source()).unwrap()).unwrap();
    let header: Vec<&str> = line.split('|').take(7).collect();
    assert_eq!(header[..3], ["CEF:0", "Cordon", "Cordon"]);
    assert_eq!(header[4..7], ["http.request", "http.request deny", "5"]);
    assert!(
        line.contains("dhost=\\=x|y\\\\z\\n\\r\\\\u{1b}[2J\\\\u{202e}\\\\u{2028}\"',] "),
        "{line}"
    );
    let mut record = hostile();
    record.action = Some("a|b\\c\nd".into());
    let line = String::from_utf8(one(Format::Cef, &record, b"", &source()).unwrap()).unwrap();
    assert!(
        line.contains("|a\\|b\\\\c\\nd|a\\|b\\\\c\\nd deny|"),
        "{line}"
    );
}

#[test]
fn a06_csv_cells_are_quoted_and_no_formulas() {
    let mut row = String::from_utf8(one(Format::Csv, &hostile(), b"", &source()).unwrap()).unwrap();
    assert!(
        row.contains(",\"'=x|y\\\\z\\n\\r\\u{1b}[2J\\u{202e}\\u{2028}\"\"',]\","),
        "{row}"
    );
    for start in ["=1", "+1", "-1", "@x"] {
        let mut record = hostile();
        record.session = Some(start.into());
        row = String::from_utf8(one(Format::Csv, &record, b"", &source()).unwrap()).unwrap();
        assert!(row.contains(&format!(",\"'{start}\",")), "{row}");
    }
    assert_eq!(csv::header().matches(',').count(), 22);
}

#[test]
fn ecs_has_its_fields() {
    let event = ecs::event(&hostile(), &source());
    assert_eq!(event["event"]["category"], json!(["web"]));
    assert_eq!(event["event"]["outcome"], "failure");
    assert_eq!(event["event"]["type"], json!(["denied"]));
    assert_eq!(event["destination"]["domain"], HOSTILE);
    assert_eq!(event["destination"]["port"], 443);
    assert_eq!(event["rule"]["id"], "allow-api");
    assert_eq!(event["@timestamp"], "2026-05-28T20:26:40.000007Z");
}

#[test]
fn an_export_and_its_manifest_verify_and_each_change_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    Made::whole(directory.path(), 300, 517);
    let select = Select {
        from_seq: Some(100),
        to_seq: Some(399),
        ..Select::default()
    };
    let key = verifier_key(1);
    for format in [Format::Jsonl, Format::Csv, Format::Ecs, Format::Otlp] {
        let mut bytes = Vec::new();
        let manifest = export_to(directory.path(), format, &select, &mut bytes);
        assert_eq!((manifest.count, manifest.size), (300, 517));
        assert_eq!(manifest.first.as_ref().unwrap().seq, 100);
        let note = sign_with(&manifest);
        let path = directory.path().join("export");
        fs::write(&path, &bytes).unwrap();
        let report = verify_export(&path, &note, &key, None).unwrap();
        assert!(report.is_clean(), "{format:?}: {report:?}");

        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        fs::write(&path, flipped).unwrap();
        let report = verify_export(&path, &note, &key, None).unwrap();
        assert_eq!(report.integrity, Integrity::Broken, "{format:?}");

        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let report = verify_export(&path, &note, &key, None).unwrap();
        assert_eq!(report.completeness, Completeness::Incomplete, "{format:?}");

        assert!(
            verify_export(
                &path,
                &note.replace("\"count\":300", "\"count\":299"),
                &key,
                None
            )
            .is_err()
        );
        assert!(verify_export(&path, &note, &verifier_key(2), None).is_err());
    }
}

fn export_to(log: &Path, format: Format, select: &Select, out: &mut Vec<u8>) -> Manifest {
    write(log, format, select, &source(), out, &mut io::sink()).unwrap()
}

#[test]
fn a04_a_changed_export_names_its_line() {
    type Change = fn(&mut Vec<Vec<u8>>);
    let flip: Change = |lines| lines[11][9] ^= 1;
    let cases: [(Change, Option<(u64, &str)>); 9] = [
        (|_| {}, None),
        (flip, Some((11, "not what was exported"))),
        (|lines| lines.swap(7, 8), Some((7, "changed places"))),
        (|lines| drop(lines.remove(0)), Some((0, "is missing"))),
        (|lines| drop(lines.remove(9)), Some((9, "is missing"))),
        (|lines| lines.truncate(15), Some((15, "all after it"))),
        (
            |lines| lines.insert(5, lines[4].clone()),
            Some((5, "put in")),
        ),
        (
            |lines| lines.push(lines[3].clone()),
            Some((20, "more lines")),
        ),
        (
            |lines| lines.iter_mut().for_each(|line| line.insert(0, b' ')),
            Some((0, "not what")),
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    Made::whole(directory.path(), 0, 20);
    let [path, hashes] = ["export", "export.lines"].map(|name| directory.path().join(name));
    for format in [Format::Jsonl, Format::Ecs, Format::Cef] {
        let (mut bytes, mut lines) = (Vec::new(), Vec::new());
        let select = Select::default();
        let manifest = write(
            directory.path(),
            format,
            &select,
            &source(),
            &mut bytes,
            &mut lines,
        );
        let note = sign_with(&manifest.unwrap());
        for (change, expected) in cases {
            fs::write(&hashes, &lines).unwrap();
            let mut all: Vec<Vec<u8>> = bytes
                .split_inclusive(|b| *b == b'\n')
                .map(<[u8]>::to_vec)
                .collect();
            change(&mut all);
            fs::write(&path, all.concat()).unwrap();
            let verified = |hashes: Option<&Path>| {
                verify_export(&path, &note, &verifier_key(1), hashes).unwrap()
            };
            let report = verified(Some(&hashes));
            assert_eq!(
                report.is_clean(),
                expected.is_none(),
                "{format:?}: {report:?}"
            );
            let found = report.first_bad.as_ref().map(|bad| bad.seq);
            assert_eq!(found, expected.map(|(line, _)| line), "{format:?}");
            if let (Some(bad), Some((_, why))) = (report.first_bad, expected) {
                assert!(bad.problem.contains(why), "{format:?}: {}", bad.problem);
            }
            // Hashes that somebody made for the changed file prove nothing.
            let forged: Vec<u8> = all.iter().flat_map(|line| leaf_hash(line)).collect();
            fs::write(&hashes, forged).unwrap();
            assert_eq!(verified(Some(&hashes)).first_bad, verified(None).first_bad);
            assert_eq!(
                verified(None).integrity == Integrity::Intact,
                expected.is_none()
            );
        }
    }
}

#[test]
fn a_tlog_export_is_a_log_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    Made::whole(directory.path(), 300, 70_000);
    let out = directory.path().join("out");
    let manifest = copy_log(directory.path(), &out).unwrap();
    let note = sign_with(&manifest);
    let report = verify_export(&out, &note, &verifier_key(1), None).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(
        copy_log(directory.path(), &out).is_err(),
        "never over another"
    );
    fs::remove_file(out.join(tile("entries", 3, 256))).unwrap();
    let report = verify_export(&out, &note, &verifier_key(1), None).unwrap();
    assert_eq!(report.first_bad.unwrap().seq, 3 * 256);
}

fn condition(field: Field, value: &str) -> Condition {
    Condition {
        field,
        any: vec![Pattern::exact(value)],
    }
}

#[test]
fn a_query_comes_back_from_its_manifest() {
    let select = Select {
        conditions: vec![Condition {
            field: Field::Host,
            any: vec!["*.example.com".to_owned().into(), Pattern::exact("a.test")],
        }],
        text: Some("x".into()),
        to_seq: Some(9),
        ..Select::default()
    };
    let text = serde_json::to_string(&select).unwrap();
    assert!(
        text.contains(r#"{"field":"host","any":["*.example.com","a.test"]}"#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<Select>(&text).unwrap(), select);
}

#[test]
fn filters_take_what_they_say() {
    let record = hostile();
    let table = [
        (Select::default(), true),
        (
            Select {
                conditions: vec![condition(Field::Effect, "deny")],
                ..Select::default()
            },
            true,
        ),
        (
            Select {
                conditions: vec![condition(Field::Effect, "allow")],
                ..Select::default()
            },
            false,
        ),
        (
            Select {
                conditions: vec![condition(Field::Session, HOSTILE)],
                ..Select::default()
            },
            true,
        ),
        (
            Select {
                conditions: vec![condition(Field::Session, "x")],
                ..Select::default()
            },
            false,
        ),
        (
            Select {
                from_seq: Some(7),
                to_seq: Some(7),
                ..Select::default()
            },
            true,
        ),
        (
            Select {
                from_seq: Some(8),
                ..Select::default()
            },
            false,
        ),
        (
            Select {
                to_seq: Some(6),
                ..Select::default()
            },
            false,
        ),
        (
            Select {
                since_us: Some(record.ts_us),
                ..Select::default()
            },
            true,
        ),
        (
            Select {
                until_us: Some(record.ts_us),
                ..Select::default()
            },
            false,
        ),
    ];
    for (select, expected) in table {
        assert_eq!(select.takes(&record), expected, "{select:?}");
    }
}

fn sign_with(manifest: &Manifest) -> String {
    crate::verify::made::sign(&manifest.to_body().unwrap(), 1)
}
