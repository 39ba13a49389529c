//! Reads a leaf in one pass, where it is as our own writer writes nearly all of them: no white
//! space, no escapes, no nulls.
//!
//! A leaf's bytes in, its indexed fields out; nothing where anything is out of the ordinary, which
//! `serde_json` then reads or refuses. What is skipped is not proved to be JSON: its bytes are held
//! against the signed root, not against a grammar. Sealing does this for every record, and
//! `serde_json`, which proves it of every byte, takes twice as long.

use std::borrow::Cow;

use memchr::memchr2;

use super::{Digested, Http, Identified, Leaf, Named, Net, Text};
use crate::{Effect, Kind, Record};

/// The leaf's fields; `None` leaves it to `serde_json`.
pub(super) fn read(leaf: &[u8]) -> Option<Leaf<'_>> {
    let mut found = Found::default();
    let mut scan = Scan { rest: leaf };
    scan.object(|scan, key| found.take(key, scan))?;
    let ordinary = scan.rest.is_empty() && found.v? == u64::from(Record::VERSION);
    ordinary.then_some(Leaf {
        v: Record::VERSION,
        seq: found.seq?,
        ts_us: found.ts_us?,
        kind: found.kind?,
        effect: found.effect,
        action: found.action,
        agent: found.agent,
        end: found.end,
        http: found.http,
        net: found.net,
        policy: found.policy,
        principal: found.principal,
        reason: found.reason,
        resource: found.resource,
        rules: found.rules,
        session: found.session,
    })
}

/// What was found of a leaf so far.
#[derive(Default)]
struct Found<'a> {
    v: Option<u64>,
    seq: Option<u64>,
    ts_us: Option<u64>,
    kind: Option<Kind>,
    effect: Option<Effect>,
    action: Option<Text<'a>>,
    agent: Option<Named<'a>>,
    end: Option<Text<'a>>,
    http: Option<Http<'a>>,
    net: Option<Net<'a>>,
    policy: Option<Digested<'a>>,
    principal: Option<Identified<'a>>,
    reason: Option<Text<'a>>,
    resource: Option<Identified<'a>>,
    rules: Option<Vec<Text<'a>>>,
    session: Option<Text<'a>>,
}

impl<'a> Found<'a> {
    /// Takes the value of a field.
    fn take(&mut self, key: &[u8], scan: &mut Scan<'a>) -> Option<()> {
        match key {
            b"action" => set(&mut self.action, scan.text()?),
            b"agent" => set(
                &mut self.agent,
                Named {
                    name: scan.one_of(b"name")?,
                },
            ),
            b"effect" => set(&mut self.effect, effect(&scan.text()?)?),
            b"end" => set(&mut self.end, scan.text()?),
            b"http" => set(&mut self.http, scan.http()?),
            b"kind" => set(&mut self.kind, kind(&scan.text()?)?),
            b"net" => set(&mut self.net, scan.net()?),
            b"policy" => set(
                &mut self.policy,
                Digested {
                    sha256: scan.one_of(b"sha256")?,
                },
            ),
            b"principal" => set(
                &mut self.principal,
                Identified {
                    id: scan.one_of(b"id")?,
                },
            ),
            b"reason" => set(&mut self.reason, scan.text()?),
            b"resource" => set(
                &mut self.resource,
                Identified {
                    id: scan.one_of(b"id")?,
                },
            ),
            b"rules" => set(&mut self.rules, scan.texts()?),
            b"seq" => set(&mut self.seq, scan.number()?),
            b"session" => set(&mut self.session, scan.text()?),
            b"ts_us" => set(&mut self.ts_us, scan.number()?),
            b"v" => set(&mut self.v, scan.number()?),
            _other => scan.skip(),
        }
    }
}

/// The rest of a leaf.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    /// An object, whose values `take` takes.
    fn object(&mut self, mut take: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        if self.expect(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.quoted()?;
            self.expect(b':')?;
            take(self, key)?;
            if self.expect(b',').is_none() {
                return self.expect(b'}');
            }
        }
    }

    /// The one text of an object that is wanted; it must be there.
    fn one_of(&mut self, wanted: &[u8]) -> Option<Cow<'a, str>> {
        let mut found = None;
        self.object(|scan, key| match key == wanted {
            true => set(&mut found, scan.text()?.0),
            false => scan.skip(),
        })?;
        found
    }

    fn http(&mut self) -> Option<Http<'a>> {
        let mut host = None;
        self.object(|scan, key| match key {
            b"host" => set(&mut host, scan.text()?),
            _other => scan.skip(),
        })?;
        Some(Http { host })
    }

    fn net(&mut self) -> Option<Net<'a>> {
        let (mut dst, mut host, mut resolved) = (None, None, None);
        self.object(|scan, key| match key {
            b"dst" => set(&mut dst, scan.text()?),
            b"host" => set(&mut host, scan.text()?),
            b"resolved" => set(&mut resolved, scan.texts()?),
            _other => scan.skip(),
        })?;
        Some(Net {
            dst,
            host,
            resolved: resolved.unwrap_or_default(),
        })
    }

    fn texts(&mut self) -> Option<Vec<Text<'a>>> {
        self.expect(b'[')?;
        let mut texts = Vec::new();
        if self.expect(b']').is_some() {
            return Some(texts);
        }
        loop {
            texts.push(self.text()?);
            if self.expect(b',').is_none() {
                return self.expect(b']').map(|()| texts);
            }
        }
    }

    fn text(&mut self) -> Option<Text<'a>> {
        let text = std::str::from_utf8(self.quoted()?).ok()?;
        Some(Text(Cow::Borrowed(text)))
    }

    /// A whole number as JSON writes one: without zeros before it.
    fn number(&mut self) -> Option<u64> {
        let digits = self.until(|byte| !byte.is_ascii_digit());
        let starts_well = digits.first()? != &b'0' || digits.len() == 1;
        let ends_well = matches!(self.rest.first()?, b',' | b'}' | b']');
        let text = std::str::from_utf8(digits).ok()?;
        text.parse().ok().filter(|_| starts_well && ends_well)
    }

    /// Any value.
    fn skip(&mut self) -> Option<()> {
        match self.rest.first()? {
            b'"' => self.quoted().map(|_text| ()),
            b'{' | b'[' => self.skip_nested(),
            _plain => {
                let plain = self.until(|byte| matches!(byte, b',' | b'}' | b']'));
                (!plain.is_empty()).then_some(())
            }
        }
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.rest.first()? {
                b'"' => {
                    self.quoted()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open = open.checked_sub(1)?,
                _other => {}
            }
            self.rest = self.rest.get(1..)?;
            if open == 0 {
                return Some(());
            }
        }
    }

    /// What stands in quotes, where nothing in it is escaped.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.strip_prefix(b"\"")?;
        let (text, after) = rest.split_at_checked(memchr2(b'"', b'\\', rest)?)?;
        self.rest = after.strip_prefix(b"\"")?;
        Some(text)
    }

    fn until(&mut self, is_end: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().position(|byte| is_end(*byte));
        let (before, after) = self.rest.split_at(len.unwrap_or(self.rest.len()));
        self.rest = after;
        before
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        if *first != byte {
            return None;
        }
        self.rest = rest;
        Some(())
    }
}

/// A field that comes twice is out of the ordinary.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

/// The kinds that come by the thousand.
fn kind(text: &Text<'_>) -> Option<Kind> {
    [Kind::Decision, Kind::FlowClose]
        .into_iter()
        .find(|kind| kind.as_str() == text.0)
}

fn effect(text: &Text<'_>) -> Option<Effect> {
    [Effect::Allow, Effect::Deny, Effect::Ask, Effect::Error]
        .into_iter()
        .find(|effect| effect.as_str() == text.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{draft::samples, find::fixture};

    fn slowly(leaf: &[u8]) -> Result<Leaf<'_>, serde_json::Error> {
        serde_json::from_slice(leaf)
    }

    fn assert_same(quick: &Leaf<'_>, slow: &Leaf<'_>, what: &str) {
        assert_eq!(quick.terms(), slow.terms(), "{what}");
        assert_eq!(quick.session(), slow.session(), "{what}");
        assert_eq!(quick.kind, slow.kind, "{what}");
        assert_eq!(
            (quick.seq, quick.ts_us, quick.v),
            (slow.seq, slow.ts_us, slow.v)
        );
    }

    #[test]
    fn what_comes_by_the_thousand_is_read_in_one_pass_and_alike() {
        let mut quick = 0;
        let fixtures = (0..50).map(fixture::leaf);
        for leaf in fixtures.chain(samples::leaves()) {
            let text = String::from_utf8_lossy(&leaf);
            let slow = slowly(&leaf).unwrap();
            if let Some(read) = read(&leaf) {
                assert_same(&read, &slow, &text);
                quick += 1;
            } else {
                let often = [Kind::Decision, Kind::FlowClose].contains(&slow.kind);
                assert!(!often || text.contains('\\'), "{text}");
            }
        }
        assert!(quick > 60, "{quick}");
    }

    #[test]
    fn what_is_out_of_the_ordinary_is_left_to_the_other_reader() {
        let plain = r#"{"action":"net.connect","kind":"decision","seq":0,"ts_us":5,"v":1}"#;
        assert!(read(plain.as_bytes()).is_some());
        for (old, new) in [
            ("net.connect", "net\\u002econnect"),
            ("\"net.connect\"", "null"),
            ("\"net.connect\"", "[\"net.connect\"]"),
            ("\"seq\":0", "\"seq\":00"),
            ("\"seq\":0", "\"seq\":0,\"seq\":0"),
            ("\"seq\":0", "\"seq\":0.0"),
            ("\"seq\":0", "\"seq\":99999999999999999999"),
            ("\"seq\":0,", ""),
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":1,"),
            ("\"v\":1}", "\"v\":1}}"),
            ("\"v\":1}", "\"v\":1} "),
            ("\"v\":1}", "\"v\":1"),
            ("{\"action", "{ \"action"),
            ("decision", "stop"),
            ("\"ts_us\":5", "\"net\":{\"host\":\"a\"],\"ts_us\":5"),
        ] {
            let other = plain.replacen(old, new, 1);
            assert_ne!(other, plain, "{old}");
            assert!(read(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn whatever_byte_is_another_both_read_the_same_or_one_of_them_nothing() {
        let leaf = fixture::leaf(7);
        assert!(read(&leaf).is_some());
        for at in 0..leaf.len() {
            for byte in [
                b'"', b'\\', b',', b'{', b'}', b'[', b']', b':', b'0', b'a', b' ',
            ] {
                let mut other = leaf.clone();
                other[at] = byte;
                if let (Some(quick), Ok(slow)) = (read(&other), slowly(&other)) {
                    assert_same(&quick, &slow, &String::from_utf8_lossy(&other));
                }
            }
        }
    }
}
