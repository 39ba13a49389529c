//! The environment inside, built from nothing (F17): what the session needs, what the profile
//! passes, what the user names. Nothing else of the host's environment is there.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    process::{Command, Stdio},
};

use thiserror::Error;

use super::trust;

/// HTTP proxy inside, the first of the two ways out.
const HTTP_PROXY: &str = "127.0.0.1:3128";

/// The session's own loopback is its own; all else goes through policy (N17).
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Host variables that only say how to talk to the user: terminal, language, time zone.
const PASSED: &[&str] = &[
    "COLORTERM",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NUMERIC",
    "LC_TIME",
    "NO_COLOR",
    "TERM",
    "TZ",
];

/// Why a `--env` was not understood.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum EnvFlagError {
    /// Not a variable name.
    #[error("`--env {text}`: `{name}` is not a variable name (letters, digits, `_`)")]
    BadName {
        /// As written.
        text: String,
        /// The name part.
        name: String,
    },
    /// `--env` of a variable that holds a placeholder: the secret stays outside.
    #[error(
        "`--env {name}`: `{name}` holds the placeholder of a credential (`env_in_session` in \
         `cordon.toml`), and the secret itself does not go into the session; leave the flag out"
    )]
    Placeholder {
        /// Its name.
        name: String,
    },
    /// `--env` of a variable that the session defaults take away.
    #[error(
        "`--env {name}`: the session defaults (`--defaults`) take `{name}` away; leave the flag out"
    )]
    Stripped {
        /// Its name.
        name: String,
    },
    /// `--env NAME` of a variable that the host does not have.
    #[error("`--env {name}`: the variable is not set here; give it a value: `--env {name}=VALUE`")]
    NotSet {
        /// Its name.
        name: String,
    },
}

/// What the environment inside is made of.
#[derive(Debug)]
pub struct Environment<'a> {
    /// Session id.
    pub session: &'a str,
    /// Login name.
    pub user: &'a str,
    /// `--env` flags as written.
    pub flags: &'a [String],
    /// Variables that none of the other sources puts in, but for the session's own.
    pub stripped: &'a [String],
    /// Variables of the agent's profile.
    pub profile: &'a [(String, String)],
    /// Directories of the agent's program, before the usual ones in `PATH`.
    pub path: &'a [std::path::PathBuf],
    /// Whether the session trusts certificates beside the system's.
    pub extra_ca: bool,
    /// Whether Java has to be told where those are.
    pub tell_java: bool,
    /// Variables that hold placeholders in place of secrets. No other source replaces them.
    pub placeholders: &'a [(String, String)],
}

impl Environment<'_> {
    /// All variables, sorted by name. Later sources win: the session's own, then what passes from
    /// the host, then the profile's, then the flags, then placeholders.
    ///
    /// # Errors
    /// [`EnvFlagError`].
    pub fn build(
        &self,
        host: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Vec<(OsString, OsString)>, EnvFlagError> {
        let mut variables: BTreeMap<OsString, OsString> = BTreeMap::new();
        for (name, value) in self.own() {
            variables.insert(name.into(), value.into());
        }
        let is_stripped = |name: &str| self.stripped.iter().any(|stripped| stripped == name);
        for name in PASSED.iter().filter(|name| !is_stripped(name)) {
            if let Some(value) = host(name) {
                variables.insert(name.into(), value);
            }
        }
        for (name, value) in self.profile.iter().filter(|(name, _)| !is_stripped(name)) {
            variables.insert(name.into(), value.into());
        }
        for text in self.flags {
            let (name, value) = flag(text, self.stripped, &host)?;
            if self.placeholders.iter().any(|(held, _)| *held == name) {
                return Err(EnvFlagError::Placeholder { name });
            }
            variables.insert(name.into(), value);
        }
        for (name, value) in self.placeholders {
            variables.insert(name.into(), value.into());
        }
        Ok(variables.into_iter().collect())
    }

    fn own(&self) -> Vec<(&'static str, String)> {
        let home = format!("/sessions/{}", self.session);
        let mut variables = vec![
            ("CORDON_SESSION", self.session.to_owned()),
            ("HOME", home),
            ("LOGNAME", self.user.to_owned()),
            ("PATH", self.path_variable()),
            ("SHELL", "/bin/bash".into()),
            ("TMPDIR", "/tmp".into()),
            ("USER", self.user.to_owned()),
        ];
        variables.extend(proxy_variables(HTTP_PROXY));
        if self.extra_ca {
            variables.extend(trust_variables());
        }
        if self.tell_java {
            let options = format!(
                "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword={}",
                trust::JAVA_STORE,
                trust::JAVA_PASSWORD
            );
            // Java says on standard error that it read this; without it nothing would be trusted.
            variables.push(("JAVA_TOOL_OPTIONS", options));
        }
        variables
    }

    fn path_variable(&self) -> String {
        let own = self.path.iter().map(|path| path.display().to_string());
        let usual = [
            "/usr/local/bin",
            "/usr/bin",
            "/bin",
            "/usr/local/sbin",
            "/usr/sbin",
            "/sbin",
        ];
        own.chain(usual.map(Into::into))
            .collect::<Vec<String>>()
            .join(":")
    }
}

fn flag(
    text: &str,
    stripped: &[String],
    host: impl Fn(&str) -> Option<OsString>,
) -> Result<(String, OsString), EnvFlagError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(EnvFlagError::BadName {
            text: text.into(),
            name: name.into(),
        });
    }
    if stripped.iter().any(|stripped| stripped == name) {
        return Err(EnvFlagError::Stripped { name: name.into() });
    }
    let value = match value {
        Some(value) => value.into(),
        None => host(name).ok_or_else(|| EnvFlagError::NotSet { name: name.into() })?,
    };
    Ok((name.into(), value))
}

/// Whether all flags can be understood, before anything is asked of anybody.
///
/// # Errors
/// [`EnvFlagError`].
pub fn check_flags(
    flags: &[String],
    stripped: &[String],
    host: impl Fn(&str) -> Option<OsString>,
) -> Result<(), EnvFlagError> {
    flags
        .iter()
        .try_for_each(|text| flag(text, stripped, &host).map(|_understood| ()))
}

/// Who the user is to git, as git itself says it, in the variables that git reads. Only this of
/// the user's git configuration passes: the rest of it may name programs and credentials.
pub fn git_identity() -> Vec<(String, String)> {
    let asked = [("user.name", "NAME"), ("user.email", "EMAIL")];
    let known = asked
        .into_iter()
        .filter_map(|(key, part)| Some((part, git_config(key)?)));
    known
        .flat_map(|(part, value)| {
            ["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_{part}"), value.clone()))
        })
        .collect()
}

fn git_config(key: &str) -> Option<String> {
    let git = Command::new("git")
        .args(["config", "--global", "--get", key])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let value = String::from_utf8(git.stdout).ok()?;
    let value = value.trim_end_matches('\n');
    (git.status.success() && !value.is_empty()).then(|| value.to_owned())
}

/// The usual variables, in both cases, and those of common tools. None names the SOCKS proxy:
/// Python's httpx (by `ALL_PROXY`) and websockets (by `SOCKS_PROXY`), and every SDK built on them,
/// refuse to start then unless an extra package is installed. Whoever reads none is captured.
pub fn proxy_variables(proxy: &str) -> Vec<(&'static str, String)> {
    let http = [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "ftp_proxy",
        "FTP_PROXY",
        "grpc_proxy",
        "GRPC_PROXY",
        "YARN_HTTP_PROXY",
        "YARN_HTTPS_PROXY",
        "npm_config_proxy",
        "npm_config_https_proxy",
        "CARGO_HTTP_PROXY",
        "PIP_PROXY",
    ];
    let url = format!("http://{proxy}");
    let mut variables: Vec<(&str, String)> = http.map(|name| (name, url.clone())).into();
    variables.extend(["no_proxy", "NO_PROXY"].map(|name| (name, NO_PROXY.into())));
    variables.extend([
        ("RSYNC_PROXY", proxy.to_owned()),
        // Node's fetch reads the proxy variables only when it is told to.
        ("NODE_USE_ENV_PROXY", "1".to_owned()),
    ]);
    variables
}

/// By what programs find certificates that are not in the place they were built for.
fn trust_variables() -> Vec<(&'static str, String)> {
    let mut variables: Vec<(&str, String)> = [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "CARGO_HTTP_CAINFO",
        "PIP_CERT",
        "AWS_CA_BUNDLE",
        "CODEX_CA_CERTIFICATE",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "HTTPLIB2_CA_CERTS",
        "NIX_SSL_CERT_FILE",
        "PERL_LWP_SSL_CA_FILE",
        "BUNDLE_SSL_CA_CERT",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    ]
    .map(|name| (name, trust::BUNDLE.into()))
    .into();
    // These add them to their own.
    for name in ["NODE_EXTRA_CA_CERTS", "DENO_CERT"] {
        variables.push((name, trust::EXTRA.into()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(flags: &[&str]) -> Result<BTreeMap<String, String>, EnvFlagError> {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let environment = Environment {
            session: "s1",
            user: "ada",
            flags: &flags,
            stripped: &["STRIPPED".into(), "COLORTERM".into()],
            profile: &[
                ("AGENT".into(), "x".into()),
                ("STRIPPED".into(), "x".into()),
            ],
            path: &["/opt/agent/bin".into()],
            extra_ca: false,
            tell_java: false,
            placeholders: &[("FORGE_TOKEN".into(), "cordon-placeholder-1".into())],
        };
        let host = |name: &str| match name {
            "TERM" => Some("xterm".into()),
            "COLORTERM" | "STRIPPED" => Some("truecolor".into()),
            "LD_PRELOAD" | "BASH_ENV" | "SECRET" => Some("evil".into()),
            _other => None,
        };
        let text = |text: OsString| text.into_string().unwrap();
        Ok(environment
            .build(host)?
            .into_iter()
            .map(|(n, v)| (text(n), text(v)))
            .collect())
    }

    #[test]
    fn f17_nothing_passes_that_is_not_named() {
        let variables = built(&[]).unwrap();
        assert_eq!(variables["TERM"], "xterm");
        assert_eq!(variables["AGENT"], "x");
        assert!(variables["PATH"].starts_with("/opt/agent/bin:/usr/local/bin:"));
        for name in ["LD_PRELOAD", "BASH_ENV", "SECRET", "STRIPPED", "COLORTERM"] {
            assert!(!variables.contains_key(name), "{name}");
        }
        assert_eq!(built(&["SECRET"]).unwrap()["SECRET"], "evil");
        assert_eq!(built(&["A=b=c"]).unwrap()["A"], "b=c");
        for flag in ["STRIPPED", "STRIPPED=x", "COLORTERM=x"] {
            let error = built(&[flag]).unwrap_err();
            assert!(matches!(error, EnvFlagError::Stripped { .. }), "{error}");
        }
    }

    #[test]
    fn n21_a_placeholder_is_there_and_nothing_replaces_it() {
        assert_eq!(built(&[]).unwrap()["FORGE_TOKEN"], "cordon-placeholder-1");
        for flag in ["FORGE_TOKEN=secret", "FORGE_TOKEN=cordon-placeholder-1"] {
            let refused = built(&[flag]);
            assert!(
                matches!(refused, Err(EnvFlagError::Placeholder { .. })),
                "{flag}"
            );
        }
    }

    #[test]
    fn a_flag_that_names_nothing_is_refused() {
        for flag in ["", "=x", "A B=c", "1A=x", "UNSET"] {
            assert!(built(&[flag]).is_err(), "{flag}");
        }
    }

    #[test]
    fn both_cases_of_the_usual_variables_are_set() {
        let variables = built(&[]).unwrap();
        for name in ["http_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"] {
            assert!(variables.contains_key(name), "{name}");
        }
        let socks = |value: &String| value.starts_with("socks");
        assert!(!variables.values().any(socks), "{variables:?}");
        assert_eq!(variables["HOME"], "/sessions/s1");
    }
}
