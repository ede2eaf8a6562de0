//! Explains why pip found no distribution that satisfies a requirement.
//!
//! pip prints the same two errors for a project that does not exist, a refused login, a wheel for another platform and
//! a version that exists as source only. Its log file contains the difference.

/// Longest list of versions in an explanation, in characters.
const MAX_VERSIONS: usize = 200;

/// Explains, from pip's log file, why no version satisfied a requirement; `None` if the log does not show the cause.
///
/// Never repeats an address, which may hold credentials. Recommends `allow_source` only where source is what the index
/// has for the requirement, and only if `only_wheels` was asked for.
pub fn explain_refusal(log: &[u8], only_wheels: bool) -> Option<String> {
    let log = String::from_utf8_lossy(log);
    let (_, said) = log.lines().rev().find_map(|line| line.split_once("that satisfies the requirement "))?;
    let (requirement, versions) = said.split_once(" (from versions: ")?;
    let versions = versions.trim_end().trim_end_matches(')');
    let requirement = requirement.split(" (from ").next().unwrap_or(requirement);
    let name = requirement.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).next()?;
    let project = normalized(name);
    let exact = requirement.split_once("==").map(|(_, version)| version.trim());

    let status = log.lines().rev().find_map(|line| {
        let (address, rest) = line.split_once("Could not fetch URL ")?.1.split_once(": ")?;
        let page = address.trim_end_matches('/').rsplit('/').next()?;
        (normalized(page) == project).then(|| rest.split(' ').next().unwrap_or_default())
    });
    if let Some(code @ ("401" | "403")) = status {
        return Some(format!(
            "the package index refused access to {name} (HTTP {code}): check the credentials in the file that \
             python.pip_config names"
        ));
    }
    let any_version = !requirement.contains(['<', '>', '=', '!', '~']);
    // A link concerns the requirement if it is of the version that was asked for, or if any version would do. Whether a
    // version lies in a range is not judged here.
    let skipped = |reason: &str| {
        log.lines().filter(|line| line.contains(reason)).filter_map(file_name).any(|file| {
            let Some(rest) = normalized(file).strip_prefix(&format!("{project}-")).map(str::to_owned) else {
                return false;
            };
            any_version
                || exact.is_some_and(|version| {
                    rest.strip_prefix(&normalized(version)).is_some_and(|rest| {
                        rest.starts_with('-') && !rest[1..].starts_with(|c: char| c.is_ascii_digit())
                    })
                })
        })
    };
    if only_wheels && skipped("No sources permitted for ") {
        return Some(format!(
            "the index has {requirement} only as source, which would run code while it is built: publish a wheel; \
             python.allow_source = true allows that"
        ));
    }
    if skipped("none of the wheel's tags") {
        return Some(format!("no wheel of {requirement} fits this platform and this version of Python"));
    }
    if versions != "none" && !versions.is_empty() {
        let shown: String = versions.chars().filter(|c| !c.is_control()).take(MAX_VERSIONS).collect();
        return Some(format!("the index has {name}, but not the version that {requirement} asks for; it has {shown}"));
    }
    (status == Some("404"))
        .then(|| format!("the package index has no project {name} (HTTP 404): check the spelling of its name"))
}

/// File name of the link in a line of the log.
fn file_name(line: &str) -> Option<&str> {
    let (_, address) = line.split_once("://")?;
    let address = address.split([' ', '#', '?']).next()?;
    address.rsplit('/').next()
}

/// Name as indexes compare it (PEP 503).
fn normalized(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

#[cfg(test)]
mod tests {
    use super::explain_refusal;

    /// Lines of pip 23.0.1 before its error.
    fn explain(lines: &str, requirement: &str, versions: &str) -> Option<String> {
        let end = format!(
            "ERROR: Could not find a version that satisfies the requirement {requirement} (from versions: {versions})"
        );
        explain_refusal(format!("{lines}\n{end}\nERROR: No matching distribution found\n").as_bytes(), true)
    }

    #[test]
    fn causes_of_no_matching_distribution_are_distinguished() {
        let fetch = |page: &str, code: &str| {
            format!("Could not fetch URL http://me:canary@127.0.0.1/simple/{page}/: {code} Client Error: x - skipping")
        };
        let source = |file: &str| {
            format!(
                "  Skipping link: No sources permitted for greet: http://127.0.0.1/f/{file} (from http://127.0.0.1/)"
            )
        };
        let tags = "Skipping link: none of the wheel's tags (cp27-none-win32) are compatible: \
                    http://127.0.0.1/f/plat-1.0-cp27-none-win32.whl (from http://127.0.0.1/)";
        let cases = [
            (fetch("nosuch", "404"), "nosuch==1", "none", "no project nosuch (HTTP 404): check the spelling"),
            (fetch("no-such", "404"), "No_Such==1", "none", "no project No_Such"),
            (fetch("greet", "401"), "greet==1", "none", "refused access to greet (HTTP 401)"),
            (fetch("greet", "403"), "greet==1", "none", "refused access to greet (HTTP 403)"),
            (source("greet-2.0.tar.gz"), "greet==9", "1.0", "not the version that greet==9 asks for; it has 1.0"),
            (source("greet-2.0.tar.gz"), "greet==2.0", "1.0", "python.allow_source = true"),
            (source("greet-2.0.tar.gz"), "greet", "none", "python.allow_source = true"),
            (source("greet-1.0.tar.gz"), "greet>=2", "1.0", "not the version that greet>=2 asks for; it has 1.0"),
            (tags.to_owned(), "plat==1.0", "none", "no wheel of plat==1.0 fits this platform"),
        ];
        for (lines, requirement, versions, words) in cases {
            let said = explain(&lines, requirement, versions).unwrap_or_default();
            assert!(said.contains(words), "{requirement}: {said}");
            assert!(!said.contains("canary"), "{said}");
            assert_eq!(said.contains("allow_source"), words.contains("allow_source"), "{said}");
        }
        assert_eq!(explain(&fetch("other", "404"), "greet==1", "none"), None);
        assert_eq!(explain_refusal(b"", true), None);
    }
}
