//! The report as JUnit XML, which every CI reads.

use std::fmt::Write as _;

use super::Report;

/// One `testsuite` for each file, one `testcase` for each test.
pub fn junit(report: &Report) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let failed = report.tests.iter().filter(|test| !test.passed()).count();
    let mut add = |line: String| {
        let _infallible = writeln!(xml, "{line}");
    };
    add(format!(
        "<testsuites tests=\"{}\" failures=\"{failed}\">",
        report.tests.len()
    ));
    for tests in report.tests.chunk_by(|a, b| a.file == b.file) {
        let file = tests.first().map_or("", |test| test.file.as_str());
        let failed = tests.iter().filter(|test| !test.passed()).count();
        add(format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\">",
            escape(file),
            tests.len()
        ));
        for test in tests {
            let case = format!(
                "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\"",
                escape(file),
                escape(&test.name),
                escape(file),
                test.line
            );
            if test.passed() {
                add(format!("{case}/>"));
                continue;
            }
            add(format!("{case}>"));
            for failure in &test.failures {
                let message = format!(
                    "{}: expected {}, came {}",
                    failure.when, failure.expected, failure.came
                );
                add(format!(
                    "      <failure message=\"{}\">{}</failure>",
                    escape(&message),
                    escape(&failure.why)
                ));
            }
            add("    </testcase>".into());
        }
        add("  </testsuite>".into());
    }
    add("</testsuites>".into());
    xml
}

/// Text as XML takes it; characters that XML 1.0 has no way to write are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}
