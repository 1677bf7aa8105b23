//! Who a request comes from, while there are no tokens: whoever reaches a loopback address.
//!
//! A web page that a user of this machine visits can make the user's browser send requests to loopback, too. It can
//! neither choose the `Host` that the browser sends for an address it resolves (so a rebound name is seen) nor hide
//! its `Origin`; requests that show either are refused.

use http::request::Parts;
use http::{HeaderMap, header};
use impuls_api::{Authenticate, Problem, ProblemKind};
use impuls_domain::Caller;

/// Lets everybody in who is not a foreign web page.
pub(crate) struct LocalUsers {
    /// Whether requests must name a loopback host; false once the operator has opened the server to others.
    pub(crate) loopback_only: bool,
}

impl Authenticate for LocalUsers {
    fn authenticate(&self, parts: &Parts) -> Result<Caller, Problem> {
        let host = host(parts);
        if self.loopback_only && host.is_some_and(|host| !is_loopback(host)) {
            return Err(Problem::new(
                ProblemKind::Denied,
                "this server answers only requests to a loopback host, such as 127.0.0.1 or localhost",
            ));
        }
        if is_foreign(&parts.headers, host) {
            return Err(Problem::new(
                ProblemKind::Denied,
                "this server answers no requests of other web sites' pages",
            ));
        }
        Ok(Caller::LocalUser)
    }
}

fn host(parts: &Parts) -> Option<&str> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    };
    match name.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
    }
}

fn is_foreign(headers: &HeaderMap, host: Option<&str>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let own =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    own.is_none() || own != host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(host: &str, origin: Option<&str>) -> bool {
        let mut request = http::Request::builder().uri("/health").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        LocalUsers { loopback_only: true }.authenticate(&parts).is_ok()
    }

    #[test]
    fn loopback_hosts_are_let_in() {
        for host in
            ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "fn.localhost:8080", "127.9.9.9"]
        {
            assert!(asks(host, None), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "10.0.0.1"] {
            assert!(!asks(host, None), "{host}");
        }
    }

    #[test]
    fn a_foreign_page_is_refused_and_our_own_is_not() {
        assert!(!asks("127.0.0.1:8080", Some("http://evil.example")));
        assert!(!asks("127.0.0.1:8080", Some("null")));
        assert!(!asks("127.0.0.1:8080", Some("http://127.0.0.1:9999")));
        assert!(asks("127.0.0.1:8080", Some("http://127.0.0.1:8080")));
    }
}
