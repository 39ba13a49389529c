//! A git server: the smart HTTP protocol by `git http-backend` over a bare repository.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::http::{Reply, Request};
use crate::World;

/// A bare repository with one commit on `main` (`README` says `hello`), owned by the world.
pub fn bare_repository(world: &World) -> PathBuf {
    let work = world.folder("git-work");
    let bare = world.folder("git").join("project.git");
    let (work, bare_text) = (work.to_string_lossy(), bare.to_string_lossy());
    world.host("git", &["init", "-q", "-b", "main", &work]);
    world.write(format!("{work}/README"), "hello\n");
    world.host("git", &["-C", &work, "add", "README"]);
    let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
    let mut commit = vec!["-C", &work];
    commit.extend(identity);
    commit.extend(["commit", "-q", "-m", "first"]);
    world.host("git", &commit);
    world.host("git", &["clone", "-q", "--bare", &work, &bare_text]);
    bare
}

/// Answers one request as `git http-backend` does (a CGI program, RFC 3875).
pub fn answer(projects: &Path, request: &Request) -> Reply {
    let query = request
        .target
        .split_once('?')
        .map_or("", |(_, query)| query);
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", projects)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", request.path())
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or(""))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    for (header, variable) in [
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.header(header) {
            command.env(variable, value);
        }
    }
    let mut child = command.spawn().expect("git is installed");
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(&request.body);
    }
    let output = child.wait_with_output().expect("it is our child");
    from_cgi(&output.stdout)
}

fn from_cgi(bytes: &[u8]) -> Reply {
    let end = bytes
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    let mut reply = Reply::ok(bytes.get(end + 4..).unwrap_or_default());
    reply.headers.clear();
    for line in String::from_utf8_lossy(&bytes[..end]).split("\r\n") {
        match line.strip_prefix("Status: ") {
            Some(status) => reply.status = status.to_owned(),
            None => reply.headers.push(line.to_owned()),
        }
    }
    reply
}
