//! The value of a proxy variable.
//!
//! The matcher drops a value that it cannot parse, and the request would go out directly, past the proxy that the site
//! meant. Its `user:password` stands in the value, so no message repeats any of it.

use hyper::http::uri::Authority;

/// Checks the value of a variable. An empty one counts as not set.
pub(super) fn check(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Ok(());
    }
    if value.trim() != value {
        return Err("it begins or ends with a blank; write http://host:port");
    }
    let rest = match value.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err("only proxies that speak http:// are supported"),
        None => value,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    // A reader that ends the host there would take the user name for the host.
    if rest.contains(['/', '?', '#']) {
        return Err("there is a '/', '?' or '#' behind the host; in a user name or password write %2F, %3F or %23");
    }
    let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    if !user.is_none_or(is_encoded) {
        return Err("the user name or password holds a character that must be percent-encoded");
    }
    let authority: Authority = host.parse().map_err(|_| "the host or port is not valid")?;
    if authority.host().is_empty() || authority.host().contains(['%', '"', '\'']) {
        return Err("there is no valid host");
    }
    let port = &host[authority.host().len()..];
    let is_port =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return Err("the port is not a number from 1 to 65535");
    }
    Ok(())
}

/// True if the text is what RFC 3986 lets stand in front of the host.
fn is_encoded(user: &str) -> bool {
    let mut bytes = user.bytes();
    while let Some(byte) = bytes.next() {
        let allowed = match byte {
            b'%' => [bytes.next(), bytes.next()].iter().all(|next| next.is_some_and(|next| next.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte),
        };
        if !allowed {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use hyper_util::client::proxy::matcher::Matcher;

    use super::*;

    #[test]
    fn a_proxy_that_is_not_understood_is_an_error_and_never_dropped() {
        let wrong = [
            (" http://user:pw@127.0.0.1:9", "blank"),
            ("http://127.0.0.1:9\n", "blank"),
            ("\"http://127.0.0.1:9\"", "only proxies that speak http://"),
            ("https://127.0.0.1:9", "only proxies that speak http://"),
            ("socks5://127.0.0.1:9", "only proxies that speak http://"),
            ("http://user:p^w@127.0.0.1:9", "percent-encoded"),
            ("http://user:päw@127.0.0.1:9", "percent-encoded"),
            ("http://DOM\\user:pw@127.0.0.1:9", "percent-encoded"),
            ("http://user:p@w@127.0.0.1:9", "percent-encoded"),
            ("http://user:p%4@127.0.0.1:9", "percent-encoded"),
            ("http://user:p#w@127.0.0.1:9", "%23"),
            ("http://user:1#w@127.0.0.1:9", "%23"),
            ("http://user:p/w@127.0.0.1:9", "%2F"),
            ("http://127.0.0.1:9/path", "%2F"),
            ("http://127.0.0.1:99999", "port"),
            ("http://127.0.0.1:0", "port"),
            ("http://127.0.0.1:", "port"),
            ("http://127.0.0.1:nine", "port"),
            ("http://:9", "host"),
            ("http://", "host"),
            ("http://a b:9", "host"),
        ];
        for (value, why) in wrong {
            let said = check(value).expect_err(value);
            assert!(said.contains(why), "{value}: {said}");
        }
        let right = [
            "",
            "http://127.0.0.1:9",
            "HTTP://proxy.example:3128/",
            "proxy.example:3128",
            "proxy.example",
            "http://user:p%23w@127.0.0.1:9",
            "http://[::1]:9",
        ];
        for value in right {
            check(value).unwrap_or_else(|why| panic!("{value}: {why}"));
            // What passes is used, with the host and port that it names.
            let matcher = Matcher::builder().https(value).build();
            let used = matcher.intercept(&"https://bucket.example/".parse().unwrap());
            assert_eq!(used.is_some(), !value.is_empty(), "{value}");
            if let Some(used) = used {
                assert!(value.contains(used.uri().host().unwrap()), "{value}: {:?}", used.uri());
            }
        }
    }
}
