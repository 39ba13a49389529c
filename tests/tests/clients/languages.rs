//! HTTP clients of languages and their libraries: Go, Java, Python's aiohttp and httpx, axios.

use cordon_tests::{World, for_both};

use crate::{clients, fixture, over_http, over_https, words};

/// A client of `fixtures/clients`.
pub(crate) struct Client {
    /// Its file there.
    pub(crate) file: &'static str,
    /// The command that takes a URL.
    command: &'static str,
}

impl Client {
    /// The command line that fetches `url`.
    pub(crate) fn fetch(&self, url: &str) -> Vec<String> {
        words(self.command, url)
    }
}

/// Go's own client reads the proxy variables.
pub(crate) const GO: Client = Client {
    file: "client.go",
    command: "mnt/clients/go-client",
};

/// Java's client reads none of them, so it is captured. The first run of each is the slow one: it
/// is compiled.
pub(crate) const JAVA: Client = Client {
    file: "Client.java",
    command: "java -XX:TieredStopAtLevel=1 mnt/project/Client.java",
};

pub(crate) const AIOHTTP: Client = Client {
    file: "fetch_aiohttp.py",
    command: "mnt/clients/python/bin/python mnt/project/fetch_aiohttp.py",
};

pub(crate) const HTTPX: Client = Client {
    file: "fetch_httpx.py",
    command: "mnt/clients/python/bin/python mnt/project/fetch_httpx.py",
};

pub(crate) const AXIOS: Client = Client {
    file: "axios.js",
    command: "node mnt/project/axios.js",
};

/// Both schemes; what the denied runs said has `http`, and `https`.
#[track_caller]
fn over_both(world: &mut World, client: &Client, http: &str, https: &str) {
    if !clients() {
        return;
    }
    fixture(world, client.file);
    // Before the first session, because the daemon that it starts reads its configuration once.
    world.authority();
    let denied = over_http(world, |url| client.fetch(url));
    assert_ne!(denied.code, 0, "{denied}");
    denied.expect_stderr(http);
    let denied = over_https(world, |url| client.fetch(url));
    assert_ne!(denied.code, 0, "{denied}");
    denied.expect_stderr(https);
}

for_both! {
    /// The reason is in the body, and in the answer to CONNECT.
    fn go(world) {
        over_both(world, &GO, "default_deny", "default_deny");
    }

    /// Captured: inside TLS that is not looked into there is no place for the reason.
    fn java(world) {
        over_both(world, &JAVA, "default_deny", "access_denied");
    }

    fn python_aiohttp(world) {
        over_both(world, &AIOHTTP, "default_deny", "ALERT_ACCESS_DENIED");
    }

    fn python_httpx(world) {
        over_both(world, &HTTPX, "default_deny", "default_deny");
    }

    fn node_axios(world) {
        over_both(world, &AXIOS, "default_deny", "403");
    }
}
