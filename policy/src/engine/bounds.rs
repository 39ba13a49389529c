//! Bounds on policy text before a parser sees it.
//!
//! Cedar's parser recurses without a guard: 100 to 200 nested brackets abort the process on a
//! small stack. This scanner is a loop, knows strings and comments, and refuses what is too long
//! or too deep. It also finds where each rule begins, for messages.

use std::ops::Range;

/// Most bytes of one policy or data file: 4 MiB.
pub(crate) const MAX_FILE_BYTES: usize = 4 << 20;
/// Most bytes of a whole policy set: 16 MiB.
pub(crate) const MAX_SET_BYTES: usize = 16 << 20;
/// Most files of a policy set.
pub(crate) const MAX_FILES: usize = 1_000;
/// Most rules of a policy set.
pub(crate) const MAX_RULES: usize = 20_000;
/// Deepest nesting of brackets, braces and parentheses.
pub(crate) const MAX_NESTING: usize = 64;
/// Most tokens of one rule.
pub(crate) const MAX_RULE_TOKENS: usize = 8_192;
/// Most `if` of one rule; each nests the parser once more.
pub(crate) const MAX_RULE_IFS: usize = 64;

/// One rule of a file: where its text is, from its first token to its semicolon.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Statement {
    pub(crate) range: Range<usize>,
    /// An upper bound for the depth of its expression: each level costs at least one token.
    pub(crate) tokens: usize,
}

/// Text that is not given to the parser.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct OutOfBounds {
    pub(crate) offset: usize,
    pub(crate) message: String,
    pub(crate) help: &'static str,
}

/// Finds the rules of a file, or the first place where it is too long or too deep.
pub(crate) fn scan(text: &str) -> Result<Vec<Statement>, OutOfBounds> {
    let mut scanner = Scanner::default();
    let mut at = 0;
    while let Some((kind, length)) = next_token(text.get(at..).unwrap_or_default()) {
        scanner.take(kind, at..at + length, text)?;
        at += length;
    }
    Ok(scanner.finish(text.len()))
}

/// A kind of token.
#[derive(Clone, Copy)]
pub(crate) enum Token {
    /// Space or comment.
    Gap,
    Open,
    Close,
    Semicolon,
    Word,
    Other,
}

#[derive(Default)]
struct Scanner {
    statements: Vec<Statement>,
    start: Option<usize>,
    tokens: usize,
    ifs: usize,
    nesting: usize,
}

impl Scanner {
    fn take(&mut self, kind: Token, range: Range<usize>, text: &str) -> Result<(), OutOfBounds> {
        if matches!(kind, Token::Gap) {
            return Ok(());
        }
        self.start.get_or_insert(range.start);
        self.tokens += 1;
        match kind {
            Token::Open => self.nesting += 1,
            Token::Close => self.nesting = self.nesting.saturating_sub(1),
            Token::Word if text.get(range.clone()) == Some("if") => self.ifs += 1,
            Token::Semicolon if self.nesting == 0 => self.end_statement(range.end),
            Token::Gap | Token::Semicolon | Token::Word | Token::Other => {}
        }
        self.check(range.start)
    }

    fn check(&self, offset: usize) -> Result<(), OutOfBounds> {
        let refuse = |message: String, help| {
            Err(OutOfBounds {
                offset,
                message,
                help,
            })
        };
        if self.nesting > MAX_NESTING {
            return refuse(
                format!("brackets are nested more than {MAX_NESTING} deep"),
                "split the rule into several rules",
            );
        }
        if self.ifs > MAX_RULE_IFS {
            return refuse(
                format!("a rule has more than {MAX_RULE_IFS} `if`"),
                "split the rule into several rules",
            );
        }
        if self.tokens > MAX_RULE_TOKENS {
            return refuse(
                format!("a rule has more than {MAX_RULE_TOKENS} words and signs"),
                "put lists of hosts into a data file (`[host_groups]`), or split the rule",
            );
        }
        if self.statements.len() > MAX_RULES {
            return refuse(
                format!("a policy set has more than {MAX_RULES} rules"),
                "put lists of hosts into a data file (`[host_groups]`)",
            );
        }
        Ok(())
    }

    fn end_statement(&mut self, end: usize) {
        if let Some(start) = self.start.take() {
            self.statements.push(Statement {
                range: start..end,
                tokens: self.tokens,
            });
        }
        self.tokens = 0;
        self.ifs = 0;
    }

    /// Text after the last semicolon is a statement too; the parser says what is wrong with it.
    fn finish(mut self, end: usize) -> Vec<Statement> {
        self.end_statement(end);
        self.statements
    }
}

/// The next token and its length in bytes. Never an empty one, so a scan ends.
pub(crate) fn next_token(rest: &str) -> Option<(Token, usize)> {
    let first = rest.chars().next()?;
    Some(match first {
        c if c.is_whitespace() => (Token::Gap, run(rest, char::is_whitespace)),
        '/' if rest.starts_with("//") => (Token::Gap, run(rest, |c| c != '\n' && c != '\r')),
        '"' => (Token::Other, string_length(rest)),
        c if is_word(c) => (Token::Word, run(rest, is_word)),
        '(' | '[' | '{' => (Token::Open, 1),
        ')' | ']' | '}' => (Token::Close, 1),
        ';' => (Token::Semicolon, 1),
        c => (Token::Other, c.len_utf8()),
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// Length of a string literal with its quotes; an open one ends with the text.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_past_strings_and_comments() {
        let text = "// a; b\n@id(\"x;\\\"y\")\npermit(principal, action, resource);\n\
                    forbid(principal, action, resource) when { context.a == \"}\" };";
        let found: Vec<&str> = scan(text)
            .unwrap()
            .into_iter()
            .map(|s| &text[s.range])
            .collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("@id(") && found[0].ends_with(';'));
        assert!(found[1].starts_with("forbid") && found[1].ends_with("};"));
    }

    #[test]
    fn text_without_a_semicolon_is_still_a_statement() {
        assert_eq!(scan("permit(").unwrap().len(), 1);
        assert_eq!(scan("\"open").unwrap().len(), 1);
        assert_eq!(scan(" // nothing \n").unwrap(), []);
    }

    #[test]
    fn deep_and_long_text_is_out_of_bounds() {
        let deep = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
        assert!(scan(&deep(MAX_NESTING)).is_ok());
        assert!(scan(&deep(MAX_NESTING + 1)).is_err());
        assert!(scan(&"[".repeat(1_000_000)).is_err());
        assert!(scan(&"if a then ".repeat(MAX_RULE_IFS)).is_ok());
        assert!(scan(&"if a then ".repeat(MAX_RULE_IFS + 1)).is_err());
        assert!(scan(&"a ".repeat(MAX_RULE_TOKENS)).is_ok());
        assert!(scan(&"a ".repeat(MAX_RULE_TOKENS + 1)).is_err());
        assert!(scan(&"a;".repeat(MAX_RULES)).is_ok());
        assert!(scan(&"a;".repeat(MAX_RULES + 1)).is_err());
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_nest() {
        let text = format!("\"{}\" // {}", "(".repeat(1_000), "[".repeat(1_000));
        assert!(scan(&text).is_ok());
    }
}
