//! Which records: the filters that `query`, `tail` and `stats` share.
//!
//! Arguments in, a [`Query`] out. Reads no log.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use cordon_audit::find::{Condition, Field, Pattern, Query};

use crate::{cli::time, error::Failure};

/// Filters. All that are given have to hold; one that is given several times is satisfied by any
/// of its values. `*` at the beginning or end of a value stands for anything.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Session id
    #[arg(long, value_name = "ID")]
    session: Vec<String>,
    /// Login name of the user
    #[arg(long, value_name = "NAME")]
    user: Vec<String>,
    /// Agent profile
    #[arg(long, value_name = "NAME")]
    agent: Vec<String>,
    /// What was asked: `net.connect`, `http.request`, `folder.grant`, `path.delete`, …
    #[arg(long, value_name = "ACTION")]
    action: Vec<String>,
    /// What was decided
    #[arg(long, value_parser = ["allow", "deny", "ask", "error"])]
    effect: Vec<String>,
    /// Why: `rule`, `default_deny`, `address_not_permitted`, …
    #[arg(long, value_name = "REASON")]
    reason: Vec<String>,
    /// Id of a rule that determined the decision
    #[arg(long, value_name = "ID")]
    rule: Vec<String>,
    /// What was asked for: `api.example.com:443`, `/home/ann/project`, …
    #[arg(long, visible_alias = "destination", value_name = "WHAT")]
    resource: Vec<String>,
    /// Host name, on any port
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// IP address that was connected to or decided on
    #[arg(long, value_name = "IP")]
    address: Vec<String>,
    /// Kind of record: `decision`, `flow.close`, `session.start`, …
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Digest of the policy set, or its first digits
    #[arg(long, value_name = "SHA256")]
    policy: Vec<String>,
    /// How a flow or session ended: `completed`, `connect_failed`, `exited`, …
    #[arg(long, value_name = "END")]
    end: Vec<String>,
    /// Not before this: `90s`, `30m`, `2h`, `7d` ago, or `2026-11-21`, or `2026-11-21T14:00:00Z`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this; as for `--since`
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// A text that some value contains; case does not matter
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Read every record instead of trusting the postings
    #[arg(long)]
    scan: bool,
}

impl FilterArgs {
    /// The records of one session, by its id or the first digits of it.
    pub fn of_session(begins: &str) -> Self {
        Self {
            session: vec![format!("{begins}*")],
            ..Self::default()
        }
    }

    /// What is looked for; `now_us` is the present time in microseconds since the epoch.
    ///
    /// # Errors
    /// A usage error when a time cannot be read.
    pub fn query(&self, now_us: u64) -> Result<Query, Failure> {
        let fields = [
            (Field::Session, &self.session),
            (Field::User, &self.user),
            (Field::Agent, &self.agent),
            (Field::Action, &self.action),
            (Field::Effect, &self.effect),
            (Field::Reason, &self.reason),
            (Field::Rule, &self.rule),
            (Field::Resource, &self.resource),
            (Field::Host, &self.host),
            (Field::Address, &self.address),
            (Field::Kind, &self.kind),
            (Field::Policy, &self.policy),
            (Field::End, &self.end),
        ];
        let condition = |(field, values): (Field, &Vec<String>)| {
            let any: Vec<Pattern> = values.iter().map(|value| pattern(field, value)).collect();
            (!any.is_empty()).then_some(Condition { field, any })
        };
        let at = |text: &Option<String>| {
            text.as_deref()
                .map(|text| time_us(text, now_us))
                .transpose()
        };
        Ok(Query {
            conditions: fields.into_iter().filter_map(condition).collect(),
            since_us: at(&self.since)?,
            until_us: at(&self.until)?,
            text: self.grep.clone(),
            scan: self.scan,
            ..Query::default()
        })
    }
}

fn pattern(field: Field, value: &str) -> Pattern {
    let text = match field {
        // A digest is mostly given by its first digits, as the summary shows it.
        Field::Policy if value.len() < 64 && !value.ends_with('*') => format!("{value}*"),
        _ => value.into(),
    };
    let Ok(pattern) = text.parse();
    pattern
}

/// A time in microseconds since the epoch: so long ago, a day (UTC), or RFC 3339.
///
/// # Errors
/// A usage error that says what a time looks like.
pub fn time_us(text: &str, now_us: u64) -> Result<u64, Failure> {
    let now = UNIX_EPOCH + Duration::from_micros(now_us);
    time::before(now, text)
        .and_then(time::micros)
        .ok_or_else(|| {
            Failure::new(format!("{text:?} is no time"))
                .help(time::SHAPE)
                .usage()
        })
}

/// The present time in microseconds since the epoch.
pub fn now_us() -> u64 {
    time::micros(SystemTime::now()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_763_683_200_000_000;

    #[test]
    fn times_are_ago_or_of_the_calendar() {
        for (text, want) in [
            ("0s", Some(NOW)),
            ("90s", Some(NOW - 90_000_000)),
            ("2h", Some(NOW - 7_200_000_000)),
            ("7d", Some(NOW - 604_800_000_000)),
            ("2025-11-21", Some(NOW)),
            ("2025-11-21T00:00:01Z", Some(NOW + 1_000_000)),
            ("2025-11-21T01:00:00+01:00", Some(NOW)),
            ("h", None),
            ("2x", None),
            ("-2h", None),
            ("99999999999999999999d", None),
            ("2025-13-01", None),
            ("1960-01-01", None),
            ("", None),
        ] {
            assert_eq!(time_us(text, NOW).ok(), want, "{text}");
        }
        assert_eq!(
            time_us("soon", NOW).unwrap_err().code(),
            crate::cli::exit::USAGE
        );
    }

    #[test]
    fn filters_become_conditions_and_several_values_are_alternatives() {
        let args = FilterArgs {
            host: vec!["a.test".into(), "*.b.test".into()],
            policy: vec!["abcd".into()],
            since: Some("1h".into()),
            ..FilterArgs::default()
        };
        let query = args.query(NOW).unwrap();
        let [host, policy] = query.conditions.as_slice() else {
            panic!("{query:?}");
        };
        assert_eq!((host.field, host.any.len()), (Field::Host, 2));
        let Ok(open) = "abcd*".parse::<Pattern>();
        assert_eq!(policy.any, [open]);
        assert_eq!(query.since_us, Some(NOW - 3_600_000_000));
        assert!(
            FilterArgs::default()
                .query(NOW)
                .unwrap()
                .conditions
                .is_empty()
        );
    }
}
