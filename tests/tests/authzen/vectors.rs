//! The interoperability scenarios: Todo, gateways, search.

use cordon_tests::for_both;
use serde_json::Value;

use crate::{access_records, ask, ids, json, serve};

for_both! {
    /// 40 decisions and 3 batches of the Todo scenario, each of them one record.
    fn todo_is_answered_as_published(world) {
        serve(world, "todo");
        let cases = json("todo/cases.json");
        let mut failed = Vec::new();
        let mut asked = 0;
        for case in cases["evaluation"].as_array().unwrap() {
            let (code, answer) = ask(world, "evaluation", &case["request"]);
            asked += 1;
            if code != 200 || answer["decision"] != case["expected"] {
                failed.push(format!("{}: {code} {answer}", case["request"]));
            }
        }
        for case in cases["evaluations"].as_array().unwrap() {
            let (code, answer) = ask(world, "evaluations", &case["request"]);
            let given: Vec<Value> = decisions(&answer);
            let expected: Vec<Value> = decisions(&serde_json::json!({"evaluations": case["expected"]}));
            asked += expected.len();
            if code != 200 || given != expected {
                failed.push(format!("{}: {code} {answer}", case["request"]));
            }
        }
        assert_eq!(asked, 46);
        assert_eq!(failed, [""; 0], "{} of them", failed.len());
        assert_eq!(access_records(world).len(), asked);
    }

    /// 25 decisions of the gateways' scenario.
    fn gateways_are_answered_as_published(world) {
        serve(world, "gateways");
        let cases = json("gateways/cases.json");
        let cases = cases["evaluation"].as_array().unwrap();
        assert_eq!(cases.len(), 25);
        let failed: Vec<String> = cases
            .iter()
            .filter_map(|case| {
                let (code, answer) = ask(world, "evaluation", &case["request"]);
                let right = code == 200 && answer["decision"] == case["expected"];
                (!right).then(|| format!("{}: {code} {answer}", case["request"]))
            })
            .collect();
        assert_eq!(failed, [""; 0]);
    }

    /// 60, 18 and 120 searches of the search scenario, each of them one record.
    fn searches_are_answered_as_published(world) {
        serve(world, "search");
        let mut failed = Vec::new();
        for (kind, count) in [("subject", 60), ("resource", 18), ("action", 120)] {
            let cases = json(&format!("search/{kind}.json"));
            let cases = cases["evaluation"].as_array().unwrap();
            assert_eq!(cases.len(), count);
            for case in cases {
                let (code, answer) = ask(world, &format!("search/{kind}"), &case["request"]);
                let mut expected = ids(&case["expected"]);
                expected.sort();
                if code != 200 || ids(&answer) != expected {
                    failed.push(format!("{kind} {}: {code} {answer}", case["request"]));
                }
            }
        }
        assert_eq!(failed, [""; 0], "{} of them", failed.len());
        let records = access_records(world);
        assert_eq!(records.len(), 198, "one for each search");
        let last = &records[197]["access"];
        assert_eq!((&last["sought"], &last["evaluated"]), (&"action".into(), &3.into()));
    }
}

fn decisions(answer: &Value) -> Vec<Value> {
    let given = answer["evaluations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    given.iter().map(|one| one["decision"].clone()).collect()
}
