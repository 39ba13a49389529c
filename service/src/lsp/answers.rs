//! One function for each thing that an editor can ask.

use std::{collections::HashMap, path::Path};

use cordon_policy::editor::{
    self, Completion, CompletionKind, Lines, Place, Symbol, application::Names,
};
use lsp_types::{
    CodeAction, CodeActionKind, CodeActionParams, CompletionItem, CompletionItemKind,
    CompletionParams, DocumentFormattingParams, DocumentSymbol, DocumentSymbolParams,
    Documentation, GotoDefinitionParams, Hover, HoverContents, HoverParams, Location,
    MarkupContent, MarkupKind, SymbolKind, TextDocumentPositionParams, TextEdit, WorkspaceEdit,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    documents::{Documents, bytes_of, is_application, is_data, range},
    known::Seen,
    uri,
};

type Answer = Result<Value, String>;

/// What the thing under the cursor means.
pub fn hover(documents: &Documents, params: &HoverParams) -> Answer {
    let Some(Cursor { text, offset, path }) =
        Cursor::of(documents, &params.text_document_position_params)
    else {
        return Ok(Value::Null);
    };
    // Hovers are the documentation of Cordon's schema.
    if is_data(&path) || path.parent().is_some_and(is_application) {
        return Ok(Value::Null);
    }
    value(editor::hover(text, offset).map(|hover| Hover {
        contents: HoverContents::Markup(markdown(hover.markdown)),
        range: Some(range(&Lines::new(text), hover.range)),
    }))
}

/// What can stand at the cursor.
pub fn complete(documents: &Documents, seen: &mut Seen, params: &CompletionParams) -> Answer {
    let Some(Cursor { text, offset, path }) = Cursor::of(documents, &params.text_document_position)
    else {
        return Ok(Value::Null);
    };
    let found = if path.parent().is_some_and(is_application) {
        in_application(documents, &path, text, offset)
    } else {
        let groups = data_symbols(documents, &path).map(|(_, _, symbol)| symbol.name);
        let known = seen.with_groups(groups.collect());
        editor::complete(text, offset, is_data(&path), &known)
    };
    let items: Vec<CompletionItem> = found
        .into_iter()
        .map(|completion| CompletionItem {
            kind: Some(match completion.kind {
                CompletionKind::Keyword => CompletionItemKind::KEYWORD,
                CompletionKind::Type => CompletionItemKind::CLASS,
                CompletionKind::Value => CompletionItemKind::VALUE,
                CompletionKind::Attribute => CompletionItemKind::FIELD,
                CompletionKind::Annotation => CompletionItemKind::PROPERTY,
            }),
            detail: Some(completion.detail),
            documentation: Some(completion.documentation)
                .filter(|text| !text.is_empty())
                .map(|text| Documentation::MarkupContent(markdown(text))),
            label: completion.label,
            ..CompletionItem::default()
        })
        .collect();
    value(items)
}

/// In the rules of an application, by its own schema and entities.
fn in_application(
    documents: &Documents,
    path: &Path,
    text: &str,
    offset: usize,
) -> Vec<Completion> {
    if !is_rules(path) {
        return Vec::new();
    }
    let schema = |path: &Path| path.extension().is_some_and(|e| e == "cedarschema");
    let entities = |path: &Path| path.file_name().is_some_and(|name| name == "entities.json");
    let schema = documents.beside(path, schema);
    let names = Names::read(&schema, &documents.beside(path, entities));
    names.map_or_else(Vec::new, |names| names.complete(text, offset))
}

/// Where the host group under the cursor is declared.
pub fn definition(documents: &Documents, params: &GotoDefinitionParams) -> Answer {
    let Some(Cursor { text, offset, path }) =
        Cursor::of(documents, &params.text_document_position_params)
    else {
        return Ok(Value::Null);
    };
    let Some(name) = editor::definition(text, offset, is_data(&path)) else {
        return Ok(Value::Null);
    };
    let found = data_symbols(documents, &path).find(|(_, _, symbol)| symbol.name == name);
    value(found.and_then(|(path, text, symbol)| {
        let place = range(&Lines::new(&text), symbol.name_range);
        Some(Location::new(uri::of_path(&path)?, place))
    }))
}

/// The rules or groups of a document.
pub fn symbols(documents: &Documents, params: &DocumentSymbolParams) -> Answer {
    let Some((path, text)) = documents.text(&params.text_document.uri) else {
        return Ok(Value::Null);
    };
    let lines = Lines::new(text);
    let found = editor::symbols(text, is_data(&path));
    value(
        found
            .into_iter()
            .map(|s| symbol(s, &lines))
            .collect::<Vec<_>>(),
    )
}

/// The document in Cedar's own format. What are no rules is left as it is.
pub fn format(documents: &Documents, params: &DocumentFormattingParams) -> Answer {
    let Some((path, text)) = documents.text(&params.text_document.uri) else {
        return Ok(Value::Null);
    };
    if !is_rules(&path) {
        return Ok(Value::Null);
    }
    let formatted = cordon_policy::format::format(text).map_err(|error| error.to_string())?;
    if formatted == text {
        return value(Vec::<TextEdit>::new());
    }
    value(vec![TextEdit {
        range: range(&Lines::new(text), 0..text.len()),
        new_text: formatted,
    }])
}

/// The changes that do away with findings in a range.
pub fn actions(documents: &Documents, params: &CodeActionParams) -> Answer {
    let uri = &params.text_document.uri;
    let Some((path, text)) = documents.text(uri) else {
        return Ok(Value::Null);
    };
    let lines = Lines::new(text);
    let mut found = Vec::new();
    for finding in documents.findings(&path) {
        let bytes = bytes_of(finding, text);
        let place = range(&lines, bytes.clone());
        let Some(fix) = &finding.fix else {
            continue;
        };
        // The text may have changed since it was checked.
        if text.get(bytes) != Some(fix.old.as_str())
            || place.end < params.range.start
            || params.range.end < place.start
        {
            continue;
        }
        let edit = TextEdit {
            range: place,
            new_text: fix.new.clone(),
        };
        // A key's equality is its text's, which never changes.
        #[expect(
            clippy::mutable_key_type,
            reason = "the protocol's own type for a change"
        )]
        let changes = HashMap::from([(uri.clone(), vec![edit])]);
        found.push(CodeAction {
            title: format!("Write {}", fix.new),
            kind: Some(CodeActionKind::QUICKFIX),
            edit: Some(WorkspaceEdit::new(changes)),
            is_preferred: Some(true),
            ..CodeAction::default()
        });
    }
    value(found)
}

/// An open document and the byte offset of a position in it.
struct Cursor<'a> {
    path: std::path::PathBuf,
    text: &'a str,
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn of(documents: &'a Documents, params: &TextDocumentPositionParams) -> Option<Self> {
        let (path, text) = documents.text(&params.text_document.uri)?;
        let place = Place {
            line: params.position.line,
            character: params.position.character,
        };
        Some(Self {
            offset: Lines::new(text).offset(place),
            path,
            text,
        })
    }
}

fn is_rules(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "cedar")
}

/// The groups of every data file of the folder, each with its file and the file's text.
fn data_symbols(
    documents: &Documents,
    path: &Path,
) -> impl Iterator<Item = (std::path::PathBuf, String, Symbol)> {
    let files = documents.set_of(path).files.into_iter();
    files.filter(|file| is_data(&file.path)).flat_map(|file| {
        editor::symbols(&file.text, true)
            .into_iter()
            .map(move |symbol| (file.path.clone(), file.text.clone(), symbol))
    })
}

fn symbol(symbol: Symbol, lines: &Lines<'_>) -> DocumentSymbol {
    #[expect(deprecated, reason = "the field must be named; it is left empty")]
    DocumentSymbol {
        name: symbol.name,
        detail: Some(symbol.detail.into()),
        kind: SymbolKind::CLASS,
        tags: None,
        deprecated: None,
        range: range(lines, symbol.range),
        selection_range: range(lines, symbol.name_range),
        children: None,
    }
}

fn markdown(text: String) -> MarkupContent {
    MarkupContent {
        kind: MarkupKind::Markdown,
        value: text,
    }
}

fn value(result: impl Serialize) -> Answer {
    serde_json::to_value(result).map_err(|error| error.to_string())
}
