//! Requests in words: one grammar for every tool of the author.
//!
//! `connect api.example.com:443` in, an [`Operation`] out, and back again ([`words`]). Bounded;
//! never decides, never resolves names.

mod given;
mod parse;
mod tables;
mod tokens;
mod write;

use thiserror::Error;

pub use given::{BadTime, Given, Moment};
pub use write::words;

use crate::{Destination, Host, Operation, Scheme, TargetError, TlsFacts};

/// Longest request in words, in bytes: a path of 4096 bytes and what stands around it.
pub const MAX_BYTES: usize = 16 << 10;

/// Every form of a request, for help and messages. What stands in brackets may be left out.
pub const FORMS: &[&str] = &[
    "start NAME [with PROFILE]",
    "exec NAME [with PROFILE]",
    "publish port ADDRESS:PORT [to PORT]",
    "grant ro|rw|rwd PATH [named NAME] [from command-line|working-directory|profile|api]",
    "read|write|delete PATH [in ro|rw|rwd]",
    CONNECT_FORM,
    HTTP_FORM,
    "reach HOST:PORT at ADDRESS",
    "enable connector NAME",
    "use scope SCOPE of CONNECTOR",
    "install|load extension ID [version V] [signed trusted|untrusted|broken|unsigned] [by PUBLISHER] [digest HEX]",
    "use permission PERMISSION of ID [as for an extension]",
    CALL_FORM,
    "enable browser",
    "open https://HOST[:PORT]",
    "click|type|submit|upload|download|script in https://HOST[:PORT]",
    "approve for USER [group G]... [agent A] [platform P] [backend B] [session ID]",
    "manage open|read|ask|steer|change|end|token for USER [as for approve]",
    "publish policy NAME",
    "read log NAME",
];

const CONNECT_FORM: &str = "connect HOST:PORT [via http-connect|socks5|capture] \
    [tls hello|not-tls [sni NAME] [alpn PROTOCOL]... [version 1.2|1.3] [ja4 TEXT] [ech] \
    [inspected]] [cname NAME]... [unverified] [process PATH [digest HEX] [below PATH]...]";

const CALL_FORM: &str = "call TOOL of ID [as for an extension] \
    [as resource|prompt|sampling|elicitation|roots] [definition first|accepted|changed] \
    [read-only] [harmless] [closed] [with NAME=VALUE]... \
    [input HEX]";

const HTTP_FORM: &str = "GET|POST|... http[s]://HOST[:PORT]/PATH[?QUERY] [key NAME]... \
    [type MEDIA] [length BYTES] [credential] [upgrade PROTOCOL] [tls, cname, unverified, process \
    as for connect]";

/// The handshake of a request that came inside TLS, where nothing else is said of it: that of a
/// client that names its host, and that Cordon looks into.
fn inside_tls(scheme: Scheme, destination: &Destination) -> Option<TlsFacts> {
    match scheme {
        Scheme::Http => None,
        Scheme::Https => Some(TlsFacts {
            sni: match &destination.host {
                Host::Name(name) => Some(name.to_string()),
                Host::Address(_) => None,
            },
            inspected: true,
            ..TlsFacts::default()
        }),
    }
}

/// Why words are no request. Texts are bounded where they are kept and escaped where shown.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AskError {
    /// No words at all.
    #[error("there is no request")]
    Empty,
    /// More than [`MAX_BYTES`] bytes or too many words.
    #[error("the request is longer than {MAX_BYTES} bytes or 256 words")]
    TooLong,
    /// A quoted word does not end, or has an escape that is none.
    #[error("a quoted word is not well formed: {text:?}")]
    BadQuote {
        /// The word, bounded.
        text: String,
    },
    /// No form begins like this.
    #[error("no request begins with {word:?}")]
    Unknown {
        /// The first word, bounded.
        word: String,
    },
    /// A form breaks off.
    #[error("{missing} is missing in `{form}`")]
    Missing {
        /// What should come next.
        missing: &'static str,
        /// The form.
        form: &'static str,
    },
    /// A word stands where another is expected.
    #[error("{word:?} stands where `{form}` wants {wanted}")]
    Unexpected {
        /// The word, bounded.
        word: String,
        /// What should stand there.
        wanted: &'static str,
        /// The form.
        form: &'static str,
    },
    /// The destination is not accepted, as the proxy would not accept it.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl AskError {
    /// What to do; shown after `help:`.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty | Self::Unknown { .. } => {
                format!("the forms are:\n  {}", FORMS.join("\n  "))
            }
            Self::TooLong => "shorten it".into(),
            Self::BadQuote { .. } => {
                "put a word with spaces into double quotes; inside, write `\\\"` and `\\\\`".into()
            }
            Self::Missing { form, .. } | Self::Unexpected { form, .. } => {
                format!("write `{form}`; put a word with spaces into double quotes")
            }
            Self::Target(error) => error.hint().into(),
        }
    }

    /// Whether it is well said and only its host, port or authority is refused: what a session
    /// sends so is a malformed request, and denied.
    pub fn is_malformed_target(&self) -> bool {
        matches!(self, Self::Target(_))
    }
}

/// Reads a request from one text.
///
/// # Errors
/// [`AskError`]; its hint names the forms.
pub fn parse(text: &str) -> Result<Operation, AskError> {
    if text.len() > MAX_BYTES {
        return Err(AskError::TooLong);
    }
    parse::operation(&tokens::split(text)?)
}

/// Reads a request from the words of a command line, where the shell has taken the quotes. One
/// word with spaces in it is read as a text.
///
/// # Errors
/// [`AskError`]; its hint names the forms.
pub fn parse_words(words: &[impl AsRef<str>]) -> Result<Operation, AskError> {
    let bytes: usize = words.iter().map(|word| word.as_ref().len() + 1).sum();
    if bytes > MAX_BYTES || words.len() > tokens::MAX_WORDS {
        return Err(AskError::TooLong);
    }
    match words {
        [only] => parse(only.as_ref()),
        _several => {
            let words: Vec<String> = words.iter().map(|word| word.as_ref().to_owned()).collect();
            parse::operation(&words)
        }
    }
}

#[cfg(test)]
mod tests;
