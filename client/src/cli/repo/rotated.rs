//! Next steps after `bolt repo rotate-root`: who replaces which file.

use std::path::Path;

use packs_schema::base::name::TeamName;

use crate::repo::Rotated;
use crate::show;

/// Returns the lines that say what became of the pinned root, which commands put the new keys in their place, and who else needs
/// which of them.
pub(super) fn next_steps(done: &Rotated, keys: &Path) -> Vec<String> {
    let pinned = show::path(&done.pinned);
    let mut lines = vec![format!(
        "{pinned} is root version {} now. Instances and publishers follow to it by themselves: give it to no one.",
        done.version
    )];
    let Some(new) = done.made.first().and_then(|path| path.parent()) else { return lines };
    lines.push("Put the new keys in place of the old ones, which are no longer valid:".to_owned());
    for path in &done.made {
        let Some(name) = path.file_name() else { continue };
        let place = keys.join(name);
        lines.push(format!("  mv {} {}", show::path(path), show::path(&place)));
        // A key file of the other kind would still be opened.
        let is_service = path.extension().is_some_and(|extension| extension == "kms");
        let other = place.with_extension(if is_service { "pem" } else { "kms" });
        if other.symlink_metadata().is_ok() {
            lines.push(format!("  rm {}", show::path(&other)));
        }
    }
    let copy = show::path(&new.join("root.json"));
    lines.push(format!(
        "{copy} is a copy of {pinned}, for `--keys {}`; remove it if you do not use that.",
        show::path(new)
    ));
    let online: Vec<String> = ["snapshot", "timestamp"].iter().filter_map(|role| file_of(done, role)).collect();
    if !online.is_empty() {
        let names = online.join(" and ");
        let who = match done.teams.as_slice() {
            [] => "Every other publisher and every job that refreshes signs".to_owned(),
            teams => format!("Every other publisher, every job that refreshes and {} sign", listed(teams)),
        };
        lines.push(format!(
            "{who} with the old {names} until they have the new: until then their changes are refused. Give each a copy under its \
             own passphrase:"
        ));
        lines.push(format!("  bolt repo key-passphrase {} --new-passphrase-file FILE", online.join(" ")));
        lines.push("They move it over the file of the same name in their keys' directory.".to_owned());
    }
    if let Some(name) = file_of(done, "targets") {
        lines.push(format!("Every other publisher that has {name} needs the new one; teams do not."));
    }
    if file_of(done, "root").is_some() {
        lines.push("Keep the new root keys offline, and destroy the old ones.".to_owned());
    }
    lines
}

/// Returns the name of the first new key file of a role.
fn file_of(done: &Rotated, role: &str) -> Option<String> {
    let names = done.made.iter().filter_map(|path| path.file_name()?.to_str());
    let mut of = names.filter(|name| name.split(['.', '-']).next() == Some(role));
    of.next().map(str::to_owned)
}

fn listed(teams: &[TeamName]) -> String {
    let names: Vec<&str> = teams.iter().map(TeamName::as_str).collect();
    format!("{} {}", if names.len() == 1 { "team" } else { "teams" }, names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(made: &[&str], teams: &[&str]) -> String {
        let done = Rotated {
            version: 3,
            threshold: 1,
            root_keys: Vec::new(),
            replaced: Vec::new(),
            made: made.iter().map(Into::into).collect(),
            teams: teams.iter().map(|team| TeamName::new(*team).unwrap()).collect(),
            pinned: "keys/root.json".into(),
        };
        next_steps(&done, Path::new("keys")).join("\n")
    }

    #[test]
    fn whoever_has_a_copy_of_a_replaced_key_is_named_with_the_commands() {
        let text = rotated(&["new/snapshot.pem", "new/timestamp.pem"], &["dba", "sre"]);
        for part in [
            "keys/root.json is root version 3 now",
            "\n  mv new/snapshot.pem keys/snapshot.pem\n  mv new/timestamp.pem keys/timestamp.pem\n",
            "new/root.json is a copy of keys/root.json",
            "every job that refreshes and teams dba, sre sign with the old snapshot.pem and timestamp.pem",
            "\n  bolt repo key-passphrase snapshot.pem timestamp.pem --new-passphrase-file FILE\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = rotated(&["new/targets.pem"], &["dba"]);
        assert!(
            text.contains("Every other publisher that has targets.pem") && !text.contains("key-passphrase"),
            "{text}"
        );
        let text = rotated(&["new/root.pem", "new/root-2.pem"], &[]);
        assert!(text.contains("mv new/root-2.pem keys/root-2.pem") && text.contains("offline"), "{text}");
        assert_eq!(rotated(&[], &["dba"]).lines().count(), 1, "only the lifetime changed");
    }
}
