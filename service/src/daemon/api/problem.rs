//! Errors of the API as problem details (RFC 9457): a stable code, what, why and what to do.

use std::fmt;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    control::PolicyAnswer,
    daemon::{late::LATE, policies::Stopped},
};

/// What went wrong. The type is `urn:cordon:problem:CODE`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:cordon:problem:` and a stable word.
    #[serde(rename = "type")]
    kind: String,
    /// What, in a few words; the same for every problem of this type.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What and why, this time.
    detail: String,
    /// What to do; every answer says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    /// The id of the recorded decision, where policy was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<String>,
    /// Its kind, for whoever handles the answer on its way out.
    #[serde(skip)]
    code: Code,
}

/// The kinds of problems.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    /// What was sent is not what the operation takes.
    Malformed,
    /// There is no such session.
    NoSession,
    /// There is no such approval.
    NoApproval,
    /// There is no such grant.
    NoGrant,
    /// There is nothing at this path.
    NotFound,
    /// The path takes other methods.
    Method,
    /// What was sent is larger than is read.
    TooLarge,
    /// What was sent came too slowly.
    Slow,
    /// Nobody is known by what was shown.
    Unknown,
    /// It is known who asks, and they may not ask this.
    NotOpen,
    /// Policy refuses it.
    Denied,
    /// It cannot be done as things are.
    Conflict,
    /// The `Idempotency-Key` was used for another call.
    KeyReused,
    /// As many as may are at it already.
    Busy,
    /// The log does not take the record, so nothing is done.
    NotRecorded,
    /// It was not decided in time.
    Late,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl Code {
    fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Malformed => (
                "malformed",
                StatusCode::BAD_REQUEST,
                "the request is not well-formed",
            ),
            Self::NoSession => (
                "no-session",
                StatusCode::NOT_FOUND,
                "there is no such session",
            ),
            Self::NoApproval => (
                "no-approval",
                StatusCode::NOT_FOUND,
                "there is no such approval",
            ),
            Self::NoGrant => (
                "no-grant",
                StatusCode::NOT_FOUND,
                "the session has no such grant",
            ),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "there is nothing here"),
            Self::Method => (
                "method",
                StatusCode::METHOD_NOT_ALLOWED,
                "another method is taken here",
            ),
            Self::TooLarge => (
                "too-large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request is too large",
            ),
            Self::Slow => (
                "too-slow",
                StatusCode::REQUEST_TIMEOUT,
                "the request came too slowly",
            ),
            Self::Unknown => (
                "unknown-caller",
                StatusCode::UNAUTHORIZED,
                "the caller is not known",
            ),
            Self::NotOpen => (
                "not-open",
                StatusCode::FORBIDDEN,
                "this is not open to the caller",
            ),
            Self::Denied => ("denied", StatusCode::FORBIDDEN, "policy refuses it"),
            Self::Conflict => (
                "conflict",
                StatusCode::CONFLICT,
                "it cannot be done as things are",
            ),
            Self::KeyReused => (
                "key-reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "the idempotency key was used for another call",
            ),
            Self::Busy => (
                "busy",
                StatusCode::SERVICE_UNAVAILABLE,
                "as many as may are at it already",
            ),
            Self::NotRecorded => (
                "not-recorded",
                StatusCode::SERVICE_UNAVAILABLE,
                "the log does not take the record, so nothing is done",
            ),
            Self::Late => (
                "late",
                StatusCode::SERVICE_UNAVAILABLE,
                "it was not decided in time",
            ),
        }
    }
}

impl Problem {
    /// Of a kind, with what happened this time.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let (word, status, title) = code.parts();
        Self {
            kind: format!("urn:cordon:problem:{word}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            help: None,
            decision_id: None,
            code,
        }
    }

    /// What another part of the daemon could not do.
    pub fn failed(message: String, help: Option<String>) -> Self {
        let code = match message == LATE {
            true => Code::Late,
            false => Code::Conflict,
        };
        Self::new(code, message).help(help)
    }

    /// What, why and what to do, in one text.
    pub fn words(&self) -> String {
        match &self.help {
            Some(help) => format!("{}: {}; {help}", self.title, self.detail),
            None => format!("{}: {}", self.title, self.detail),
        }
    }

    /// What to do.
    #[must_use]
    pub fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Which decision it was.
    #[must_use]
    pub fn decision(mut self, id: impl Into<String>) -> Self {
        self.decision_id = Some(id.into());
        self
    }
}

impl From<Stopped> for Problem {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Denied(PolicyAnswer::Denied {
                message,
                decision,
                help,
            }) => {
                let problem = Self::new(Code::Denied, message).help(help);
                match decision {
                    Some(id) => problem.decision(id),
                    None => problem,
                }
            }
            Stopped::Failed(message, help) => Self::new(Code::NotRecorded, message).help(help),
            Stopped::Denied(_) | Stopped::OnePerson => {
                Self::new(Code::Denied, "policy does not permit it")
            }
        }
    }
}

impl Code {
    /// What to do where nothing more is known.
    fn usual_help(self) -> &'static str {
        match self {
            Self::Malformed | Self::NotFound | Self::Method => {
                "GET /v1/openapi.json describes what is taken here"
            }
            Self::NoSession => "GET /v1/sessions lists those that run",
            Self::NoApproval => "GET /v1/approvals lists those that there are",
            Self::NoGrant => "GET /v1/sessions/ID/grants lists them",
            Self::TooLarge => "send less at once",
            Self::Slow => "send it faster, or raise `[api.limits]`",
            Self::Unknown => "send `Authorization: Bearer TOKEN`",
            Self::NotOpen => "ask as the user of the daemon",
            Self::Denied => "the rules that decide are the administrator's to change",
            Self::Conflict => "look at how things are, and ask for what fits",
            Self::KeyReused => "send another key with another call",
            Self::Busy | Self::Late => "try again in a moment",
            Self::NotRecorded => "`cordon status` says what is wrong with the log",
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let code = self.code;
        self.help.get_or_insert_with(|| code.usual_help().into());
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.extensions_mut().insert(code);
        let media = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        response
    }
}
