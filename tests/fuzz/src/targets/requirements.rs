//! `requirements.txt` of a pack, and what pip prints.

use packs_schema::agent::python::{explain_refusal, summarize_pip_output};
use packs_schema::pack::contents::{MAX_REQUIREMENTS, requirements, without_comments};

pub(super) fn run(data: &[u8]) {
    let summary = summarize_pip_output(data);
    assert!(summary.len() <= 8192, "a summary of {} bytes", summary.len());
    for only_wheels in [true, false] {
        if let Some(text) = explain_refusal(data, only_wheels) {
            assert!(text.len() <= 8192, "an explanation of {} bytes", text.len());
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match requirements(text) {
        Ok(found) => {
            assert!(found.len() <= MAX_REQUIREMENTS);
            let plain = without_comments(text);
            assert!(!plain.lines().any(|line| line.starts_with(['#', '-'])), "pip obeys what is no requirement: {plain:?}");
            assert_eq!(requirements(&plain), Ok(found), "pip reads other requirements: {plain:?}");
        }
        Err(errors) => assert!(!errors.is_empty() && errors.iter().all(|error| error.to_string().len() <= 2048)),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    [
        "six==1.16.0 --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000\n# x\nPyYAML>=6,<7; python_version < '3.9'\n",
        "requests[socks]==2.32.0 \\\n    --hash=sha256:1111111111111111111111111111111111111111111111111111111111111111\n",
        "# coding: utf-7\nsix==1.0\n# +AAo---index-url https://example.net\n",
        "-e git+https://example.net/x\n--index-url https://example.net\n./local\nname @ https://example.net/x.whl\n",
        "ERROR: Could not find a version that satisfies the requirement x==9 (from versions: 1.0)\nERROR: No matching distribution found for x==9\n",
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n    six==1.16.0 from https://example.net:\n        Expected sha256 00\n             Got        11\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
