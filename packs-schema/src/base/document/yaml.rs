//! YAML subset of packs and site configuration: one document, no duplicate keys, no unknown tags, bounded aliases.
//!
//! - **Unquoted values** are read as all YAML parsers read them. Where parsers differ (`scalar`), the document is
//!   refused: leading zeros, `0o` and `0b`, underscores, base 60, numbers that lose digits, `.inf`. `yes`, `no`, `on`
//!   and `off` are booleans, as in StackStorm. Where a key takes text, an unquoted value is the text as written.
//! - **Tags** other than `!!str`, `!!int`, `!!float`, `!!bool`, `!!null`, `!!seq` and `!!map` are errors: without
//!   support for `!vault` or `!env`, the value after it would be wrong.
//! - **Aliases and merge keys** (`<<`) are expanded, within `MAX_NODES` and `MAX_TEXT`.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde::de::DeserializeOwned;

use super::scalar::{self, Resolved};
use super::{Content, DocumentError, Key, Node, Position};
use crate::base::strict::shorten;

/// Maximum depth of nesting.
const MAX_DEPTH: usize = 64;
/// Maximum number of values, with aliases expanded.
const MAX_NODES: usize = 100_000;
/// Maximum amount of text, with aliases expanded, in bytes.
const MAX_TEXT: usize = 4 << 20;

type Outcome<T> = Result<T, DocumentError>;

/// Parses a YAML document. An empty one is `null`.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, DocumentError> {
    let node = Reader::document(text)?;
    T::deserialize(&node)
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
    text: usize,
}

/// Anchored node and the share of the limits that a copy takes; the node is `None` while it is being read.
struct Anchored {
    node: Option<Node>,
    nodes: usize,
    text: usize,
    height: usize,
}

impl<'a> Reader<'a> {
    fn document(text: &'a str) -> Outcome<Node> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let options = granit_parser::options! { disallow_directives: true };
        let events = Parser::new_from_str_with_options(text, options);
        let mut reader = Reader { events, anchors: BTreeMap::new(), nodes: 0, text: 0 };
        let mut root = None;
        while let Some((event, span)) = reader.next()? {
            match event {
                Event::DocumentStart(..) if root.is_some() => {
                    let said = "a second document starts here; a file must hold one";
                    return Err(DocumentError::new(place(&span), said));
                }
                Event::DocumentStart(..) => {
                    let (event, span) = reader.next()?.ok_or_else(|| unfinished(&span))?;
                    root = Some(reader.node(event, &span, 0)?);
                }
                _ => {}
            }
        }
        Ok(root.unwrap_or(Node { content: Content::Null, place: None }))
    }

    fn next(&mut self) -> Outcome<Option<(Event<'a>, Span)>> {
        loop {
            match self.events.next_event() {
                None => return Ok(None),
                // Comments are events if another crate of the build enables that feature of the parser.
                Some(Ok((event, span))) if event.is_node() || is_structure(&event) => return Ok(Some((event, span))),
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    let marker = error.marker();
                    let place = Position { line: marker.line(), column: marker.col() + 1 };
                    let said = error.info().lines().map(str::trim).collect::<Vec<_>>().join(" ");
                    let said = format!("not YAML: {}", shorten(&said, 300));
                    return Err(DocumentError::quoting(Some(place), said, "not YAML"));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Outcome<Node> {
        let at = place(span);
        if depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let (nodes, text) = (self.nodes, self.text);
        let anchor = event.anchor_id().filter(|id| *id != 0);
        if let Some(id) = anchor {
            self.anchors.insert(id, Anchored { node: None, nodes: 0, text: 0, height: 0 });
        }
        let content = match event {
            Event::Scalar(value, style, _, tag) => {
                self.charge(1, value.len(), at)?;
                scalar_content(value.into_owned(), style, tag.as_deref(), tag_place(span))?
            }
            Event::SequenceStart(_, _, tag) => {
                collection_tag(tag.as_deref(), "seq", tag_place(span))?;
                self.charge(1, 0, at)?;
                self.list(span, depth)?
            }
            Event::MappingStart(_, _, tag) => {
                collection_tag(tag.as_deref(), "map", tag_place(span))?;
                self.charge(1, 0, at)?;
                self.map(span, depth)?
            }
            Event::Alias(id) => return self.alias(id, at, depth),
            _ => return Err(unfinished(span)),
        };
        let node = Node { content, place: at };
        if let Some(id) = anchor {
            let (nodes, text) = (self.nodes - nodes, self.text - text);
            self.charge(nodes, text, at)?;
            let anchored = Anchored { height: height(&node), node: Some(node.clone()), nodes, text };
            self.anchors.insert(id, anchored);
        }
        Ok(node)
    }

    fn list(&mut self, begin: &Span, depth: usize) -> Outcome<Content> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?.ok_or_else(|| unfinished(begin))?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Content::List(items));
            }
            let item = self.node(event, &span, depth + 1);
            items.push(item.map_err(|e| e.within(&format!("[{}]", items.len()), place(&span)))?);
        }
    }

    fn map(&mut self, begin: &Span, depth: usize) -> Outcome<Content> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut known: BTreeMap<String, Option<Position>> = BTreeMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?.ok_or_else(|| unfinished(begin))?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let (key, merges) = self.key(event, &span, depth)?;
            let (event, at) = self.next()?.ok_or_else(|| unfinished(&span))?;
            let value = self.node(event, &at, depth + 1).map_err(|e| e.within(&key.text, place(&at)))?;
            if merges {
                merged.push((key, value));
                continue;
            }
            if let Some(first) = known.insert(key.text.clone(), key.place) {
                let first = first.map(|at| format!(", first in line {}", at.line)).unwrap_or_default();
                let said = format!("duplicate key {:?}{first}; remove one of the two", shorten(&key.text, 80));
                return Err(DocumentError::new(key.place, said));
            }
            entries.push((key, value));
        }
        for (key, value) in merged {
            for (key, value) in merge_sources(&key, value)? {
                if !known.contains_key(&key.text) {
                    known.insert(key.text.clone(), key.place);
                    entries.push((key, value));
                }
            }
        }
        Ok(Content::Map(entries))
    }

    /// Reads a key; true if it is the merge key `<<`.
    fn key(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Outcome<(Key, bool)> {
        let at = place(span);
        let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
        match self.node(event, span, depth + 1)?.content {
            Content::Plain(_) if span.start.index() == span.end.index() => {
                Err(DocumentError::new(at, "there is no key before the colon"))
            }
            Content::Plain(text) | Content::Text(text) => Ok((Key { text, place: at }, is_merge)),
            _ => Err(DocumentError::new(at, "a key must be text")),
        }
    }

    fn alias(&mut self, id: usize, at: Option<Position>, depth: usize) -> Outcome<Node> {
        let found = self.anchors.get(&id).map(|a| (a.nodes, a.text, a.height)).unwrap_or_default();
        let (nodes, text, height) = found;
        self.charge(nodes, text, at)?;
        if depth + height > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let node = self.anchors.get(&id).and_then(|anchored| anchored.node.clone());
        node.ok_or_else(|| DocumentError::new(at, "the alias refers to a value that contains it"))
    }

    fn charge(&mut self, nodes: usize, text: usize, at: Option<Position>) -> Outcome<()> {
        self.nodes += nodes;
        self.text += text;
        if self.nodes > MAX_NODES || self.text > MAX_TEXT {
            return Err(DocumentError::new(at, "the document is too large, with its aliases written out"));
        }
        Ok(())
    }
}

/// Returns the entries of `<<: *one` or `<<: [*one, *two]`.
fn merge_sources(key: &Key, value: Node) -> Outcome<Vec<(Key, Node)>> {
    let wrong = || DocumentError::new(key.place, "<< takes a map, or a list of maps");
    match value.content {
        Content::Map(entries) => Ok(entries),
        Content::List(maps) => {
            let entries = maps.into_iter().map(|map| match map.content {
                Content::Map(entries) => Ok(entries),
                _ => Err(wrong()),
            });
            Ok(entries.collect::<Outcome<Vec<_>>>()?.into_iter().flatten().collect())
        }
        _ => Err(wrong()),
    }
}

fn too_deep(at: Option<Position>) -> DocumentError {
    DocumentError::new(at, format!("nests more than {MAX_DEPTH} deep"))
}

/// Returns the depth of the values inside a node.
fn height(node: &Node) -> usize {
    match &node.content {
        Content::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Content::Map(entries) => 1 + entries.iter().map(|(_, value)| height(value)).max().unwrap_or(0),
        _ => 0,
    }
}

fn is_structure(event: &Event<'_>) -> bool {
    matches!(event, Event::DocumentStart(..) | Event::SequenceEnd | Event::MappingEnd)
}

fn place(span: &Span) -> Option<Position> {
    Some(Position { line: span.start.line(), column: span.start.col() + 1 })
}

/// Returns the place of a value's tag, or of the value if it has none.
fn tag_place(span: &Span) -> Option<Position> {
    let marker = span.tag_start.unwrap_or(span.start);
    Some(Position { line: marker.line(), column: marker.col() + 1 })
}

fn unfinished(span: &Span) -> DocumentError {
    DocumentError::new(place(span), "not YAML: the document ends too early")
}

fn scalar_content(text: String, style: ScalarStyle, tag: Option<&Tag>, at: Option<Position>) -> Outcome<Content> {
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { Content::Plain(text) } else { Content::Text(text) });
    };
    // The tag "!" alone marks text.
    let wanted = if tag.original() == "!" { "str" } else { tag.core_suffix().ok_or_else(|| unknown_tag(tag, at))? };
    let resolved = scalar::resolve(&text).map_err(|unclear| DocumentError::new(at, unclear));
    let content = match wanted {
        "str" => Content::Text(text),
        "null" if scalar::is_null(&text) => Content::Null,
        "bool" => match resolved? {
            Resolved::Bool(flag) => Content::Bool(flag),
            _ => return Err(DocumentError::new(at, "!!bool takes true or false")),
        },
        "int" | "float" => match resolved? {
            Resolved::Number(number) if wanted == "float" || !number.is_f64() => Content::Number(number),
            _ => return Err(DocumentError::new(at, format!("!!{wanted} takes a number"))),
        },
        _ => return Err(DocumentError::new(at, format!("!!{wanted} does not fit this value"))),
    };
    Ok(content)
}

fn collection_tag(tag: Option<&Tag>, fits: &str, at: Option<Position>) -> Outcome<()> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.core_suffix() == Some(fits) || tag.original() == "!" => Ok(()),
        Some(tag) => Err(unknown_tag(tag, at)),
    }
}

fn unknown_tag(tag: &Tag, at: Option<Position>) -> DocumentError {
    let said = format!("the tag {} is not supported: write the value itself", shorten(&tag.original(), 80));
    let redacted =
        "a tag (a word that starts with '!') is not supported: write the value itself, in quotes if it starts with '!'";
    DocumentError::quoting(at, said, redacted)
}
