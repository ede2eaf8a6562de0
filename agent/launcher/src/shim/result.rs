//! The structured result: what the action wrote into `BOLT_RESULT`, read through the descriptor that was open all along.

use std::fs::File;
use std::os::unix::fs::FileExt;

use packs_schema::param::Schema;
use packs_schema::param::check::check;
use packs_schema::strict;
use serde_json::{Map, Value};

/// The largest result, in bytes.
const MAX_RESULT: usize = 64 << 10;
/// How many problems a message lists.
const MAX_LISTED: usize = 5;

/// The result, if there is one; the error says why what there is does not count.
pub(super) fn read(file: &File, schema: Option<&Schema>) -> Result<Option<Map<String, Value>>, String> {
    let length = file.metadata().map_err(|e| format!("the result cannot be read: {e}"))?.len();
    if length == 0 {
        return Ok(None);
    }
    if length > MAX_RESULT as u64 {
        return Err(format!("the result has {length} bytes; at most {MAX_RESULT} are taken"));
    }
    let mut bytes = vec![0; MAX_RESULT];
    let length = file.read_at(&mut bytes, 0).map_err(|e| format!("the result cannot be read: {e}"))?;
    let value = strict::parse(&bytes[..length]).map_err(|e| format!("the result is not one JSON object: {e}"))?;
    if let Some(schema) = schema {
        let problems = check(schema, &value);
        if !problems.is_empty() {
            let list: Vec<String> = problems.iter().take(MAX_LISTED).map(|p| p.describe("result")).collect();
            return Err(format!("the result does not fit output_schema: {}", list.join("; ")));
        }
    }
    match value {
        Value::Object(map) => Ok(Some(map)),
        other => Err(format!("the result must be one JSON object, not {}", strict::kind(&other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, schema: Option<&str>) -> Result<Option<Map<String, Value>>, String> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
        let schema: Option<Schema> = schema.map(|s| serde_json::from_str(s).unwrap());
        read(&file, schema.as_ref())
    }

    #[test]
    fn one_json_object_counts() {
        assert_eq!(read_text("", None), Ok(None));
        assert_eq!(read_text("{\"a\":1}\n", None).unwrap().unwrap().len(), 1);
        for (wrong, why) in [
            ("[1]", "not an array"),
            ("{\"a\":1,\"a\":2}", "duplicate key"),
            ("{} {}", "not one JSON object"),
            ("{", "not one JSON object"),
            (&"x".repeat(MAX_RESULT + 1), "at most"),
        ] {
            let said = read_text(wrong, None).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_result_must_fit_its_schema() {
        let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#;
        assert!(read_text("{\"n\":1}", Some(schema)).is_ok());
        assert!(read_text("{\"n\":\"x\"}", Some(schema)).unwrap_err().contains("result.n"));
    }
}
