//! Query of a request: percent-decoded; every name must be known and given once.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use packs_schema::agent::rest::{MAX_OUTPUT, MAX_WAIT_S};
use packs_schema::base::quantity::parse_duration;

use super::problem::ApiError;

/// Values by name.
#[derive(Debug, Default)]
pub(super) struct Query {
    values: BTreeMap<&'static str, String>,
}

fn wrong(name: &str, message: impl Display) -> ApiError {
    ApiError::BadRequest(format!("query parameter {name}: {message}"))
}

impl Query {
    /// Parses `raw`; a name that is not `known` is an error that lists the known ones.
    pub(super) fn parse(raw: Option<&str>, known: &[(&'static str, &'static str)]) -> Result<Query, ApiError> {
        let mut values = BTreeMap::new();
        let mut unknown = Vec::new();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            match known.iter().find(|(k, _)| *k == name) {
                Some((name, _)) if values.insert(*name, value).is_some() => {
                    return Err(wrong(name, "is given more than once"));
                }
                Some(_) => {}
                None => unknown.push(format!("{:?}", name.chars().take(80).collect::<String>())),
            }
        }
        if unknown.is_empty() {
            return Ok(Query { values });
        }
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let takes = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(ApiError::BadRequest(format!("unknown query parameter {}; this route accepts {takes}", unknown.join(", "))))
    }

    /// Parses a value.
    pub(super) fn get<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ApiError>
    where
        T::Err: Display,
    {
        self.values.get(name).map(|text| text.parse().map_err(|e: T::Err| wrong(name, e))).transpose()
    }

    /// Parses a value that is required.
    pub(super) fn required<T: FromStr>(&self, name: &'static str) -> Result<T, ApiError>
    where
        T::Err: Display,
    {
        self.get(name)?.ok_or_else(|| wrong(name, "is missing"))
    }

    /// Parses a number of bytes or milliseconds: at most 2^63 - 1, as `openapi.json` says.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<u64>, ApiError> {
        let Some(number) = self.get::<u64>(name)? else { return Ok(None) };
        if i64::try_from(number).is_err() {
            return Err(wrong(name, format_args!("is at most {}", i64::MAX)));
        }
        Ok(Some(number))
    }

    /// Parses a duration such as `2h`.
    pub(super) fn duration(&self, name: &'static str) -> Result<Option<Duration>, ApiError> {
        self.values.get(name).map(|text| parse_duration(text).map_err(|e| wrong(name, e))).transpose()
    }

    /// Parses `true` or `false`; absent is `false`.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, ApiError> {
        match self.values.get(name).map(String::as_str) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(wrong(name, "must be true or false")),
        }
    }

    /// Parses `?wait=10s`; zero when absent.
    pub(super) fn wait(&self) -> Result<Duration, ApiError> {
        let Some(text) = self.values.get("wait") else { return Ok(Duration::ZERO) };
        let wait = parse_duration(text).map_err(|e| wrong("wait", e))?;
        if wait > Duration::from_secs(MAX_WAIT_S) {
            return Err(wrong("wait", format_args!("is at most {MAX_WAIT_S}s; ask again to wait longer")));
        }
        Ok(wait)
    }

    /// Parses `?output=4096`: the number of bytes of each stream that the answer is to hold.
    pub(super) fn output(&self) -> Result<Option<usize>, ApiError> {
        let Some(bytes) = self.get::<usize>("output")? else { return Ok(None) };
        if !(1..=MAX_OUTPUT).contains(&bytes) {
            return Err(wrong("output", format_args!("is from 1 to {MAX_OUTPUT} bytes; GET …/stdout has all of them")));
        }
        Ok(Some(bytes))
    }
}

fn decode(text: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::BadRequest("the query is not percent-encoded UTF-8".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or_else(wrong);
                let value = digit()? * 16 + digit()?;
                bytes.push(u8::try_from(value).map_err(|_| wrong())?);
            }
            plain => bytes.push(plain),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[(&str, &str)] = &[("run", ""), ("wait", ""), ("follow", ""), ("output", "")];

    #[test]
    fn values_are_decoded_and_names_are_known() {
        let query = Query::parse(Some("run=a%3Ab&wait=10s&follow=true"), KNOWN).unwrap();
        assert_eq!(query.get::<String>("run").unwrap().as_deref(), Some("a:b"));
        assert_eq!(query.wait().unwrap(), Duration::from_secs(10));
        assert!(query.flag("follow").unwrap());
        for wrong in ["what=1", "run=1&run=2", "run=%zz", "run=%f", "run=%ff", "x&y"] {
            assert!(Query::parse(Some(wrong), KNOWN).is_err(), "{wrong}");
        }
        for wrong in ["wait=61s", "wait=soon", "wait="] {
            assert!(Query::parse(Some(wrong), KNOWN).unwrap().wait().is_err(), "{wrong}");
        }
        for (text, bytes) in [("run=1", None), ("output=1", Some(1)), ("output=65536", Some(64 << 10))] {
            assert_eq!(Query::parse(Some(text), KNOWN).unwrap().output().unwrap(), bytes, "{text}");
        }
        for wrong in ["output=0", "output=65537", "output=-1", "output=1k", "output=99999999999999999999", "output="] {
            assert!(Query::parse(Some(wrong), KNOWN).unwrap().output().is_err(), "{wrong}");
        }
        for (text, number) in [("run=0", Some(0)), ("run=9223372036854775807", Some(u64::MAX >> 1))] {
            assert_eq!(Query::parse(Some(text), KNOWN).unwrap().number("run").unwrap(), number, "{text}");
        }
        assert!(Query::parse(Some("run=9223372036854775808"), KNOWN).unwrap().number("run").is_err());
        let said = format!("{:?}", Query::parse(Some("color=red"), KNOWN).unwrap_err());
        assert!(said.contains("color") && said.contains("run, wait, follow, output"), "{said}");
    }
}
