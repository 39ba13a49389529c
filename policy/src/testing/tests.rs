use super::*;
use crate::{
    Snapshot,
    source::{PolicyFile, PolicySource},
};

const RULES: &str = r#"
@id("web") @reason("the web by day")
permit (principal in Group::"staff", action == Action::"connect", resource in Domain::"example.com")
when { context.port == 443 && context.time.toTime() < duration("17h") };
@id("tools")
permit (principal, action == Action::"call_tool", resource) when { context has approval };
@id("no-mail") @reason("no mail")
forbid (principal, action == Action::"connect", resource)
unless { context.port == 443 || context.port == 22 };
"#;

fn snapshot() -> Snapshot {
    let files = vec![PolicyFile::new("rules.cedar", RULES)];
    Snapshot::load(&PolicySource::new("test", files)).unwrap()
}

fn run_text(text: &str) -> Report {
    let file = parse(text).unwrap_or_else(|error| panic!("{error}"));
    run(&snapshot(), &[("tests.toml".into(), file)], None)
}

const ALL: &str = r#"
[given]
groups = ["staff"]
time = "2026-03-02T10:00:00Z"

[[test]]
name = "by day"
when = ["connect example.com:443", "connect a.example.com:443"]
then = "allow"
rule = "web"

[[test]]
name = "by night"
given = { time = 2026-03-02T18:00:00Z }
when = "connect example.com:443"
then = "deny"
reason = "default_deny"

[[test]]
name = "over ssh"
when = "connect example.com:22"
then = "deny"
reason = "default_deny"

[[test]]
name = "mail"
when = "connect example.com:25"
then = "deny"
reason = "rule"
rule = "no-mail"
message = "no mail"

[[test]]
name = "tools"
when = "call add of notes"
then = "ask"
rule = "tools"

[[test]]
name = "tools, approved"
given = { approved = true }
when = "call add of notes"
then = "allow"

[[test]]
name = "n02 a target that is none"
when = "connect evil..example.com:443"
then = "deny"
reason = "malformed"
"#;

#[test]
fn a_table_is_decided_as_written_by_its_own_clock() {
    let report = run_text(ALL);
    for test in &report.tests {
        assert!(test.passed(), "{}: {:?}", test.name, test.failures);
    }
    assert_eq!(report.tests.len(), 7);
    assert_eq!(report.coverage.rules, Share { covered: 3, of: 3 });
    assert_eq!(
        report.coverage.clauses.percent(),
        100,
        "{:?}",
        report.coverage.gaps
    );
    assert_eq!(report.coverage.gaps, []);
}

#[test]
fn a_failing_test_says_what_came_instead() {
    let cases = [
        (
            "connect example.com:443",
            "then = \"deny\"",
            "allow by `web`",
        ),
        (
            "connect example.com:25",
            "then = \"allow\"",
            "deny with reason rule by `no-mail`",
        ),
        (
            "connect other.example:443",
            "then = \"ask\"",
            "deny with reason default_deny",
        ),
        (
            "connect example.com:443",
            "then = \"allow\"\nrule = \"tools\"",
            "allow by `web`",
        ),
        (
            "call add of notes",
            "then = \"deny\"",
            "ask with reason approval_required by `tools`",
        ),
        (
            "connect example.com:25",
            "then = \"deny\"\nmessage = \"something else\"",
            "deny with reason rule by `no-mail`",
        ),
        (
            "connect example.com:25",
            "then = \"deny\"\nreason = \"default_deny\"",
            "deny with reason rule by `no-mail`",
        ),
    ];
    for (when, then, came) in cases {
        let text = format!(
            "[given]\ngroups = [\"staff\"]\n[[test]]\nname = \"t\"\nwhen = {when:?}\n{then}\n"
        );
        let report = run_text(&text);
        let failed = &report.tests[0].failures[0];
        assert_eq!(failed.came.to_string(), came, "{when} {then}");
        assert_eq!(failed.when, when);
        assert!(!failed.why.is_empty(), "{when} {then}");
        assert_eq!(report.tests[0].line, 3);
    }
}

#[test]
fn what_no_test_showed_is_a_gap() {
    let text = "[given]\ngroups = [\"staff\"]\n[[test]]\nname = \"t\"\n\
                when = \"connect example.com:443\"\nthen = \"allow\"\n";
    let coverage = run_text(text).coverage;
    assert_eq!(coverage.rules, Share { covered: 1, of: 3 });
    let gaps: Vec<String> = coverage
        .gaps
        .iter()
        .map(|gap| format!("{}: {}", gap.rule, gap.missing))
        .collect();
    for expected in [
        "web: its scope never failed to be met",
        "web: `if the port is 443` never failed to be met",
        "tools: it decided no request",
        "no-mail: it decided no request",
    ] {
        assert!(
            gaps.iter().any(|gap| gap == expected),
            "{expected}: {gaps:#?}"
        );
    }
}

#[test]
fn only_tests_whose_name_has_the_filter_in_it_run() {
    let file = parse(ALL).unwrap();
    let report = run(&snapshot(), &[("tests.toml".into(), file)], Some("tools"));
    let names: Vec<&str> = report.tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!(names, ["tools", "tools, approved"]);
}

#[test]
fn a_file_that_is_none_is_refused_with_its_line() {
    let test = |body: &str| format!("\n[[test]]\nname = \"t\"\n{body}\n");
    let cases = [
        ("x = 1".to_owned(), Some(1), "unknown field"),
        (test("when = \"connect a.example:1\""), Some(2), "then"),
        (
            test("when = \"fetch x\"\nthen = \"deny\""),
            Some(2),
            "no request begins with",
        ),
        (
            test("when = []\nthen = \"deny\""),
            Some(2),
            "1 to 1000 requests",
        ),
        (
            test("when = \"enable browser\"\nthen = \"allow\"\nreason = \"rule\""),
            Some(2),
            "an allow has",
        ),
        (
            test("when = \"enable browser\"\nthen = \"maybe\""),
            Some(5),
            "maybe",
        ),
        (
            test("when = \"enable browser\"\nthen = \"deny\"\nruel = \"x\""),
            Some(6),
            "ruel",
        ),
        (
            format!("{0}{0}", test("when = \"enable browser\"\nthen = \"deny\"")),
            Some(7),
            "is there twice",
        ),
        (
            test("when = \"enable browser\"\nthen = \"deny\"\ngiven = { time = \"noon\" }"),
            Some(6),
            "noon",
        ),
        (
            "[[test]]\nname = \"\"\nwhen = \"enable browser\"\nthen = \"deny\"".into(),
            Some(1),
            "1 to 200",
        ),
    ];
    for (text, line, expected) in cases {
        let error = parse(&text).unwrap_err();
        assert!(error.message.contains(expected), "{text}: {error}");
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(!error.help.is_empty());
    }
}

#[test]
fn hostile_files_cost_bounded_time() {
    let started = std::time::Instant::now();
    let nested = format!("x = {}", "[".repeat(500_000));
    let many = "[[test]]\n".repeat(100_000);
    let one = "[[test]]\nname = \"NAME\"\nwhen = \"enable browser\"\nthen = \"deny\"\n";
    let tests: String = (0..=MAX_TESTS)
        .map(|n| one.replace("NAME", &n.to_string()))
        .collect();
    let requests = format!(
        "[[test]]\nname = \"t\"\nthen = \"deny\"\nwhen = [{}]",
        "\"enable browser\",".repeat(MAX_REQUESTS + 1)
    );
    for text in [
        nested,
        many,
        tests,
        requests,
        "a".repeat(MAX_FILE_BYTES + 1),
        "\u{0}".into(),
    ] {
        assert!(parse(&text).is_err());
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn junit_is_escaped_and_counts_what_failed() {
    let text = r#"
[[test]]
name = "<&\""
when = "start \"two words\""
then = "deny"
message = "<no>\u001b"
[[test]]
name = "good"
when = "connect a.example:443"
then = "deny"
"#;
    let file = parse(text).unwrap();
    let report = run(&snapshot(), &[("a\u{1b}.toml".into(), file)], None);
    let xml = junit(&report.tests);
    for expected in [
        "<testsuites tests=\"2\" failures=\"1\">",
        "<testsuite name=\"a.toml\" tests=\"2\" failures=\"1\">",
        "name=\"&lt;&amp;&quot;\"",
        "message=\"start &quot;two words&quot;: expected deny saying &quot;&lt;no&gt;\\u{1b}&quot;, came deny",
    ] {
        assert!(xml.contains(expected), "{expected}: {xml}");
    }
    assert!(!xml.contains('\u{1b}'), "{xml}");
}
