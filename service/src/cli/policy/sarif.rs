//! Findings as SARIF 2.1.0, which code hosts and editors show beside the lines.
//!
//! Source: OASIS SARIF 2.1.0, sections 3.13 (log), 3.27 (result), 3.49 (rule), 3.55 (fix).

use std::path::Path;

use cordon_policy::check::{Code, Finding, Severity};
use serde_json::{Value, json};

/// One log with one run.
pub fn sarif(findings: &[Finding]) -> Value {
    let rules: Vec<Value> = Code::ALL.iter().map(|code| rule(*code)).collect();
    let results: Vec<Value> = findings.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "cordon policy check",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(code: Code) -> Value {
    let level = match code.as_str() {
        number if number < "CP100" => "error",
        _ => "warning",
    };
    json!({
        "id": code.as_str(),
        "name": format!("{code:?}"),
        "shortDescription": { "text": code.title() },
        "fullDescription": { "text": code.explanation() },
        "defaultConfiguration": { "level": level },
    })
}

fn result(finding: &Finding) -> Value {
    let mut text = finding.message.clone();
    if let Some(help) = &finding.help {
        text.push_str("\nhelp: ");
        text.push_str(help);
    }
    let artifact = json!({ "uri": uri(&finding.file) });
    let physical = match region(finding) {
        Some(region) => json!({ "artifactLocation": artifact, "region": region }),
        None => json!({ "artifactLocation": artifact }),
    };
    let fixes: Vec<Value> = fix(finding).into_iter().collect();
    json!({
        "ruleId": finding.code.as_str(),
        "ruleIndex": Code::ALL.iter().position(|code| *code == finding.code),
        "level": match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        "message": { "text": text },
        "locations": [{ "physicalLocation": physical }],
        "fixes": fixes,
    })
}

fn region(finding: &Finding) -> Option<Value> {
    let (line, column) = (finding.line?, finding.column?);
    let width = finding
        .fix
        .as_ref()
        .map_or(1, |fix| fix.old.chars().count());
    Some(json!({
        "startLine": line,
        "startColumn": column,
        "endLine": line,
        "endColumn": column + width,
    }))
}

fn fix(finding: &Finding) -> Option<Value> {
    let fix = finding.fix.as_ref()?;
    Some(json!({
        "description": { "text": format!("write {}", fix.new) },
        "artifactChanges": [{
            "artifactLocation": { "uri": uri(&finding.file) },
            "replacements": [{
                "deletedRegion": region(finding)?,
                "insertedContent": { "text": fix.new },
            }],
        }],
    }))
}

/// A URI reference (RFC 3986): a relative path stays relative, an absolute one becomes `file:`.
fn uri(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut uri = if path.is_absolute() {
        "file://".to_owned()
    } else {
        String::new()
    };
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use cordon_policy::{
        check::check,
        source::{PolicyFile, PolicySource},
    };

    use super::*;

    #[test]
    fn a_log_has_what_the_standard_requires() {
        let text = "permit (principal, action, resource == Host::\"A.test\");";
        let source = PolicySource::new("t", vec![PolicyFile::new("a folder/t.cedar", text)]);
        let log = sarif(&check(&source));
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        assert_eq!(run["tool"]["driver"]["name"], "cordon policy check");
        let result = &run["results"][0];
        assert_eq!(
            (&result["ruleId"], &result["level"]),
            (&json!("CP004"), &json!("error"))
        );
        let index = result["ruleIndex"].as_u64().unwrap();
        let rule = &run["tool"]["driver"]["rules"][usize::try_from(index).unwrap()];
        assert_eq!(rule["id"], "CP004");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20folder/t.cedar");
        assert_eq!(place["region"]["startLine"], 1);
        let change = &result["fixes"][0]["artifactChanges"][0]["replacements"][0];
        assert_eq!(change["insertedContent"]["text"], "Host::\"a.test\"");
    }

    #[test]
    fn no_findings_are_an_empty_list_and_not_an_absent_one() {
        assert_eq!(sarif(&[])["runs"][0]["results"], json!([]));
    }
}
