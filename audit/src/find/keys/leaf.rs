//! What a leaf can be found by, read from its bytes and nothing else of it: sealing does that for
//! every record, and a whole [`Record`](crate::Record) takes several times as long.

mod scan;

use std::borrow::Cow;

use serde::Deserialize;

use super::{Field, Terms};
use crate::{Effect, Kind, Record};

/// The indexed fields of a leaf. A record has more, which is not looked at here.
#[derive(Deserialize)]
pub(crate) struct Leaf<'a> {
    v: u32,
    pub(crate) seq: u64,
    pub(crate) ts_us: u64,
    pub(crate) kind: Kind,
    effect: Option<Effect>,
    #[serde(borrow)]
    action: Option<Text<'a>>,
    #[serde(borrow)]
    agent: Option<Named<'a>>,
    #[serde(borrow)]
    end: Option<Text<'a>>,
    #[serde(borrow)]
    http: Option<Http<'a>>,
    #[serde(borrow)]
    net: Option<Net<'a>>,
    #[serde(borrow)]
    policy: Option<Digested<'a>>,
    #[serde(borrow)]
    principal: Option<Identified<'a>>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Identified<'a>>,
    #[serde(borrow)]
    rules: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    session: Option<Text<'a>>,
}

/// A text, borrowed where JSON has it as it is.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Digested<'a> {
    #[serde(borrow)]
    sha256: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Http<'a> {
    #[serde(borrow)]
    host: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Net<'a> {
    #[serde(borrow)]
    dst: Option<Text<'a>>,
    #[serde(borrow)]
    host: Option<Text<'a>>,
    #[serde(borrow, default)]
    resolved: Vec<Text<'a>>,
}

impl<'a> Leaf<'a> {
    /// Reads a leaf as far as that.
    pub(crate) fn read(leaf: &'a [u8]) -> Result<Self, String> {
        if let Some(read) = scan::read(leaf) {
            return Ok(read);
        }
        let read: Self = serde_json::from_slice(leaf).map_err(|error| error.to_string())?;
        match read.v {
            Record::VERSION => Ok(read),
            other => Err(format!("it is of schema version {other}")),
        }
    }

    /// The session that it is of.
    pub(crate) fn session(&self) -> Option<&str> {
        text(self.session.as_ref())
    }

    /// Its terms, as [`of`](super::of) has those of the record.
    pub(crate) fn terms(&self) -> Vec<(Field, &str)> {
        let mut terms = Terms::default();
        terms.0.reserve(16);
        terms.add(Field::Session, self.session());
        terms.add(Field::User, self.principal.as_ref().map(|p| &*p.id));
        terms.add(Field::Agent, self.agent.as_ref().map(|a| &*a.name));
        terms.add(Field::Action, text(self.action.as_ref()));
        terms.add(Field::Effect, self.effect.map(Effect::as_str));
        terms.add(Field::Reason, text(self.reason.as_ref()));
        for rule in self.rules.iter().flatten() {
            terms.add(Field::Rule, Some(&rule.0));
        }
        terms.add(Field::Resource, self.resource.as_ref().map(|r| &*r.id));
        if let Some(net) = &self.net {
            terms.add(Field::Host, text(net.host.as_ref()));
            terms.add(Field::Address, text(net.dst.as_ref()));
            for address in &net.resolved {
                terms.add(Field::Address, Some(&address.0));
            }
        }
        let http = self.http.as_ref();
        terms.add(Field::Host, http.and_then(|http| text(http.host.as_ref())));
        terms.add(Field::Kind, Some(self.kind.as_str()));
        terms.add(Field::Policy, self.policy.as_ref().map(|p| &*p.sha256));
        terms.add(Field::End, text(self.end.as_ref()));
        terms.0
    }
}

fn text<'b>(text: Option<&'b Text<'_>>) -> Option<&'b str> {
    text.map(|text| &*text.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find::{fixture, keys};

    #[test]
    fn a_leaf_is_found_by_what_its_record_is_found_by() {
        let mut seen = std::collections::BTreeSet::new();
        for seq in 0..400 {
            let mut record = fixture::record(seq);
            record.end = (seq % 3 == 0).then(|| "a \"quoted\"\n end".into());
            if let Some(policy) = &mut record.policy {
                policy.sha256 = format!("{seq:064x}");
            }
            if let Some(net) = &mut record.net {
                net.dst = (seq % 2 == 0).then(|| "192.0.2.8".into());
                net.resolved = vec!["192.0.2.7".into(), "192.0.2.7".into(), "2001:db8::1".into()];
            }
            let leaf = serde_json::to_vec(&record).unwrap();
            let read = Leaf::read(&leaf).unwrap();
            assert_eq!(read.terms(), keys::of(&record), "{seq}");
            assert_eq!((read.seq, read.ts_us), (record.seq, record.ts_us));
            seen.extend(read.terms().into_iter().map(|(field, _)| field));
        }
        let missing = Field::ALL.into_iter().filter(|field| !seen.contains(field));
        assert_eq!(missing.collect::<Vec<_>>(), [], "each field is shown once");
    }

    #[test]
    fn what_is_no_leaf_is_not_read() {
        for wrong in [
            "",
            "{}",
            "{\"v\":1,\"seq\":0,\"ts_us\":0}",
            "{\"v\":1,\"seq\":0",
        ] {
            assert!(Leaf::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let other = r#"{"kind":"start","seq":0,"ts_us":0,"v":2}"#;
        assert!(Leaf::read(other.as_bytes()).is_err());
        let this = other.replace("2}", "1}");
        assert!(Leaf::read(this.as_bytes()).is_ok());
    }
}
