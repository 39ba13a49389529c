//! Changing policy as an admin does it: signed, tried out, rolled out, promoted, taken back.

use cordon_tests::{
    Bundle, World, for_both, leaks,
    process::{self, eventually},
};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

#[track_caller]
fn done(world: &World, args: &[&str]) -> String {
    let mut all = vec!["policy"];
    all.extend(args);
    let outcome = world.cordon(&all);
    outcome.expect_code(0);
    outcome.text()
}

/// Ends the daemon as a crash would.
fn kill_daemon(world: &World) {
    for pid in leaks::processes(&world.marks()) {
        if process::is_daemon(pid) {
            assert!(kill_process(pid, Signal::KILL).is_ok());
            assert!(process::gone(pid, process::DEADLINE));
        }
    }
}

fn get(port: u16) -> String {
    format!("http://a.test:{port}/")
}

for_both! {
    /// Tried out beside, for one user, for all, and back; each is one command and one record.
    fn a_candidate_is_tried_rolled_out_promoted_and_rolled_back(world) {
        let origin = world.origin("a.test");
        let url = get(origin.port());
        let curl = ["curl", "-sSf", url.as_str()];
        world.organisation("manual", "");
        let first = Bundle::house(1).allow("a.test").write(world, "one");
        let second = Bundle::house(2).write(world, "two");
        done(world, &["publish", first.to_str().unwrap()]);
        world.session(&curl).built_in_policy().run().expect_code(0);

        done(world, &["try", second.to_str().unwrap(), "--for", "1h"]);
        let tried = world.session(&curl).built_in_policy().run();
        tried.expect_code(0);
        let shadows: Vec<Value> = world
            .records(&tried.session())
            .into_iter()
            .filter(|record| record["action"] == "http.request" && record["effect"] == "allow")
            .map(|record| record["shadow"].clone())
            .collect();
        assert_eq!(shadows.len(), 1);
        assert_eq!(shadows[0]["effect"], "deny", "{shadows:?}");
        let status = world.policy_status();
        assert_eq!(status["candidate"]["counts"]["newly_refused"], 1, "{status}");

        done(world, &["rollout", "--user", "somebody-else"]);
        world.session(&curl).built_in_policy().run().expect_code(0);
        let me = world.account().name.clone();
        done(world, &["rollout", "--user", &me]);
        let refused = world.session(&curl).built_in_policy().run();
        refused.expect_denied("a.test", "default_deny");

        // A crash in the middle of it changes nothing.
        let before = world.policy_status()["candidate"]["stage"].clone();
        kill_daemon(world);
        assert_eq!(world.policy_status()["candidate"]["stage"], before);
        assert_eq!(world.live_revision(), Some(1));
        world.session(&curl).built_in_policy().run().expect_denied("a.test", "default_deny");

        done(world, &["rollback"]);
        world.session(&curl).built_in_policy().run().expect_code(0);
        done(world, &["publish", second.to_str().unwrap()]);
        world.session(&curl).built_in_policy().run().expect_denied("a.test", "default_deny");
        done(world, &["rollback", "--to", "1"]);
        world.session(&curl).built_in_policy().run().expect_code(0);
        world.cordon(&["policy", "rollback", "--to", "9"]).expect_code(1);

        assert_eq!(world.records_of("policy.promote").len(), 2);
        assert_eq!(world.records_of("policy.try").len(), 1);
        assert_eq!(world.records_of("policy.rollout").len(), 2);
        let back = world.records_of("policy.rollback");
        assert_eq!(back.len(), 2);
        assert_eq!(back[0]["principal"]["id"], me.as_str());
    }

    /// Keys, signatures and a trust file, as in the documentation.
    fn where_two_people_must_sign_one_alone_changes_nothing(world) {
        let folder = world.folder("keys");
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        for person in ["ada", "bob"] {
            let file = path(person);
            done(world, &["key", "new", "--id", person, "--role", "policy-publisher", "-o", &file]);
        }
        let public = |person: &str| {
            let shown = done(world, &["key", "show", &path(person), "--format", "json"]);
            let shown: Value = serde_json::from_str(&shown).unwrap();
            shown["public"].as_str().unwrap().to_owned()
        };
        let mut trust = "[signatures]\norganisation = 2\n".to_owned();
        for person in ["ada", "bob"] {
            trust.push_str(&format!(
                "[[key]]\nid = \"{person}\"\npublic = \"{}\"\nroles = [\"policy-publisher\"]\n\
                 layers = [\"organisation\"]\n",
                public(person)
            ));
        }
        let trust = world.write("trust.toml", trust);
        world.config.push_str(&format!("[policy]\ntrust = \"{}\"\n", trust.display()));
        world.organisation("manual", "");
        let bundle = Bundle::house(1).write(world, "one");
        let bundle = bundle.to_str().unwrap();

        let unsigned = world.cordon(&["policy", "publish", bundle]);
        unsigned.expect_code(3).expect_stderr("not signed");
        done(world, &["sign", bundle, "--key", &path("ada")]);
        let alone = world.cordon(&["policy", "publish", bundle]);
        alone.expect_code(3);
        assert!(alone.text().contains("not in force yet"), "{alone}");
        assert_eq!(world.live_revision(), None);
        assert_ne!(world.session(&["true"]).built_in_policy().run().code, 0);
        done(world, &["sign", bundle, "--key", &path("bob")]);
        done(world, &["publish", "--second", bundle]);
        assert_eq!(world.live_revision(), Some(1));
        world.session(&["true"]).built_in_policy().run().expect_code(0);
    }

    /// On a node where neither was before: each is taken without the other.
    fn bundles_of_two_layers_come_into_force_from_nothing(world) {
        let house = Bundle::house(1).write(world, "house");
        let crew = Bundle::house(1)
            .of_team()
            .rule("@id(\"no-team\") forbid (principal, action, resource == Host::\"team.test\");")
            .write(world, "crew");
        world.organisation(&format!("dir:{}", house.display()), "");
        world.team(&format!("dir:{}", crew.display()), "");
        world.session(&["true"]).built_in_policy().run().expect_code(0);
        let status = world.policy_status();
        for layer in [0, 1] {
            assert_eq!(status["layers"][layer]["live"]["revision"], 1, "{status}");
        }
    }

    /// The source is away at the next start: the last good bundle decides.
    fn f03_the_last_good_bundle_decides_when_its_source_is_away(world) {
        let house = Bundle::house(1).write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        world.session(&["true"]).built_in_policy().run().expect_code(0);
        kill_daemon(world);
        std::fs::rename(&house, house.with_extension("away")).unwrap();
        world.session(&["true"]).built_in_policy().run().expect_code(0);
        let status = world.policy_status();
        assert_eq!(status["layers"][0]["live"]["revision"], 1);
        assert!(status["layers"][0]["fault"].is_string(), "{status}");
        std::fs::rename(house.with_extension("away"), &house).unwrap();
        eventually("the fault is over", || {
            world.policy_status()["layers"][0]["fault"].is_null()
        });
    }
}
