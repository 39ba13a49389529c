//! Stable codes of findings: what a machine filters by, and a page for each that a person reads.

use serde::Serialize;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $title:literal;)*) => {
        /// What kind of finding it is. Codes are never given to another kind. CP0xx stop a set
        /// from loading, CP1xx say that it probably does not mean what its author meant.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Code { $($(#[doc = $doc])+ $variant,)* }

        impl Code {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As it stands in output: `CP101`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// A few words for a list of rules.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What it means and why it matters, in full.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)* }
            }
        }
    };
}

codes! {
    /// The text is not Cedar, a rule is a template, or two rules have one name.
    Rule = "CP001", "a rule cannot be read";
    /// The rule does not fit the schema: an unknown type, action or attribute, or a wrong type.
    Schema = "CP002", "a rule does not fit the schema";
    /// The set, a file or a rule is larger or nested deeper than what is accepted.
    Bounds = "CP003", "too large or too deep";
    /// A name, address, prefix or path is not in its one spelling, so it would never match.
    Spelling = "CP004", "a name is not in canonical form";
    /// A rule or a data file names a host group that is not there.
    UnknownGroup = "CP005", "an unknown host group";
    /// A data file cannot be read, or its groups contain each other.
    Data = "CP006", "a data file cannot be read";
    /// An annotation has a value that is not accepted.
    Annotation = "CP007", "an annotation is not accepted";
    /// A rule permits in a layer that may only forbid.
    Layer = "CP008", "a layer that may not permit does";
    /// The rule asks for something that no enforcement point of this version can do.
    Unenforceable = "CP009", "nothing can enforce this rule";
    /// A rule looks for a label that nothing gives, so it would never see it.
    UnknownLabel = "CP010", "an unknown label";
    /// The rule's scope can match no request: it does nothing, whatever its condition says.
    NeverInScope = "CP101", "the scope can never match";
    /// The rule's condition is false for every request: the rule does nothing.
    NeverTrue = "CP102", "the condition is never true";
    /// A condition that is true for every request: leaving it out says the same.
    AlwaysTrue = "CP103", "the condition is always true";
    /// Another rule says exactly the same.
    Duplicate = "CP104", "a duplicate rule";
    /// A broader rule without a condition permits or forbids all of it already.
    Shadowed = "CP105", "a broader rule covers this one";
    /// A forbid without a condition covers all that this permit permits, so it permits nothing.
    Overruled = "CP106", "a forbid covers this permit";
    /// Nothing that this rule forbids is permitted by any rule, so it changes nothing today.
    NothingToForbid = "CP107", "a forbid that cannot fire";
    /// An HTTP request to change the protocol is `http_upgrade`: this rule is about other requests.
    UpgradeApart = "CP109", "an upgrade is an action of its own";
    /// The group has no members: a rule about it matches nothing.
    EmptyGroup = "CP110", "an empty host group";
    /// No rule and no other group names the group.
    UnusedGroup = "CP111", "an unused host group";
    /// A public suffix: everybody can register a name below it.
    PublicSuffix = "CP112", "a whole public suffix";
    /// The rule has no `@id`: the log names it by file and line, which change when it is edited.
    NoId = "CP120", "a rule without an id";
    /// A pattern on a name: `like` cannot keep to whole labels, `in Domain` does, and is faster.
    PatternOnName = "CP121", "a pattern on a host name";
    /// The rule opens every port of many hosts.
    AnyPort = "CP122", "every port is permitted";
    /// A reason is shown to people and to programs inside a session: it is no place for secrets.
    SecretInReason = "CP123", "a reason that looks like a secret";
    /// An annotation that nothing reads: a misspelt one does nothing, silently.
    UnknownAnnotation = "CP124", "an unknown annotation";
    /// Observe mode has an end that has passed, so the rule or set is enforced.
    ObserveEnded = "CP125", "observe mode has ended";
    /// Cedar's validator warns about it.
    Validator = "CP130", "Cedar's validator warns";
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_ordered_and_explained() {
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(codes.is_sorted(), "{codes:?}");
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), codes.len());
        for code in Code::ALL {
            assert!(code.explanation().len() > 30, "{code:?}");
            assert!(!code.title().ends_with('.'), "{code:?}");
        }
    }

    #[test]
    fn the_page_for_people_lists_every_code() {
        let page = include_str!("../../../docs/editors.md");
        let rows: Vec<String> = page
            .lines()
            .filter(|line| line.starts_with("| `CP"))
            .map(str::to_owned)
            .collect();
        let wanted: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("| `{}` | {} |", code.as_str(), code.explanation()))
            .collect();
        assert_eq!(rows, wanted);
    }
}
