//! Reads XML into a tree: elements, attributes and text. Document types, entities of its own and instructions are refused.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 64;
/// Maximum number of elements and attributes.
const MAX_NODES: usize = 50_000;

/// Element of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) children: Vec<Element>,
    pub(super) text: String,
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    pub(super) fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Returns the attributes as an object.
    pub(super) fn attribute_map(&self) -> Map<String, Value> {
        self.attributes.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect()
    }

    /// Refuses an attribute that has the name of a child, of which readers would take either.
    pub(super) fn has_no_attribute(&self, child: &str) -> Result<(), String> {
        match self.attribute(child) {
            Some(_) => Err(format!("<{}> has {child} as an attribute and as an element", self.name)),
            None => Ok(()),
        }
    }

    /// Refuses two children of one name, of which readers would take either.
    pub(super) fn has_each_once(&self) -> Result<(), String> {
        let mut names: Vec<&str> = self.children.iter().map(|child| child.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("<{}> has <{}> more than once", self.name, pair[0])),
            None => Ok(()),
        }
    }
}

/// Error of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum XmlError {
    /// The document exceeds a limit, or does what is not allowed.
    Limit(String),
    /// The text is no XML.
    Syntax(String),
}

/// Reads a document; returns its root.
pub(super) fn read(text: &str) -> Result<Element, XmlError> {
    let mut reader = Reader::from_str(text);
    let mut stack: Vec<Element> = vec![Element::default()];
    let mut nodes = 0;
    loop {
        let event = reader.read_event().map_err(|error| syntax(&error))?;
        match event {
            Event::Eof => break,
            Event::Start(start) => {
                stack.push(element(&start, &mut nodes)?);
                if stack.len() > MAX_DEPTH {
                    return Err(XmlError::Limit(format!("its elements nest more than {MAX_DEPTH} deep")));
                }
            }
            Event::Empty(start) => {
                let empty = element(&start, &mut nodes)?;
                top(&mut stack).children.push(empty);
            }
            Event::End(_) => {
                let Some(ended) = stack.pop().filter(|_| !stack.is_empty()) else {
                    return Err(XmlError::Syntax("an element ends that did not begin".to_owned()));
                };
                top(&mut stack).children.push(ended);
            }
            Event::Text(text) => {
                let text = text.xml10_content().map_err(|error| syntax(&error))?;
                top(&mut stack).text.push_str(&text);
            }
            Event::CData(data) => {
                let text = data.decode().map_err(|error| syntax(&error))?;
                top(&mut stack).text.push_str(&text.replace("\r\n", "\n"));
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|error| syntax(&error))?;
                let number = reference.resolve_char_ref().map_err(|error| syntax(&error))?;
                let Some(c) = number.or_else(|| predefined(&name)) else {
                    return Err(XmlError::Limit(format!("it uses the entity {name:?} of its own")));
                };
                top(&mut stack).text.push(c);
            }
            Event::DocType(_) => {
                return Err(XmlError::Limit("it has a document type, which jobs do not need".to_owned()));
            }
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
        }
    }
    if stack.len() != 1 {
        return Err(XmlError::Syntax("an element does not end".to_owned()));
    }
    let document = stack.pop().unwrap_or_default();
    if !document.text.trim().is_empty() {
        return Err(XmlError::Syntax("it has text outside its element".to_owned()));
    }
    let mut roots = document.children.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        (Some(_), Some(_)) => Err(XmlError::Syntax("it has more than one element that is in no other".to_owned())),
        (None, _) => Err(XmlError::Syntax("it has no element".to_owned())),
    }
}

fn top(stack: &mut [Element]) -> &mut Element {
    stack.last_mut().expect("the document itself is never popped")
}

fn syntax(error: &dyn std::fmt::Display) -> XmlError {
    XmlError::Syntax(packs_schema::base::strict::shorten(&error.to_string(), 200))
}

fn predefined(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

fn element(start: &BytesStart<'_>, nodes: &mut usize) -> Result<Element, XmlError> {
    let mut count = || {
        *nodes += 1;
        if *nodes > MAX_NODES { Err(XmlError::Limit(format!("it has more than {MAX_NODES} elements"))) } else { Ok(()) }
    };
    count()?;
    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        count()?;
        let attribute = attribute.map_err(|error| syntax(&error))?;
        let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        let value = unescaped(&String::from_utf8_lossy(&attribute.value))?;
        attributes.push((key, value));
    }
    Ok(Element { name, attributes, ..Element::default() })
}

/// Resolves references in the value of an attribute.
fn unescaped(text: &str) -> Result<String, XmlError> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (name, after) =
            after.split_once(';').ok_or_else(|| XmlError::Syntax("an & without an entity".to_owned()))?;
        let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        });
        let c = number.and_then(char::from_u32).or_else(|| predefined(name));
        out.push(c.ok_or_else(|| XmlError::Limit(format!("it uses the entity {name:?} of its own")))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_becomes_a_tree() {
        let root =
            read("<?xml version='1.0'?>\n<a x='1 &amp; &#50;'><b/>t&lt;<![CDATA[<x> &amp;]]><!-- c --><b>u</b></a>\n")
                .unwrap();
        assert_eq!((root.name.as_str(), root.attribute("x"), root.text.as_str()), ("a", Some("1 & 2"), "t<<x> &amp;"));
        assert_eq!(root.children("b").map(|b| b.text.as_str()).collect::<Vec<_>>(), ["", "u"]);
    }

    #[test]
    fn children_that_are_there_twice_are_found() {
        let root = read("<a><b/><c>x</c><b/></a>").unwrap();
        assert_eq!(root.has_each_once(), Err("<a> has <b> more than once".to_owned()));
        assert_eq!(read("<a><b/><c><b/></c></a>").unwrap().has_each_once(), Ok(()));
    }

    #[test]
    fn entities_and_depth_are_refused() {
        for (text, words) in [
            ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "a document type"),
            ("<a>&x;</a>", "the entity \"x\""),
            ("<a b='&x;'/>", "the entity \"x\""),
            (&"<a>".repeat(100), "nest more than 64 deep"),
            (&format!("<a>{}</a>", "<b/>".repeat(60_000)), "more than 50000 elements"),
        ] {
            let Err(XmlError::Limit(problem)) = read(text) else { panic!("{text:.40}") };
            assert!(problem.contains(words), "{problem}");
        }
        for text in
            ["<a>", "</a>", "<a></b>", "<a", "", "x", "<a b=c/>", "<a>&#xD800;</a>", "<a/><b/>", "<a/>x", "x<a/>"]
        {
            assert!(matches!(read(text), Err(XmlError::Syntax(_))), "{text}: {:?}", read(text));
        }
    }
}
