//! Connections and HTTP requests, with what is seen of them and who makes them.

use std::{net::IpAddr, sync::Arc};

use super::{
    super::{
        AskError, CONNECT_FORM, HTTP_FORM, inside_tls,
        tables::{HANDSHAKES, TRANSPORTS},
    },
    words::Words,
};
use crate::{
    Destination, Handshake, Holder, HttpFacts, MAX_LENGTH, Method, NormalizedHost, Operation,
    ProcessFacts, Scheme, Seen, TargetError, TlsFacts, Transport, query_keys,
};

pub(super) fn connect(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, CONNECT_FORM);
    let target = words.take("host and port")?;
    let destination = Destination::from_authority(target.as_bytes())?;
    let transport = match words.option("via")? {
        Some(word) => words.one_of(word, "`http-connect`, `socks5` or `capture`", TRANSPORTS)?,
        None => Transport::HttpConnect,
    };
    let seen = seen(&mut words, None)?;
    words.end()?;
    Ok(Operation::Connect {
        destination,
        transport,
        seen,
    })
}

pub(super) fn reach(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, "reach HOST:PORT at ADDRESS");
    let target = words.take("host and port")?;
    words.keyword("at")?;
    let word = words.take("the address")?;
    let address: IpAddr = word
        .parse()
        .map_err(|_| words.unexpected(word, "an address"))?;
    words.end()?;
    Ok(Operation::ReachAddress {
        destination: Destination::from_authority(target.as_bytes())?,
        address: address.to_canonical(),
    })
}

pub(super) fn http(method: &str, rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, HTTP_FORM);
    let url = words.take("the URL")?;
    let (scheme, target) = match url.split_once("://") {
        Some(("http", target)) => (Scheme::Http, target),
        Some(("https", target)) => (Scheme::Https, target),
        _other => return Err(words.unexpected(url, "an `http://` or `https://` URL")),
    };
    let (target, query) = target.split_once('?').unwrap_or((target, ""));
    let (authority, path) = match target.find('/') {
        Some(at) => target.split_at_checked(at).unwrap_or((target, "/")),
        None => (target, "/"),
    };
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
    if !path.chars().all(plain) || !query.chars().all(plain) {
        return Err(words.unexpected(path, "a path without fragment and spaces"));
    }
    let destination = Destination::from_url_authority(authority.as_bytes(), scheme)?;
    let mut query_keys =
        query_keys(query).map_err(|_| words.unexpected(url, "a query with fewer keys"))?;
    while let Some(key) = words.option("key")? {
        query_keys.push(key.to_owned());
    }
    query_keys.sort_unstable();
    query_keys.dedup();
    let facts = HttpFacts {
        scheme,
        query_keys,
        content_type: words.option("type")?.map(str::to_owned),
        content_length: words
            .option("length")?
            .map(|word| length(word, &words))
            .transpose()?,
        credential: words.flag("credential"),
        upgrade: words.option("upgrade")?.map(str::to_owned),
        seen: seen(&mut words, inside_tls(scheme, &destination))?,
    };
    words.end()?;
    Ok(Operation::HttpRequest {
        destination,
        method: Method(method.to_owned()),
        path: path.to_owned(),
        facts: Box::new(facts),
    })
}

fn length(word: &str, words: &Words<'_>) -> Result<u64, AskError> {
    let length = word.parse().ok().filter(|length| *length <= MAX_LENGTH);
    length.ok_or_else(|| words.unexpected(word, "a number of bytes"))
}

/// What was seen of the connection. `usual` is its handshake where nothing is said of it.
fn seen(words: &mut Words<'_>, usual: Option<TlsFacts>) -> Result<Seen, AskError> {
    let tls = match words.option("tls")? {
        None => usual,
        Some("none") => None,
        Some(word) => {
            let kind = words.one_of(word, "`hello`, `not-tls` or `none`", HANDSHAKES)?;
            Some(handshake(kind, words)?)
        }
    };
    let mut names = Vec::new();
    while let Some(name) = words.option("cname")? {
        let host: NormalizedHost = name.parse().map_err(TargetError::Host)?;
        names.push(host);
    }
    Ok(Seen {
        tls: tls.map(Arc::new),
        names,
        address_unverified: words.flag("unverified"),
        process: process(words)?.map(Arc::new),
    })
}

/// The program inside that makes the connection: one, and nobody else can hold it.
fn process(words: &mut Words<'_>) -> Result<Option<ProcessFacts>, AskError> {
    let Some(executable) = words.option("process")? else {
        return Ok(None);
    };
    let mut holder = Holder {
        executable: executable.to_owned(),
        digest: words.option("digest")?.map(str::to_owned),
        ..Holder::default()
    };
    while let Some(parent) = words.option("below")? {
        holder.ancestors.push(parent.to_owned());
    }
    Ok(Some(ProcessFacts {
        holders: vec![holder],
        complete: true,
    }))
}

fn handshake(kind: Handshake, words: &mut Words<'_>) -> Result<TlsFacts, AskError> {
    let sni = words.option("sni")?.map(str::to_owned);
    let mut alpn = Vec::new();
    while let Some(protocol) = words.option("alpn")? {
        alpn.push(protocol.to_owned());
    }
    Ok(TlsFacts {
        kind,
        sni,
        alpn,
        version: words.option("version")?.map(str::to_owned),
        ja4: words.option("ja4")?.map(str::to_owned),
        ech: words.flag("ech"),
        inspected: words.flag("inspected"),
    })
}

/// A token of RFC 9110, section 5.6.2.
pub(super) fn is_method(word: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !word.is_empty() && word.len() <= 64 && word.bytes().all(token)
}
