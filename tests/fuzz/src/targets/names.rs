//! Identifiers and quantities, which come from every peer: what is accepted prints as it was read, and is safe in a path.

use std::time::Duration;

use packs_schema::agent::accounts;
use packs_schema::agent::config::UidRange;
use packs_schema::agent::rest::{AccessTarget, EventCursor};
use packs_schema::agent::store::version_of;
use packs_schema::base::bucket_url::{BucketUrl, check_endpoint};
use packs_schema::base::log_line::{MAX_LINE, escape_line, truncate_value};
use packs_schema::base::name::{
    ActionName, ActionRef, ChannelName, Digest, ExecutionId, GroupName, IdempotencyKey, InstanceId, PackName,
    PackVersion, ParamName, Principal, PushId, RunId, UserName,
};
use packs_schema::base::quantity::{CpuShare, format_bytes, format_duration, parse_bytes, parse_duration};
use packs_schema::pack::contents::check_path;

pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    names(text);
    quantities(text);
    if check_path(text).is_ok() {
        assert!(!text.starts_with('/') && !text.contains('\0'));
        assert!(text.split('/').all(|part| !matches!(part, "" | "." | "..")), "{text:?}");
    }
    if let Ok(url) = BucketUrl::new(text) {
        assert!(!url.bucket().contains('/'));
        assert!(url.key("x").ends_with('x'));
    }
    let _ = check_endpoint(text, false);
    let line = escape_line(text);
    // Listed here once more: what ends a line or reorders text.
    let acts = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(line.len() < MAX_LINE && !line.contains(acts), "{line:?}");
    truncate_value(text);
    accounts::entries(text).for_each(drop);
}

macro_rules! same {
    ($text:ident $in_path:literal: $($name:ident)*) => {$(
        if let Ok(name) = $name::new($text) {
            assert_eq!(name.to_string(), $text, stringify!($name));
            let json = serde_json::to_string(&name).expect("a name serialises");
            assert_eq!(serde_json::from_str::<$name>(&json).expect("it reads back"), name);
            assert!(!$text.contains(|c: char| c.is_control()), "{} {:?}", stringify!($name), $text);
            assert!(!$in_path || !($text.contains('/') || matches!($text, "" | "." | "..")), "{:?}", $text);
        }
    )*};
}

fn names(text: &str) {
    same!(text true: PackName ActionName ActionRef ChannelName Digest ExecutionId GroupName InstanceId ParamName PushId RunId UserName);
    same!(text true: PackVersion);
    same!(text false: IdempotencyKey Principal);
    if let Ok(action) = ActionRef::new(text) {
        assert_eq!(ActionRef::join(&action.pack(), &action.action()), action);
    }
    if let Ok(cursor) = text.parse::<EventCursor>() {
        assert_eq!(cursor.to_string().parse::<EventCursor>().ok(), Some(cursor));
    }
    let _ = text.parse::<AccessTarget>();
    version_of(text);
}

fn quantities(text: &str) {
    if let Ok(bytes) = parse_bytes(text) {
        let written = format_bytes(bytes);
        // Rounded down where it has a decimal, which is for people only.
        assert!(written.contains('.') || parse_bytes(&written).is_ok_and(|again| again <= bytes), "{text:?} as {written}");
    }
    if let Ok(duration) = parse_duration(text) {
        let written = format_duration(duration);
        let again = parse_duration(&written).unwrap_or_else(|error| panic!("{text:?} as {written:?}: {error}"));
        assert!(again.abs_diff(duration) < Duration::from_millis(1), "{text:?} as {written:?}");
    }
    let _ = CpuShare::parse(text);
    if let Ok(range) = UidRange::parse(text) {
        assert!(range.contains(range.first()) && range.contains(range.last()) && range.first() > 0);
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    [
        "linux", "linux.disk_usage", "1.4.2-rc.1+build", "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", "256MiB", "1h30m", "50%", "250ms",
        "spiffe://example/oncall", "i-0123456789abcdef0", "s3://bucket/prefix/x", "https://s3.example.net:9000", "70000-80000",
        "actions/lib/x.py", "1.4.2-0123456789ab", "0190aaaa.17", "root:x:0:0:root:/root:/bin/bash\n", "a\u{202e}b\u{1b}[2J\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
