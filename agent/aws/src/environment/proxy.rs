//! Values of proxy variables.
//!
//! The proxy matcher ignores a value that it cannot parse, and the request would bypass the proxy. The value may contain
//! `user:password`, so no message repeats any part of it.

use hyper::http::uri::Authority;

/// Checks a value. An empty value means not set.
pub(super) fn check(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Ok(());
    }
    if value.trim() != value {
        return Err("begins or ends with a blank; write http://host:port");
    }
    let rest = match value.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err("only http:// proxies are supported"),
        None => value,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    // A parser that ends the authority there would use the user name as the host.
    if rest.contains(['/', '?', '#']) {
        return Err("contains '/', '?' or '#' after the host; in a user name or password write %2F, %3F or %23");
    }
    let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    if !user.is_none_or(is_encoded) {
        return Err("the user name or password contains a character that must be percent-encoded");
    }
    let authority: Authority = host.parse().map_err(|_| "the host or port is not valid")?;
    if authority.host().is_empty() || authority.host().contains(['%', '"', '\'']) {
        return Err("the host is not valid");
    }
    let port = &host[authority.host().len()..];
    let is_port =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return Err("the port is not a number from 1 to 65535");
    }
    Ok(())
}

/// Returns true for a valid `userinfo` part (RFC 3986, section 3.2.1).
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
    fn an_invalid_proxy_is_an_error_and_not_ignored() {
        let wrong = [
            (" http://user:pw@127.0.0.1:9", "blank"),
            ("http://127.0.0.1:9\n", "blank"),
            ("\"http://127.0.0.1:9\"", "only http:// proxies"),
            ("https://127.0.0.1:9", "only http:// proxies"),
            ("socks5://127.0.0.1:9", "only http:// proxies"),
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
            let message = check(value).expect_err(value);
            assert!(message.contains(why), "{value}: {message}");
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
            // A valid value is used by the matcher, with its host and port.
            let matcher = Matcher::builder().https(value).build();
            let used = matcher.intercept(&"https://bucket.example/".parse().unwrap());
            assert_eq!(used.is_some(), !value.is_empty(), "{value}");
            if let Some(used) = used {
                assert!(value.contains(used.uri().host().unwrap()), "{value}: {:?}", used.uri());
            }
        }
    }
}
