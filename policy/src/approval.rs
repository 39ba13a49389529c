//! What a person's approval is about: exactly one request of one session, by its digest (P04).
//!
//! A session's id and an operation in, a digest out. Knows no clock and keeps nothing.

use std::{os::unix::ffi::OsStrExt, path::Path, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Operation, Seen, ask};

/// A person's approval of exactly one request, as decisions and records name it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ApprovalRef {
    /// Its id.
    pub id: Arc<str>,
    /// SHA-256 over the session and the request in words, lower-case hex.
    pub digest: Arc<str>,
    /// What was given; absent as long as nobody has answered, and when the answer was no.
    pub given: Option<GivenApproval>,
}

/// What was given by an approval.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct GivenApproval {
    /// For how much.
    pub scope: ApprovalScope,
    /// Who gave it: one name, or one of each of several people.
    pub by: Vec<Arc<str>>,
    /// When.
    pub at: SystemTime,
}

/// For how much an approval is given.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalScope {
    /// For one use.
    Once,
    /// For so many uses.
    Uses,
    /// Until the session ends.
    Session,
}

impl ApprovalScope {
    /// As it stands in records and in policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Uses => "uses",
            Self::Session => "session",
        }
    }
}

impl Operation {
    /// What an approval of this operation in this session binds: SHA-256 over the session's id and
    /// the request in words, lower-case hex. What is seen of a connection later is no part of it:
    /// nobody could have been asked about that.
    pub fn approval_digest(&self, session: &str) -> String {
        let mut asked = self.clone();
        if let Some(seen) = asked.seen_mut() {
            *seen = Seen::default();
        }
        let words = ask::words(&asked);
        let mut hash = Sha256::new();
        let path = asked
            .path()
            .map_or(&[][..], |path| path.as_os_str().as_bytes());
        // A path that is not UTF-8 is only resembled by the words.
        for part in [DOMAIN, session.as_bytes(), words.as_bytes(), path] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        crate::bundle::hex(&hash.finalize())
    }

    /// The path that it is about, where it is about one.
    fn path(&self) -> Option<&Path> {
        match self {
            Self::GrantFolder { path, .. }
            | Self::DeletePath { path, .. }
            | Self::ReadPath { path, .. }
            | Self::WritePath { path, .. } => Some(path),
            Self::StartSession { .. }
            | Self::ExecInSession { .. }
            | Self::PublishPort { .. }
            | Self::Connect { .. }
            | Self::HttpRequest { .. }
            | Self::ReachAddress { .. }
            | Self::EnableConnector { .. }
            | Self::UseScope { .. }
            | Self::InstallExtension { .. }
            | Self::LoadExtension { .. }
            | Self::UsePermission { .. }
            | Self::CallTool { .. }
            | Self::EnableBrowser
            | Self::OpenOrigin { .. }
            | Self::ActInOrigin { .. }
            | Self::Approve { .. }
            | Self::PublishPolicy { .. }
            | Self::ManageSession { .. }
            | Self::ReadLog { .. } => None,
        }
    }
}

/// So that no digest of something else is ever one of a request.
const DOMAIN: &[u8] = b"cordon approval 1";

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, path::PathBuf};

    use super::*;
    use crate::GrantMode;

    fn digest(words: &str) -> String {
        ask::parse(words).unwrap().approval_digest("s")
    }

    #[test]
    fn p04_another_request_has_another_digest() {
        let requests = [
            "connect a.test:443",
            "connect a.test:444",
            "connect b.test:443",
            "GET https://a.test/x",
            "GET https://a.test/y",
            "GET https://a.test/x key k",
            "POST https://a.test/x length 5",
            "POST https://a.test/x length 6",
            "POST https://a.test/x type text/plain length 6",
            "write /a/b",
            "read /a/b",
            "write /a/b in rwd",
            "call t of e",
            "call t of e version 2",
            "call t of e digest 00ff",
            "call t of e input 00ff",
            "call t of e with a=b input 00ff",
            "use scope t of e",
        ];
        let mut seen: Vec<String> = requests.iter().map(|words| digest(words)).collect();
        seen.push(ask::parse("write /a/b").unwrap().approval_digest("other"));
        let odd = |bytes: &[u8]| Operation::ReadPath {
            path: PathBuf::from(OsStr::from_bytes(bytes)),
            mode: GrantMode::Ro,
        };
        seen.push(odd(b"/a/\xff").approval_digest("s"));
        seen.push(odd(b"/a/\xfe").approval_digest("s"));
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all);
        assert_eq!(digest("connect A.test:443"), digest("connect a.test:443"));
    }

    #[test]
    fn what_is_seen_of_a_connection_later_is_the_same_request() {
        let later = "connect a.test:443 tls hello sni a.test cname b.test";
        assert_eq!(digest("connect a.test:443"), digest(later));
    }
}
