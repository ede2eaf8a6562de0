//! Set of JSON values that a type takes, apart for each JSON type, and the schema of it.
//!
//! The parameter language has no `anyOf`. Since its keywords restrict one JSON type each, the union of two types is
//! exact wherever they differ in JSON type, and nearly everywhere else: texts become one pattern. Where a union is
//! larger than its parts, [`Shape::looser`] says so.

use std::collections::{BTreeMap, BTreeSet};

use packs_schema::pack::param::Pattern;
use serde_json::{Map, Number, Value, json};

use super::regex::literal;

/// Texts of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Texts {
    /// Of a length in characters.
    Length(u64, Option<u64>),
    OneOf(BTreeSet<String>),
    /// Matched by one of these patterns.
    Matching(Vec<String>),
}

/// Numbers of a shape, with bounds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    pub(super) whole: bool,
    pub(super) low: Option<Number>,
    pub(super) high: Option<Number>,
}

/// Lists of a shape.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Lists {
    /// Shapes of the first items.
    pub(super) first: Vec<Shape>,
    /// Shape of the others; absent: any.
    pub(super) rest: Option<Shape>,
    pub(super) least: u64,
    pub(super) most: Option<u64>,
}

/// Objects of a shape.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Objects {
    /// Named members, and true for those that must be there.
    pub(super) members: BTreeMap<String, (Shape, bool)>,
    /// Members whose name matches a pattern.
    pub(super) matching: BTreeMap<String, Shape>,
    /// Shape of other members.
    pub(super) rest: Rest,
    pub(super) least: u64,
    pub(super) most: Option<u64>,
}

/// Members of an object without a rule of their own.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Rest {
    #[default]
    Any,
    None,
    Of(Box<Shape>),
}

/// Set of values.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Shape {
    pub(super) null: bool,
    pub(super) booleans: BTreeSet<bool>,
    pub(super) numbers: Option<Numbers>,
    pub(super) texts: Option<Texts>,
    pub(super) lists: Option<Box<Lists>>,
    pub(super) objects: Option<Box<Objects>>,
    /// True if a part of it is secret.
    pub(super) secret: bool,
    /// Restrictions of the source that the shape lacks.
    pub(super) looser: Vec<String>,
    /// True for an expression of Ruby with anchors of lines.
    pub(super) anchored: bool,
}

impl Shape {
    /// Every value.
    pub(super) fn any() -> Shape {
        Shape {
            null: true,
            booleans: BTreeSet::from([false, true]),
            numbers: Some(Numbers { whole: false, low: None, high: None }),
            texts: Some(Texts::Length(0, None)),
            lists: Some(Box::default()),
            objects: Some(Box::default()),
            ..Shape::default()
        }
    }

    pub(super) fn of_texts(texts: Texts) -> Shape {
        Shape { texts: Some(texts), ..Shape::default() }
    }

    pub(super) fn of_numbers(whole: bool, low: Option<Number>, high: Option<Number>) -> Shape {
        Shape { numbers: Some(Numbers { whole, low, high }), ..Shape::default() }
    }

    pub(super) fn of_lists(lists: Lists) -> Shape {
        let parts = lists.first.iter().chain(&lists.rest);
        let shape = Shape::default().noting(parts);
        Shape { lists: Some(Box::new(lists)), ..shape }
    }

    pub(super) fn of_objects(objects: Objects) -> Shape {
        let rest = match &objects.rest {
            Rest::Of(shape) => Some(&**shape),
            Rest::Any | Rest::None => None,
        };
        let parts = objects.members.values().map(|(shape, _)| shape).chain(objects.matching.values()).chain(rest);
        let shape = Shape::default().noting(parts);
        Shape { objects: Some(Box::new(objects)), ..shape }
    }

    /// Takes over what parts say about secrets and lost restrictions.
    fn noting<'a>(mut self, parts: impl Iterator<Item = &'a Shape>) -> Shape {
        for part in parts {
            self.note(part);
        }
        self
    }

    fn note(&mut self, part: &Shape) {
        self.secret |= part.secret;
        self.anchored |= part.anchored;
        for said in &part.looser {
            self.lose(said.clone());
        }
    }

    /// Notes a restriction that is lost.
    pub(super) fn lose(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.looser.contains(&what) && self.looser.len() < 8 {
            self.looser.push(what);
        }
    }

    pub(super) fn is_any(&self) -> bool {
        let mut plain = Shape { secret: false, looser: Vec::new(), anchored: false, ..self.clone() };
        plain.null = true;
        plain == Shape::any()
    }

    /// Returns the union.
    pub(super) fn or(self, other: Shape) -> Shape {
        let mut both = Shape { null: self.null || other.null, ..Shape::default() };
        both.note(&self);
        both.note(&other);
        both.booleans = &self.booleans | &other.booleans;
        both.numbers = match (self.numbers, other.numbers) {
            (Some(one), Some(two)) => Some(numbers(one, two, &mut both)),
            (one, two) => one.or(two),
        };
        both.texts = match (self.texts, other.texts) {
            (Some(one), Some(two)) => Some(texts(one, two, &mut both)),
            (one, two) => one.or(two),
        };
        both.lists = match (self.lists, other.lists) {
            (Some(one), Some(two)) if one == two => Some(one),
            (Some(one), Some(two)) => {
                both.lose("which of several kinds of lists it is");
                Some(Box::new(lists(*one, *two)))
            }
            (one, two) => one.or(two),
        };
        both.objects = match (self.objects, other.objects) {
            (Some(one), Some(two)) if one == two => Some(one),
            (Some(_), Some(_)) => {
                both.lose("which of several kinds of objects it is");
                Some(Box::default())
            }
            (one, two) => one.or(two),
        };
        let open = both.numbers.is_some() || both.lists.is_some() || both.objects.is_some();
        if open && both.booleans.len() == 1 {
            both.booleans = BTreeSet::from([false, true]);
            both.lose("which of true and false it is");
        }
        both
    }

    /// Returns the schema.
    pub(super) fn schema(&self) -> Map<String, Value> {
        if self.is_any() {
            return Map::new();
        }
        let mut schema = Map::new();
        let mut types = Vec::new();
        let finite = self.numbers.is_none() && self.lists.is_none() && self.objects.is_none();
        if !self.booleans.is_empty() {
            types.push("boolean");
        }
        if let Some(numbers) = &self.numbers {
            types.push(if numbers.whole { "integer" } else { "number" });
            schema.extend(numbers.low.clone().map(|low| ("minimum".to_owned(), Value::Number(low))));
            schema.extend(numbers.high.clone().map(|high| ("maximum".to_owned(), Value::Number(high))));
        }
        match &self.texts {
            Some(Texts::OneOf(words)) if finite => {
                let values = self.booleans.iter().map(|flag| json!(flag)).chain(words.iter().map(|word| json!(word)));
                let null = self.null.then_some(Value::Null);
                schema.insert("enum".to_owned(), values.chain(null).collect());
                types.push("string");
            }
            Some(texts) => {
                types.push("string");
                text_keywords(texts, &mut schema);
            }
            None if finite && self.booleans.len() == 1 => {
                let values = self.booleans.iter().map(|flag| json!(flag)).chain(self.null.then_some(Value::Null));
                schema.insert("enum".to_owned(), values.collect());
            }
            None => {}
        }
        if let Some(lists) = &self.lists {
            types.push("array");
            list_keywords(lists, &mut schema);
        }
        if let Some(objects) = &self.objects {
            types.push("object");
            object_keywords(objects, &mut schema);
        }
        if self.null {
            types.push("null");
        }
        let types = if let [one] = types[..] { json!(one) } else { json!(types) };
        schema.insert("type".to_owned(), types);
        schema
    }
}

fn numbers(one: Numbers, two: Numbers, both: &mut Shape) -> Numbers {
    let value = |number: &Option<Number>, open: f64| number.as_ref().and_then(Number::as_f64).unwrap_or(open);
    let (lows, highs) = (
        (value(&one.low, f64::NEG_INFINITY), value(&two.low, f64::NEG_INFINITY)),
        (value(&one.high, f64::INFINITY), value(&two.high, f64::INFINITY)),
    );
    if one.whole != two.whole && (one.low.is_some() || one.high.is_some() || two.low.is_some() || two.high.is_some()) {
        both.lose("which of several kinds of numbers it is");
    } else if lows.0 > highs.1 + 1.0 || lows.1 > highs.0 + 1.0 {
        both.lose("a gap between the bounds of numbers");
    }
    Numbers {
        whole: one.whole && two.whole,
        low: if lows.0 <= lows.1 { one.low } else { two.low },
        high: if highs.0 >= highs.1 { one.high } else { two.high },
    }
}

fn texts(one: Texts, two: Texts, both: &mut Shape) -> Texts {
    use Texts::{Length, OneOf};
    match (one, two) {
        (Length(0, None), _) | (_, Length(0, None)) => Length(0, None),
        (OneOf(one), OneOf(two)) => OneOf(&one | &two),
        (Length(low, high), Length(other_low, other_high)) => {
            let apart = |high: Option<u64>, low: u64| high.is_some_and(|high| high + 1 < low);
            if apart(high, other_low) || apart(other_high, low) {
                both.lose("a gap between the lengths of texts");
            }
            Length(low.min(other_low), high.zip(other_high).map(|(one, two)| one.max(two)))
        }
        // Words that have the length anyway.
        (Length(low, None), OneOf(words)) | (OneOf(words), Length(low, None)) if fit(&words, low) => Length(low, None),
        (one, two) => match (patterns(one), patterns(two)) {
            (Some(one), Some(two)) => bounded(one.into_iter().chain(two).collect(), both),
            _ => {
                both.lose("the length or the pattern of a text");
                Length(0, None)
            }
        },
    }
}

fn fit(words: &BTreeSet<String>, low: u64) -> bool {
    words.iter().all(|word| word.chars().count() as u64 >= low)
}

/// Returns the patterns of texts; `None` where a pattern would be too long or slow.
fn patterns(texts: Texts) -> Option<Vec<String>> {
    Some(match texts {
        Texts::Matching(patterns) => patterns,
        Texts::OneOf(words) => words.iter().map(|word| format!("^{}$", literal(word))).collect(),
        Texts::Length(0, None) => vec![String::new()],
        Texts::Length(1, None) => vec!["(?s:.)".to_owned()],
        Texts::Length(..) => return None,
    })
}

/// Returns texts that match one of `patterns`, unless that is too much for one pattern.
pub(super) fn bounded(patterns: Vec<String>, shape: &mut Shape) -> Texts {
    match Pattern::new(&alternatives(&patterns)) {
        Ok(_) => Texts::Matching(patterns),
        Err(_) => {
            shape.lose("patterns that are too long together");
            Texts::Length(0, None)
        }
    }
}

fn alternatives(patterns: &[String]) -> String {
    match patterns {
        [one] => one.clone(),
        several => several.iter().map(|pattern| format!("(?:{pattern})")).collect::<Vec<_>>().join("|"),
    }
}

fn text_keywords(texts: &Texts, schema: &mut Map<String, Value>) {
    match texts {
        Texts::Length(low, high) => {
            schema.extend((*low > 0).then(|| ("minLength".to_owned(), json!(low))));
            schema.extend(high.map(|high| ("maxLength".to_owned(), json!(high))));
        }
        Texts::OneOf(words) => {
            let patterns: Vec<String> = words.iter().map(|word| format!("^{}$", literal(word))).collect();
            schema.insert("pattern".to_owned(), json!(alternatives(&patterns)));
        }
        Texts::Matching(patterns) => drop(schema.insert("pattern".to_owned(), json!(alternatives(patterns)))),
    }
}

fn lists(one: Lists, two: Lists) -> Lists {
    let all = |lists: Lists| {
        let rest = lists.rest.unwrap_or_else(Shape::any);
        let open = lists.most.is_none_or(|most| most > lists.first.len() as u64);
        lists.first.into_iter().chain(open.then_some(rest)).reduce(Shape::or).unwrap_or_default()
    };
    let (least, most) = (one.least.min(two.least), one.most.zip(two.most).map(|(one, two)| one.max(two)));
    Lists { first: Vec::new(), rest: Some(all(one).or(all(two))), least, most }
}

fn list_keywords(lists: &Lists, schema: &mut Map<String, Value>) {
    if !lists.first.is_empty() {
        let first = lists.first.iter().map(|shape| Value::Object(shape.schema()));
        schema.insert("items".to_owned(), first.collect());
        let rest = lists.rest.as_ref().map(|shape| Value::Object(shape.schema()));
        schema.extend(rest.map(|rest| ("additionalItems".to_owned(), rest)));
    } else if let Some(rest) = lists.rest.as_ref().filter(|rest| !rest.is_any()) {
        schema.insert("items".to_owned(), Value::Object(rest.schema()));
    }
    schema.extend((lists.least > 0).then(|| ("minItems".to_owned(), json!(lists.least))));
    schema.extend(lists.most.map(|most| ("maxItems".to_owned(), json!(most))));
}

fn object_keywords(objects: &Objects, schema: &mut Map<String, Value>) {
    let member = |(name, (shape, needed)): (&String, &(Shape, bool))| {
        let mut schema = shape.schema();
        if *needed {
            schema.insert("required".to_owned(), json!(true));
        }
        (name.clone(), Value::Object(schema))
    };
    if !objects.members.is_empty() {
        schema.insert("properties".to_owned(), Value::Object(objects.members.iter().map(member).collect()));
    }
    if !objects.matching.is_empty() {
        let matching = objects.matching.iter().map(|(name, shape)| (name.clone(), Value::Object(shape.schema())));
        schema.insert("patternProperties".to_owned(), Value::Object(matching.collect()));
    }
    match &objects.rest {
        Rest::Any => {}
        Rest::None => drop(schema.insert("additionalProperties".to_owned(), json!(false))),
        Rest::Of(shape) if shape.is_any() => {}
        Rest::Of(shape) => {
            schema.insert("additionalProperties".to_owned(), Value::Object(shape.schema()));
        }
    }
    schema.extend((objects.least > 0).then(|| ("minProperties".to_owned(), json!(objects.least))));
    schema.extend(objects.most.map(|most| ("maxProperties".to_owned(), json!(most))));
}
