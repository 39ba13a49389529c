//! A client of AuthZEN that others wrote, over TLS: discovery, decisions, batches, searches.

use std::{process::Command, time::Duration};

use cordon_tests::for_both;
use openidauthzen::{
    client::AuthZenClient,
    error::Error,
    http::{HttpClient, HttpResponse, Method},
};
use serde_json::{from_value, json};

use super::certification::{TOKEN, listen};
use crate::serve;

/// Its transport: curl, which knows the certificate of this world.
struct Curl {
    ca: String,
}

#[async_trait::async_trait]
impl HttpClient for Curl {
    async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<HttpResponse, Error> {
        let name = match method {
            Method::Post => "POST",
            _ => "GET",
        };
        let mut args = vec!["-sS".to_owned(), "-X".into(), name.into()];
        args.extend(["-D".into(), "-".into(), "--cacert".into(), self.ca.clone()]);
        for (key, value) in headers {
            args.extend(["-H".into(), format!("{key}: {value}")]);
        }
        if let Some(body) = body {
            let text = String::from_utf8(body).unwrap();
            args.extend(["-H".into(), "content-type: application/json".into()]);
            args.extend(["--data-binary".into(), text]);
        }
        args.push(url.to_owned());
        let said = Command::new("curl").args(&args).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        Ok(HttpResponse {
            status: status.parse().unwrap(),
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: body.as_bytes().to_vec(),
        })
    }
}

for_both! {
    /// The crate `openidauthzen` finds the endpoints and speaks to each of them.
    fn a_client_that_others_wrote_speaks_every_endpoint(world) {
        serve(world, "certification");
        let name = world.account().name.clone();
        let remote = listen(world, &[(&name, TOKEN)]);
        world.session(&["true"]).run().expect_code(0);
        let client = AuthZenClient::new(Curl { ca: remote.ca.clone() }, Duration::from_secs(60));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let base = remote.base.as_str();
        runtime.block_on(async {
            let found = client.discover(base).await.unwrap();
            assert!(found.search_action_endpoint.is_some(), "{found:?}");
            let (alice, bob) = (json!({"type": "user", "id": "alice"}), json!({"type": "user", "id": "bob"}));
            let record = json!({"type": "record", "id": "record-1"});
            let (read, write) = (json!({"name": "read"}), json!({"name": "write"}));
            for (subject, action, expected) in [(&alice, &write, true), (&bob, &write, false), (&bob, &read, true)] {
                let asked = json!({"subject": subject, "action": action, "resource": record});
                let told = client.evaluate(base, TOKEN, &from_value(asked).unwrap()).await.unwrap();
                assert_eq!(told.decision, expected, "{subject} {action}");
            }
            let asked = json!({
                "subject": bob, "resource": record,
                "evaluations": [{"action": read}, {"action": write}],
                "options": {"evaluations_semantic": "deny_on_first_deny"},
            });
            let told = client.evaluate_batch(base, TOKEN, &from_value(asked).unwrap()).await.unwrap();
            let given: Vec<bool> = told.evaluations.iter().map(|one| one.decision).collect();
            assert_eq!(given, [true, false]);
            let asked = json!({"subject": {"type": "user"}, "action": read, "resource": record, "page": {"limit": 1}});
            let told = client.search_subjects(base, TOKEN, &from_value(asked).unwrap()).await.unwrap();
            assert_eq!(told.results.len(), 1);
            assert!(!told.page.unwrap().next_token.unwrap().is_empty());
            let asked = json!({"subject": alice, "action": read, "resource": {"type": "record"}});
            let told = client.search_resources(base, TOKEN, &from_value(asked).unwrap()).await.unwrap();
            assert_eq!(told.results.len(), 2);
            let asked = json!({"subject": alice, "resource": record});
            let told = client.search_actions(base, TOKEN, &from_value(asked).unwrap()).await.unwrap();
            assert_eq!(told.results.len(), 2);
            // The twin: what is wrong is an error there too.
            let asked = from_value(json!({"subject": alice, "action": read, "resource": record})).unwrap();
            assert!(client.evaluate(base, "wrong", &asked).await.is_err());
        });
    }
}
