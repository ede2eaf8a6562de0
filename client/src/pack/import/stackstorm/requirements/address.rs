//! Addresses in `requirements.txt`, from which pip builds a distribution: `-e git+https://…@ref#egg=name`.

use packs_schema::base::strict::shorten;

use crate::pack::import::wheels::{Dependency, is_name};

/// Schemes of version control.
const REPOSITORIES: [&str; 4] = ["git+", "hg+", "svn+", "bzr+"];

/// Line with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The address, without credentials and control characters.
    pub(super) shown: String,
    /// Distribution that it has, if the address says so.
    pub(super) distribution: Option<Dependency>,
    /// True if its name is that of the repository, since the address gives none.
    pub(super) named_by_repository: bool,
}

impl Address {
    /// Recognises a line of `requirements.txt` that takes a distribution from an address.
    pub(super) fn parse(line: &str) -> Option<Address> {
        let line = line.split(" #").next().unwrap_or(line).trim();
        let editable = ["-e ", "-e\t", "--editable ", "--editable="].into_iter().find_map(|it| line.strip_prefix(it));
        let line = editable.unwrap_or(line).trim();
        let (given, address) = match line.split_once('@') {
            Some((name, address)) if is_name(name.split('[').next().unwrap_or(name).trim()) => {
                (Some(name), address.trim())
            }
            _ => (None, line),
        };
        let (address, marker) = address.split_once(" ;").map_or((address, ""), |(address, marker)| (address, marker));
        let (scheme, rest) = address.split_once("://")?;
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(is_scheme) {
            return None;
        }
        let (path, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let egg = fragment.split('&').find_map(|part| part.strip_prefix("egg="));
        let repository = || repository_name(scheme, path).map(str::to_owned);
        let named_by_repository = given.is_none() && egg.is_none();
        let name = given.or(egg).map(str::to_owned).or_else(repository);
        let distribution = name.and_then(|name| Dependency::parse(&format!("{name};{marker}")));
        Some(Address {
            shown: shorten(&format!("{scheme}://{}", without_credentials(rest)), 200),
            distribution: distribution.filter(|it| it.versions.is_empty() && !it.from_address),
            named_by_repository,
        })
    }

    /// Returns the address as one word of a shell, if it is made of harmless characters.
    pub(super) fn word(&self) -> Option<String> {
        let harmless = |c: char| c.is_ascii_alphanumeric() || ":/@.#=&_+~%?,[]-".contains(c);
        self.shown.chars().all(harmless).then(|| format!("'{}'", self.shown))
    }
}

/// Returns the last part of a repository's path, without a revision after `@`.
fn repository_name<'a>(scheme: &str, path: &'a str) -> Option<&'a str> {
    let (_, path) = path.split_once('/').filter(|_| REPOSITORIES.iter().any(|it| scheme.starts_with(it)))?;
    let path = path.split('@').next().unwrap_or(path).trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or(path);
    Some(name.strip_suffix(".git").unwrap_or(name)).filter(|name| is_name(name))
}

/// Masks the user of an address, who may be a token, unless it is the `git` of ssh.
fn without_credentials(rest: &str) -> String {
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest[..host_end].rsplit_once('@') {
        Some((user, host)) if user != "git" => format!("****@{host}{}", &rest[host_end..]),
        _ => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(String, String)> {
        let read = Address::parse(line)?;
        let name = read.distribution.map(|it| it.name + if read.named_by_repository { " (repository)" } else { "" });
        Some((read.shown, name.unwrap_or_default()))
    }

    #[test]
    fn the_name_is_that_of_the_egg_or_of_the_repository() {
        for (line, shown, name) in [
            (
                "-e git+https://h/a/libcloud@trunk#egg=apache-libcloud",
                "git+https://h/a/libcloud@trunk#egg=apache-libcloud",
                "apache-libcloud",
            ),
            (
                "git+https://h/j/python-packer@0.8.5-support",
                "git+https://h/j/python-packer@0.8.5-support",
                "python-packer (repository)",
            ),
            ("git+https://h/E/py-zabbix.git  # fork", "git+https://h/E/py-zabbix.git", "py-zabbix (repository)"),
            ("git+https://h/a/b@feature/x", "git+https://h/a/b@feature/x", "b (repository)"),
            ("orquesta@ git+https://h/S/orquesta.git@master", "git+https://h/S/orquesta.git@master", "orquesta"),
            (
                "--editable=git+ssh://git@h/a/b.git#subdirectory=x&egg=c[d]",
                "git+ssh://git@h/a/b.git#subdirectory=x&egg=c[d]",
                "c",
            ),
            ("git+https://user:t0p@h/a/b.git", "git+https://****@h/a/b.git", "b (repository)"),
            ("https://h/a/archive/master.zip", "https://h/a/archive/master.zip", ""),
            ("https://h/a/archive/master.zip#egg=a", "https://h/a/archive/master.zip#egg=a", "a"),
            ("git+https://h/a#egg=b==1.0", "git+https://h/a#egg=b==1.0", ""),
            ("git+https://h/a#egg=../x", "git+https://h/a#egg=../x", ""),
            ("git+https://h", "git+https://h", ""),
        ] {
            assert_eq!(read(line), Some((shown.to_owned(), name.to_owned())), "{line}");
        }
        for line in ["six==1.0", "-r other.txt", "--index-url https://h/simple", "-e .", "./x", "# git+https://h/a"] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn an_address_is_one_word_of_a_shell_or_none() {
        let word = |line: &str| Address::parse(line).unwrap().word();
        assert_eq!(word("git+https://h/a@b#egg=c&x=y").unwrap(), "'git+https://h/a@b#egg=c&x=y'");
        for line in [
            "git+https://h/a'$(id)'",
            "git+https://h/a$(id)",
            "git+https://h/a`id`",
            "git+https://h/a b",
            "git+https://h/\u{202e}a",
        ] {
            assert_eq!(word(line), None, "{line}");
        }
    }
}
