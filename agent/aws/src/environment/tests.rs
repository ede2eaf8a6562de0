use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStringExt;

use super::*;

const CANARY: &str = "canary5d1e";

/// Returns invalid values of a format. Most of them contain the canary, like a password.
fn invalid_values(kind: Kind) -> Vec<String> {
    let values: &[&str] = match kind {
        Kind::Text => &["", " canary5d1e", "canary5d1e\n", "canary\u{1b}5d1e"],
        Kind::Credential => &[" canary5d1e", "canary5d1e\n", "canary5d1e\u{7f}", "canary5d1eä"],
        Kind::Boolean => &["canary5d1e", "1", "yes", " true", "true\n"],
        Kind::Number { min: 0 } => &["", "canary5d1e", "-1", "+3", "1.5", "1e3", "4294967296", " 3", "0x10"],
        Kind::Number { .. } => &["", "0", "canary5d1e", "-1", "+3", "1.5", "4294967296", "3 "],
        Kind::OneOf(_) => &["", "canary5d1e", " standard"],
        Kind::List => &["", "canary5d1e,,x", ",canary5d1e", "canary5d1e,"],
        Kind::Token => &["canary5d1e x", "canary5d1e\n", "canary5d1e(x)"],
        Kind::Region => &["", "canary5d1e.example", "eu-west-1 ", "EU-WEST-1", "eu/canary5d1e"],
        Kind::Url => &[
            "",
            "canary5d1e",
            "canary5d1e:9000",
            "//canary5d1e",
            "ftp://canary5d1e",
            "http://",
            "http:// canary5d1e",
            "http://canary5d1e:99999",
            "http:\\\\canary5d1e",
            " http://canary5d1e",
        ],
        Kind::Path => &["", "canary5d1e", "http://canary5d1e/x", "/canary5d1e x"],
        Kind::File => &["", "/nonexistent/canary5d1e", "/dev"],
        Kind::Proxy => {
            &["https://u:canary5d1e@h:1", "http://u:canary5d1e#@h:1", "socks5://canary5d1e:1", " canary5d1e"]
        }
        Kind::NoProxy => &[
            "a.example,*.canary5d1e",
            "canary5d1e:443",
            "https://canary5d1e",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "canary5d1e/8",
            "fd00::/129",
            "a.example b.canary5d1e",
            "[::1]",
            "10.*",
            "10.1",
            "300.1.1.1",
            "a..canary5d1e",
            "canary5d1eä",
            "canary5d1e;x",
        ],
    };
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// Returns valid values of a format.
fn valid_values(kind: Kind) -> Vec<String> {
    let values: &[&str] = match kind {
        Kind::Text => &["some text"],
        Kind::Credential => &["", "AKID/+=x", "Basic dXNlcg=="],
        Kind::Boolean => &["", "true", "FALSE"],
        Kind::Number { .. } => &["1", "4294967295"],
        Kind::OneOf(words) => return words.iter().flat_map(|w| [(*w).to_owned(), w.to_uppercase()]).collect(),
        Kind::List => &["sigv4", "sigv4, sigv4a"],
        Kind::Token => &["", "my-app_1.0"],
        Kind::Region => &["eu-west-1", "us-gov-east-1"],
        Kind::Url => &["http://127.0.0.1:9000", "https://s3.example/x", "http://[fd00:ec2::254]"],
        Kind::Path => &["/v2/credentials/x?y=z"],
        Kind::File => &["/dev/null", "/proc/self/status"],
        Kind::Proxy => &["", "http://user:pw@proxy.example:3128"],
        Kind::NoProxy => &[
            "",
            "*",
            "localhost,.internal, example.com,127.0.0.1,::1,10.0.0.0/8,fd00::/8,",
            "a_b.example,xn--bcher-kva",
        ],
    };
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn variables() -> Vec<(&'static str, Kind)> {
    let proxies = PROXIES.map(|name| (name, Kind::Proxy));
    let no_proxies = NO_PROXIES.map(|name| (name, Kind::NoProxy));
    AWS.into_iter().chain(proxies).chain(no_proxies).collect()
}

/// Returns an environment in which `name` has this value, with the variables that it requires.
fn environment(name: &str, value: OsString) -> BTreeMap<String, OsString> {
    let mut all = BTreeMap::new();
    if !value.is_empty() {
        for _ in PAIRS {
            for (one, other) in PAIRS {
                if one == name || all.contains_key(one) {
                    all.insert(other.to_owned(), "x".into());
                }
            }
        }
    }
    all.insert(name.to_owned(), value);
    all
}

fn check_of(variables: &BTreeMap<String, OsString>) -> Result<(), EnvironmentError> {
    check_all(&|name| variables.get(name).cloned())
}

#[test]
fn an_invalid_variable_is_named_and_its_value_is_not_printed() {
    for (name, kind) in variables() {
        let not_utf8 = OsString::from_vec(b"canary5d1e\xff".to_vec());
        for value in invalid_values(kind).into_iter().map(OsString::from).chain([not_utf8]) {
            let error = check_of(&environment(name, value.clone())).expect_err(&format!("{name}={}", value.display()));
            assert_eq!(error.name, name, "{}", value.display());
            let said = format!("{error} {error:?}");
            assert!(said.contains(name) && !said.contains(CANARY) && !said.contains('\n'), "{said}");
        }
        for value in valid_values(kind) {
            let checked = check_of(&environment(name, value.clone().into()));
            assert_eq!(checked, Ok(()), "{name}={value}");
        }
    }
}

#[test]
fn half_of_a_pair_is_refused() {
    for (name, other) in PAIRS {
        let kind = AWS.iter().find(|(known, _)| *known == name).unwrap().1;
        let value = if kind == Kind::File { "/dev/null" } else { CANARY };
        for missing in [None, Some("")] {
            let mut only = environment(name, value.into());
            only.remove(other);
            only.extend(missing.filter(|_| kind != Kind::File).map(|empty| (other.to_owned(), empty.into())));
            let error = check_of(&only).unwrap_err().to_string();
            assert!(error.contains("requires ") && !error.contains(CANARY), "{error}");
        }
    }
}

#[test]
fn no_variable_is_listed_twice() {
    let names: BTreeSet<&str> = variables().iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), variables().len());
}

#[test]
fn unusable_authorities_are_errors_and_not_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let pem = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap().cert.pem();
    let damaged = pem.replacen("MII", "M!I", 1);
    fs::create_dir(place("empty-canary5d1e")).unwrap();
    fs::create_dir(place("good")).unwrap();
    for (name, text) in [("good.pem", &pem), ("good/ca.pem", &pem), ("damaged-canary5d1e", &damaged)] {
        fs::write(place(name), text).unwrap();
    }
    fs::write(place("nothing-canary5d1e"), "canary5d1e\n").unwrap();
    let at = |name: &str| place(name).into_os_string();
    let two = |a: &str, b: &str| std::env::join_paths([place(a), place(b)]).unwrap();
    let wrong = [
        ("SSL_CERT_FILE", OsString::new()),
        ("SSL_CERT_FILE", at("missing-canary5d1e")),
        ("SSL_CERT_FILE", at("empty-canary5d1e")),
        ("SSL_CERT_FILE", at("nothing-canary5d1e")),
        ("SSL_CERT_FILE", at("damaged-canary5d1e")),
        ("SSL_CERT_FILE", "/dev/null".into()),
        ("AWS_CA_BUNDLE", OsString::new()),
        ("AWS_CA_BUNDLE", at("missing-canary5d1e")),
        ("AWS_CA_BUNDLE", at("damaged-canary5d1e")),
        ("SSL_CERT_DIR", at("missing-canary5d1e")),
        ("SSL_CERT_DIR", at("empty-canary5d1e")),
        ("SSL_CERT_DIR", two("good", "missing-canary5d1e")),
    ];
    for (name, value) in wrong {
        let mut variables = BTreeMap::from([(name.to_owned(), value.clone())]);
        let error = check_of(&variables).expect_err(&value.display().to_string());
        assert_eq!(error.name, name);
        assert!(!format!("{error:?}").contains(CANARY), "{error}");
        // Also if the other variable is valid.
        let (other, good) =
            if name == "SSL_CERT_DIR" { ("SSL_CERT_FILE", "good.pem") } else { ("SSL_CERT_DIR", "good") };
        variables.insert(other.to_owned(), at(good));
        assert_eq!(check_of(&variables).unwrap_err().name, name, "{}", value.display());
    }
    for (name, value) in [
        ("SSL_CERT_FILE", at("good.pem")),
        ("AWS_CA_BUNDLE", at("good.pem")),
        ("SSL_CERT_DIR", at("good")),
        ("SSL_CERT_DIR", two("good", "empty-canary5d1e")),
        ("SSL_CERT_DIR", OsString::new()),
    ] {
        assert_eq!(check_of(&BTreeMap::from([(name.to_owned(), value)])), Ok(()), "{name}");
    }
    let both = BTreeMap::from([("SSL_CERT_FILE", at("good.pem")), ("SSL_CERT_DIR", OsString::new())]);
    let found = authorities::load(&|name| both.get(name).cloned()).unwrap();
    assert_eq!(found.map(|found| found.len()), Some(1));
    let bundle = BTreeMap::from([("AWS_CA_BUNDLE", at("good.pem"))]);
    let found = authorities::load(&|name| bundle.get(name).cloned()).unwrap();
    assert_eq!(found.map(|found| found.len()), Some(1), "the name of the other AWS tools has the same effect");
}
