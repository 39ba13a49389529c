//! Cedar's own corpus, through our slicing: the whole set and the slice of it agree.
//!
//! The published `cedar-policy` crates carry no test corpus. The project's is
//! `corpus-tests.tar.gz` of the repository `cedar-policy/cedar-integration-tests`: some 7,800
//! random policy sets with entities and eight requests each, with the answers that Cedar's
//! formal model gives. It is not kept here; unpacked, it is named by `CORDON_CEDAR_CORPUS`.

use std::{collections::BTreeSet, env, fs, path::Path};

use cedar_policy::{Context, Entities, EntityUid, Policy, PolicySet, Schema};
use serde_json::Value;

use crate::engine::slices::{Slices, Within};

#[test]
#[ignore = "needs the corpus: set CORDON_CEDAR_CORPUS to the folder `corpus-tests`"]
fn slicing_agrees_with_the_authorizer_on_every_case_of_cedars_corpus() {
    let folder = env::var("CORDON_CEDAR_CORPUS").expect("CORDON_CEDAR_CORPUS is set");
    let (mut sets, mut requests, mut sliced) = (0, 0, 0);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".json"))
        .filter(|path| !path.to_str().unwrap().ends_with(".entities.json"))
        .collect();
    paths.sort();
    for path in paths {
        let case = Case::read(&path);
        for asked in case.requests.as_array().unwrap() {
            sliced += case.agrees(asked, &path);
            requests += 1;
        }
        sets += 1;
    }
    println!("{sets} sets, {requests} requests, {sliced} of them answered by fewer rules");
    assert!(sets > 1_000 && requests > 8_000 && sliced > 500);
}

/// The samples that need no corpus: scopes of every form over an arbitrary schema.
#[test]
fn slicing_agrees_with_the_authorizer_over_an_arbitrary_schema() {
    let schema = "namespace App {
        entity Team in [Team]; entity User in [Team]; entity Album in [Album]; entity Photo in [Album];
        action read; action view in [read] appliesTo { principal: [User], resource: [Photo, Album], context: { n: Long } };
        action edit appliesTo { principal: [User], resource: [Photo], context: { n: Long } };
    }";
    let policies = "permit (principal, action, resource) when { context.n == 1 };
        permit (principal == App::User::\"u\", action == App::Action::\"view\", resource == App::Photo::\"p\");
        permit (principal in App::Team::\"outer\", action in App::Action::\"read\", resource in App::Album::\"outer\");
        forbid (principal is App::User in App::Team::\"t\", action in [App::Action::\"edit\", App::Action::\"view\"], resource is App::Photo);
        forbid (principal in App::Team::\"other\", action, resource) when { context.n + 9223372036854775807 > 0 };
        permit (principal is App::User, action in [], resource is App::Photo in App::Album::\"a\");
        permit (principal, action in App::Action::\"read\", resource) unless { context.n < 5 };";
    let entities = serde_json::json!([
        {"uid": {"type": "App::User", "id": "u"}, "attrs": {}, "parents": [{"type": "App::Team", "id": "t"}]},
        {"uid": {"type": "App::User", "id": "v"}, "attrs": {}, "parents": [{"type": "App::Team", "id": "other"}]},
        {"uid": {"type": "App::User", "id": "w"}, "attrs": {}, "parents": []},
        {"uid": {"type": "App::Team", "id": "t"}, "attrs": {}, "parents": [{"type": "App::Team", "id": "outer"}]},
        {"uid": {"type": "App::Photo", "id": "p"}, "attrs": {}, "parents": [{"type": "App::Album", "id": "a"}]},
        {"uid": {"type": "App::Album", "id": "a"}, "attrs": {}, "parents": [{"type": "App::Album", "id": "outer"}]},
    ]);
    let (schema, _) = Schema::from_cedarschema_str(schema).unwrap();
    let case = Case::new(schema, policies, entities, Value::Null);
    let mut sliced = 0;
    for user in ["u", "v", "w", "unknown"] {
        for action in ["view", "edit", "read", "unknown"] {
            for (kind, id) in [
                ("Photo", "p"),
                ("Photo", "q"),
                ("Album", "a"),
                ("Album", "outer"),
            ] {
                for n in [0, 1, 9] {
                    let asked = serde_json::json!({
                        "principal": {"type": "App::User", "id": user},
                        "action": {"type": "App::Action", "id": action},
                        "resource": {"type": format!("App::{kind}"), "id": id},
                        "context": {"n": n},
                    });
                    sliced += case.agrees(&asked, Path::new("sample"));
                }
            }
        }
    }
    assert!(sliced > 100, "{sliced}");
}

struct Case {
    schema: Schema,
    policies: Vec<Policy>,
    whole: PolicySet,
    slices: Slices,
    entities: Entities,
    requests: Value,
}

impl Case {
    fn new(schema: Schema, policies: &str, entities: Value, requests: Value) -> Self {
        let whole: PolicySet = policies.parse().unwrap();
        assert_eq!(
            whole.templates().count(),
            0,
            "a template cannot be sliced alone"
        );
        let policies: Vec<Policy> = whole.policies().cloned().collect();
        let mut slices = Slices::default();
        for (at, policy) in policies.iter().enumerate() {
            slices.add(at, policy);
        }
        Self {
            policies,
            whole,
            slices,
            entities: Entities::from_json_value(entities, Some(&schema)).unwrap(),
            requests,
            schema,
        }
    }

    fn read(path: &Path) -> Self {
        let json = |path: &Path| -> Value {
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
        };
        let mut case = json(path);
        // The file names its parts from the repository's root.
        let part = |name: &str| {
            let named = Path::new(case[name].as_str().unwrap());
            path.with_file_name(named.file_name().unwrap())
        };
        let schema = fs::read_to_string(part("schema")).unwrap();
        let (schema, _) = Schema::from_cedarschema_str(&schema).unwrap();
        let policies = fs::read_to_string(part("policies")).unwrap();
        let entities = json(&part("entities"));
        Self::new(schema, &policies, entities, case["requests"].take())
    }

    /// Holds the slice to the whole set, and the whole set to the answer that is written down.
    /// One where the slice is smaller.
    fn agrees(&self, asked: &Value, path: &Path) -> usize {
        let uid = |name: &str| EntityUid::from_json(asked[name].clone()).unwrap();
        let (principal, action, resource) = (uid("principal"), uid("action"), uid("resource"));
        let with_ancestors = |uid: &EntityUid| {
            let ancestors = self.entities.ancestors(uid).into_iter().flatten();
            std::iter::once(uid).chain(ancestors).cloned().collect()
        };
        let actions: Vec<EntityUid> = with_ancestors(&action);
        let within = Within {
            actions: &actions,
            principals: with_ancestors(&principal),
            resources: with_ancestors(&resource),
        };
        let typed = Some((&self.schema, &action));
        let context = match Context::from_json_value(asked["context"].clone(), typed) {
            Ok(context) => context,
            Err(_) => Context::from_json_value(asked["context"].clone(), None).unwrap(),
        };
        let request =
            cedar_policy::Request::new(principal, action, resource, context, None).unwrap();
        let relevant = self.slices.of(&within);
        let slice = relevant.iter().map(|at| self.policies[*at].clone());
        let slice = PolicySet::from_policies(slice).unwrap();
        let expected = self.answer(&request, &self.whole);
        assert_eq!(
            self.answer(&request, &slice),
            expected,
            "{}: {asked}",
            path.display()
        );
        if let Some(decision) = asked["decision"].as_str() {
            assert_eq!(expected.0, decision, "{}: {asked}", path.display());
        }
        usize::from(relevant.len() < self.policies.len())
    }

    fn answer(
        &self,
        request: &cedar_policy::Request,
        set: &PolicySet,
    ) -> (String, BTreeSet<String>, BTreeSet<String>) {
        let response = cedar_policy::Authorizer::new().is_authorized(request, set, &self.entities);
        let diagnostics = response.diagnostics();
        (
            format!("{:?}", response.decision()).to_lowercase(),
            diagnostics.reason().map(ToString::to_string).collect(),
            diagnostics.errors().map(ToString::to_string).collect(),
        )
    }
}
