//! `squid.conf`: `acl` and `http_access`, in Squid's order.
//!
//! Squid takes the first line that matches. An allow line therefore becomes a `permit` under the
//! condition that no deny line above it matches; no `forbid` is needed, and the order is kept
//! exactly. Other directives do not concern access, or are refused where they could.

mod acl;

use std::collections::BTreeMap;

use self::acl::Acl;
use super::{
    ImportError, Imported, MAX_BYTES, Rule,
    cedar::{Between, Expr},
};

/// The part of a `squid.conf` that says who may reach what.
#[derive(Debug, Default)]
pub struct Squid {
    acls: BTreeMap<String, Acl>,
    access: Vec<Access>,
    ignored: Vec<(usize, String, &'static str)>,
    bytes: usize,
}

/// One `http_access` line.
#[derive(Debug)]
struct Access {
    line: usize,
    text: String,
    allows: bool,
    /// Names of ACLs, all of which must match, and whether it is `!name`.
    all_of: Vec<(String, bool)>,
}

/// Most `http_access` lines: each allow line carries the deny lines above it.
const MAX_ACCESS: usize = 500;
const MAX_ACLS: usize = 5_000;

/// Directives that could change who reaches what, and that are not read.
const REFUSED: &[(&str, &str)] = &[
    (
        "include",
        "put its lines into the file: they may deny something",
    ),
    ("if", "decide the condition and leave the lines that hold"),
    ("else", "decide the condition and leave the lines that hold"),
    (
        "endif",
        "decide the condition and leave the lines that hold",
    ),
];

/// Directives that can only take away from what `http_access` allows, or rewrite it.
const NARROWING: &[&str] = &[
    "adapted_http_access",
    "http_access2",
    "http_reply_access",
    "icp_access",
    "htcp_access",
    "miss_access",
    "never_direct",
    "reply_body_max_size",
    "request_body_max_size",
    "ssl_bump",
    "url_rewrite_access",
    "url_rewrite_program",
    "external_acl_type",
];

impl Squid {
    /// Reads a configuration; `read` reads the files that ACLs name.
    ///
    /// # Errors
    /// [`ImportError`] for what Squid would refuse, and for what cannot be left out safely.
    pub fn read(
        text: &str,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, ImportError> {
        let mut squid = Self::default();
        for (line, text) in logical_lines(text) {
            squid.directive(line, &text, read)?;
        }
        Ok(squid)
    }

    fn directive(
        &mut self,
        line: usize,
        text: &str,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<(), ImportError> {
        let mut words = text.split_whitespace();
        let Some(name) = words.next() else {
            return Ok(());
        };
        if let Some((_, help)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            let why = "its lines could deny what others allow, and it is not followed";
            return Err(ImportError::at(line, text, why, help));
        }
        match name {
            "acl" => self.acl(line, text, words.collect(), read),
            "http_access" => self.http_access(line, text, words.collect()),
            _ if NARROWING.contains(&name) => {
                let why = "it can take away from what `http_access` allows; the draft does not";
                self.ignored.push((line, text.to_owned(), why));
                Ok(())
            }
            _about_something_else => Ok(()),
        }
    }

    fn acl(
        &mut self,
        line: usize,
        text: &str,
        words: Vec<&str>,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<(), ImportError> {
        let (Some(name), Some(kind)) = (words.first(), words.get(1)) else {
            let help = "write `acl NAME TYPE VALUES`";
            return Err(ImportError::at(
                line,
                text,
                "it is not a whole `acl` line",
                help,
            ));
        };
        let mut values = Vec::new();
        let mut flags = Vec::new();
        for word in words.iter().skip(2) {
            if let Some(path) = quoted(word) {
                let file = read(path).map_err(|why| {
                    let help =
                        "put the file where the configuration names it, or its lines into it";
                    ImportError::at(line, text, &why, help)
                })?;
                self.bytes = self.bytes.saturating_add(file.len());
                if self.bytes > MAX_BYTES {
                    let why = "the files that it names are too large together";
                    return Err(ImportError::at(line, text, why, "split the list"));
                }
                values.extend(file_values(&file));
            } else if values.is_empty() && word.starts_with('-') {
                flags.push((*word).to_owned());
            } else {
                values.push((*word).to_owned());
            }
        }
        if self.acls.len() >= MAX_ACLS {
            let why = format!("there are more than {MAX_ACLS} ACLs");
            return Err(ImportError::at(line, text, &why, "import a part of it"));
        }
        let acl = self
            .acls
            .entry((*name).to_owned())
            .or_insert_with(|| Acl::new(line, kind));
        if acl.kind != *kind {
            let why = format!("the ACL is of type `{}` above", acl.kind);
            return Err(ImportError::at(line, text, &why, "give one another name"));
        }
        acl.flags.extend(flags);
        acl.values
            .extend(values.into_iter().map(|value| (line, value)));
        Ok(())
    }

    fn http_access(
        &mut self,
        line: usize,
        text: &str,
        words: Vec<&str>,
    ) -> Result<(), ImportError> {
        let allows = match words.first() {
            Some(&"allow") => true,
            Some(&"deny") => false,
            _ => {
                let why = "it says neither `allow` nor `deny`";
                return Err(ImportError::at(line, text, why, "Squid refuses it as well"));
            }
        };
        let all_of = words
            .iter()
            .skip(1)
            .map(|word| match word.strip_prefix('!') {
                Some(name) => (name.to_owned(), true),
                None => ((*word).to_owned(), false),
            })
            .collect();
        if self.access.len() >= MAX_ACCESS {
            let why = format!("there are more than {MAX_ACCESS} `http_access` lines");
            return Err(ImportError::at(line, text, &why, "import a part of it"));
        }
        self.access.push(Access {
            line,
            text: text.to_owned(),
            allows,
            all_of,
        });
        Ok(())
    }

    /// The draft.
    ///
    /// `holds` names ACLs about the client that hold for every session.
    ///
    /// # Errors
    /// [`ImportError`] where a line names an ACL that is not there.
    pub fn import(&self, holds: &[String]) -> Result<Imported, ImportError> {
        let mut out = Imported::default();
        for (line, text, why) in &self.ignored {
            out.leave_out(*line, text, *why);
        }
        let conditions = self.conditions(holds, &mut out)?;
        let mut denied: Vec<Expr> = Vec::new();
        for access in &self.access {
            let parts = access
                .all_of
                .iter()
                .map(|name| self.part(access, name, &conditions))
                .collect::<Result<Vec<_>, _>>()?;
            let line = Between::all(parts);
            if access.allows {
                self.allow(access, &line, &denied, &mut out);
            } else {
                if !line.is_exact() {
                    let why = "part of it cannot be expressed (Squid looks up the names of \
                               addresses, for one); the draft refuses at least as much";
                    out.leave_out(access.line, &access.text, why);
                }
                denied.push(line.possible);
            }
        }
        if self.access.last().is_some_and(|last| !last.allows) && !denied.contains(&Expr::True) {
            let why = "after a last `deny` Squid allows whatever no line matches; the draft \
                       allows nothing more. Write `http_access deny all`, or a last allow line";
            out.leave_out(0, "", why);
        }
        out.not_expressed.sort_by_key(|note| note.line);
        Ok(out)
    }

    /// A condition for each ACL, built in and own.
    fn conditions(
        &self,
        holds: &[String],
        out: &mut Imported,
    ) -> Result<BTreeMap<String, Between>, ImportError> {
        for name in holds {
            if !self.acls.contains_key(name) && !acl::BUILT_IN.contains(&name.as_str()) {
                return Err(ImportError::new(
                    format!("there is no ACL `{name}` that could hold"),
                    "name one that the file defines",
                ));
            }
        }
        let used = |name: &str| {
            self.access
                .iter()
                .any(|access| access.all_of.iter().any(|(used, _)| used == name))
        };
        let mut conditions = acl::built_in(holds);
        for (name, acl) in &self.acls {
            if !used(name) {
                continue;
            }
            let condition = if holds.contains(name) {
                Between::exactly(Expr::True)
            } else {
                acl.condition(name, out)
            };
            conditions.insert(name.clone(), condition);
        }
        Ok(conditions)
    }

    fn part(
        &self,
        access: &Access,
        (name, negated): &(String, bool),
        conditions: &BTreeMap<String, Between>,
    ) -> Result<Between, ImportError> {
        let condition = conditions.get(name).cloned().ok_or_else(|| {
            let why = format!("there is no ACL `{name}`");
            ImportError::at(access.line, &access.text, &why, "Squid refuses it as well")
        })?;
        Ok(if *negated { condition.not() } else { condition })
    }

    fn allow(&self, access: &Access, line: &Between, denied: &[Expr], out: &mut Imported) {
        // What is missing of an ACL is listed with the ACL.
        if line.certain == Expr::False {
            let why = "it cannot be expressed, so the draft does not allow it; `--holds ACL` says \
                       that an ACL about the client holds for every session";
            out.leave_out(access.line, &access.text, why);
        }
        let not_denied = denied.iter().cloned().map(Expr::not);
        let condition = Expr::all(std::iter::once(line.certain.clone()).chain(not_denied));
        let when = match &condition {
            Expr::False => {
                if line.certain != Expr::False {
                    let why = "a deny line above it always matches in the draft";
                    out.leave_out(access.line, &access.text, why);
                }
                return;
            }
            Expr::True => String::new(),
            other => format!("\nwhen {{ {} }}", other.text()),
        };
        out.rules.push(Rule {
            id: format!("squid-line-{}", access.line),
            cedar: format!("permit (principal, action in Action::\"network\", resource){when};"),
            from: format!(
                "line {}: {}",
                access.line,
                cordon_audit::escape(&access.text)
            ),
        });
    }
}

/// Lines with their numbers, comments taken off, and those that end in `\` joined.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, raw) in (1..).zip(text.lines()) {
        let (mut start, mut whole) = open.take().unwrap_or((number, String::new()));
        if whole.is_empty() {
            start = number;
            // Only whole lines are comments, and what follows ` #` in a line.
            if raw.trim_start().starts_with('#') {
                continue;
            }
        }
        match raw.trim_end().strip_suffix('\\') {
            Some(part) => {
                whole.push_str(part);
                whole.push(' ');
                open = Some((start, whole));
            }
            None => {
                whole.push_str(raw);
                lines.push((start, without_comment(&whole).trim().to_owned()));
            }
        }
    }
    lines.extend(open.map(|(start, whole)| (start, without_comment(&whole).trim().to_owned())));
    lines
}

fn without_comment(line: &str) -> &str {
    line.split_once(" #")
        .or_else(|| line.split_once("\t#"))
        .map_or(line, |(front, _)| front)
}

fn quoted(word: &str) -> Option<&str> {
    word.strip_prefix('"')?.strip_suffix('"')
}

/// One value a line, without comments.
fn file_values(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| without_comment(line).trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(|line| line.split_whitespace().map(str::to_owned))
        .collect()
}
