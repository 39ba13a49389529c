//! The overview as a page: Markdown for a repository, one HTML file for a browser.
//!
//! Text that came from policy files is escaped; the HTML has no scripts and loads nothing.

use std::fmt::Write as _;

use super::{Overview, RuleInWords, quoted};
use crate::Effect;

impl Overview {
    /// The page as Markdown.
    pub fn markdown(&self) -> String {
        let mut page = String::new();
        let mut add = |line: &str| {
            let _infallible = writeln!(page, "{line}");
        };
        add(&format!("# What {} allows\n", quoted(&self.policy)));
        add(INTRODUCTION);
        for section in &self.sections {
            add(&format!("\n## {}\n", section.title));
            add("| | rule | says |\n|---|---|---|");
            for rule in &section.rules {
                let words = cell(&says(rule));
                add(&format!(
                    "| {} | {} | {words} |",
                    sign(rule),
                    cell(&quoted(&rule.id))
                ));
            }
        }
        if !self.groups.is_empty() {
            add("\n## Host groups\n\n| group | hosts |\n|---|---|");
            for group in &self.groups {
                let members: Vec<String> = group.members.iter().map(|m| quoted(m)).collect();
                let members = if members.is_empty() {
                    "none".into()
                } else {
                    members.join(", ")
                };
                add(&format!(
                    "| {} | {} |",
                    cell(&quoted(&group.name)),
                    cell(&members)
                ));
            }
        }
        if let Some(tests) = &self.tests {
            add(&format!("\n## Tests\n\n{tests}"));
        }
        add(&format!("\n---\nDigest {}.", quoted(&self.digest)));
        page
    }

    /// The page as one HTML file.
    pub fn html(&self) -> String {
        let mut page = String::from(HEAD);
        let mut add = |line: &str| {
            let _infallible = writeln!(page, "{line}");
        };
        add(&format!(
            "<h1>What {} allows</h1>",
            markup(&quoted(&self.policy))
        ));
        add(&format!("<p>{}</p>", markup(INTRODUCTION)));
        for section in &self.sections {
            add(&format!("<h2>{}</h2>\n<table>", markup(section.title)));
            for rule in &section.rules {
                let class = match rule.effect {
                    Effect::Permit => "permit",
                    Effect::Forbid => "forbid",
                };
                add(&format!(
                    "<tr class=\"{class}\"><td>{}</td><td>{}</td><td>{}</td></tr>",
                    sign(rule),
                    markup(&quoted(&rule.id)),
                    markup(&says(rule))
                ));
            }
            add("</table>");
        }
        if !self.groups.is_empty() {
            add("<h2>Host groups</h2>\n<table>");
            for group in &self.groups {
                let members: Vec<String> = group.members.iter().map(|m| quoted(m)).collect();
                add(&format!(
                    "<tr><td>{}</td><td>{}</td></tr>",
                    markup(&quoted(&group.name)),
                    markup(&members.join(", "))
                ));
            }
            add("</table>");
        }
        if let Some(tests) = &self.tests {
            add(&format!("<h2>Tests</h2>\n<p>{}</p>", markup(tests)));
        }
        add(&format!(
            "<footer>Digest {}.</footer>\n</html>",
            markup(&quoted(&self.digest))
        ));
        page
    }
}

const INTRODUCTION: &str = "What no rule allows is refused. A rule that forbids wins over \
                            every rule that allows. Rules are listed by what they are about.";

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
    <title>Policy</title>\n<style>\n\
    body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }\n\
    table { border-collapse: collapse; width: 100%; }\n\
    td { border-top: 1px solid #ccc; padding: .3rem .6rem; vertical-align: top; }\n\
    .permit td:first-child { color: #060; } .forbid td:first-child { color: #a00; }\n\
    code { background: #eee; }\n</style>\n";

fn sign(rule: &RuleInWords) -> &'static str {
    match rule.effect {
        Effect::Permit => "allows",
        Effect::Forbid => "forbids",
    }
}

fn says(rule: &RuleInWords) -> String {
    match &rule.reason {
        Some(reason) => format!("{} Reason: {}", rule.words, quoted(reason)),
        None => rule.words.clone(),
    }
}

/// Text in a cell of a Markdown table. What came from a policy stands in back quotes already.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Text with back quotes as HTML.
fn markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut in_code = false;
    for c in text.chars() {
        match c {
            '`' => {
                escaped.push_str(if in_code { "</code>" } else { "<code>" });
                in_code = !in_code;
            }
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    if in_code {
        escaped.push_str("</code>");
    }
    escaped
}
