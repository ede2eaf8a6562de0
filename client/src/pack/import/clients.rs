//! Libraries that are clients of services elsewhere. What uses one runs, but does the same on every instance.

use std::collections::BTreeSet;

/// Modules of Python.
const PYTHON: &str = include_str!("clients/python.txt");
/// Libraries of Ruby, without what follows the first `/`.
const RUBY: &str = include_str!("clients/ruby.txt");
/// Names of the host itself. A program that uses one asks a service of its instance.
const THIS_HOST: [&str; 5] = ["localhost", "127.0.0.1", "[::1]", "Puppet.settings[:certname]", "Puppet[:certname]"];

/// True for a module of Python that is a client.
pub(super) fn is_python_client(module: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    PYTHON.lines().any(|client| client == top || client == module)
}

/// Returns the clients that a program in Ruby uses.
pub(super) fn of_ruby(text: &str) -> BTreeSet<String> {
    let code = || text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let mut found: BTreeSet<String> =
        code().filter_map(required).filter(|name| is_ruby_client(name)).map(str::to_owned).collect();
    if code().any(|line| line.contains("Net::HTTP")) {
        found.insert("Net::HTTP".to_owned());
    }
    found
}

/// True for a program that names its own host.
pub(super) fn asks_this_host(text: &str) -> bool {
    THIS_HOST.iter().any(|name| text.contains(name))
}

/// Says that a program uses these clients.
pub(super) fn message(clients: &BTreeSet<String>) -> String {
    let names = clients.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("it is a client of a service elsewhere ({names}); run it once, not on every instance")
}

/// `require 'name'`
fn required(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("require")?.trim_start_matches(['(', ' ']);
    let quote = rest.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    rest[1..].split(quote).next()
}

fn is_ruby_client(name: &str) -> bool {
    let top = name.split('/').next().unwrap_or(name);
    RUBY.lines().any(|client| top == client || top.strip_prefix(client).is_some_and(|rest| rest.starts_with('-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_from_other_libraries() {
        for (text, wanted) in [
            ("require 'kubeclient'\n", vec!["kubeclient"]),
            ("  require(\"aws-sdk-ec2\")\nrequire 'google/apis/x'\n", vec!["aws-sdk-ec2", "google/apis/x"]),
            ("require 'json'\nNet::HTTP.start(uri.host)\n", vec!["Net::HTTP"]),
            ("require 'json'\nrequire 'httpd'\n# Net::HTTP\nrequire_relative 'http'\nputs \"require 'http'\"", vec![]),
        ] {
            assert_eq!(of_ruby(text).iter().map(String::as_str).collect::<Vec<_>>(), wanted, "{text}");
        }
        assert!(is_python_client("boto3.session") && is_python_client("http.client") && !is_python_client("json"));
        assert!(asks_this_host("Net::HTTP.new('localhost', 80)") && !asks_this_host("Net::HTTP.new(host, 80)"));
    }
}
