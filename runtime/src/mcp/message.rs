//! One JSON-RPC message of either side.
//!
//! A line in, a [`Message`] out, made of the parts that the protocol knows and nothing else; what is
//! passed on is written anew, so that both ends and policy read the same.

use serde_json::{Map, Value, json};

use super::{Id, code};
use crate::json;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request {
        /// The sender's id for it.
        id: Id,
        /// What is to be done.
        method: String,
        /// With what; an object, where there is any.
        params: Option<Map<String, Value>>,
    },
    /// Wants none.
    Notification {
        /// What happened.
        method: String,
        /// Details.
        params: Option<Map<String, Value>>,
    },
    /// An answer.
    Response {
        /// The id of the request.
        id: Id,
        /// `result`, or the error as it came.
        outcome: Result<Value, Value>,
    },
}

/// Why a line is no message, as the error to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// Of whichever request it was, where that can be told.
    pub id: Option<Id>,
    /// One of [`code`].
    pub code: i64,
    /// In words.
    pub why: String,
}

impl Message {
    /// Reads one line.
    ///
    /// # Errors
    /// [`Malformed`]: not JSON, a key twice, a batch, or not a message of JSON-RPC 2.0.
    pub fn read(line: &[u8]) -> Result<Self, Malformed> {
        let value = json::read(line).map_err(|why| Malformed {
            id: None,
            code: code::PARSE,
            why,
        })?;
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Array(_) => {
                return Err(invalid(None, "batches are not taken: one message a line"));
            }
            _other => return Err(invalid(None, "a message is an object")),
        };
        Self::of(fields)
    }

    fn of(mut fields: Map<String, Value>) -> Result<Self, Malformed> {
        let raw_id = fields.remove("id");
        let id = raw_id.as_ref().and_then(Id::of);
        if fields.remove("jsonrpc") != Some(Value::from("2.0")) {
            return Err(invalid(id, "`jsonrpc` is not \"2.0\""));
        }
        let has_method = fields.contains_key("method");
        if !has_method {
            let outcome = match (fields.remove("result"), fields.remove("error")) {
                (Some(result), None) => Ok(result),
                (None, Some(error)) if error.is_object() => Err(error),
                _neither => return Err(invalid(id, "it is neither a request nor an answer")),
            };
            let id = id.ok_or_else(|| invalid(None, "an answer without a usable id"))?;
            return Ok(Self::Response { id, outcome });
        }
        let method = match fields.remove("method") {
            Some(Value::String(method)) if method.len() <= MAX_METHOD_BYTES => method,
            _other => return Err(invalid(id, "`method` is no short text")),
        };
        let params = match fields.remove("params") {
            None | Some(Value::Null) => None,
            Some(Value::Object(params)) => Some(params),
            Some(_other) => return Err(invalid(id, "`params` is not an object")),
        };
        match (raw_id, id) {
            (None, _) => Ok(Self::Notification { method, params }),
            (Some(_), Some(id)) => Ok(Self::Request { id, method, params }),
            (Some(_), None) => Err(invalid(None, "an id is a text or a whole number")),
        }
    }

    /// The message as one line without its end.
    pub fn line(&self) -> String {
        let mut fields = Map::new();
        fields.insert("jsonrpc".into(), Value::from("2.0"));
        match self {
            Self::Request { id, method, params } => {
                fields.insert("id".into(), id.value());
                with_method(&mut fields, method, params.as_ref());
            }
            Self::Notification { method, params } => {
                with_method(&mut fields, method, params.as_ref());
            }
            Self::Response { id, outcome } => {
                fields.insert("id".into(), id.value());
                let (name, value) = match outcome {
                    Ok(result) => ("result", result),
                    Err(error) => ("error", error),
                };
                fields.insert(name.into(), value.clone());
            }
        }
        Value::Object(fields).to_string()
    }
}

impl Malformed {
    /// The answer to it. Without an id it has `null`, as JSON-RPC wants it.
    pub fn line(&self) -> String {
        json!({
            "jsonrpc": "2.0",
            "id": self.id.as_ref().map(Id::value),
            "error": error(self.code, &self.why, None),
        })
        .to_string()
    }
}

/// An error object.
pub fn error(code: i64, message: &str, data: Option<Value>) -> Value {
    let mut error = json!({"code": code, "message": message});
    if let (Some(data), Some(fields)) = (data, error.as_object_mut()) {
        fields.insert("data".into(), data);
    }
    error
}

fn with_method(fields: &mut Map<String, Value>, method: &str, params: Option<&Map<String, Value>>) {
    fields.insert("method".into(), Value::from(method));
    if let Some(params) = params {
        fields.insert("params".into(), Value::Object(params.clone()));
    }
}

fn invalid(id: Option<Id>, why: &str) -> Malformed {
    Malformed {
        id,
        code: code::INVALID,
        why: why.into(),
    }
}

const MAX_METHOD_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_passed_on_with_what_the_protocol_knows() {
        let table = [
            (
                r#"{"id": 1, "method": "ping", "jsonrpc": "2.0", "more": 1}"#,
                r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":null}"#,
                r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":"a","result":{"x":[1]}}"#,
                r#"{"jsonrpc":"2.0","id":"a","result":{"x":[1]}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":-7,"error":{"code":1,"message":"m"}}"#,
                r#"{"jsonrpc":"2.0","id":-7,"error":{"code":1,"message":"m"}}"#,
            ),
        ];
        for (line, expected) in table {
            assert_eq!(Message::read(line.as_bytes()).unwrap().line(), expected);
        }
    }

    #[test]
    fn what_is_no_message_is_told_why() {
        let long = "x".repeat(300);
        let table = [
            ("", code::PARSE, "EOF"),
            ("{}{}", code::PARSE, "trailing"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#,
                code::PARSE,
                "twice",
            ),
            ("[]", code::INVALID, "batches"),
            ("1", code::INVALID, "object"),
            (r#"{"id":1,"method":"ping"}"#, code::INVALID, "jsonrpc"),
            (r#"{"jsonrpc":"2.0","id":1}"#, code::INVALID, "neither"),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
                code::INVALID,
                "neither",
            ),
            (
                r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
                code::INVALID,
                "whole number",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
                code::INVALID,
                "whole number",
            ),
            (
                &format!(r#"{{"jsonrpc":"2.0","id":"{long}","method":"ping"}}"#),
                code::INVALID,
                "whole number",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
                code::INVALID,
                "params",
            ),
            (&"[".repeat(10_000), code::PARSE, "recursion"),
        ];
        for (line, code, why) in table {
            let malformed = Message::read(line.as_bytes()).unwrap_err();
            assert_eq!(malformed.code, code, "{line}");
            assert!(malformed.why.contains(why), "{line}: {}", malformed.why);
        }
    }
}
