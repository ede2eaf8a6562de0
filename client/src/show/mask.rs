//! Masks secret values in what an instance sends back: output, results and reasons.
//!
//! Only the client that gave a value knows it, so it masks for its own output; the agent stores what an action prints as
//! it is. Values shorter than [`SHORTEST`] bytes are not masked: they would match everywhere. A value is found as it was
//! given and as JSON writes it, with its own characters and in ASCII alone (`\u00e4`, as Python's `json.dumps` does); of a
//! value with several lines each long enough line is found as well. An encoding of a value, such as base64, is not found.

use std::collections::{BTreeSet, HashMap};

use packs_schema::pack::param::Parameters;
use packs_schema::pack::param::bind::bind;
use serde_json::{Map, Value};

/// Text shown in place of a secret value.
pub const MASKED: &str = "********";
/// Minimum length in bytes of a value that is masked.
pub const SHORTEST: usize = 4;
/// Minimum length in bytes of a line of a value that is masked by itself.
const SHORTEST_LINE: usize = 8;

/// Secret values, in every form in which they are looked for. Has no `Debug`.
#[derive(Clone, Default)]
pub struct Mask {
    /// Longest first, so that a value is masked whole where a shorter one is part of it.
    forms: Vec<Vec<u8>>,
    /// Indices of the forms, in the same order, by their first bytes: a secret may have thousands of lines.
    starts: HashMap<[u8; SHORTEST], Vec<usize>>,
}

impl Mask {
    /// Returns a mask of the secret values in `given`, and of secret defaults, as `parameters` mark them.
    pub fn of_parameters(parameters: &Parameters, given: &Map<String, Value>) -> Mask {
        let mut secrets = Vec::new();
        if let Ok(bound) = bind(parameters, given) {
            let (values, public) = (bound.values().clone(), bound.public().clone());
            differing(&Value::Object(values), &Value::Object(public), &mut secrets);
        }
        Mask::new(secrets.iter().map(String::as_str))
    }

    /// Returns a mask of these values.
    pub fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Mask {
        let mut forms = BTreeSet::new();
        for secret in secrets {
            let mut add = |form: &str, shortest: usize| {
                if form.len() >= shortest {
                    forms.insert(form.as_bytes().to_vec());
                    let json = Value::from(form).to_string();
                    let json = &json[1..json.len() - 1];
                    forms.insert(json.as_bytes().to_vec());
                    forms.insert(in_ascii(json).into_bytes());
                }
            };
            add(secret, SHORTEST);
            add(secret.trim(), SHORTEST);
            // Not the first and last line of a PEM file, which are the same in every one.
            for line in secret.lines().map(str::trim).filter(|line| !line.starts_with("-----")) {
                add(line, if secret.trim() == line { SHORTEST } else { SHORTEST_LINE });
            }
        }
        let mut forms: Vec<Vec<u8>> = forms.into_iter().collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        let mut starts: HashMap<[u8; SHORTEST], Vec<usize>> = HashMap::new();
        for (index, form) in forms.iter().enumerate() {
            let start = form.first_chunk().expect("no form is shorter than the shortest value");
            starts.entry(*start).or_default().push(index);
        }
        Mask { forms, starts }
    }

    /// True if there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Returns `bytes` with each value masked.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.stream();
        let mut masked = stream.push(bytes);
        masked.extend(stream.finish());
        masked
    }

    /// Returns `text` with each value masked.
    pub fn text(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned()
    }

    /// Masks each value in the strings, numbers and keys of `value`.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            _ if self.is_empty() => value.clone(),
            Value::String(text) => Value::String(self.text(text)),
            Value::Number(number) => {
                let text = number.to_string();
                let masked = self.text(&text);
                if masked == text { value.clone() } else { Value::String(masked) }
            }
            Value::Array(items) => Value::Array(items.iter().map(|item| self.value(item)).collect()),
            Value::Object(map) => Value::Object(self.object(map)),
            Value::Null | Value::Bool(_) => value.clone(),
        }
    }

    /// Masks each value in the strings, numbers and keys of `map`.
    pub fn object(&self, map: &Map<String, Value>) -> Map<String, Value> {
        map.iter().map(|(name, value)| (self.text(name), self.value(value))).collect()
    }

    /// Returns a masker for one stream that comes in pieces.
    pub fn stream(&self) -> MaskStream<'_> {
        MaskStream { mask: self, held: Vec::new() }
    }

    /// Returns the longest form that `bytes` begins with.
    fn at(&self, bytes: &[u8]) -> Option<usize> {
        self.starting_like(bytes)?.find(|form| bytes.starts_with(form)).map(Vec::len)
    }

    /// Returns the forms whose first bytes are those of `bytes`; `None` if `bytes` is too short to tell.
    fn starting_like(&self, bytes: &[u8]) -> Option<impl Iterator<Item = &Vec<u8>>> {
        let found = self.starts.get(bytes.first_chunk::<SHORTEST>()?);
        Some(found.into_iter().flatten().map(|index| &self.forms[*index]))
    }

    /// True if `bytes`, the end of a piece, may be the beginning of a form.
    fn may_begin(&self, bytes: &[u8]) -> bool {
        let is_longer = |form: &Vec<u8>| form.len() > bytes.len() && form.starts_with(bytes);
        match self.starting_like(bytes) {
            Some(mut forms) => forms.any(is_longer),
            None => self.forms.iter().any(is_longer),
        }
    }
}

/// Masks one stream that comes in pieces: a value that is cut by the edge of a piece is masked as well.
pub struct MaskStream<'a> {
    mask: &'a Mask,
    /// End of the last piece, as far as a value may begin in it.
    held: Vec<u8>,
}

impl MaskStream<'_> {
    /// Returns what can be shown now that `piece` has come.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        self.take(false)
    }

    /// Returns the rest, at the end of the stream. Before a gap see [`MaskStream::break_off`].
    pub fn finish(&mut self) -> Vec<u8> {
        self.take(true)
    }

    /// Returns the rest before a gap. What may be the beginning of a value is masked: the gap would hide the rest of it
    /// from the mask.
    pub fn break_off(&mut self) -> Vec<u8> {
        let mut shown = self.take(false);
        if self.held.len() < SHORTEST {
            shown.extend(self.take(true));
        } else {
            self.held.clear();
            shown.extend_from_slice(MASKED.as_bytes());
        }
        shown
    }

    fn take(&mut self, is_end: bool) -> Vec<u8> {
        let mask = self.mask;
        if mask.is_empty() {
            return std::mem::take(&mut self.held);
        }
        let longest = mask.forms[0].len();
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let rest = &self.held[at..];
            if !is_end && rest.len() < longest && mask.may_begin(rest) {
                break;
            }
            match mask.at(rest) {
                Some(length) => {
                    shown.extend_from_slice(MASKED.as_bytes());
                    at += length;
                }
                None => {
                    shown.push(rest[0]);
                    at += 1;
                }
            }
        }
        self.held.drain(..at);
        shown
    }
}

/// Writes the characters beyond ASCII of JSON text as escapes of UTF-16 units (`\u00e9`).
fn in_ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            let units = &mut [0; 2];
            c.encode_utf16(units).iter().for_each(|unit| ascii.push_str(&format!("\\u{unit:04x}")));
        }
    }
    ascii
}

/// Collects the scalars of `values` that `public` replaces.
fn differing(values: &Value, public: &Value, found: &mut Vec<String>) {
    match (values, public) {
        (values, public) if values == public => {}
        (Value::Object(values), Value::Object(public)) => {
            for (name, value) in values {
                differing(value, public.get(name).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(values), Value::Array(public)) => {
            for (at, value) in values.iter().enumerate() {
                differing(value, public.get(at).unwrap_or(&Value::Null), found);
            }
        }
        (values, _) => scalars(values, found),
    }
}

fn scalars(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| scalars(item, found)),
        Value::Object(map) => map.values().for_each(|item| scalars(item, found)),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn mask(secrets: &[&str]) -> Mask {
        Mask::new(secrets.iter().copied())
    }

    #[test]
    fn a_value_is_masked_wherever_it_comes_back() {
        let mask = mask(&["hunter2", "a\"b\nc-d-e-f-g", "abc"]);
        assert_eq!(mask.text("token=hunter2; hunter2hunter2"), "token=********; ****************");
        assert_eq!(mask.text(r#"{"x": "a\"b\nc-d-e-f-g"}"#), r#"{"x": "********"}"#);
        assert_eq!(mask.text("the second line alone: c-d-e-f-g"), "the second line alone: ********");
        assert_eq!(mask.text("abc is too short, a\"b as well"), "abc is too short, a\"b as well");
        let result = json!({"hunter2": ["x hunter2", 1, true, null], "n": {"y": "hunter"}});
        assert_eq!(mask.value(&result), json!({"********": ["x ********", 1, true, null], "n": {"y": "hunter"}}));
        assert_eq!(mask.bytes(b"\xffhunter2\xfe"), b"\xff********\xfe");
    }

    #[test]
    fn a_value_is_masked_as_json_in_ascii() {
        let mask = mask(&["pässwörd-\u{1f511}\""]);
        assert_eq!(mask.text(r#"{"k": "p\u00e4ssw\u00f6rd-\ud83d\udd11\""}"#), r#"{"k": "********"}"#);
        assert_eq!(mask.text("pässwörd-\u{1f511}\""), MASKED);
    }

    #[test]
    fn a_secret_of_many_lines_is_masked_line_by_line() {
        let secret: String = (0..20_000).map(|line| format!("{line:05}-is-of-the-secret\n")).collect();
        let mask = mask(&[&secret]);
        let output: String = (0..20_000).rev().map(|line| format!("> {line:05}-is-of-the-secret\n")).collect();
        assert_eq!(mask.text(&output), format!("> {MASKED}\n").repeat(20_000));
    }

    #[test]
    fn the_beginning_of_a_value_before_a_gap_is_masked() {
        let mask = mask(&["hunter2-hunter2"]);
        let mut stream = mask.stream();
        let shown =
            [stream.push(b"token=hunter2-hun"), stream.break_off(), stream.push(b"ter2; hun"), stream.break_off()];
        assert_eq!(shown.concat(), b"token=********ter2; hun");
    }

    #[test]
    fn the_longest_value_is_masked_whole() {
        assert_eq!(mask(&["pass", "password"]).text("password pass passwor"), "******** ******** ********wor");
    }

    #[test]
    fn the_lines_of_a_key_are_masked_and_its_frame_is_not() {
        let mask = mask(&["-----BEGIN KEY-----\nMIGHAgEAMBMG\nzz\n-----END KEY-----\n"]);
        assert_eq!(
            mask.text("-----BEGIN KEY-----\nMIGHAgEAMBMG\nzz\n"),
            format!("-----BEGIN KEY-----\n{MASKED}\nzz\n")
        );
    }

    #[test]
    fn secrets_are_those_that_the_schema_marks_however_deep() {
        let schema = r#"{"name": {"type": "string"}, "pin": {"type": "integer", "secret": true},
            "user": {"type": "object", "properties": {"id": {"type": "string"}, "key": {"type": "string", "secret": true}}}}"#;
        let parameters: Parameters = serde_json::from_str(schema).unwrap();
        let given = json!({"name": "Open", "pin": 12345, "user": {"id": "ident", "key": "s3cret"}});
        let mask = Mask::of_parameters(&parameters, given.as_object().unwrap());
        assert_eq!(mask.text("Open 12345 ident s3cret"), "Open ******** ident ********");
        assert_eq!(mask.value(&json!({"pin": 12345, "other": 1})), json!({"pin": MASKED, "other": 1}));
    }

    proptest! {
        #[test]
        fn pieces_are_masked_like_the_whole(
            secrets in prop::collection::vec("[ab]{4,6}", 1..4),
            text in "[abc]{0,60}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mask = Mask::new(secrets.iter().map(String::as_str));
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let mut stream = mask.stream();
            let mut shown: Vec<u8> = at.windows(2).flat_map(|pair| stream.push(&bytes[pair[0]..pair[1]])).collect();
            shown.extend(stream.finish());
            let whole = String::from_utf8(mask.bytes(bytes)).unwrap();
            prop_assert!(secrets.iter().all(|secret| !whole.contains(secret)), "{whole}");
            prop_assert_eq!(String::from_utf8(shown).unwrap(), whole);
        }
    }
}
