//! Shapes of Puppet's types, of the aliases of a module, and of common aliases of stdlib.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Number;

use super::regex::translate;
use super::shape::{Lists, Objects, Rest, Shape, Texts, bounded};
use super::types::{self, Expr, TypeError};

/// Maximum number of types in an expression, with its aliases written out.
const MAX_PARTS: usize = 2000;
/// Maximum depth of aliases within aliases.
const MAX_ALIASES: usize = 16;
/// Aliases of stdlib, one per line.
const STDLIB: &str = include_str!("stdlib.txt");

/// Aliases of types, by name.
#[derive(Debug, Default)]
pub(super) struct Aliases(BTreeMap<String, Expr>);

impl Aliases {
    /// Adds the aliases in the text of a file: `type Name = Expression`.
    pub(super) fn add(&mut self, text: &str) {
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")).collect();
        let Some((name, expression)) = code.trim_start().strip_prefix("type").and_then(|rest| rest.split_once('='))
        else {
            return;
        };
        if let Ok(expr) = types::parse(expression) {
            self.0.insert(name.trim().to_owned(), expr);
        }
    }

    fn find(&self, name: &str) -> Option<Expr> {
        if let Some(own) = self.0.get(name) {
            return Some(own.clone());
        }
        let line = STDLIB.lines().find(|line| line.split(' ').next() == Some(name))?;
        types::parse(line.split_once(' ')?.1).ok()
    }
}

/// Returns the shape of a type.
pub(super) fn shape(expr: &Expr, aliases: &Aliases) -> Result<Shape, TypeError> {
    let mut reading = Reading { aliases, parts: 0, within: 0 };
    reading.shape(expr)
}

struct Reading<'a> {
    aliases: &'a Aliases,
    parts: usize,
    /// Number of aliases around the expression that is read.
    within: usize,
}

impl Reading<'_> {
    fn shape(&mut self, expr: &Expr) -> Result<Shape, TypeError> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(TypeError::Limit(format!(
                "the type has more than {MAX_PARTS} parts, with its aliases written out"
            )));
        }
        match expr {
            Expr::Type(name, arguments) => self.named(name, arguments),
            // In Puppet a text among types stands for itself: Optional['all'].
            Expr::Text(text) => Ok(words([text.clone()])),
            Expr::Integer(number) => Ok(Shape::of_numbers(true, Some((*number).into()), Some((*number).into()))),
            Expr::Regex(regex) => Ok(matching(&[regex])),
            Expr::Boolean(flag) => Ok(Shape { booleans: BTreeSet::from([*flag]), ..Shape::default() }),
            Expr::Default | Expr::Float(_) | Expr::Hash(_) => {
                Err(TypeError::Syntax("a value stands where a type belongs".to_owned()))
            }
        }
    }

    fn named(&mut self, name: &str, arguments: &[Expr]) -> Result<Shape, TypeError> {
        Ok(match name {
            "Any" | "Data" | "RichData" | "Init" => Shape::any(),
            "Undef" => Shape { null: true, ..Shape::default() },
            "Optional" => Shape { null: true, ..self.inner(arguments)? },
            "NotUndef" => Shape { null: false, ..self.inner(arguments)? },
            "Sensitive" => Shape { secret: true, ..self.inner(arguments)? },
            "Variant" => {
                let mut union = Shape::default();
                for (index, argument) in arguments.iter().enumerate() {
                    let shape = self.shape(argument)?;
                    union = if index == 0 { shape } else { union.or(shape) };
                }
                if arguments.is_empty() { Shape::any() } else { union }
            }
            "Boolean" => {
                let flags: BTreeSet<bool> = arguments
                    .iter()
                    .filter_map(|a| if let Expr::Boolean(flag) = a { Some(*flag) } else { None })
                    .collect();
                Shape {
                    booleans: if flags.is_empty() { BTreeSet::from([false, true]) } else { flags },
                    ..Shape::default()
                }
            }
            "Integer" => whole_numbers(arguments)?,
            "Float" | "Numeric" => Shape::of_numbers(false, number(arguments.first())?, number(arguments.get(1))?),
            "String" => string(arguments)?,
            "Enum" => enumeration(arguments)?,
            "Pattern" => {
                let regexes: Vec<&str> = arguments
                    .iter()
                    .filter_map(|a| if let Expr::Regex(r) | Expr::Text(r) = a { Some(r.as_str()) } else { None })
                    .collect();
                if regexes.is_empty() { text() } else { matching(&regexes) }
            }
            "Regexp" | "URI" | "SemVer" | "SemVerRange" | "Timestamp" | "Timespan" | "Binary" => text(),
            "Scalar" | "ScalarData" => {
                let both = BTreeSet::from([false, true]);
                Shape { booleans: both, ..text() }.or(Shape::of_numbers(false, None, None))
            }
            "Array" => self.array(arguments)?,
            "Tuple" => self.tuple(arguments)?,
            "Hash" => self.hash(arguments)?,
            "Struct" => self.structure(arguments)?,
            "Collection" | "Iterable" => {
                Shape { lists: Some(Box::default()), objects: Some(Box::default()), ..Shape::default() }
            }
            // Names of hosts, one or several.
            "TargetSpec" | "Boltlib::TargetSpec" => {
                let one = || Shape::of_texts(Texts::Length(1, None));
                one().or(Shape::of_lists(Lists { rest: Some(one()), ..Lists::default() }))
            }
            "Target" => Shape::of_texts(Texts::Length(1, None)),
            alias => return self.alias(alias),
        })
    }

    fn alias(&mut self, name: &str) -> Result<Shape, TypeError> {
        let Some(expr) = self.aliases.find(name) else {
            let mut shape = Shape::any();
            shape.lose(format!("the type {name}, which is not known here"));
            return Ok(shape);
        };
        if self.within == MAX_ALIASES {
            // An alias may contain itself.
            let mut shape = Shape::any();
            shape.lose(format!("parts of {name}, which contains itself or nests too deep"));
            return Ok(shape);
        }
        self.within += 1;
        let shape = self.shape(&expr);
        self.within -= 1;
        shape
    }

    /// Returns the shape of the only argument; any without one.
    fn inner(&mut self, arguments: &[Expr]) -> Result<Shape, TypeError> {
        arguments.first().map_or_else(|| Ok(Shape::any()), |argument| self.shape(argument))
    }

    fn array(&mut self, arguments: &[Expr]) -> Result<Shape, TypeError> {
        let (types, bounds) = split(arguments);
        let (least, most) = sizes(bounds, 0, None)?;
        let rest = types.first().map(|item| self.shape(item)).transpose()?;
        Ok(Shape::of_lists(Lists { rest, least, most, ..Lists::default() }))
    }

    fn tuple(&mut self, arguments: &[Expr]) -> Result<Shape, TypeError> {
        let (types, bounds) = split(arguments);
        let count = types.len() as u64;
        let (least, most) = sizes(bounds, count, Some(count))?;
        let first = types.iter().map(|item| self.shape(item)).collect::<Result<Vec<_>, _>>()?;
        // The last type holds for all further items.
        let rest = first.last().cloned();
        Ok(Shape::of_lists(Lists { first, rest, least, most }))
    }

    fn hash(&mut self, arguments: &[Expr]) -> Result<Shape, TypeError> {
        let (types, bounds) = split(arguments);
        let (least, most) = sizes(bounds, 0, None)?;
        let [key, value] = types else { return Ok(Shape::of_objects(Objects { least, most, ..Objects::default() })) };
        let (key, value) = (self.shape(key)?, self.shape(value)?);
        let mut objects = Objects { least, most, ..Objects::default() };
        let mut lost = None;
        match key.texts {
            Some(Texts::OneOf(names)) => {
                objects.members = names.into_iter().map(|name| (name, (value.clone(), false))).collect();
                objects.rest = Rest::None;
            }
            // Counted repetitions are too slow for names.
            Some(Texts::Matching(patterns)) if patterns.iter().all(|pattern| !pattern.contains('{')) => {
                objects.matching = patterns.into_iter().map(|pattern| (pattern, value.clone())).collect();
                objects.rest = Rest::None;
            }
            texts => {
                let plain = matches!(texts, Some(Texts::Length(0 | 1, None)));
                lost = (!plain).then_some("the type of keys");
                objects.rest = Rest::Of(Box::new(value));
            }
        }
        let mut shape = Shape::of_objects(objects);
        shape.secret |= key.secret;
        shape.anchored |= key.anchored;
        if let Some(lost) = lost {
            shape.lose(lost);
        }
        Ok(shape)
    }

    fn structure(&mut self, arguments: &[Expr]) -> Result<Shape, TypeError> {
        let Some(Expr::Hash(entries)) = arguments.first() else { return Ok(Shape::of_objects(Objects::default())) };
        let mut members = BTreeMap::new();
        for (key, value) in entries {
            let shape = self.shape(value)?;
            let (name, needed) = match key {
                Expr::Text(name) => (name.clone(), !shape.null),
                Expr::Type(kind, inner) => match (kind.as_str(), inner.first()) {
                    ("Optional", Some(Expr::Text(name))) => (name.clone(), false),
                    ("NotUndef", Some(Expr::Text(name))) => (name.clone(), true),
                    _ => return Err(TypeError::Syntax("a key of Struct is no text".to_owned())),
                },
                _ => return Err(TypeError::Syntax("a key of Struct is no text".to_owned())),
            };
            members.insert(name, (shape, needed));
        }
        Ok(Shape::of_objects(Objects { members, rest: Rest::None, ..Objects::default() }))
    }
}

fn text() -> Shape {
    Shape::of_texts(Texts::Length(0, None))
}

fn words(words: impl IntoIterator<Item = String>) -> Shape {
    Shape::of_texts(Texts::OneOf(words.into_iter().collect()))
}

/// Splits arguments into types and the bounds behind them.
fn split(arguments: &[Expr]) -> (&[Expr], &[Expr]) {
    let is_bound = |argument: &Expr| matches!(argument, Expr::Integer(_) | Expr::Default);
    let types = arguments.iter().position(is_bound).unwrap_or(arguments.len());
    arguments.split_at(types)
}

fn sizes(bounds: &[Expr], least: u64, most: Option<u64>) -> Result<(u64, Option<u64>), TypeError> {
    let size = |bound: &Expr| match bound {
        Expr::Integer(number) => {
            u64::try_from(*number).map(Some).map_err(|_| TypeError::Syntax("a size is negative".to_owned()))
        }
        _ => Ok(None),
    };
    match bounds {
        [] => Ok((least, most)),
        [low] => Ok((size(low)?.unwrap_or(0), None)),
        [low, high, ..] => Ok((size(low)?.unwrap_or(0), size(high)?)),
    }
}

fn number(bound: Option<&Expr>) -> Result<Option<Number>, TypeError> {
    match bound {
        None | Some(Expr::Default) => Ok(None),
        Some(Expr::Integer(number)) => Ok(Some((*number).into())),
        Some(Expr::Float(number)) => Ok(Number::from_f64(*number)),
        Some(_) => Err(TypeError::Syntax("a bound is no number".to_owned())),
    }
}

/// Bounds beyond 64 bits, and fractions, are no bounds for Puppet either, which refuses the type.
fn whole_numbers(arguments: &[Expr]) -> Result<Shape, TypeError> {
    let bounds: Vec<Expr> = arguments
        .iter()
        .map(|bound| if matches!(bound, Expr::Float(_)) { Expr::Default } else { bound.clone() })
        .collect();
    let mut shape = Shape::of_numbers(true, number(bounds.first())?, number(bounds.get(1))?);
    if bounds != arguments {
        shape.lose("a bound that is no integer of 64 bits".to_owned());
    }
    Ok(shape)
}

fn string(arguments: &[Expr]) -> Result<Shape, TypeError> {
    if let [Expr::Text(text)] = arguments {
        return Ok(words([text.clone()]));
    }
    let (low, high) = match arguments {
        // String[Integer[1, 5]]
        [Expr::Type(name, bounds)] if name == "Integer" => sizes(bounds, 0, None)?,
        bounds => sizes(bounds, 0, None)?,
    };
    Ok(Shape::of_texts(Texts::Length(low, high)))
}

fn enumeration(arguments: &[Expr]) -> Result<Shape, TypeError> {
    let mut values = BTreeSet::new();
    let mut any_case = false;
    for argument in arguments {
        match argument {
            Expr::Text(word) => drop(values.insert(word.clone())),
            // The last argument: upper and lower case are the same.
            Expr::Boolean(flag) => any_case = *flag,
            Expr::Integer(number) => drop(values.insert(number.to_string())),
            _ => return Err(TypeError::Syntax("Enum lists something else than texts".to_owned())),
        }
    }
    if values.is_empty() {
        return Ok(text());
    }
    if any_case {
        let pattern = values.iter().map(|word| super::regex::literal(word)).collect::<Vec<_>>().join("|");
        let mut shape = Shape::default();
        shape.texts = Some(bounded(vec![format!("^(?i:{pattern})$")], &mut shape));
        return Ok(shape);
    }
    Ok(words(values))
}

fn matching(regexes: &[impl AsRef<str>]) -> Shape {
    let mut shape = Shape::default();
    let mut patterns = Vec::new();
    for regex in regexes {
        match translate(regex.as_ref()) {
            Ok(translated) => {
                shape.anchored |= translated.anchored;
                patterns.push(translated.pattern);
            }
            Err(why) => {
                shape.lose(format!("the pattern /{}/: {why}", packs_schema::base::strict::shorten(regex.as_ref(), 80)));
                shape.texts = Some(Texts::Length(0, None));
            }
        }
    }
    if shape.texts.is_none() {
        shape.texts = Some(bounded(patterns, &mut shape));
    }
    shape
}

/// Returns the type that a JSON value has, for tasks that name a JSON type instead of one of Puppet's.
pub(super) fn of_json_name(name: &str) -> Option<&'static str> {
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "string" => "String",
        "integer" | "int" => "Integer",
        "number" | "numeric" => "Numeric",
        "float" => "Float",
        "boolean" | "bool" => "Boolean",
        "array" => "Array",
        "hash" | "object" => "Hash",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
