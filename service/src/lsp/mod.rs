//! The language server: an editor's messages in, diagnostics and answers out.
//!
//! One thread. Diagnostics are made when no message is waiting, so that fast typing costs one
//! check and not one a key. Never writes a file.

mod answers;
mod documents;
mod known;
mod uri;

use std::path::PathBuf;

use lsp_server::{Connection, ErrorCode, Message, Notification, Request, Response};
use lsp_types::{
    CodeActionProviderCapability, CompletionOptions, HoverProviderCapability, OneOf,
    ServerCapabilities, TextDocumentSyncCapability, TextDocumentSyncKind,
    notification::{
        DidChangeTextDocument, DidCloseTextDocument, DidOpenTextDocument, DidSaveTextDocument,
        Notification as _, PublishDiagnostics,
    },
    request::{
        CodeActionRequest, Completion, DocumentSymbolRequest, Formatting, GotoDefinition,
        HoverRequest, Request as _,
    },
};
use serde::de::DeserializeOwned;
use serde_json::json;

use self::{documents::Documents, known::Seen};
use crate::error::Failure;

/// Serves one editor over standard input and output until it says goodbye. `log` is where hosts
/// and users are proposed from.
///
/// # Errors
/// [`Failure`] when the other side breaks the protocol.
pub fn serve(log: Option<PathBuf>) -> Result<(), Failure> {
    let (connection, threads) = Connection::stdio();
    let result = serve_on(&connection, log);
    // The writer ends when its channel does.
    drop(connection);
    threads.join()?;
    result
}

fn serve_on(connection: &Connection, log: Option<PathBuf>) -> Result<(), Failure> {
    let broken = |error: lsp_server::ProtocolError| {
        Failure::new(format!("the editor broke the protocol: {error}"))
            .help("this is a language server: an editor starts it, see docs/editors.md")
    };
    let (id, _params) = connection.initialize_start().map_err(broken)?;
    let about = json!({
        "capabilities": capabilities(),
        "serverInfo": { "name": "cordon", "version": env!("CARGO_PKG_VERSION") },
    });
    connection.initialize_finish(id, about).map_err(broken)?;
    let mut server = Server {
        documents: Documents::default(),
        seen: Seen::new(log),
    };
    while let Some(message) = next(connection, &mut server)? {
        match message {
            Message::Request(request) => {
                if connection.handle_shutdown(&request).map_err(broken)? {
                    return Ok(());
                }
                send(connection, Message::Response(server.answer(request)))?;
            }
            Message::Notification(notification) => server.note(notification),
            Message::Response(_) => {}
        }
    }
    Ok(())
}

/// The next message; before waiting for one, says what the last ones changed.
fn next(connection: &Connection, server: &mut Server) -> Result<Option<Message>, Failure> {
    if let Ok(message) = connection.receiver.try_recv() {
        return Ok(Some(message));
    }
    for diagnostics in server.documents.diagnose() {
        let notification = Notification::new(PublishDiagnostics::METHOD.into(), diagnostics);
        send(connection, Message::Notification(notification))?;
    }
    Ok(connection.receiver.recv().ok())
}

fn send(connection: &Connection, message: Message) -> Result<(), Failure> {
    connection
        .sender
        .send(message)
        .map_err(|_| Failure::new("the editor went away"))
}

fn capabilities() -> ServerCapabilities {
    ServerCapabilities {
        text_document_sync: Some(TextDocumentSyncCapability::Kind(TextDocumentSyncKind::FULL)),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some([".", ":", "@", "\""].map(String::from).into()),
            ..CompletionOptions::default()
        }),
        definition_provider: Some(OneOf::Left(true)),
        document_symbol_provider: Some(OneOf::Left(true)),
        document_formatting_provider: Some(OneOf::Left(true)),
        code_action_provider: Some(CodeActionProviderCapability::Simple(true)),
        ..ServerCapabilities::default()
    }
}

/// What the server knows.
struct Server {
    documents: Documents,
    seen: Seen,
}

impl Server {
    fn answer(&mut self, request: Request) -> Response {
        let id = request.id.clone();
        let result = match request.method.as_str() {
            HoverRequest::METHOD => {
                with(request, |params| answers::hover(&self.documents, &params))
            }
            Completion::METHOD => with(request, |params| {
                answers::complete(&self.documents, &mut self.seen, &params)
            }),
            GotoDefinition::METHOD => with(request, |params| {
                answers::definition(&self.documents, &params)
            }),
            DocumentSymbolRequest::METHOD => {
                with(request, |params| answers::symbols(&self.documents, &params))
            }
            Formatting::METHOD => with(request, |params| answers::format(&self.documents, &params)),
            CodeActionRequest::METHOD => {
                with(request, |params| answers::actions(&self.documents, &params))
            }
            method => Err((
                ErrorCode::MethodNotFound,
                format!("`{method}` is not supported"),
            )),
        };
        match result {
            Ok(value) => Response::new_ok(id, value),
            Err((code, message)) => Response::new_err(id, code as i32, message),
        }
    }

    fn note(&mut self, notification: Notification) {
        let Notification { method, params } = notification;
        match method.as_str() {
            DidOpenTextDocument::METHOD => {
                if let Ok(params) = read::<lsp_types::DidOpenTextDocumentParams>(params) {
                    let document = params.text_document;
                    self.documents.set(&document.uri, document.text);
                }
            }
            DidChangeTextDocument::METHOD => {
                if let Ok(params) = read::<lsp_types::DidChangeTextDocumentParams>(params)
                    && let Some(change) = params.content_changes.into_iter().next_back()
                {
                    self.documents.set(&params.text_document.uri, change.text);
                }
            }
            DidSaveTextDocument::METHOD => {
                if let Ok(params) = read::<lsp_types::DidSaveTextDocumentParams>(params) {
                    self.documents.touch(&params.text_document.uri);
                }
            }
            DidCloseTextDocument::METHOD => {
                if let Ok(params) = read::<lsp_types::DidCloseTextDocumentParams>(params) {
                    self.documents.close(&params.text_document.uri);
                }
            }
            // Others say nothing that matters here.
            _ => {}
        }
    }
}

type Answer = Result<serde_json::Value, (ErrorCode, String)>;

fn with<P: DeserializeOwned>(
    request: Request,
    answer: impl FnOnce(P) -> Result<serde_json::Value, String>,
) -> Answer {
    let params = read(request.params).map_err(|error| (ErrorCode::InvalidParams, error))?;
    answer(params).map_err(|error| (ErrorCode::RequestFailed, error))
}

fn read<P: DeserializeOwned>(params: serde_json::Value) -> Result<P, String> {
    serde_json::from_value(params).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
